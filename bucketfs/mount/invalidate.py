"""Announcing to the kernel what changed elsewhere.

The kernel may believe names and attributes for an hour, so each change from elsewhere must be announced (FUSE_NOTIFY_INVAL_ENTRY,
_INVAL_INODE, _DELETE). An announcement can block: it takes locks that a request in flight may hold (the folder's inode lock, page
locks). Made from a handler it may deadlock, as pyfuse3 and libfuse warn (``fuse_lowlevel_notify_inval_entry`` in
fuse_lowlevel.h). So one worker thread makes it, fed by ``Invalidator.run``; neither a handler nor the task that produced the news
does.

What waits is a set: the same news twice is told once. This bounds it by the names and inodes that the kernel holds; a producer of
much news awaits ``drained`` between portions.

A mount has four Invalidators, because each kind waits for other locks: names; attributes, for which a write waits (`Mount.told`);
the pages of files; and files whose length the kernel must take (`amending`).

An answer to a request introduces a name to the kernel as it is now, so older news about that name is dropped (`introduced`). The
kernel would otherwise drop the name that a program was just given, and getcwd(2) fails in a folder that was dropped so.

A worker must be at rest before the session is closed, because pyfuse3 hands the session to libfuse without a check. Cancelling
``run`` stops the thread before its next announcement; ``at_rest`` waits for the one that is being made, with a limit: without a
server of requests an announcement may never return.
"""

from __future__ import annotations

import errno
import itertools
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import pyfuse3
import trio

from bucketfs.types import Inode
from bucketfs.vfs import AttributesChanged, ContentChanged, EntryChanged, EntryGone, Invalidation

log = logging.getLogger(__name__)

BATCH_MAX = 256


class Invalidator:
    """One way of news to the kernel. ``tell`` is called in the worker, with one piece of news."""

    def __init__(self, tell: Callable[[Invalidation], None] | None = None) -> None:
        self.told = 0
        self._tell = tell if tell is not None else _tell
        # In the order to be told, each with the tasks that wait for it. A repetition puts another list in place: it is how `run`
        # sees that news was repeated while it was told.
        self._waiting: dict[Invalidation, list[trio.Event]] = {}
        self._named: dict[tuple[Inode, bytes], set[Invalidation]] = {}
        self._arrived = trio.Event()
        self._drained = trio.Event()
        self._drained.set()
        self._limiter = trio.CapacityLimiter(1)
        self._open = True
        self._rests = threading.Event()
        self._rests.set()

    def notify(self, news: Invalidation) -> None:
        """Announce ``news`` soon. Never blocks; from the trio thread only. After the end of ``run`` it does nothing."""
        if not self._open:
            return
        # In the order of the last mention: a name that went, came and went again must end as gone.
        self._waiting[news] = [*self._waiting.pop(news, ())]
        if isinstance(news, EntryGone | EntryChanged):
            self._named.setdefault((news.parent, news.name), set()).add(news)
        self._arrived.set()
        if self._drained.is_set():
            self._drained = trio.Event()

    def introduced(self, parent: Inode, name: bytes) -> None:
        """The kernel is being told in an answer what ``name`` stands for."""
        if not self._named:
            return
        for news in self._named.pop((parent, name), ()):
            _wake(self._waiting.pop(news))
        self._rest()

    async def announced(self, news: Invalidation) -> None:
        """Announce ``news`` and wait until that was done, or the mount ended."""
        self.notify(news)
        if self._open:
            done = trio.Event()
            self._waiting[news].append(done)
            await done.wait()

    async def drained(self) -> None:
        """Wait until the kernel was told everything, or the mount ended. Never from inside a handler, which would wait for
        itself."""
        await self._drained.wait()

    @property
    def resting(self) -> bool:
        """Whether no announcement is being made."""
        return self._rests.is_set()

    async def at_rest(self, timeout_s: float) -> bool:
        """Wait, after the end of ``run``, for the announcement that is being made; ``False`` when it takes too long."""
        return self.resting or await trio.to_thread.run_sync(self._rests.wait, timeout_s)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell the kernel, until cancelled."""
        task_status.started()
        try:
            while True:
                await self._arrived.wait()
                batch = dict(itertools.islice(self._waiting.items(), BATCH_MAX))
                await trio.to_thread.run_sync(self._tell_all, tuple(batch), limiter=self._limiter, abandon_on_cancel=True)
                self.told += len(batch)
                self._forget(batch)
        finally:
            self._open = False
            for awaited in self._waiting.values():
                _wake(awaited)
            self._waiting.clear()
            self._named.clear()
            self._drained.set()

    def _forget(self, batch: Mapping[Invalidation, list[trio.Event]]) -> None:
        for news, awaited in batch.items():
            _wake(awaited)
            # News repeated meanwhile is told again: the announcement may have come before the second change.
            if self._waiting.get(news) is awaited:
                del self._waiting[news]
                if isinstance(news, EntryGone | EntryChanged):
                    self._unname(news)
        self._rest()

    def _unname(self, news: EntryGone | EntryChanged) -> None:
        named = self._named[news.parent, news.name]
        named.discard(news)
        if not named:
            del self._named[news.parent, news.name]

    def _rest(self) -> None:
        if not self._waiting:
            self._arrived = trio.Event()
            self._drained.set()

    def _tell_all(self, batch: Sequence[Invalidation]) -> None:
        # Cleared before the check for cancellation: a task that cancelled and then sees us at rest can rely on it, since this
        # thread stops at that check.
        self._rests.clear()
        try:
            for news in batch:
                trio.from_thread.check_cancelled()
                if news not in self._waiting:
                    continue  # introduced meanwhile
                try:
                    self._tell(news)
                except OSError as error:
                    # ENOENT: the kernel does not hold it. ENODEV, ENOTCONN: the mount is going away. Either way it cannot be wrong.
                    if error.errno not in (errno.ENOENT, errno.ENODEV, errno.ENOTCONN):
                        log.warning("the kernel did not take %s: %s", news, error)
        finally:
            self._rests.set()


def _wake(awaited: list[trio.Event]) -> None:
    for done in awaited:
        done.set()


def _tell(news: Invalidation) -> None:
    match news:
        case EntryGone(parent, name, inode):
            if inode:
                # FUSE_NOTIFY_DELETE lets programs that watch the name by inotify(7) hear of it. The kernel refuses a folder in
                # which it still holds names (ENOTEMPTY) and another inode at the name (ENOENT): then the name is only dropped
                # (fs/fuse/dir.c: fuse_reverse_inval_entry).
                with suppress(OSError):
                    pyfuse3.invalidate_entry(parent, name, inode)
                    return
            pyfuse3.invalidate_entry(parent, name)
        case EntryChanged(parent, name):
            pyfuse3.invalidate_entry(parent, name)
        case AttributesChanged(inode):
            pyfuse3.invalidate_inode(inode, attr_only=True)
        case ContentChanged(inode):
            pyfuse3.invalidate_inode(inode, attr_only=False)
