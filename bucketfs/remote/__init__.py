"""A bucket at a Hub, seen as a DAG of blocks under a root that moves.

`Remote` is the protocol, `NativeRemote` the one over ``bucketfs.v1.Blocks``. `HubSource` fetches blocks, `send_all` sends them,
and `Watcher` hears of new roots.
"""

from bucketfs.remote.fetch import HubSource
from bucketfs.remote.native import NativeRemote
from bucketfs.remote.remote import Look, Remote
from bucketfs.remote.root_watcher import Watcher
from bucketfs.remote.upload import Sent, first_error, send_all

__all__ = [
    "HubSource",
    "Look",
    "NativeRemote",
    "Remote",
    "Sent",
    "Watcher",
    "first_error",
    "send_all",
]
