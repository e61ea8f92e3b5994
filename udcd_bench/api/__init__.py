"""The functions behind ``import udcd_bench as ub``: runs, results, tables and figures for scripts and notebooks.

Knows no command: what is typed and printed is ``cli``'s.
"""
