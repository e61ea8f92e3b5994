"""Runs: what one training run is, which runs are needed, and the results folder that stores them.

Knows nothing of images, networks or tables.
"""
