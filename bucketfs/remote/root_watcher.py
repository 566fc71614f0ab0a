"""Hearing of new roots: the Hub's feed, and a poll of all roots in one call as the safety net.

`Watcher` tells which buckets there are and that a root moved; it never says what the root is. A follower reads the root
itself, in order with its own pushes, so an old answer that comes late can do no harm.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from bucketfs.client import Backoff, BucketInfo, InstanceChange, Replies, ThreadsClient
from bucketfs.errors import BucketfsError
from bucketfs.types import BucketKey, Cid, ThreadId

log = logging.getLogger(__name__)

COLLECTION = "buckets"


@dataclass(eq=False)
class Watcher:
    """``moved(key)`` is called when a bucket's root may have moved, ``listed(buckets)`` after each look at all of them (which is
    what ``ask`` returns), and ``back()`` after the first look that succeeds again."""

    ask: Callable[[], Awaitable[list[BucketInfo]]]
    threads: ThreadsClient
    thread: ThreadId
    poll_s: float
    moved: Callable[[BucketKey], None]
    listed: Callable[[list[BucketInfo]], None]
    back: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self._backoffs = (Backoff(), Backoff())
        self._again = trio.Event()
        self._known: dict[BucketKey, tuple[Cid, int]] = {}
        self._wake = trio.Event()
        self.listening = False
        self.looked_s: float | None = None
        self.error: BucketfsError | None = None

    def look(self) -> None:
        """Poll now."""
        self._wake.set()

    def hurry(self) -> None:
        """What stood in the way may be gone: poll, and open the feed, now."""
        for backoff in self._backoffs:
            backoff.reset()
        self._again.set()
        self.look()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._poll)
            nursery.start_soon(self._listen)
            task_status.started()

    async def _poll(self) -> None:
        backoff, _ = self._backoffs
        while True:
            # Renewed before the question: a look that is asked for while it is out is another one.
            self._wake = trio.Event()
            try:
                buckets = await self.ask()
            except BucketfsError as error:
                self.error = error
                wait_s = min(backoff.next_s(), self.poll_s)
            else:
                backoff.reset()
                away, self.error = self.error is not None, None
                self.looked_s = time.time()
                wait_s = self.poll_s
                self._take_in(buckets)
                if away:
                    self.back()
                    # The feed waits for the same Hub, and its pause may have become long.
                    self._again.set()
            with trio.move_on_after(wait_s):
                await self._wake.wait()

    def _take_in(self, buckets: list[BucketInfo]) -> None:
        mine = [bucket for bucket in buckets if bucket.thread == self.thread]
        seen = {bucket.key: (bucket.root, bucket.updated_at_ns) for bucket in mine}
        for key, state in seen.items():
            if self._known.get(key, state) != state:
                self.moved(key)
        self._known = seen
        self.listed(mine)

    async def _listen(self) -> None:
        _, backoff = self._backoffs
        while True:
            opened_s = trio.current_time()
            try:
                await self._follow_feed()
            except BucketfsError as error:
                # Also where the answer is that there is no feed: it may come from a proxy while the Hub behind it is away.
                log.debug("the feed of roots broke: %s", error)
            finally:
                self.listening = False
            if trio.current_time() - opened_s > self.poll_s:
                backoff.reset()
            self._again = trio.Event()
            with trio.move_on_after(backoff.next_s()):
                await self._again.wait()

    async def _follow_feed(self) -> None:
        """Open the feed and take in what it tells, until it ends."""
        failure: BucketfsError | None = None
        async with self.threads.listen(self.thread, COLLECTION) as changes, trio.open_nursery() as nursery:
            nursery.start_soon(self._look_when_begun, changes)
            # Kept out of the nursery, which would wrap it in a group.
            try:
                async for change in changes:
                    self.moved(BucketKey(change.instance_id))
                    if change.action.name != "SAVE":
                        self.look()
            except BucketfsError as error:
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _look_when_begun(self, changes: Replies[InstanceChange]) -> None:
        """What moved before the Hub had opened the feed is found by one look, which must not come before that."""
        if await changes.begun():
            self.listening = True
            self.look()
