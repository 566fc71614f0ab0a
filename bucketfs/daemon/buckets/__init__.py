"""The buckets of one mount: opening them, keeping them in step with the Hub, their folders, and what waits for the Hub.

`Volumes` holds the open ones; `BucketFolders` shows what the Hub lists, and makes and removes buckets; `MountState` is what the
mount keeps on disk. Imports ``host`` and ``session``.
"""

from bucketfs.daemon.buckets.bucket_folders import BucketFolders, PendingBucket
from bucketfs.daemon.buckets.draining import check_all_open, drain_all, drain_until, left_text, report_while
from bucketfs.daemon.buckets.mount_state import MountState
from bucketfs.daemon.buckets.opening import OpenVolume
from bucketfs.daemon.buckets.removals import Removal
from bucketfs.daemon.buckets.volumes import Volumes, started

__all__ = [
    "BucketFolders",
    "MountState",
    "OpenVolume",
    "PendingBucket",
    "Removal",
    "Volumes",
    "check_all_open",
    "drain_all",
    "drain_until",
    "left_text",
    "report_while",
    "started",
]
