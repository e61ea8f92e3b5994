"""Numbers from scores and labels: metrics, bootstrap, paired tests, embeddings' neighbourhoods.

Knows no tensor library, no files and no runs.
"""
