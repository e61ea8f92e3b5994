"""The network of every row, the assembly of a method, and the one loop that trains it.

Knows no method by name, no results folder and no table.
"""
