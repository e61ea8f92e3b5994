"""Files as they lie on disk: found, counted, read from folders and zips; tables of labels; the report of problems.

Knows nothing of data sets or of what a layout means.
"""
