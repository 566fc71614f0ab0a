"""Large files of a mirror: which are carried within a round, and which beside it (`mirror_beside`).

A round carries `INLINE_BYTES` of them each way, so that a few photos go with what is small; the rest goes beside. What arrives is
written aside in the folder's top, and takes its name in a later round, by the rule that holds for all files. What departs is in the
bucket when a later round finds the file as it was when it was read.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import trio

from bucketfs.cache import run_steps
from bucketfs.dag import Built, leaves
from bucketfs.mirror.background import Beside, Work
from bucketfs.remote import Remote, send_all
from bucketfs.transfer import (
    Asides,
    Emit,
    Figures,
    Item,
    LocalCopy,
    NodeSource,
    Plan,
    Progress,
    copy_leaves,
    path_text,
    stream_large,
)
from bucketfs.transfer import local_fs as folder
from bucketfs.types import Cid, UploadId

INLINE_BYTES = 16 << 20
STEP_BYTES = 64 << 20
COPIES_MAX = 64
"""So many files are opened in a round to be copied after it: they may lose their names in it. Others are copied within it."""


@dataclass(frozen=True, slots=True)
class Departed:
    """A file that is at the Hub, and the upload that its blocks came with."""

    built: Built
    upload: UploadId


class Large:
    """What is on its way beside the rounds, both ways. Without `run` nothing is."""

    def __init__(self, remote: Remote, top: bytes, asides: Asides, progress: Progress) -> None:
        self.arriving: Beside[Cid, folder.Aside] = Beside()
        self.departing: Beside[Plan, Departed] = Beside()
        self.running = False
        self._remote = remote
        self._source = NodeSource(remote)
        self._top = top
        self._asides = asides
        self._progress = progress
        self._figures = Figures()

    @property
    def busy(self) -> bool:
        """Whether something is on its way that no round has taken yet."""
        return self.arriving.busy or self.departing.busy

    async def run(self, finished: Callable[[], None]) -> None:
        """Carries until cancelled; ``finished`` is told when a round can take something."""
        self.running = True
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.arriving.run, finished)
                nursery.start_soon(self.departing.run, finished)
        finally:
            self.running = False

    async def gather(self) -> None:
        """Returns when a round can take something, or nothing is on its way."""
        async with trio.open_nursery() as nursery:
            for beside in (self.arriving, self.departing):
                if beside.busy:
                    nursery.start_soon(_first, beside, nursery.cancel_scope)

    def arrival(self, item: Item, copy_from: bytes | None) -> Work[folder.Aside]:
        """The work of fetching a file, or of copying it from where it stands here."""
        copy: LocalCopy | None = None
        if copy_from is not None:
            with suppress(*folder.ONE_PATH):
                copy = LocalCopy(copy_from)
        arrival = _Arrival(item, self._top, self._asides, self._source, self._figures, self._progress, copy)
        return Work(item.size_bytes, arrival.act, arrival.drop)

    def departure(self, plan: Plan) -> Work[Departed]:
        """The work of sending a file."""
        upload = UploadId(secrets.token_bytes(16))

        async def act() -> Departed:
            def make(emit: Emit) -> Awaitable[Built]:
                return stream_large(plan, emit, self._figures, self._progress)

            return Departed(await send_all(self._remote, upload, make, self._figures.sent), upload)

        return Work(plan.entry.size_bytes, act, lambda: None)


async def _first(beside: Beside[Any, Any], scope: trio.CancelScope) -> None:
    await beside.gather()
    scope.cancel()


class Incoming:
    """What one round does about large files that are to be written here."""

    def __init__(self, large: Large) -> None:
        self._large = large
        self._left_bytes = INLINE_BYTES
        self._wanted: dict[Cid, Work[folder.Aside]] = {}
        self._copies = 0

    @property
    def count(self) -> int:
        """How many are on their way."""
        return len(self._wanted)

    def is_on_its_way(self, item: Item) -> bool:
        """Whether an earlier round wanted it."""
        return item.link.cid in self._large.arriving

    def goes_beside(self, item: Item, copy_from: bytes | None) -> bool:
        """Whether it is not carried within this round."""
        if not self._large.running or (copy_from is not None and self._copies >= COPIES_MAX):
            return False
        if not self.is_on_its_way(item) and item.size_bytes <= self._left_bytes:
            self._left_bytes -= item.size_bytes
            return False
        return True

    def take(self, item: Item, copy_from: bytes | None) -> folder.Aside | None:
        """The file, if it has arrived; else it is wanted. Raises why it cannot arrive."""
        cid = item.link.cid
        aside = self._large.arriving.take(cid)
        if aside is None:
            if cid not in self._wanted:
                self._wanted[cid] = self._large.arrival(item, copy_from)
                self._copies += copy_from is not None
        else:
            aside.path = item.where
        return aside

    def settle(self) -> None:
        """The round has seen all there is: what it did not want is cancelled."""
        self._large.arriving.want(self._wanted)


class Outgoing:
    """What one round does about large files that changed here."""

    def __init__(self, large: Large) -> None:
        self._large = large
        self._left_bytes = INLINE_BYTES
        self._wanted: dict[Plan, Work[Departed]] = {}
        self.upload: UploadId | None = None
        """An upload that is over when the root is swapped."""

    @property
    def count(self) -> int:
        """How many are on their way."""
        return len(self._wanted)

    def goes_beside(self, plan: Plan) -> bool:
        """Whether it is not carried within this round."""
        if not self._large.running:
            return False
        if plan not in self._large.departing and plan.entry.size_bytes <= self._left_bytes:
            self._left_bytes -= plan.entry.size_bytes
            return False
        return True

    def take(self, plan: Plan) -> Built | None:
        """The file's DAG, if all of it is at the Hub; else it is wanted. Raises why it cannot be sent."""
        departed = self._large.departing.take(plan)
        if departed is None:
            self._wanted[plan] = self._large.departure(plan)
            return None
        self.upload = departed.upload
        return departed.built

    def settle(self) -> None:
        """The round has seen all there is: what it did not want is cancelled."""
        self._large.departing.want(self._wanted)


class _Arrival:
    """A file that is fetched, written aside in the top folder, where no removal of folders meets it."""

    def __init__(
        self,
        item: Item,
        top: bytes,
        asides: Asides,
        source: NodeSource,
        figures: Figures,
        progress: Progress,
        copy: LocalCopy | None,
    ) -> None:
        self._copy = copy
        self._item = item
        self._top = top
        self._asides = asides
        self._source = source
        self._figures = figures
        self._progress = progress
        self._aside: folder.Aside | None = None
        self._done_bytes = 0
        self._acting = False
        self._dropped = False

    async def act(self) -> folder.Aside:
        """Fetches what is lacking."""
        self._acting = True
        self._figures.path = path_text(self._item.path)
        try:
            if self._aside is None:
                self._aside = await trio.to_thread.run_sync(self._make)
            aside, size_bytes = self._aside, self._item.size_bytes
            await self._copied(aside)
            while self._done_bytes < size_bytes:
                stop = min(self._done_bytes + STEP_BYTES, size_bytes)
                found = await run_steps(leaves(self._item.link.cid, self._done_bytes, stop), self._source)
                await copy_leaves(self._source, found, aside, self._figures, self._progress)
                self._done_bytes = stop
            await trio.to_thread.run_sync(aside.sync)
            return aside
        finally:
            self._acting = False
            if self._dropped:
                self._abandon()

    async def _copied(self, aside: folder.Aside) -> None:
        while self._copy is not None:
            if not await trio.to_thread.run_sync(self._copy.step, self._item, aside):
                if await trio.to_thread.run_sync(self._copy.finish, self._item, aside):
                    self._done_bytes = self._item.size_bytes
                self._copy = None

    def drop(self) -> None:
        """Removes what was written, as soon as no thread writes into it any more."""
        self._dropped = True
        if not self._acting:
            self._abandon()

    def _abandon(self) -> None:
        if self._copy is not None:
            self._copy.close()
        if self._aside is not None:
            self._aside.abandon()

    def _make(self) -> folder.Aside:
        # A file system that is mounted below the top takes no file by a rename from there.
        above = os.path.dirname(self._item.where)
        place = self._top if folder.same_device(self._top, above) else above
        aside = folder.Aside(os.path.join(place, b"-"), self._item.size_bytes, self._asides, quiet=True)
        aside.path = self._item.where
        return aside
