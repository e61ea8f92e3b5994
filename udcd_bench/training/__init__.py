"""The network of every row, the assembly of a method, and the one loop that trains it."""
