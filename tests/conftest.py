"""Shared by all tests; its place in this folder also lets them import ``support``."""
