"""Files that are whole or absent, and arrays as bytes. Knows nothing of runs, data sets or tables."""
