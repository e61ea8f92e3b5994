"""Statistics of scores and labels: metrics, bootstrap intervals, paired tests, separation of embeddings.

Knows nothing of PyTorch, files or runs.
"""
