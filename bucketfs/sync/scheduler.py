"""`Scheduler`: when a volume is pushed, how a failure is waited out, and what `status` says meanwhile.

One task per volume does all that touches base and Hub root, in order: so a push never meets a rebase. It pushes when the overlay
was quiet for a while, at the latest some time after the oldest change, and at once when asked. After a failure it waits with
full jitter and tries again, for ever; the journal keeps everything meanwhile.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import trio

from bucketfs.client import Backoff
from bucketfs.dag import cid_text
from bucketfs.errors import BucketfsError, Corrupt, Denied, DiskFailed, HubFull, NoSpace, OverQuota, Unavailable
from bucketfs.journal import Quarantine
from bucketfs.remote import Remote, Sent
from bucketfs.sync.conflict_tracker import ConflictTracker
from bucketfs.sync.draft_collector import DraftCollector
from bucketfs.sync.pusher import Pusher
from bucketfs.sync.withheld import Withheld
from bucketfs.vfs import FileNode, Volume, queue_recovered, seal

log = logging.getLogger(__name__)

RECONNECT_S = 1.5
"""A Hub that has just come back is still unavailable for as long as gRPC pauses between attempts to connect (client/channel.py)."""

SEAL_EVERY_S = 20.0
SEAL_QUIET_S = 30.0
"""A file that waits here gets its checksums when it was not changed for ``SEAL_QUIET_S``; that is looked for every
``SEAL_EVERY_S``."""

GARBAGE_DRAFTS_MAX = 4096
GARBAGE_BYTES_MAX = 256 << 20
RECORDS_MAX = 500_000
"""Past these the journal is written anew although nothing could be pushed."""


@dataclass(frozen=True, slots=True)
class Pace:
    """When to push, in seconds: after ``quiet_s`` without a change, at the latest ``oldest_s`` after the first."""

    quiet_s: float = 2.0
    oldest_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Progress:
    """A push at work: bytes of files that are through (never more than wait), all bytes that had to be sent, seconds so far, bytes
    per second, seconds to go."""

    done_bytes: int
    sent_bytes: int
    running_s: float
    rate_bytes: float
    left_s: float | None


@dataclass(frozen=True, slots=True)
class PushFailure:
    """Why the newest attempt failed, and since when attempts fail (seconds since 1970)."""

    error: BucketfsError
    since_s: float
    next_try_s: float


class Scheduler:
    """Keeps one volume and its bucket at the Hub the same."""

    def __init__(self, volume: Volume, remote: Remote, pusher: Pusher, pace: Pace) -> None:
        self.volume = volume
        self.failure: PushFailure | None = None
        self.pushing = False
        self.last_push_s: float | None = None
        self._remote = remote
        self._pusher = pusher
        self._conflicts = ConflictTracker(volume)
        self._pace = pace
        self._backoff = Backoff()
        self._changed = trio.Event()
        self._look = False
        self._asked = 0
        self._done = 0
        self._progress = trio.Event()
        self._failed_asked = 0
        self._retries = 0
        self._stopped = False
        self.drafts = DraftCollector(volume, pusher.checkpoints, self._retry_without_room)
        volume.listen(first_change=self._wake)

    def root_moved(self) -> None:
        """The Hub's root may have moved: look at it soon."""
        self._look = True
        self._wake()

    def retry_now(self) -> None:
        """What stood in the way may be gone (another key, a Hub that is back): try again now, not when the delay is over."""
        self._backoff.reset()
        self._retries += 1
        self._pusher.retry_withheld()
        self._wake()

    def _retry_without_room(self) -> None:
        """There is room again: a push that had none tries again."""
        if self.failure is not None and isinstance(self.failure.error, NoSpace | HubFull):
            self.retry_now()

    def _wake(self) -> None:
        self._changed.set()

    @property
    def pending_count(self) -> int:
        """How many files, folders and links wait to be pushed."""
        return sum(1 for _ in self.volume.tree.dirty_nodes())

    @property
    def pending_bytes(self) -> int:
        """The length of the drafts that wait to be pushed."""
        return sum(
            layer.extents.size_bytes
            for node in self.volume.tree.dirty_nodes()
            if isinstance(node, FileNode)
            for layer in node.content.layers
        )

    @property
    def withheld(self) -> Withheld:
        """What waits by itself while the rest is pushed, and why."""
        return self._pusher.withheld

    @property
    def dirty(self) -> bool:
        """Whether anything waits to be pushed."""
        return self.volume.root.dirty or bool(self.volume.pending.unrecorded)

    @property
    def sent(self) -> Sent:
        """What all pushes since the start have carried, those that failed too."""
        return self._pusher.total

    def progress(self) -> Progress | None:
        """How far the push that runs is; None when none does."""
        if not self.pushing:
            return None
        now = self._pusher.now
        running_s = max(time.monotonic() - now.begun_s, 0.001)
        pending_bytes = self.pending_bytes
        # What is sent beside the bytes of files, nodes and folders, is not what anybody waits for.
        done_bytes = min(now.bytes_through, pending_bytes)
        rate = done_bytes / running_s
        return Progress(done_bytes, now.bytes_sent, running_s, rate, (pending_bytes - done_bytes) / rate if rate else None)

    async def drain(self) -> None:
        """Return when everything changed before the call is at the Hub and the Hub's root is shown here. Raises the reason
        of the first attempt begun from now on that fails; the attempts go on behind it. Raises Denied when all is at the Hub
        but what it refuses, OverQuota when it is all but what passes a limit, Corrupt when it is all but what the disk here has
        damaged."""
        self._pusher.retry_withheld()
        patient_until = trio.current_time() + RECONNECT_S
        want = self._ask()
        while self._done < want and not self._stopped:
            if self._failed_asked >= want and self.failure is not None:
                if not isinstance(self.failure.error, Unavailable) or trio.current_time() >= patient_until:
                    raise self.failure.error
                await trio.sleep(RECONNECT_S / 10)
                want = self._ask()
            else:
                await self._progress.wait()
        for reason in self.withheld.damaged.values():
            raise Corrupt(reason, hint="write the file again or delete it; 'bucketfs status' lists what waits")
        refused = self.withheld.refused
        if refused:
            first = next(iter(refused))
            others = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
            kind = OverQuota if first in self.withheld.large else Denied
            raise kind(f"the Hub refuses {first!r}{others}: {refused[first]}", hint="'bucketfs status' lists what waits")

    def stop(self) -> None:
        """The bucket is off the mount: there is nothing more to wait for."""
        self._stopped = True
        self._notify()

    def _ask(self) -> int:
        """Have an attempt begun now; its number."""
        self._asked += 1
        self._look = True
        self._backoff.reset()
        self._wake()
        return self._asked

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Push and follow until cancelled."""
        task_status.started()
        async with trio.open_nursery() as nursery:
            # By itself: a push of many hours must not keep what waits for it from its checksums.
            nursery.start_soon(self.seal)
            # So does what a full disk is short of: the push may be what has no room.
            nursery.start_soon(self.drafts.run)
            await self._push_and_follow()

    async def _push_and_follow(self) -> None:
        while True:
            await self._until_due()
            # Before the round: who asks while it runs may have changed something that it does not carry, and gets a round of
            # their own.
            asked, retries = self._asked, self._retries
            try:
                await self._round()
            except BucketfsError as error:
                await self._failed(error, asked, retries)
                continue
            except Exception as error:
                # A mistake of ours in one bucket must not take the mount down: reads, writes and other buckets go on.
                log.exception("%s: a push failed with an unexpected error", self.volume.key)
                await self._failed(BucketfsError(f"the push failed: {error!r}", hint="the log has more"), asked, retries)
                continue
            self._backoff.reset()
            if self.failure is not None:
                log.info("%s: the Hub takes changes again", self.volume.key)
            self.failure = None
            self._done = max(self._done, asked)
            self._notify()

    async def seal(self) -> None:
        """Give closed files their checksums as time goes by, until cancelled."""
        queue_recovered(self.volume)
        while True:
            await trio.sleep(SEAL_EVERY_S)
            try:
                await seal(self.volume, SEAL_QUIET_S)
            except BucketfsError as error:
                log.debug("%s: checksums cannot be written now: %s", self.volume.key, error)
            except Exception:
                log.exception("%s: an unexpected error while checksums were written", self.volume.key)

    async def _until_due(self) -> None:
        while True:
            if self._asked > self._done or self._look:
                return
            wait_s = self._due_in_s()
            if wait_s <= 0:
                return
            # Nothing awaits between the look and this: a change in between would be missed.
            self._changed = trio.Event()
            with trio.move_on_after(wait_s):
                await self._changed.wait()

    def _due_in_s(self) -> float:
        return self.volume.push.due_in_s(self.volume.now_ns(), self._pace.quiet_s, self._pace.oldest_s)

    async def _round(self) -> None:
        # Before the first await: news that comes while the round runs asks for another look.
        look, self._look = self._look, False
        try:
            if self.volume.journal.failed or self.volume.owes_checkpoint:
                # A disk that failed once may have lost what it was told; a new segment says all of it again.
                await self._pusher.checkpoints.write()
            # Not because another client pushed: two busy mounts would answer each other's pushes with theirs, without end.
            if self.dirty and (self._asked > self._done or self._due_in_s() <= 0):
                self.pushing = True
                done = await self._pusher.push()
                if done is not None:
                    # Also for the time that the Hub gave our root: should it go back one day, that tells.
                    look = True
                    self.last_push_s = time.time()
                    log.debug("%s: root %s, %d bytes sent", self.volume.key, cid_text(done.root), done.sent.bytes_sent)
            if look:
                await self._follow()
            await self._conflicts.look()
        except BaseException:
            self._look = self._look or look
            raise
        finally:
            self.pushing = False

    async def _follow(self) -> None:
        """Look at the Hub, and show what it has."""
        seen = await self._remote.look()
        self.volume.tree.learn_times(seen.updated_at_ns, seen.path_times)
        await self._pusher.apply_permissions(seen)
        if seen.root != self.volume.base and await self._pusher.repaired(seen):
            seen = await self._remote.look()
        if seen.root != self.volume.base:
            await self._pusher.rebaser.follow(seen.root)
        if seen.root == self.volume.base:
            self.volume.push.roots.seen(seen.updated_at_ns)

    async def _failed(self, error: BucketfsError, asked: int, retries: int) -> None:
        delay_s = self._backoff.next_s()
        now_s = time.time()
        since_s = self.failure.since_s if self.failure is not None else now_s
        if self.failure is None or str(self.failure.error) != str(error):
            log.warning("%s: changes wait here: %s", self.volume.key, error)
        self.failure = PushFailure(error, since_s, now_s + delay_s)
        self._failed_asked = asked
        self._notify()
        try:
            await self._tidy()
        except BucketfsError as cause:
            log.warning("%s: the journal cannot be written anew now: %s", self.volume.key, cause)
        deadline = trio.current_time() + delay_s
        while trio.current_time() < deadline and self._asked == asked and self._retries == retries:
            self._changed = trio.Event()
            with trio.move_on_at(deadline):
                await self._changed.wait()

    async def _tidy(self) -> None:
        """While nothing can be pushed the journal must not grow without end."""
        volume = self.volume
        garbage = volume.pending.garbage_drafts > GARBAGE_DRAFTS_MAX or volume.pending.garbage_bytes > GARBAGE_BYTES_MAX
        if garbage or volume.journal.figures().records > RECORDS_MAX:
            await self._pusher.checkpoints.write()

    async def export_quarantine(self, folder: str) -> int:
        """Write what is quarantined into ``folder``, then let go of it; how many files that gave. Raises Exists when the folder is
        not empty, NoSpace, DiskFailed, and then all of it is still quarantined."""
        journal = self.volume.journal
        count = await journal.export_quarantine(folder)
        # Let go of before the checkpoint: its head says what is quarantined, and its compaction keeps the drafts of that.
        exported, journal.quarantine = journal.quarantine, Quarantine()
        before = self._pusher.checkpoints.written
        try:
            await self._pusher.checkpoints.free_drafts()
        except BaseException as error:
            if self._pusher.checkpoints.written == before:
                journal.quarantine = exported
                raise
            # The journal has begun anew without it, and some of its drafts may be gone. What is left goes with the next checkpoint.
            if not isinstance(error, NoSpace | DiskFailed):
                raise
            log.warning("%s: the room of exported changes is not free yet: %s", self.volume.key, error)
        return count

    def _notify(self) -> None:
        self._progress.set()
        self._progress = trio.Event()

    def record_open_files(self) -> None:
        """Write records for what long-open files hold by now, so that a kill loses none of it. Raises NoSpace, DiskFailed."""
        if self.volume.journal.failed or self.volume.owes_checkpoint:
            self.root_moved()
            return
        for node in list(self.volume.pending.unrecorded):
            self.volume.record(node)
