"""Telling a Hub that went back from one that moved on. Pure.

A Hub may be restored from a copy, or lose its last second to a power cut. It then shows a root that we have left behind, by a
push of ours or after somebody else; taken for news, that would delete here whatever came after. The same root may be news, too:
somebody put things back as they were. But a Hub gives each change of a bucket a time of its own, so only a Hub that went back
shows an old root together with its old time.
"""

from __future__ import annotations

from bucketfs.ops import Left
from bucketfs.sync.remote import Look
from bucketfs.types import Cid
from bucketfs.vfs import Volume

LEFT_MAX = 64
"""So many roots are remembered: a Hub that loses more than the changes of some minutes loses more than roots."""


def saw(volume: Volume, seen: Look) -> None:
    """Take note of the time that belongs to the base."""
    if seen.root == volume.base:
        volume.base_time_ns = seen.updated_at_ns


def leave(volume: Volume, old: Cid) -> None:
    """The base was ``old`` and is another one now."""
    time_ns, volume.base_time_ns = volume.base_time_ns, 0
    volume.left.pop(volume.base, None)
    if time_ns and old != volume.base:
        volume.left[old] = time_ns
        while len(volume.left) > LEFT_MAX:
            del volume.left[next(iter(volume.left))]


def went_back(volume: Volume, seen: Look) -> bool:
    """Whether what the Hub shows is what it showed before the base."""
    return seen.root != volume.base and bool(seen.updated_at_ns) and volume.left.get(seen.root) == seen.updated_at_ns


def left(volume: Volume) -> list[Left]:
    """What a journal has to say of it."""
    return [Left(root, time_ns) for root, time_ns in volume.left.items()]
