"""What a training step takes: the checked terms, the optimiser and its schedule, the running average, the generators.

Knows no run, no data set and no method by name.
"""
