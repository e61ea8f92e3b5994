"""Sources, the decoded cache, splits, batches and batched augmentation."""
