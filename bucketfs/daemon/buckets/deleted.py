"""Buckets that were deleted at the Hub, or are no longer shared, while changes wait here for them.

Another client destroyed the bucket, or the Hub was restored without it. What was written here since the last push is in its journal
and nowhere else, so the bucket stays on the mount, also after a restart, until a user empties and removes its folder. When the Hub
has the bucket again, sync resumes.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bucketfs.client import BucketInfo
from bucketfs.daemon.buckets.hub_cache import CachedListing
from bucketfs.daemon.buckets.removals import recorded
from bucketfs.disk import Disk
from bucketfs.journal import Glance, glance
from bucketfs.types import BucketKey, ThreadId

JOURNALS = "buckets"
"""The folder of the journals in the state folder of a mount: one for each bucket, named by its key."""


def deleted_buckets(
    folder: Path, listed: Iterable[BucketInfo], listing: CachedListing | None, thread: ThreadId
) -> list[BucketInfo]:
    """The buckets that are not among ``listed`` and for which changes wait below ``folder``, the state folder of a mount. Their
    names are those of the cached ``listing``, else made of their keys. Blocks."""
    # What was removed here on purpose is not one of them.
    there = {info.key for info in listed} | {removal.info.key for removal in recorded(folder)}
    remembered = {info.key: info for info in listing.buckets} if listing is not None else {}
    found: list[BucketInfo] = []
    journals = folder / JOURNALS
    for name in sorted(entry.name for entry in journals.iterdir()) if journals.is_dir() else ():
        key = BucketKey(name)
        if key in there:
            continue
        seen = glance(Disk(), journals / name)
        if seen.changes and seen.base is not None:
            found.append(remembered.get(key) or _nameless(key, seen, thread))
    return found


def _nameless(key: BucketKey, seen: Glance, thread: ThreadId) -> BucketInfo:
    assert seen.base is not None, "a journal with changes has a base"
    return BucketInfo(
        key=key,
        name=f"lost {key[-8:]}",
        thread=thread,
        root=seen.base,
        created_at_ns=0,
        updated_at_ns=0,
        private=False,
        owner="",
    )
