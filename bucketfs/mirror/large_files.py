"""Large files of a mirror: which are carried within a round, and which in the background of the rounds (`background`).

A round carries `INLINE_BYTES` of them each way, so that a few photos go with what is small; the rest goes in the background.
What arrives is written aside in the top folder, and takes its name in a later round, by the rule that holds for all files. What
departs is in the bucket when a later round finds the file as it was when it was read."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import trio

from bucketfs.cache import run_steps
from bucketfs.dag import Built, leaves
from bucketfs.mirror.background import Background, Work
from bucketfs.mirror.watched_folder import WatchedFolder
from bucketfs.remote import NodeSource, Remote, TreeBuilder, send_all
from bucketfs.transfer import ONE_PATH, AsideFile, BucketFile, Figures, LocalCopy, LocalFile, Progress, fetch_into, path_text
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


class LargeFiles:
    """What is on its way in the background, both ways. Without `run` nothing is."""

    def __init__(self, remote: Remote, folder: WatchedFolder, progress: Progress) -> None:
        self.arriving: Background[Cid, AsideFile] = Background()
        self.departing: Background[LocalFile, Departed] = Background()
        self.running = False
        self._remote = remote
        self._source = NodeSource(remote)
        self._folder = folder
        self._figures = Figures(progress=progress)

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
            for background in (self.arriving, self.departing):
                if background.busy:
                    nursery.start_soon(_first, background, nursery.cancel_scope)

    def arrival(self, file: BucketFile, copy_from: bytes | None) -> Work[AsideFile]:
        """The work of fetching a file, or of copying it from where it stands here."""
        copy: LocalCopy | None = None
        if copy_from is not None:
            with suppress(*ONE_PATH):
                copy = LocalCopy(self._folder.fs, copy_from)
        arrival = _Arrival(file, self._folder, self._source, self._figures, copy)
        return Work(file.size_bytes, arrival.act, arrival.drop)

    def departure(self, file: LocalFile) -> Work[Departed]:
        """The work of sending a file."""
        upload = UploadId(secrets.token_bytes(16))

        async def act() -> Departed:
            built = await send_all(
                self._remote,
                upload,
                lambda emit: TreeBuilder(self._source, emit, self._figures.bytes_were_done).file(file),
                self._figures.sent,
            )
            return Departed(built, upload)

        return Work(file.size_bytes, act, lambda: None)


async def _first(background: Background[Any, Any], scope: trio.CancelScope) -> None:
    await background.gather()
    scope.cancel()


class Incoming:
    """What one round does about large files that are to be written here."""

    def __init__(self, large: LargeFiles) -> None:
        self._large = large
        self._left_bytes = INLINE_BYTES
        self._wanted: dict[Cid, Work[AsideFile]] = {}
        self._copies = 0

    @property
    def count(self) -> int:
        """How many are on their way."""
        return len(self._wanted)

    def is_on_its_way(self, file: BucketFile) -> bool:
        """Whether an earlier round wanted it."""
        return file.link.cid in self._large.arriving

    def goes_beside(self, file: BucketFile, copy_from: bytes | None) -> bool:
        """Whether it is not carried within this round."""
        if not self._large.running or (copy_from is not None and self._copies >= COPIES_MAX):
            return False
        if not self.is_on_its_way(file) and file.size_bytes <= self._left_bytes:
            self._left_bytes -= file.size_bytes
            return False
        return True

    def take(self, file: BucketFile, copy_from: bytes | None) -> AsideFile | None:
        """The file, if it has arrived; else it is wanted. Raises why it cannot arrive."""
        cid = file.link.cid
        aside = self._large.arriving.take(cid)
        if aside is not None:
            aside.path = file.where
        elif cid not in self._wanted:
            self._wanted[cid] = self._large.arrival(file, copy_from)
            self._copies += copy_from is not None
        return aside

    def settle(self) -> None:
        """The round has seen all there is: what it did not want is cancelled."""
        self._large.arriving.want(self._wanted)


class Outgoing:
    """What one round does about large files that changed here."""

    def __init__(self, large: LargeFiles) -> None:
        self._large = large
        self._left_bytes = INLINE_BYTES
        self._wanted: dict[LocalFile, Work[Departed]] = {}
        self.upload: UploadId | None = None
        """An upload that is over when the root is swapped."""

    @property
    def count(self) -> int:
        """How many are on their way."""
        return len(self._wanted)

    def goes_beside(self, file: LocalFile) -> bool:
        """Whether it is not carried within this round."""
        if not self._large.running:
            return False
        if file not in self._large.departing and file.size_bytes <= self._left_bytes:
            self._left_bytes -= file.size_bytes
            return False
        return True

    def take(self, file: LocalFile) -> Built | None:
        """The file's DAG, if all of it is at the Hub; else it is wanted. Raises why it cannot be sent."""
        departed = self._large.departing.take(file)
        if departed is None:
            self._wanted[file] = self._large.departure(file)
            return None
        self.upload = departed.upload
        return departed.built

    def settle(self) -> None:
        """The round has seen all there is: what it did not want is cancelled."""
        self._large.departing.want(self._wanted)


class _Arrival:
    """A file that is fetched, written aside in the top folder, where no removal of folders meets it."""

    def __init__(
        self, file: BucketFile, folder: WatchedFolder, source: NodeSource, figures: Figures, copy: LocalCopy | None
    ) -> None:
        self._file = file
        self._folder = folder
        self._source = source
        self._figures = figures
        self._copy = copy
        self._aside: AsideFile | None = None
        self._done_bytes = 0
        self._acting = False
        self._dropped = False

    async def act(self) -> AsideFile:
        """Fetches what is lacking."""
        self._acting = True
        self._figures.path = path_text(self._file.path)
        try:
            if self._aside is None:
                self._aside = await trio.to_thread.run_sync(self._make)
            aside, size_bytes = self._aside, self._file.size_bytes
            while self._copy is not None:
                if not await trio.to_thread.run_sync(self._copy.step, self._file, aside):
                    if await trio.to_thread.run_sync(self._copy.finish, self._file, aside):
                        self._done_bytes = size_bytes
                    self._copy = None
            while self._done_bytes < size_bytes:
                stop = min(self._done_bytes + STEP_BYTES, size_bytes)
                found = await run_steps(leaves(self._file.link.cid, self._done_bytes, stop), self._source)
                await fetch_into(self._source, found, aside, self._figures)
                self._done_bytes = stop
            await trio.to_thread.run_sync(aside.sync)
            return aside
        finally:
            self._acting = False
            if self._dropped:
                self._abandon()

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

    def _make(self) -> AsideFile:
        # A file system that is mounted below the top takes no file by a rename from there.
        fs, above = self._folder.fs, os.path.dirname(self._file.where)
        place = self._folder.top if fs.same_device(self._folder.top, above) else above
        aside = AsideFile(fs, os.path.join(place, b"-"), self._file.size_bytes, self._folder.asides, quiet=True)
        aside.path = self._file.where
        return aside
