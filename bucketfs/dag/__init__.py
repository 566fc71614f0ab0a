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

What two sides changed since they agreed is judged in one place, `merge.rules`: for ``merge_trees``, which knows no more than three
roots, and for the rebase of a mount, which knows what was done.

What we read: any layout of files, CIDv0, mixed versions, both spellings of defaults, within the limits on data from outside:
depth, fan-out, sizes, names.
"""

from __future__ import annotations

from bucketfs.dag.codec import (
    DAG_PB,
    DIRECTORY_MODE_DEFAULT,
    FILE_MODE_DEFAULT,
    FILE_WIDTH,
    LEAF_SIZE,
    RAW,
    Built,
    NodeInfo,
    PbLink,
    PbNode,
    UnixFs,
    UnixFsType,
    block_links,
    check_block,
    cid_from_text,
    cid_of,
    cid_text,
    codec_of,
    decode_pb,
    decode_unixfs,
    encode_pb,
    encode_unixfs,
    identity_block,
    multibase_decode,
    multibase_encode,
    multihash_of,
    node_info,
    parse_cid,
    same_node,
    uvarint_encode,
    verify,
    with_attributes,
)
from bucketfs.dag.dirs import (
    Directory,
    DirectoryBlock,
    TreePath,
    check_entries,
    check_shards,
    directory_block,
    edit_directory,
    edit_tree,
    empty_directory,
    list_directory,
    lookup,
    resolve,
    symlink,
)
from bucketfs.dag.files import FileTree, Leaf, Subtree, leaf_data, leaves, subtrees
from bucketfs.dag.ipns import name_from_text, peer_id_text
from bucketfs.dag.merge import (
    Change,
    Comparison,
    Delta,
    Entry,
    Merge,
    Outcome,
    Side,
    Verdict,
    compare,
    content_of,
    diff,
    directory_changes,
    entry_of,
    find_moved,
    judge,
    merge_trees,
)
from bucketfs.dag.steps import BATCH_MAX, drive, fetch_one
from bucketfs.dag.unfolding import Unfolding, check_small_tree, check_unfolding, count_entries
from bucketfs.dag.walk import new_blocks, reachable

__all__ = [
    "BATCH_MAX",
    "DAG_PB",
    "DIRECTORY_MODE_DEFAULT",
    "FILE_MODE_DEFAULT",
    "FILE_WIDTH",
    "LEAF_SIZE",
    "RAW",
    "Built",
    "Change",
    "Comparison",
    "Delta",
    "Directory",
    "DirectoryBlock",
    "Entry",
    "FileTree",
    "Leaf",
    "Merge",
    "NodeInfo",
    "Outcome",
    "PbLink",
    "PbNode",
    "Side",
    "Subtree",
    "TreePath",
    "Unfolding",
    "UnixFs",
    "UnixFsType",
    "Verdict",
    "block_links",
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
    "drive",
    "edit_directory",
    "edit_tree",
    "empty_directory",
    "encode_pb",
    "encode_unixfs",
    "entry_of",
    "fetch_one",
    "find_moved",
    "identity_block",
    "judge",
    "leaf_data",
    "leaves",
    "list_directory",
    "lookup",
    "merge_trees",
    "multibase_decode",
    "multibase_encode",
    "multihash_of",
    "name_from_text",
    "new_blocks",
    "node_info",
    "parse_cid",
    "peer_id_text",
    "reachable",
    "resolve",
    "same_node",
    "subtrees",
    "symlink",
    "uvarint_encode",
    "verify",
    "with_attributes",
]
