"""Buckets that were removed from a mount and not from the Hub yet.

A file system answers ``rmdir`` at once. The Hub may be away, or at the other end of a slow link. So a removal is written down
first, a file for each below ``removing`` in the state folder of the mount, and made at the Hub as soon as that answers, after a
restart too. The file names the roots that the bucket had as far as this mount knows. If the Hub has another one by then, somebody
put something into the bucket that was never shown here, and the bucket comes back.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

from bucketfs.client import Backoff, BucketInfo, BucketsClient
from bucketfs.config import make_private
from bucketfs.dag import cid_from_text, cid_text
from bucketfs.disk import Disk
from bucketfs.errors import BucketfsError, Busy, NotFound, TimedOut, Unauthenticated, Unavailable
from bucketfs.types import BucketKey, Cid, ThreadId

log = logging.getLogger(__name__)

FOLDER = "removing"
VERSION = 1
AGAIN_LIMIT_S = 60.0
NAME_PATIENCE_S = 20.0
"""How long making a bucket waits for the removal of another one of its name: ``rm -rf B && mkdir B`` over a slow link."""

PASSING = (Unavailable, TimedOut, Unauthenticated)
"""What may be otherwise at the next try. With all else the Hub refuses the removal."""


@dataclass(slots=True, eq=False)
class Removal:
    """A bucket to be removed at the Hub while its root is one of ``roots``. ``error`` is why the newest of the attempts so far
    failed, ``next_try_s`` when the next one is due (seconds since 1970). ``news`` is set after each."""

    info: BucketInfo
    roots: frozenset[Cid]
    error: BucketfsError | None = None
    next_try_s: float | None = None
    attempts: int = 0
    backoff: Backoff = field(default_factory=lambda: Backoff(limit_s=AGAIN_LIMIT_S))
    again: trio.Event = field(default_factory=trio.Event)
    news: trio.Event = field(default_factory=trio.Event)
    ended: trio.Event = field(default_factory=trio.Event)

    def hurry(self) -> None:
        """What stood in the way may be gone: try again now."""
        self.backoff.reset()
        self.again.set()

    def tell(self) -> None:
        """An attempt is over."""
        self.attempts += 1
        self.news.set()
        self.news = trio.Event()


class Removals:
    """Those of one mount, with state in ``folder``. ``refused`` takes back what the Hub does not let go of."""

    def __init__(
        self,
        folder: Path,
        buckets: BucketsClient,
        gone: Callable[[Removal], Awaitable[None]],
        refused: Callable[[Removal], Awaitable[None]],
    ) -> None:
        self.pending: dict[BucketKey, Removal] = {}
        self._folder = make_private(folder / FOLDER)
        self._disk = Disk()
        self._buckets = buckets
        self._gone = gone
        self._refused = refused
        for removal in recorded(folder):
            self.pending[removal.info.key] = removal

    async def begin(self, info: BucketInfo, roots: Collection[Cid]) -> Removal:
        """Write a removal down, durably. Raises NoSpace, DiskFailed."""
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
        """It is made, or taken back."""
        with suppress(NotFound):
            await trio.to_thread.run_sync(self._disk.unlink, self._folder / removal.info.key)
        self.pending.pop(removal.info.key, None)
        removal.ended.set()
        removal.tell()

    async def attempt(self, removal: Removal) -> None:
        """Remove the bucket at the Hub. Raises Busy when somebody changed it, and what the Hub answers; that it has it no more is
        as good as removed."""
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
                await self._wait(removal, error)
            else:
                return

    async def _try(self, removal: Removal) -> None:
        """Raises what passes: PASSING, and NoSpace and DiskFailed when the outcome cannot be written down."""
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
            await self._gone(removal)
        await self.forget(removal)

    async def _wait(self, removal: Removal, error: BucketfsError) -> None:
        removal.error = error
        delay_s = removal.backoff.next_s()
        removal.next_try_s = time.time() + delay_s
        removal.again = trio.Event()
        removal.tell()
        with trio.move_on_after(delay_s):
            await removal.again.wait()

    async def settle(self) -> None:
        """Return when all are made at the Hub. Raises the reason of the first attempt from now on that fails."""
        for removal in list(self.pending.values()):
            removal.hurry()
            before = removal.attempts
            while removal.attempts == before and not removal.ended.is_set():
                await removal.news.wait()
            if removal.error is not None:
                raise removal.error

    async def name_free(self, name: str) -> None:
        """Return when no bucket of this name waits to be removed. Raises Busy when that takes long."""
        for removal in list(self.pending.values()):
            if removal.info.name == name:
                removal.hurry()
                with trio.move_on_after(NAME_PATIENCE_S):
                    await removal.ended.wait()
                if not removal.ended.is_set():
                    raise Busy(
                        f"the bucket {name!r} before is not removed at the Hub yet", hint="'bucketfs status' says why"
                    )


def recorded(folder: Path) -> list[Removal]:
    """The removals that wait in the state folder of a mount; one that cannot be read is none. Blocks."""
    found: list[Removal] = []
    files = sorted((folder / FOLDER).iterdir()) if (folder / FOLDER).is_dir() else []
    for file in files:
        try:
            document = json.loads(file.read_bytes())
            # What a kill left of a file that was being written has another name: nobody was told of that removal.
            if document["version"] != VERSION or document["key"] != file.name:
                continue
            roots = frozenset(cid_from_text(root) for root in document["roots"])
            thread = ThreadId(bytes.fromhex(document["thread"]))
            info = BucketInfo(BucketKey(document["key"]), document["name"], thread, min(roots), 0, 0, False, "")
            found.append(Removal(info, roots))
        except (OSError, ValueError, KeyError, TypeError, BucketfsError) as error:
            log.debug("%s is no removal: %s", file, error)
    return found
