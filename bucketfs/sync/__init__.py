"""Keeping a mounted volume and its bucket the same: pushes go out, new roots come in.

`Syncer` alone pushes and rebases one volume, in one task. `Keeper` keeps beside the journal the blocks of the base that pending
changes need. `Feed` tells other programs what a new root changed. The Hub is reached through `bucketfs.remote`.
"""

from bucketfs.sync.base_pinner import Keeper
from bucketfs.sync.change_feed import Event, Feed, Kind, News, PoliteSource, Subscription, Turn, events_of
from bucketfs.sync.pusher import Pushed, Pusher
from bucketfs.sync.scheduler import Pace, Progress, Syncer, Trouble

__all__ = [
    "Event",
    "Feed",
    "Keeper",
    "Kind",
    "News",
    "Pace",
    "PoliteSource",
    "Progress",
    "Pushed",
    "Pusher",
    "Subscription",
    "Syncer",
    "Trouble",
    "Turn",
    "events_of",
]
