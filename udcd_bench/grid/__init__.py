"""Rows by groups of columns: the runs a table or figure needs, and the long frame of their figures.

Knows neither files nor layout.
"""
