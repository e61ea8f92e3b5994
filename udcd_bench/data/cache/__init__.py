"""Images decoded and resized once, whole or absent, with a manifest. Knows nothing of splits or batches."""
