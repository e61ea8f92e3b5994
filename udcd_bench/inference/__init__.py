"""A stored run used on images: its network as it was tested, predictions, export, class activation maps.

It needs a results folder and nothing of how the run came about. Knows no table, no figure and no command.
"""
