"""Buckets that were removed from a mount and not from the Hub yet.

A file system answers ``rmdir`` at once, but the Hub may be away or slow. So a removal is recorded first, in a file below
``removing`` in the state folder of the mount, and made at the Hub as soon as the Hub answers, also after a restart. The record
names the roots that the bucket had as far as this mount knows. When the Hub has another one by then, another client put something
into the bucket that was never shown here, and the bucket comes back.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

from bucketfs.client import BucketInfo, BucketsClient
from bucketfs.config import make_private
from bucketfs.daemon.buckets.retry_schedule import RetrySchedule
from bucketfs.dag import cid_from_text, cid_text
from bucketfs.disk import Disk
from bucketfs.errors import BucketfsError, Busy, NotFound, TimedOut, Unauthenticated, Unavailable
from bucketfs.types import BucketKey, Cid, ThreadId

log = logging.getLogger(__name__)

FOLDER = "removing"
VERSION = 1
NAME_PATIENCE_S = 20.0
"""How long making a bucket waits for the removal of another one of its name: ``rm -rf B && mkdir B`` over a slow link."""

PASSING = (Unavailable, TimedOut, Unauthenticated)
"""Errors that the next attempt may not meet. With any other the Hub refuses the removal."""


@dataclass(slots=True, eq=False)
class Removal:
    """A bucket to be removed at the Hub while its root is one of ``roots``. ``error`` is why the newest attempt failed;
    ``attempted`` is set after each, ``ended`` after the last."""

    info: BucketInfo
    roots: frozenset[Cid]
    error: BucketfsError | None = None
    attempts: int = 0
    retry: RetrySchedule = field(default_factory=RetrySchedule)
    attempted: trio.Event = field(default_factory=trio.Event)
    ended: trio.Event = field(default_factory=trio.Event)

    def count_attempt(self) -> None:
        """An attempt is over."""
        self.attempts += 1
        self.attempted.set()
        self.attempted = trio.Event()


class Removals:
    """The removals of one mount, recorded in ``folder``. ``removed`` is called when the Hub has removed a bucket, ``refused`` when
    it does not."""

    def __init__(
        self,
        folder: Path,
        buckets: BucketsClient,
        removed: Callable[[Removal], Awaitable[None]],
        refused: Callable[[Removal], Awaitable[None]],
    ) -> None:
        self.pending: dict[BucketKey, Removal] = {}
        self._folder = make_private(folder / FOLDER)
        self._disk = Disk()
        self._buckets = buckets
        self._removed = removed
        self._refused = refused
        for removal in recorded(folder):
            self.pending[removal.info.key] = removal

    async def begin(self, info: BucketInfo, roots: Collection[Cid]) -> Removal:
        """Record a removal, durably. Raises NoSpace, DiskFailed."""
        removal = Removal(info, frozenset(roots))
        document = {
            "version": VERSION,
            "key": str(info.key),
            "name": info.name,
            "thread": info.thread.hex(),
            "roots": [cid_text(root) for root in removal.roots],
        }
        await trio.to_thread.run_sync(self._disk.replace_file, self._folder / info.key, json.dumps(document).encode())
        self.pending[info.key] = removal
        return removal

    async def forget(self, removal: Removal) -> None:
        """Remove the record: the removal is made, or taken back."""
        with suppress(NotFound):
            await trio.to_thread.run_sync(self._disk.unlink, self._folder / removal.info.key)
        self.pending.pop(removal.info.key, None)
        removal.ended.set()
        removal.count_attempt()

    async def attempt(self, removal: Removal) -> None:
        """Remove the bucket at the Hub; one that the Hub no longer has counts as removed. Raises Busy when another client changed
        it, and what the Hub answers."""
        try:
            theirs = (await self._buckets.root(removal.info.key)).root
            if theirs not in removal.roots:
                raise Busy("the bucket was changed elsewhere", hint="look at what is in it now")
            await self._buckets.remove(removal.info.key)
        except NotFound:
            log.info("bucket %s was gone already", removal.info.key)

    async def finish(self, removal: Removal) -> None:
        """Try until the Hub has removed the bucket, or refuses to."""
        while True:
            try:
                await self._try(removal)
            except BucketfsError as error:
                if removal.error is None:
                    log.info("bucket %r is removed at the Hub later: %s", removal.info.name, error)
                removal.error = error
                removal.count_attempt()
                await removal.retry.wait()
            else:
                return

    async def _try(self, removal: Removal) -> None:
        """One attempt. Raises what the next one may not meet: PASSING, and NoSpace and DiskFailed when the outcome cannot be
        recorded."""
        try:
            await self.attempt(removal)
        except PASSING:
            raise
        except BucketfsError as error:
            log.warning("bucket %r was removed here and is back: %s", removal.info.name, error)
            removal.error = error
            await self._refused(removal)
        else:
            removal.error = None
            await self._removed(removal)
        await self.forget(removal)

    async def drain(self) -> None:
        """Return when all are made at the Hub. Raises the error of the first attempt from now on that fails."""
        for removal in list(self.pending.values()):
            removal.retry.retry_now()
            before = removal.attempts
            while removal.attempts == before and not removal.ended.is_set():
                await removal.attempted.wait()
            if removal.error is not None:
                raise removal.error

    async def name_free(self, name: str) -> None:
        """Return when no bucket of this name waits to be removed. Raises Busy when that takes long."""
        for removal in list(self.pending.values()):
            if removal.info.name == name:
                removal.retry.retry_now()
                with trio.move_on_after(NAME_PATIENCE_S):
                    await removal.ended.wait()
                if not removal.ended.is_set():
                    raise Busy(
                        f"the former bucket {name!r} is not removed at the Hub yet", hint="'bucketfs status' says why"
                    )


def recorded(folder: Path) -> list[Removal]:
    """The removals recorded in the state folder of a mount. A file that cannot be read is skipped. Blocks."""
    found: list[Removal] = []
    files = sorted((folder / FOLDER).iterdir()) if (folder / FOLDER).is_dir() else []
    for file in files:
        try:
            document = json.loads(file.read_bytes())
            # A kill while a record was written leaves a file of another name; no rmdir has succeeded for it.
            if document["version"] != VERSION or document["key"] != file.name:
                continue
            roots = frozenset(cid_from_text(root) for root in document["roots"])
            thread = ThreadId(bytes.fromhex(document["thread"]))
            info = BucketInfo(BucketKey(document["key"]), document["name"], thread, min(roots), 0, 0, False, "")
            found.append(Removal(info, roots))
        except (OSError, ValueError, KeyError, TypeError, BucketfsError) as error:
            log.debug("%s is not a removal: %s", file, error)
    return found
