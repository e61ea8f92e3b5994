"""What the paper prints and what its figures say of themselves. Knows nothing of our runs."""
