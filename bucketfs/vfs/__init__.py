"""The file system without FUSE: what names, attributes and bytes mean while a bucket is mounted.

A `Volume` is one bucket as base ⊕ overlay. Its parts are kept apart: numbers (`inodes`), names and attributes (`volume`, on the
nodes of `nodes`), bytes (`files`, on the layers of `content`). The base is seen through the `BaseTree`, which never waits; the rule
that makes this work stands in `base_tree`. `VFS` puts volumes together to a mount.

Writes go to a draft and the journal and touch no network. A push takes a `Picture` of what is dirty (`freeze`; of a large
backlog one of its `Slices`), builds the new tree from it, and says `pushed`; a new root of the Hub comes in by `rebase_onto`. What
must survive a crash is what `overlay_ops` writes and `recover` reads. What waits gets checksums by `seal`; bytes that do not have
theirs any more are `DraftDamaged`, for readers and for pushes.
"""

from bucketfs.vfs.buckets_root import Buckets
from bucketfs.vfs.conflicts import Keep, stands
from bucketfs.vfs.rebase.permission_change import apply_rights
from bucketfs.vfs.rebase.rebasing import BuiltNode, Rebased, built_of, rebase_onto
from bucketfs.vfs.recovery.checkpoint import draft_ids, overlay_ops
from bucketfs.vfs.recovery.replay import recover
from bucketfs.vfs.sealing import left_open, seal
from bucketfs.vfs.snapshot.batches import Choice, Limits, Slices
from bucketfs.vfs.snapshot.contested import contested_changes, without_folders
from bucketfs.vfs.snapshot.freezing import FrozenDirectory, FrozenFile, FrozenSymlink, Picture, freeze, pushed, thaw
from bucketfs.vfs.tree.base_pins import Footing, Note, Stand, survey
from bucketfs.vfs.tree.base_tree import BaseTree
from bucketfs.vfs.tree.conflict_index import Conflicts
from bucketfs.vfs.tree.conflict_name import conflict_name
from bucketfs.vfs.tree.content import BasePiece, DraftPiece, FrozenLayer, Piece, ZeroPiece, pieces
from bucketfs.vfs.tree.file_io import DraftDamaged, draft_bytes, read_base, record
from bucketfs.vfs.tree.inode_table import InodeNumbers
from bucketfs.vfs.tree.namespace import Owner
from bucketfs.vfs.tree.node import DirectoryNode, FileNode, Node, SymlinkNode
from bucketfs.vfs.tree.permissions import Rights, Roles, rights_of
from bucketfs.vfs.tree.quota import Growth, Room
from bucketfs.vfs.tree.stat_types import (
    Attr,
    AttributesChanged,
    ContentChanged,
    ContentLost,
    DirEntry,
    EntryChanged,
    EntryGone,
    Invalidation,
    Opened,
    RenameFlags,
    SetAttr,
    StatFs,
)
from bucketfs.vfs.tree.volume import Volume
from bucketfs.vfs.vfs import VFS

__all__ = [
    "VFS",
    "Attr",
    "AttributesChanged",
    "BasePiece",
    "BaseTree",
    "Buckets",
    "BuiltNode",
    "Choice",
    "Conflicts",
    "ContentChanged",
    "ContentLost",
    "DirEntry",
    "DirectoryNode",
    "DraftDamaged",
    "DraftPiece",
    "EntryChanged",
    "EntryGone",
    "FileNode",
    "Footing",
    "FrozenDirectory",
    "FrozenFile",
    "FrozenLayer",
    "FrozenSymlink",
    "Growth",
    "InodeNumbers",
    "Invalidation",
    "Keep",
    "Limits",
    "Node",
    "Note",
    "Opened",
    "Owner",
    "Picture",
    "Piece",
    "Rebased",
    "RenameFlags",
    "Rights",
    "Roles",
    "Room",
    "SetAttr",
    "Slices",
    "Stand",
    "StatFs",
    "SymlinkNode",
    "Volume",
    "ZeroPiece",
    "apply_rights",
    "built_of",
    "conflict_name",
    "contested_changes",
    "draft_bytes",
    "draft_ids",
    "freeze",
    "left_open",
    "overlay_ops",
    "pieces",
    "pushed",
    "read_base",
    "rebase_onto",
    "record",
    "recover",
    "rights_of",
    "seal",
    "stands",
    "survey",
    "thaw",
    "without_folders",
]
