"""Between the mount and the Hub: blocks fall, roots come in, pushes go out.

`HubSource` feeds the cache. `Syncer` keeps one volume and its bucket the same: it alone pushes and rebases, in one task.
A `Keeper` keeps beside the journal what changes that wait stand on.
`Watcher` hears that roots moved, and a `Feed` tells other programs what that changed. `push_folder` and `pull_folder` carry whole
folders without a mount, and `Mirror` keeps one the same as a bucket. What a Hub is, is said by `Remote`.
"""

from bucketfs.sync.events import Event, Feed, Kind, News, PoliteSource, Subscription, Turn, events_of
from bucketfs.sync.fetch import HubSource
from bucketfs.sync.folder import Rights
from bucketfs.sync.folder_asides import Asides, listed_asides
from bucketfs.sync.folder_move import move_by_path, move_path, remove_path
from bucketfs.sync.folder_pull import pull_folder
from bucketfs.sync.folder_push import push_folder
from bucketfs.sync.keeper import Keeper
from bucketfs.sync.mirror import Mirror, Round
from bucketfs.sync.mirror_run import MirrorPace, MirrorRunner
from bucketfs.sync.mirror_state import MirrorState, forget_state
from bucketfs.sync.native import NativeRemote
from bucketfs.sync.push import Pushed, Pusher
from bucketfs.sync.remote import Look, Remote
from bucketfs.sync.send import Sent
from bucketfs.sync.sync import Pace, Progress, Syncer, Trouble
from bucketfs.sync.transfer import Figures, NodeSource, PullOptions, PushOptions, Skipped, read_content
from bucketfs.sync.watch import Watcher

__all__ = [
    "Asides",
    "Event",
    "Feed",
    "Figures",
    "HubSource",
    "Keeper",
    "Kind",
    "Look",
    "Mirror",
    "MirrorPace",
    "MirrorRunner",
    "MirrorState",
    "NativeRemote",
    "News",
    "NodeSource",
    "Pace",
    "PoliteSource",
    "Progress",
    "PullOptions",
    "PushOptions",
    "Pushed",
    "Pusher",
    "Remote",
    "Rights",
    "Round",
    "Sent",
    "Skipped",
    "Subscription",
    "Syncer",
    "Trouble",
    "Turn",
    "Watcher",
    "events_of",
    "forget_state",
    "listed_asides",
    "move_by_path",
    "move_path",
    "pull_folder",
    "push_folder",
    "read_content",
    "remove_path",
]
