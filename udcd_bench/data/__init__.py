"""Images with labels, groups and splits, wherever they come from. Knows no method, loss or metric."""
