"""The files of a table or figure that a test has made, whatever its request has added to their names."""

from __future__ import annotations

import pandas as pd


def find_file(folder, name="table2", ending=".csv"):
    """The one file in the folder whose name begins and ends so."""
    (path,) = folder.glob(f"{name}*{ending}")
    return path


def read_csv(path, **options):
    """The frame of a CSV whose first line is the command that made it."""
    assert path.read_text(encoding="utf-8").startswith("# udcd-bench "), path
    return pd.read_csv(path, comment="#", **options)


def read_table(folder, name="table2"):
    """The frame of the one table that lies in the folder."""
    return read_csv(find_file(folder, name))
