"""Files: the bytes of one file as a tree of blocks, read in any layout and built in ours.

Imports `codec` and the helpers of ``Steps``.
"""

from __future__ import annotations

from bucketfs.dag.files.build import FileTree
from bucketfs.dag.files.read import Leaf, leaf_data, leaves
from bucketfs.dag.files.spans import Subtree, subtrees

__all__ = [
    "FileTree",
    "Leaf",
    "Subtree",
    "leaf_data",
    "leaves",
    "subtrees",
]
