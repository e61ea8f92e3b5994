"""The trained network that teaches a run: what ``--teacher`` means, whether it may teach, and how it is loaded.

A teacher is the student of another run, which a row, a key or a label names, or a file of its tensors. Knows no figure
and no command.
"""
