"""Searches: what is tried of each row on validation images, and the table of tuned rows. Trains nothing by itself.

Knows no engine and no command: it says which runs it needs and is told how they ended.
"""
