"""New journal segments for one volume: what they say, when they may be written, and which drafts stay.

A checkpoint writes down all that is dirty, and frees the drafts that nothing needs any more. It must not come while a rebase
moves the base, since for a moment the overlay belongs to neither tree; `moving` keeps the two apart. It may come while a push
runs: the push goes on reading the drafts of its snapshot, so these stay although the overlay may have let go of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from bucketfs.journal import Op
from bucketfs.sync.push_load import PushLoad
from bucketfs.types import DraftId
from bucketfs.vfs import FileNode, Volume, draft_ids, overlay_ops


@dataclass(frozen=True, slots=True)
class _Head:
    """What a journal has to say of a volume: made as it is asked for, since a large backlog would be a large list."""

    volume: Volume

    def __iter__(self) -> Iterator[Op]:
        yield from overlay_ops(self.volume)
        yield from self.volume.push.records(self.volume.now_ns())


class Checkpoints:
    """For one volume. ``moving`` is held while the base moves."""

    def __init__(self, volume: Volume) -> None:
        self.moving = trio.Lock()
        self.written = 0
        """How many were begun: what such a one says counts, whatever becomes of freeing what it replaces."""
        self._volume = volume
        self._load: PushLoad | None = None
        volume.listen(file_gone=self._removed)

    @contextmanager
    def during(self, load: PushLoad) -> Iterator[None]:
        """Around a push: until it is over the drafts of ``load`` stay."""
        self._load = load
        try:
            yield
        finally:
            # Before `over`: `free_drafts` waits for that, and its checkpoint must not keep the drafts of this push.
            self._load = None
            load.over.set()
            if load.garbage_bytes:
                self._volume.pending.leave_garbage(load.garbage_bytes)

    async def write(self) -> None:
        """Begin a new segment with what is still dirty, and free what it replaces. For the task that moves the base. Raises
        NoSpace, DiskFailed."""
        volume, load = self._volume, self._load
        # Of what was pushed the journal says nothing from here on.
        volume.tree.numbers.flush()
        # Nothing awaits from here until `compact` has its candidates: a draft that is begun in between would not be among the
        # needed ones, and its file be deleted.
        garbage_bytes, needed = volume.pending.garbage_bytes, draft_ids(volume)
        read_by_push: set[DraftId] = set() if load is None else load.drafts() - needed
        volume.journal.checkpoint(volume.base, _Head(volume))
        self.written += 1
        volume.checkpointed()
        try:
            await volume.journal.compact(needed | read_by_push)
        except BaseException:
            # `checkpointed` counts from nothing again, and none of this was freed.
            volume.pending.leave_garbage(garbage_bytes)
            raise
        if read_by_push and self._load is not None:
            # They are garbage when the push is over.
            self._load.garbage_bytes += garbage_bytes

    async def free_drafts(self) -> None:
        """A checkpoint for the room that it frees. Any task may call it, also during a push: where files that the push carries were
        removed since, that is given up and begins anew. Waits while the base moves. Raises NoSpace, DiskFailed."""
        load = self._load
        if load is not None and load.give_up():
            await load.over.wait()
        async with self.moving:
            await self.write()

    def _removed(self, node: FileNode) -> None:
        if self._load is not None:
            self._load.gone(node)
