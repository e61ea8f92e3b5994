"""The HTML report on a results folder. Shows only what a table or ``check`` computes too."""
