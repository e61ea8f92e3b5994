"""Carrying out runs: one in this process, many in processes of this machine or a Ray cluster. Knows no table."""
