"""What the training loop is fed: a data set on the device and augmented views of its batches. Knows no method."""
