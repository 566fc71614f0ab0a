"""Telling a Hub that went back from one that moved on. Pure.

A Hub may be restored from a copy, or lose its last second to a power cut. It then shows a root that we have left behind, by a
push of ours or after somebody else; taken for news, that would delete here whatever came after. The same root may be news, too:
somebody put things back as they were. But a Hub gives each change of a bucket a later time than the one before, so only a Hub
that went back shows a root with a time that is not past all those that we knew: an old root with its old time, or one that we
never saw because others were quicker.
"""

from __future__ import annotations

from bucketfs.remote import Look
from bucketfs.vfs import Volume


def note_time(volume: Volume, seen: Look) -> None:
    """Note the time that belongs to the base."""
    if seen.root == volume.base:
        volume.push.base_seen(seen.updated_at_ns)


def went_back(volume: Volume, seen: Look) -> bool:
    """Whether what the Hub shows is of a time before the base."""
    return seen.root != volume.base and volume.push.is_older(seen.updated_at_ns)
