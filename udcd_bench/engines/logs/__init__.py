"""What a run's epochs are logged as for other programs, beside what it stores. Knows no figure and no network.

A log is written by the command's own process from the events of its runs, so that it can change nothing about them.
"""
