"""Directories: plain ones of one block and sharded ones (HAMT), listed, compared and edited, and the edit of many paths of a tree.

Imports `codec` and the helpers of ``Steps``.
"""

from __future__ import annotations

from bucketfs.dag.dirs.directory import (
    Difference,
    Directory,
    DirectoryBlock,
    OpenDirectory,
    check_entries,
    check_shards,
    decode_directory,
    directory_block,
    directory_differences,
    directory_entries,
    empty_directory,
    entries_named,
    impossible_names,
    is_possible,
    list_directory,
    lookup,
    open_directory,
    own_attributes,
    resolve,
    symlink,
)
from bucketfs.dag.dirs.edit import SHARD_THRESHOLD, TreePath, edit_directory, edit_tree

__all__ = [
    "SHARD_THRESHOLD",
    "Difference",
    "Directory",
    "DirectoryBlock",
    "OpenDirectory",
    "TreePath",
    "check_entries",
    "check_shards",
    "decode_directory",
    "directory_block",
    "directory_differences",
    "directory_entries",
    "edit_directory",
    "edit_tree",
    "empty_directory",
    "entries_named",
    "impossible_names",
    "is_possible",
    "list_directory",
    "lookup",
    "open_directory",
    "own_attributes",
    "resolve",
    "symlink",
]
