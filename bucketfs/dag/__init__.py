"""The DAG of a bucket: content identifiers, dag-pb, UnixFS, and what can be computed over them.

Pure: nothing here does I/O, waits or knows the time. What needs blocks is a generator (``Steps``) that yields the CIDs it
wants and is sent their bytes; a driver (``drive``, or an asynchronous one) decides where they come from and verifies them.
Identity CIDs carry their bytes and are never asked for.

What we write, for ever, because it is part of every CID:

* sha2-256, CIDv1; raw leaves of 256 KiB; balanced trees of width 174; a file of one chunk is its raw leaf, or, when it has
  attributes, one node with the bytes inline; a file of several chunks carries its attributes on the root, over raw leaves.
* A mode equal to the default (0644 for files, 0755 for directories) is left out, nanoseconds of zero are left out, symlinks
  never carry a mode. uid and gid are UnixFS fields 1000 and 1001. Fields we do not know are kept.
* A directory is sharded (HAMT, fan-out 256, murmur3) when the bytes of its names and CIDs are more than 262,144, and plain
  otherwise, whatever its history.

What both of two sides changed since they agreed is judged in one place, `rules`: by ``merge_trees`` for trees that only their CIDs
are known of, and by whoever knows more of what was done.

What we read: any layout of files, CIDv0, mixed versions, both spellings of defaults, within the limits on data from outside:
depth, fan-out, sizes, names.
"""

from __future__ import annotations

from bucketfs.dag.car import EMPTY_ROOT, Archive, car_read, car_write
from bucketfs.dag.codec.cid import (
    BLOCK_MAX,
    DAG_PB,
    LIBP2P_KEY,
    RAW,
    cid_from_text,
    cid_of,
    cid_text,
    codec_of,
    identity_block,
    is_v0,
    multihash_of,
    parse_cid,
    same_node,
    verify,
)
from bucketfs.dag.codec.dag_pb import PbLink, PbNode, decode_pb, encode_pb
from bucketfs.dag.codec.multibase import base58_decode, base58_encode, multibase_decode, multibase_encode
from bucketfs.dag.codec.nodes import (
    FILE_WIDTH,
    INLINE_MAX,
    LEAF_SIZE,
    SYMLINK_TARGET_MAX,
    Built,
    NodeInfo,
    block_links,
    check_block,
    node_info,
    with_attributes,
)
from bucketfs.dag.codec.unixfs import (
    DIRECTORY_MODE_DEFAULT,
    FILE_MODE_DEFAULT,
    UnixFs,
    UnixFsType,
    decode_unixfs,
    encode_unixfs,
)
from bucketfs.dag.codec.varint import uvarint_decode, uvarint_encode
from bucketfs.dag.dirs.directory import (
    SHARD_THRESHOLD,
    Directory,
    DirectoryBlock,
    check_entries,
    check_shards,
    directory_block,
    directory_names,
    edit_directory,
    empty_directory,
    list_directory,
    lookup,
    resolve,
    symlink,
)
from bucketfs.dag.dirs.edit import TreePath, edit_tree
from bucketfs.dag.files.file import FileTree, Leaf, build_file, file_root, leaf_data, leaves, read_file
from bucketfs.dag.files.sizes import file_length_of_tsize
from bucketfs.dag.files.spans import Span, Subtree, subtrees
from bucketfs.dag.ipns import (
    RECORD_LIFETIME_NS,
    RECORD_TTL_NS,
    NameRecord,
    make_record,
    name_from_text,
    name_of_key,
    name_text,
    peer_id_text,
    private_key_protobuf,
    public_key_of,
    routing_key,
    seed_of_private_key,
    verify_record,
)
from bucketfs.dag.merge.changes import Change, diff, directory_changes
from bucketfs.dag.merge.diff import Comparison, Delta, compare
from bucketfs.dag.merge.merging import ConflictName, Merge, MergeConflict, merge_trees
from bucketfs.dag.merge.rules import Act, Entry, Side, Verdict, content_of, entry_of, judge, merge_attributes
from bucketfs.dag.steps import BATCH_MAX, drive, fetch, fetch_one, gather
from bucketfs.dag.unfolding import Unfolding, check_small_tree, check_unfolding, count_entries
from bucketfs.dag.walk import new_blocks, reachable

__all__ = [
    "BATCH_MAX",
    "BLOCK_MAX",
    "DAG_PB",
    "DIRECTORY_MODE_DEFAULT",
    "EMPTY_ROOT",
    "FILE_MODE_DEFAULT",
    "FILE_WIDTH",
    "INLINE_MAX",
    "LEAF_SIZE",
    "LIBP2P_KEY",
    "RAW",
    "RECORD_LIFETIME_NS",
    "RECORD_TTL_NS",
    "SHARD_THRESHOLD",
    "SYMLINK_TARGET_MAX",
    "Act",
    "Archive",
    "Built",
    "Change",
    "Comparison",
    "ConflictName",
    "Delta",
    "Directory",
    "DirectoryBlock",
    "Entry",
    "FileTree",
    "Leaf",
    "Merge",
    "MergeConflict",
    "NameRecord",
    "NodeInfo",
    "PbLink",
    "PbNode",
    "Side",
    "Span",
    "Subtree",
    "TreePath",
    "Unfolding",
    "UnixFs",
    "UnixFsType",
    "Verdict",
    "base58_decode",
    "base58_encode",
    "block_links",
    "build_file",
    "car_read",
    "car_write",
    "check_block",
    "check_entries",
    "check_shards",
    "check_small_tree",
    "check_unfolding",
    "cid_from_text",
    "cid_of",
    "cid_text",
    "codec_of",
    "compare",
    "content_of",
    "count_entries",
    "decode_pb",
    "decode_unixfs",
    "diff",
    "directory_block",
    "directory_changes",
    "directory_names",
    "drive",
    "edit_directory",
    "edit_tree",
    "empty_directory",
    "encode_pb",
    "encode_unixfs",
    "entry_of",
    "fetch",
    "fetch_one",
    "file_length_of_tsize",
    "file_root",
    "gather",
    "identity_block",
    "is_v0",
    "judge",
    "leaf_data",
    "leaves",
    "list_directory",
    "lookup",
    "make_record",
    "merge_attributes",
    "merge_trees",
    "multibase_decode",
    "multibase_encode",
    "multihash_of",
    "name_from_text",
    "name_of_key",
    "name_text",
    "new_blocks",
    "node_info",
    "parse_cid",
    "peer_id_text",
    "private_key_protobuf",
    "public_key_of",
    "reachable",
    "read_file",
    "resolve",
    "routing_key",
    "same_node",
    "seed_of_private_key",
    "subtrees",
    "symlink",
    "uvarint_decode",
    "uvarint_encode",
    "verify",
    "verify_record",
    "with_attributes",
]
