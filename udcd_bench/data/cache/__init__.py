"""The decoded cache: images decoded and resized once, with a manifest. Knows nothing of splits or batches."""
