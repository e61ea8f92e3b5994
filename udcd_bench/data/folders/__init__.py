"""What folders mean: which are the classes, which are parts of a split, which hold masks of others' images.

A tree is recognised as a whole or refused, with a sentence that names both readings.
"""
