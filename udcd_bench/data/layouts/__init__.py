"""Readers of what people have on disk: published forms of the data sets, and folders, tables and arrays of one's own.

A reader lists images, labels, groups and splits; it knows nothing of what is made of them. What it reads with is in
``udcd_bench.data.files``.

To add a data set that comes as image files, write one module in this folder with a function ``read_index(root)`` that
returns an ``ImageIndex`` (``scan_files``, ``read_table`` and ``match_files`` do most of it) and a constant ``SOURCE``;
then add its ``SOURCE`` to the list in ``udcd_bench.data.sources``, one line. ``aptos.py`` is the shortest example.
"""
