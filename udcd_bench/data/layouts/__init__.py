"""What people have on disk: every published form of the data sets, and folders, tables and arrays of one's own.

Knows nothing of what is made of the images.
"""
