"""Carrying out runs: one in this process, many in processes of this machine or of a Ray cluster.

Knows nothing of tables, figures or the paper.
"""
