"""What one mount keeps on disk between runs: its state folder, and the listing that the Hub last gave."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import trio

from bucketfs.client import BucketInfo
from bucketfs.config import EMBEDDED, MountOptions, make_private
from bucketfs.daemon.buckets.deleted import deleted_buckets
from bucketfs.daemon.buckets.hub_cache import CachedListing, load_listing, save_listing
from bucketfs.daemon.session import Session
from bucketfs.disk import Disk
from bucketfs.errors import BucketfsError
from bucketfs.types import ThreadId

log = logging.getLogger(__name__)


class MountState:
    """The state of the mount with these options."""

    def __init__(self, options: MountOptions) -> None:
        self.listing: CachedListing | None = None
        self.deleted: list[BucketInfo] = []
        """Buckets that the Hub has no more, and for which changes wait here."""
        self._options = options
        self._disk = Disk()
        self._listing_file = Path()

    def folder(self, place: str, who: str) -> Path:
        """The state folder, by the Hub and who acts there (see `Session`). Raises Busy."""
        config = self._options.config
        folder = config.state_folder / "mounts" / self._tag(place, who)
        # Earlier releases named the embedded Hub by its socket in the runtime folder.
        old = folder.with_name(self._tag(f"unix:{config.paths.hub_socket(config.hub_data)}", who))
        if place.startswith(EMBEDDED) and old.is_dir() and not folder.exists():
            # With the lock of its journals held: a daemon that uses them goes by their paths.
            lock = self._disk.lock_file(old / "lock")
            try:
                old.rename(folder)
            finally:
                self._disk.close(lock)
        return make_private(folder)

    def recall_thread(self, place: str, who: str) -> ThreadId | None:
        """Load the listing of an earlier run, and return its thread."""
        self._listing_file = self.folder(place, who) / "known.json"
        self.listing = load_listing(self._listing_file)
        return self.listing.thread if self.listing is not None else None

    def save(self, thread: ThreadId, buckets: list[BucketInfo]) -> None:
        """Keep a listing for the next run."""
        try:
            save_listing(self._disk, self._listing_file, thread, buckets)
        except BucketfsError as error:
            log.warning("the next start will need the Hub: %s", error)

    async def with_deleted(self, folder: Path, session: Session, buckets: list[BucketInfo]) -> list[BucketInfo]:
        """These buckets, and the ``deleted`` ones, which are looked for now."""
        self.deleted = await trio.to_thread.run_sync(deleted_buckets, folder, buckets, self.listing, session.thread)
        for info in self.deleted:
            log.warning(
                "changes wait here for bucket %r (%s), which the Hub has no more, or shares no more", info.name, info.key
            )
        return [*buckets, *self.deleted]

    def _tag(self, place: str, who: str) -> str:
        name = f"{place}\n{who}\n{self._options.bucket}\n{self._options.prefix}"
        return hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
