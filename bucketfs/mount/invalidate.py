"""Telling the kernel what is not as it was told.

The kernel may believe names and attributes for an hour, so each change from elsewhere must be announced. An announcement
can block: it takes locks that a request in flight may hold. So it is never made by a handler, nor by the task that produced
the news, but by one worker thread, fed by ``Invalidator.run``.

What waits is a set: the same news twice is told once. Its size is thereby bounded by the names and inodes that the VFS knows
the kernel to hold; a producer of much news awaits ``drained`` between portions.

A mount has four of these, because each waits for other locks: for names; for attributes that a write waits for until they are
dropped (`Mount.told`); for the pages of files; and for files whose length the kernel must take (`amend`).

An answer to a request introduces a name to the kernel as it is. News about that name from before is not told any more
(`introduced`): the kernel would drop the name that a program has just been given, and getcwd(2) fails in a folder so dropped.

A worker must be at rest before the session is torn down, because pyfuse3 hands the session to libfuse without looking at
it. Cancelling ``run`` makes the thread stop before its next announcement; ``at_rest`` waits for the one it is making. It
cannot wait for ever: when nobody serves requests any more, an announcement may never come back.
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
        self._awaited: dict[Invalidation, list[tuple[int, trio.Event]]] = {}
        self._waiting: dict[Invalidation, int] = {}
        self._named: dict[tuple[Inode, bytes], set[Invalidation]] = {}
        self._mentions = itertools.count()
        self._arrived = trio.Event()
        self._drained = trio.Event()
        self._drained.set()
        self._limiter = trio.CapacityLimiter(1)
        self._open = True
        self._rests = threading.Event()
        self._rests.set()

    def notify(self, news: Invalidation) -> None:
        """Announce ``news`` soon. Never blocks; from the trio thread only. After the end of ``run`` there is nobody to
        tell."""
        if not self._open:
            return
        # Told in the order of the last mention: a name that went, came and went again ends as gone.
        self._waiting.pop(news, None)
        self._waiting[news] = next(self._mentions)
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
            del self._waiting[news]
        self._rest()

    async def announced(self, news: Invalidation) -> None:
        """Announce ``news`` and wait until that was done, or the mount ended."""
        self.notify(news)
        if self._open:
            done = trio.Event()
            self._awaited.setdefault(news, []).append((self._waiting[news], done))
            await done.wait()

    async def drained(self) -> None:
        """Wait until the kernel was told everything, or the mount ended. Never from inside a handler: it would wait for
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
            self._waiting.clear()
            self._named.clear()
            self._drained.set()
            for awaited in self._awaited.values():
                for _, done in awaited:
                    done.set()

    def _forget(self, batch: Mapping[Invalidation, int]) -> None:
        for news, mention in batch.items():
            self._answer(news, mention)
            # News that was repeated meanwhile may have been told before what it is about happened; it is told again.
            if self._waiting.get(news) == mention:
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

    def _answer(self, news: Invalidation, mention: int) -> None:
        later: list[tuple[int, trio.Event]] = []
        for mentioned, done in self._awaited.pop(news, ()):
            if mentioned <= mention:
                done.set()
            else:
                later.append((mentioned, done))
        if later:
            self._awaited[news] = later

    def _tell_all(self, batch: Sequence[Invalidation]) -> None:
        # Cleared before the look at the cancellation: whoever cancelled and then finds us at rest may rely on it, since we
        # stop at that look.
        self._rests.clear()
        try:
            for news in batch:
                trio.from_thread.check_cancelled()
                if news not in self._waiting:
                    continue  # introduced meanwhile
                try:
                    self._tell(news)
                except OSError as error:
                    # ENOENT: the kernel does not hold it. ENODEV, ENOTCONN: the mount is going away. Nothing is lost in
                    # either.
                    if error.errno not in (errno.ENOENT, errno.ENODEV, errno.ENOTCONN):
                        log.warning("the kernel did not take %s: %s", news, error)
        finally:
            self._rests.set()


def _tell(news: Invalidation) -> None:
    match news:
        case EntryGone(parent, name, inode):
            if inode:
                # Told as a deletion, programs that watch the name by inotify hear of it. The kernel refuses for a directory
                # in which it still holds names, and for another inode at the name; then the name is forgotten as any other.
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
