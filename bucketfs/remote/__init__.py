"""A bucket at a Hub, seen as a DAG of blocks under a root that moves.

`Remote` is the protocol, `NativeRemote` the one over ``bucketfs.v1.Blocks``. `HubSource` fetches blocks, `send_all` sends them,
and `Watcher` hears of new roots.
"""

from bucketfs.remote.builder import FileSource, LeafRun, Outcome, Part, TreeBuilder
from bucketfs.remote.fetch import HubSource
from bucketfs.remote.native import NativeRemote
from bucketfs.remote.remote import Look, Remote
from bucketfs.remote.root_watcher import Watcher
from bucketfs.remote.upload import Block, Emit, Sent, first_error, send_all

__all__ = [
    "Block",
    "Emit",
    "FileSource",
    "HubSource",
    "LeafRun",
    "Look",
    "NativeRemote",
    "Outcome",
    "Part",
    "Remote",
    "Sent",
    "TreeBuilder",
    "Watcher",
    "first_error",
    "send_all",
]
