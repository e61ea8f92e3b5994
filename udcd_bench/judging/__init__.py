"""What our runs say of the paper and of each other: intervals, verdicts, claims, comparisons.

Knows nothing of how a run is made or a table is drawn.
"""
