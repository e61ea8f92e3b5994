"""The network of every row and the one loop that trains it. Knows no method by name, no table and no folder."""
