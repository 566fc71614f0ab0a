"""One bucket as a tree: the base, the pending changes over it, and the nodes and inode numbers that programs see.

    node           a file, directory or symbolic link in memory; it knows its tree and nothing else
    namespace      what names stand for: nodes in memory, else the base
    base_tree      the base, decoded, by CID; base_pins: what of it the pending changes need
    content        the bytes of a file: layers of drafts over the base; file_io reads and merges them
    pending        what was changed here; push_state: how far that is at the Hub
    volume         every change: checked, recorded in the journal, made

Imports no other sub-room.
"""

from bucketfs.vfs.tree.base_pins import Pin, PinScope
from bucketfs.vfs.tree.base_tree import BaseTree
from bucketfs.vfs.tree.conflict_copies import conflict_name
from bucketfs.vfs.tree.content import BasePiece, DraftPiece, FrozenLayer, Layer, Piece, ZeroPiece, pieces
from bucketfs.vfs.tree.file_io import LAYERS_MAX, DraftDamaged, blocks_of, draft_bytes, read_base, read_file, squash
from bucketfs.vfs.tree.inode_table import InodeNumbers, Number, print_of
from bucketfs.vfs.tree.namespace import DEFAULT_MODE, DIRECTORY_SIZE, Eviction, Namespace, Owner, Registry
from bucketfs.vfs.tree.node import DirectoryNode, FileNode, Node, NodeTree, SymlinkNode, WriteFailure, check_sound
from bucketfs.vfs.tree.pending import Pending, content_record, stamp_of
from bucketfs.vfs.tree.permissions import Permissions, Roles, permissions_of
from bucketfs.vfs.tree.quota import StorageLimit
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
from bucketfs.vfs.tree.tree_reader import Read, TreeReader, Unreadable, Wanted, raw_info, together
from bucketfs.vfs.tree.volume import Volume

__all__ = [
    "DEFAULT_MODE",
    "DIRECTORY_SIZE",
    "LAYERS_MAX",
    "Attr",
    "AttributesChanged",
    "BasePiece",
    "BaseTree",
    "ContentChanged",
    "ContentLost",
    "DirEntry",
    "DirectoryNode",
    "DraftDamaged",
    "DraftPiece",
    "EntryChanged",
    "EntryGone",
    "Eviction",
    "FileNode",
    "FrozenLayer",
    "InodeNumbers",
    "Invalidation",
    "Layer",
    "Namespace",
    "Node",
    "NodeTree",
    "Number",
    "Opened",
    "Owner",
    "Pending",
    "Permissions",
    "Piece",
    "Pin",
    "PinScope",
    "Read",
    "Registry",
    "RenameFlags",
    "Roles",
    "SetAttr",
    "StatFs",
    "StorageLimit",
    "SymlinkNode",
    "TreeReader",
    "Unreadable",
    "Volume",
    "Wanted",
    "WriteFailure",
    "ZeroPiece",
    "blocks_of",
    "check_sound",
    "conflict_name",
    "content_record",
    "draft_bytes",
    "permissions_of",
    "pieces",
    "print_of",
    "raw_info",
    "read_base",
    "read_file",
    "squash",
    "stamp_of",
    "together",
]
