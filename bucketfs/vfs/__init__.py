"""The file system without FUSE: what names, attributes and bytes mean while a bucket is mounted.

A `Volume` is one bucket as base ⊕ overlay (`tree`). `VFS` puts the volumes of a mount together and answers what the kernel
asks about names; its `OpenFiles` answer for open files. Reads and decisions look at the base through the `BaseTree`, which
never waits; the rule that makes this work stands in `tree.tree_reader`.

Writes go to a draft and the journal and touch no network. A push takes a `Snapshot` of what is pending (`freeze`; of a large
backlog the next of its `Batches`), builds the new tree from it, and marks it pushed (`snapshot`). A new root of the Hub comes
in by `rebase_onto` (`rebase`). A checkpoint writes `overlay_ops` to the journal, and `recover` replays them after a restart
(`recovery`). Drafts that wait get checksums by `seal`; bytes that do not match theirs are `DraftDamaged`, for readers and for
pushes."""

from bucketfs.vfs.buckets_root import BucketMaker
from bucketfs.vfs.conflicts import Keep, exists_at
from bucketfs.vfs.rebase import Rebased, apply_permissions, rebase_onto
from bucketfs.vfs.recovery import draft_ids, overlay_ops, recover
from bucketfs.vfs.sealing import queue_recovered, seal
from bucketfs.vfs.snapshot import (
    Batches,
    BatchLimits,
    BuiltNode,
    FrozenDirectory,
    FrozenFile,
    FrozenSymlink,
    Snapshot,
    built_of,
    equal_candidates,
    freeze,
    without_folders,
)
from bucketfs.vfs.tree import (
    Attr,
    AttributesChanged,
    BasePiece,
    BaseTree,
    ContentChanged,
    ContentLost,
    DirEntry,
    DraftDamaged,
    DraftPiece,
    EntryChanged,
    EntryGone,
    FileNode,
    InodeNumbers,
    Invalidation,
    Namespace,
    Node,
    Opened,
    Owner,
    Pending,
    Permissions,
    Piece,
    Pin,
    PinScope,
    RenameFlags,
    Roles,
    SetAttr,
    StatFs,
    StorageLimit,
    Volume,
    ZeroPiece,
    conflict_name,
    draft_bytes,
    permissions_of,
    pieces,
    read_base,
)
from bucketfs.vfs.vfs import VFS

__all__ = [
    "VFS",
    "Attr",
    "AttributesChanged",
    "BasePiece",
    "BaseTree",
    "BatchLimits",
    "Batches",
    "BucketMaker",
    "BuiltNode",
    "ContentChanged",
    "ContentLost",
    "DirEntry",
    "DraftDamaged",
    "DraftPiece",
    "EntryChanged",
    "EntryGone",
    "FileNode",
    "FrozenDirectory",
    "FrozenFile",
    "FrozenSymlink",
    "InodeNumbers",
    "Invalidation",
    "Keep",
    "Namespace",
    "Node",
    "Opened",
    "Owner",
    "Pending",
    "Permissions",
    "Piece",
    "Pin",
    "PinScope",
    "Rebased",
    "RenameFlags",
    "Roles",
    "SetAttr",
    "Snapshot",
    "StatFs",
    "StorageLimit",
    "Volume",
    "ZeroPiece",
    "apply_permissions",
    "built_of",
    "conflict_name",
    "draft_bytes",
    "draft_ids",
    "equal_candidates",
    "exists_at",
    "freeze",
    "overlay_ops",
    "permissions_of",
    "pieces",
    "queue_recovered",
    "read_base",
    "rebase_onto",
    "recover",
    "seal",
    "without_folders",
]
