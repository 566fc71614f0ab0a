"""Large files of a mirror, on their way in the background of its rounds (`background`).

What arrives is written aside in the top folder, and takes its name in a later round, by the rule that holds for all files. What
departs is in the bucket when a later round finds the file as it was when it was read.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import trio

from bucketfs.dag import Built
from bucketfs.mirror.background import Background, Work
from bucketfs.mirror.watched_folder import WatchedFolder
from bucketfs.remote import NodeSource, Remote, TreeBuilder, send_all
from bucketfs.transfer import AsideFile, BucketFile, Figures, FileFetch, LocalFile, Progress, path_text
from bucketfs.types import Cid, UploadId

COPIES_MAX = 64
"""So many files are opened in a round to be copied after it: they may lose their names in it. Others are copied within it."""


@dataclass(eq=False)
class LargeFiles:
    """What is on its way in the background, both ways."""

    remote: Remote
    folder: WatchedFolder
    progress: Progress

    def __post_init__(self) -> None:
        self.arriving: Background[Cid, AsideFile] = Background()
        self.departing: Background[LocalFile, tuple[Built, UploadId]] = Background()
        self._source = NodeSource(self.remote)
        self._figures = Figures(progress=self.progress)
        self._copies = 0
        self.upload: UploadId | None = None
        """An upload that brought a file, and is over when the root is swapped."""

    @property
    def busy(self) -> bool:
        """Whether something is on its way that no round has taken yet."""
        return self.arriving.busy or self.departing.busy

    async def run(self, finished: Callable[[], None]) -> None:
        """Carries until cancelled; ``finished`` is told when a round can take something."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.arriving.run, finished)
            nursery.start_soon(self.departing.run, finished)

    async def gather(self) -> None:
        """Returns when a round can take something, or nothing is on its way."""
        async with trio.open_nursery() as nursery:
            for background in (self.arriving, self.departing):
                if background.busy:
                    nursery.start_soon(_first, background, nursery.cancel_scope)

    def begin_round(self) -> None:
        """Nothing is wanted by this round yet."""
        self.arriving.begin_round()
        self.departing.begin_round()
        self._copies = 0
        self.upload = None

    def fetches(self, file: BucketFile, copy_from: bytes | None) -> bool:
        """Whether a file arrives in the background; else the round fetches it, or copies it from ``copy_from``."""
        if copy_from is not None and self._copies >= COPIES_MAX:
            return False
        return self.arriving.takes(file.link.cid, file.size_bytes)

    def arrived(self, file: BucketFile, copy_from: bytes | None) -> AsideFile | None:
        """The file, if all of it has arrived; else it is wanted. Raises why it cannot arrive."""

        def make() -> Work[AsideFile]:
            self._copies += copy_from is not None
            arrival = _Arrival(file, self.folder, self._source, self._figures, copy_from)
            return Work(file.size_bytes, arrival.act, arrival.drop)

        aside = self.arriving.result(file.link.cid, make)
        if aside is not None:
            aside.path = file.where
        return aside

    def sends(self, file: LocalFile) -> bool:
        """Whether a file departs in the background; else the round sends it."""
        return self.departing.takes(file, file.size_bytes)

    def departed(self, file: LocalFile) -> Built | None:
        """The file's DAG, if all of it is at the Hub; else it is wanted. Raises why it cannot be sent."""

        def make() -> Work[tuple[Built, UploadId]]:
            upload = UploadId(secrets.token_bytes(16))

            async def act() -> tuple[Built, UploadId]:
                built = await send_all(
                    self.remote,
                    upload,
                    lambda emit: TreeBuilder(self._source, emit, self._figures.bytes_were_done).file(file),
                    self._figures.sent,
                )
                return built, upload

            return Work(file.size_bytes, act, lambda: None)

        found = self.departing.result(file, make)
        if found is None:
            return None
        built, self.upload = found
        return built


async def _first(background: Background[Any, Any], scope: trio.CancelScope) -> None:
    await background.gather()
    scope.cancel()


class _Arrival:
    """A file that is fetched, written aside in the top folder, where no removal of folders meets it."""

    def __init__(
        self, file: BucketFile, folder: WatchedFolder, source: NodeSource, figures: Figures, copy_from: bytes | None
    ) -> None:
        self._file = file
        self._folder = folder
        self._figures = figures
        self._fetch = FileFetch(folder.fs, source, figures, file, copy_from)
        self._aside: AsideFile | None = None
        self._acting = False
        self._dropped = False

    async def act(self) -> AsideFile:
        """Fetches what is lacking."""
        self._acting = True
        self._figures.path = path_text(self._file.path)
        try:
            if self._aside is None:
                self._aside = await trio.to_thread.run_sync(self._make)
            await self._fetch.run(self._aside)
            await trio.to_thread.run_sync(self._aside.sync)
            return self._aside
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
        self._fetch.close()
        if self._aside is not None:
            self._aside.abandon()

    def _make(self) -> AsideFile:
        # A file system that is mounted below the top takes no file by a rename from there.
        fs, above = self._folder.fs, os.path.dirname(self._file.where)
        place = self._folder.top if fs.same_device(self._folder.top, above) else above
        aside = AsideFile(fs, os.path.join(place, b"-"), self._file.size_bytes, self._folder.temporaries, quiet=True)
        aside.path = self._file.where
        return aside
