"""Files that are whole or absent, their owners and checksums, and arrays as bytes.

Knows nothing of runs, data sets or tables.
"""
