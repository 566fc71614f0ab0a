"""A bucket at a Hub, seen as a DAG of blocks under a root that moves.

`Remote` is the protocol, `NativeRemote` the one over ``bucketfs.v1.Blocks``. Blocks come in by `HubSource` (below the cache) or
`NodeSource` (for walks over trees). They go out by `TreeBuilder`, which makes trees of what it is fed, and `send_all`, which sends
what the Hub lacks of them. `Watcher` hears of new roots.
"""

from bucketfs.remote.builder import Done, FileSource, LeafRun, Outcome, Part, TreeBuilder
from bucketfs.remote.fetch import (
    LEAVES_RANGE_BYTES,
    HubSource,
    NodeSource,
    blocks_there,
    folder_at,
    kinds_of,
    leaf_contents,
    read_content,
    windows,
)
from bucketfs.remote.native import NativeRemote
from bucketfs.remote.remote import Look, Remote
from bucketfs.remote.root_watcher import Watcher
from bucketfs.remote.upload import Block, Emit, Sent, first_error, send_all

__all__ = [
    "LEAVES_RANGE_BYTES",
    "Block",
    "Done",
    "Emit",
    "FileSource",
    "HubSource",
    "LeafRun",
    "Look",
    "NativeRemote",
    "NodeSource",
    "Outcome",
    "Part",
    "Remote",
    "Sent",
    "TreeBuilder",
    "Watcher",
    "blocks_there",
    "first_error",
    "folder_at",
    "kinds_of",
    "leaf_contents",
    "read_content",
    "send_all",
    "windows",
]
