"""Batches for the training loop: a data set on the device, and augmented views of its images. Knows no method."""
