"""Trees of blocks as services see them: paths resolved, listed, read and edited over the block store.

The algorithms are generators of ``bucketfs.dag``; here they are driven, in the thread of the call. ``WorkingSet`` is the store
with blocks on top that an edit made and that are stored only when it is known which of them the new root needs. A ``BucketTree`` is
that of one bucket, in the clear (``PublicTree``) or encrypted (``PrivateTree``, blobs of ``crypt``); ``content`` reads and
writes files. What comes as blocks is checked before a bucket gets it: ``entry_check`` (nodes and names), ``size_check`` (sizes
that links claim), and ``root_diff`` tells which paths a new root changes. ``access`` decides who may do what to which path. Of
the other sub-rooms this one may import ``db`` and ``store``."""

from __future__ import annotations

from bucketfs.hub.trees.access import (
    DENIED,
    check_changes,
    check_create,
    check_delete,
    check_save,
    may_all,
    may_read,
    nearest_entry,
    visible,
)
from bucketfs.hub.trees.content import LeafWriter
from bucketfs.hub.trees.crypt import DAMAGED, encrypt, key_text, new_key
from bucketfs.hub.trees.entry_check import check_nodes
from bucketfs.hub.trees.private import PrivateTree
from bucketfs.hub.trees.public import BucketTree, KeyOf, Listing, ListingItem, Path, PathNotFound, PublicTree, total_size
from bucketfs.hub.trees.root_diff import ChangedPaths, entries_after
from bucketfs.hub.trees.size_check import SIZE_MAX, TreeSizes, check_sizes
from bucketfs.hub.trees.working_set import WorkingSet, unchecked
from bucketfs.types import Cid

__all__ = [
    "DAMAGED",
    "DENIED",
    "SIZE_MAX",
    "BucketTree",
    "ChangedPaths",
    "KeyOf",
    "LeafWriter",
    "Listing",
    "ListingItem",
    "Path",
    "PathNotFound",
    "PrivateTree",
    "PublicTree",
    "TreeSizes",
    "WorkingSet",
    "check_changes",
    "check_create",
    "check_delete",
    "check_nodes",
    "check_save",
    "check_sizes",
    "encrypt",
    "entries_after",
    "key_text",
    "may_all",
    "may_read",
    "nearest_entry",
    "new_key",
    "total_size",
    "tree_of",
    "tree_size",
    "unchecked",
    "visible",
]


def tree_of(blocks: WorkingSet, link_key: bytes | None) -> BucketTree:
    """The tree of a bucket, by whether it has a link key."""
    return PublicTree(blocks) if link_key is None else PrivateTree(blocks, link_key)


def tree_size(blocks: WorkingSet, root: Cid, link_key: bytes | None) -> int:
    """The stored bytes of a whole bucket. Raises Corrupt, NotFound."""
    tree = tree_of(blocks, link_key)
    return tree.size(tree.find(root, ()))
