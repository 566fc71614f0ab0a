"""The public Python API: buckets of a Hub, without a mount.

``open_hub`` gives an `OpenHub`, whose methods block; ``open_hub_async`` gives an `AsyncHub` with the same methods for trio.
Both choose the Hub and the keys as the command line does. Paths in a bucket are text with ``/`` between names, relative to
its top; ``""`` is the top itself. Every error is a `BucketfsError`, whose ``str()`` is one line and whose ``hint`` says what
to do next.

    import bucketfs

    with bucketfs.open_hub() as hub:
        notes = hub.bucket("notes")
        notes.write("2026/today", b"milk, eggs")
        print([entry.path for entry in notes.list("2026")])
"""

from bucketfs.api.blocking import OpenBucket, OpenHub, open_hub
from bucketfs.api.bucket import AsyncBucket, BucketUpdates
from bucketfs.api.hub import AsyncHub, open_hub_async
from bucketfs.api.values import BucketChange, BucketEntry, BucketRecord, BucketUpdate, SkippedPath, TransferReport

__all__ = [
    "AsyncBucket",
    "AsyncHub",
    "BucketChange",
    "BucketEntry",
    "BucketRecord",
    "BucketUpdate",
    "BucketUpdates",
    "OpenBucket",
    "OpenHub",
    "SkippedPath",
    "TransferReport",
    "open_hub",
    "open_hub_async",
]
