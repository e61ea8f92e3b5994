"""Verdicts on our runs beside the paper and each other: intervals, verdicts, claims, comparisons.

Knows nothing of how a run is made or a table is drawn.
"""
