"""bucketfs mounts content-addressed Hub buckets as a folder. For programs there is a Python API: `bucketfs.api`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bucketfs.api import (
        AsyncBucket,
        AsyncHub,
        BucketChange,
        BucketEntry,
        BucketRecord,
        BucketUpdate,
        BucketUpdates,
        OpenBucket,
        OpenHub,
        SkippedPath,
        TransferReport,
        open_hub,
        open_hub_async,
    )
    from bucketfs.errors import BucketfsError

__version__ = "0.1.0"

__all__ = [
    "AsyncBucket",
    "AsyncHub",
    "BucketChange",
    "BucketEntry",
    "BucketRecord",
    "BucketUpdate",
    "BucketUpdates",
    "BucketfsError",
    "OpenBucket",
    "OpenHub",
    "SkippedPath",
    "TransferReport",
    "__version__",
    "open_hub",
    "open_hub_async",
]


def __getattr__(name: str) -> object:
    # Every command imports this package; most need no gRPC and no trio.
    import importlib

    if name in __all__:
        return getattr(importlib.import_module("bucketfs.errors" if name == "BucketfsError" else "bucketfs.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
