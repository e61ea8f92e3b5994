"""What one training run is, which runs are needed, and where their records are kept.

Knows nothing of images, networks or tables.
"""
