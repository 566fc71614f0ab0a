"""Telling a Hub that went back from one that moved on. Pure.

A Hub may be restored from a copy, or lose its last second to a power cut. It then shows a root that we have left behind, by a
push of ours or after somebody else; taken for news, that would delete here whatever came after. The same root may be news, too:
somebody put things back as they were. But a Hub gives each change of a bucket a later time than the one before, so only a Hub
that went back shows a root with a time that is not past all those that we knew: an old root with its old time, or one that we
never saw because others were quicker.
"""

from __future__ import annotations

from bucketfs.ops import Left
from bucketfs.remote import Look
from bucketfs.types import Cid
from bucketfs.vfs import Volume

LEFT_MAX = 64
"""So many roots are remembered: a Hub that loses more than the changes of some minutes loses more than roots."""


def saw(volume: Volume, seen: Look) -> None:
    """Take note of the time that belongs to the base."""
    if seen.root == volume.base:
        volume.base_time_ns = seen.updated_at_ns
        # A Hub that was given its newer root again by a clock that is behind: what came before has no later time from now on.
        for root in [root for root, time_ns in volume.left.items() if time_ns >= seen.updated_at_ns > 0]:
            del volume.left[root]


def leave(volume: Volume, old: Cid) -> None:
    """The base was ``old`` and is another one now. Before what was proposed from here is forgotten, for that tells whose it is."""
    if old != volume.base:
        volume.on_base(old, volume.base, volume.base in volume.proposed)
    time_ns, volume.base_time_ns = volume.base_time_ns, 0
    volume.left.pop(volume.base, None)
    if time_ns and old != volume.base:
        volume.left[old] = time_ns
        while len(volume.left) > LEFT_MAX:
            del volume.left[next(iter(volume.left))]


def went_back(volume: Volume, seen: Look) -> bool:
    """Whether what the Hub shows is of a time before the base."""
    if seen.root == volume.base or not seen.updated_at_ns:
        return False
    return seen.updated_at_ns < volume.base_time_ns or seen.updated_at_ns <= max(volume.left.values(), default=0)


def left(volume: Volume) -> list[Left]:
    """What a journal has to say of it."""
    return [Left(root, time_ns) for root, time_ns in volume.left.items()]
