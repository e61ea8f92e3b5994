"""The HTML report on a results folder. Shows what a table or ``check`` computes. Knows no engine and no network."""
