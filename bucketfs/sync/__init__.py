"""Keeping a mounted volume and its bucket the same: pushes go out, new roots come in.

One task for each volume, its `Scheduler`, pushes (`Pusher`) and follows the Hub's root (`Rebaser`), so a push never meets a
rebase. A `BasePinner` keeps beside the journal the blocks of the base that pending changes need. A `ChangeFeed` tells other
programs what a new root changed. The Hub is reached through `bucketfs.remote`.
"""

from bucketfs.sync.base_pinner import BasePinner
from bucketfs.sync.change_feed import (
    ChangeFeed,
    ChangeKind,
    FeedSubscription,
    News,
    NewsKind,
    PathEvent,
    PoliteSource,
    events_of,
)
from bucketfs.sync.pusher import Pushed, Pusher
from bucketfs.sync.scheduler import Pace, Progress, PushFailure, Scheduler

__all__ = [
    "BasePinner",
    "ChangeFeed",
    "ChangeKind",
    "FeedSubscription",
    "News",
    "NewsKind",
    "Pace",
    "PathEvent",
    "PoliteSource",
    "Progress",
    "PushFailure",
    "Pushed",
    "Pusher",
    "Scheduler",
    "events_of",
]
