"""Plugins: methods, tables and figures, one file each, found by file name and loaded with the files they import.

Knows no run, no data set and no network.
"""

from udcd_bench.plugins.attributes import read_attributes, read_comments
from udcd_bench.plugins.contract import parse_trained_rows
from udcd_bench.plugins.loading import check_followed, check_loaded, load_class, load_module
from udcd_bench.plugins.ranges import Between, between
from udcd_bench.plugins.sources import hash_sources, list_source_files
from udcd_bench.plugins.suites import (
    CONTENT_CLASSES,
    ENTRY_POINT_GROUP,
    add_suite,
    find_file,
    find_files,
    find_root,
    list_environment_suites,
    list_named_suites,
    list_names,
    list_shipped_suites,
    name_suite,
    suggest_content,
)
from udcd_bench.plugins.teaching import find_mistake, list_needed_suites
from udcd_bench.plugins.unfollowed import forget_noted

__all__ = [
    "CONTENT_CLASSES",
    "ENTRY_POINT_GROUP",
    "Between",
    "add_suite",
    "between",
    "check_followed",
    "check_loaded",
    "find_file",
    "find_files",
    "find_mistake",
    "find_root",
    "forget_noted",
    "hash_sources",
    "list_environment_suites",
    "list_named_suites",
    "list_names",
    "list_needed_suites",
    "list_shipped_suites",
    "list_source_files",
    "load_class",
    "load_module",
    "name_suite",
    "parse_trained_rows",
    "read_attributes",
    "read_comments",
    "suggest_content",
]
