"""What one mount is wired of."""

from __future__ import annotations

from dataclasses import dataclass

from bucketfs.cache import BlockCache
from bucketfs.config import MountOptions
from bucketfs.daemon.buckets import BucketFolders, Volumes
from bucketfs.daemon.control.mount_paths import MountPaths
from bucketfs.daemon.session import Session
from bucketfs.mount import Mount
from bucketfs.remote import HubSource, Watcher
from bucketfs.vfs import VFS


@dataclass(frozen=True, slots=True)
class MountParts:
    """The parts of a running mount."""

    options: MountOptions
    session: Session
    source: HubSource
    cache: BlockCache
    volumes: Volumes
    folders: BucketFolders
    vfs: VFS
    mount: Mount
    watcher: Watcher

    @property
    def paths(self) -> MountPaths:
        """What users call the things in it."""
        return MountPaths(self.options.mountpoint, bool(self.options.bucket), self.options.prefix)

    def retry_now(self) -> None:
        """What was in the way of the Hub may be gone: repeat all that failed."""
        self.source.hurry()
        self.watcher.hurry()
        self.folders.retry_now()
