"""Images with labels, groups and splits, from any source. Knows no method, loss or metric."""
