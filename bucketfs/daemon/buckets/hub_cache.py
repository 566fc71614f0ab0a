"""The listing that the Hub last gave to a mount, so that the mount can start while the Hub is away.

``known.json`` in the state folder of a mount: the thread of the buckets and the buckets in it. A cache: when it is missing or
cannot be read, the Hub is asked, and what the Hub says replaces it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bucketfs.client import BucketInfo
from bucketfs.dag import cid_from_text, cid_text
from bucketfs.disk import Disk
from bucketfs.errors import BucketfsError
from bucketfs.keys import thread_from_text, thread_text
from bucketfs.types import BucketKey, ThreadId

VERSION = 1


@dataclass(frozen=True, slots=True)
class CachedListing:
    """The thread, and the buckets in it, private ones among them."""

    thread: ThreadId
    buckets: tuple[BucketInfo, ...]


def load_listing(file: Path) -> CachedListing | None:
    """The listing in ``file``; None when there is none that can be read."""
    try:
        document = json.loads(file.read_bytes())
        if document["version"] != VERSION:
            return None
        thread = thread_from_text(document["thread"])
        return CachedListing(thread, tuple(_bucket(entry, thread) for entry in document["buckets"]))
    except (OSError, ValueError, KeyError, TypeError, BucketfsError):
        return None


def save_listing(disk: Disk, file: Path, thread: ThreadId, buckets: Sequence[BucketInfo]) -> None:
    """Replace the listing in ``file``. Raises NoSpace, DiskFailed."""
    entries = [
        {
            "key": bucket.key,
            "name": bucket.name,
            "root": cid_text(bucket.root),
            "created_at_ns": bucket.created_at_ns,
            "updated_at_ns": bucket.updated_at_ns,
            "private": bucket.private,
            "owner": bucket.owner,
        }
        for bucket in buckets
    ]
    document = {"version": VERSION, "thread": thread_text(thread), "buckets": entries}
    disk.replace_file(file, json.dumps(document, indent=1).encode())


def _bucket(entry: dict[str, object], thread: ThreadId) -> BucketInfo:
    return BucketInfo(
        key=BucketKey(str(entry["key"])),
        name=str(entry["name"]),
        thread=thread,
        root=cid_from_text(str(entry["root"])),
        created_at_ns=int(str(entry["created_at_ns"])),
        updated_at_ns=int(str(entry["updated_at_ns"])),
        private=bool(entry["private"]),
        owner=str(entry["owner"]),
    )
