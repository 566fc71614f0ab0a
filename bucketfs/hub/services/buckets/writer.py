"""How a bucket changes: load the row, ask what is allowed, build the new tree, swap the root, announce. One place for every write.

The swap is a compare-and-swap in the database, because other processes may write the same bucket; a lock per bucket keeps the
threads of this process from making each other start over. Content is received before any of this, so a slow client delays no
other."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace

from bucketfs.errors import Denied, NotADirectory, NotFound, OverQuota, RootMoved
from bucketfs.hub.context import EventAction, Hub
from bucketfs.hub.db import STORAGE, AccountUsage, BucketRow, PathEntry, refuse_growth
from bucketfs.hub.rpc import NON_FAST_FORWARD, Call, Code, Status, answered
from bucketfs.hub.services.buckets.paths import path_text
from bucketfs.hub.store import BlockWriter, UploadCheck
from bucketfs.hub.trees import BucketTree, Path, PathNotFound, WorkingSet, access, total_size, tree_of, unchecked
from bucketfs.keys import root_path
from bucketfs.types import Link, ThreadId

ATTEMPTS_MAX = 20
"""Saves tried when other processes keep changing the bucket in between."""
QUOTA_EVERY_BYTES = 1 << 20
"""How much a stream brings between two looks at the limits."""
LOOK_EVERY_S = 0.5
"""How long a call waits for a bucket between two looks at whether it is still wanted."""

WRAPPED = "verifying bucket update: rpc error: code = Unknown desc = "
"""What precedes the text of a denial that a method of the original meets behind an inner call."""

Check = Callable[[], None]
Entries = Mapping[str, PathEntry]


@dataclass(frozen=True, slots=True)
class WritePlan:
    """What a write will do: the entries it leaves, and the root it makes once it is known to be allowed."""

    entries: Entries
    build: Callable[[], Link]


Planner = Callable[[BucketRow, BucketTree], WritePlan | None]
"""Plans a write on the bucket as it is now; ``None`` when there is nothing to do. May be called again."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A bucket after a write, and by how many bytes (cumulative sizes) it grew."""

    row: BucketRow
    grown_bytes: int


class BucketWriter:
    """What bucket services share to load, check and change buckets."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._locks = KeyedLocks()

    # Loading

    def thread(self, caller: Call) -> ThreadId:
        """The thread that a call names. Raises Status."""
        if caller.thread is None:
            raise Status(Code.UNKNOWN, "db required")
        return caller.thread

    def row(self, caller: Call, key: str) -> BucketRow:
        """The whole bucket, whatever the caller may see. Raises Status with the protocol's texts."""
        thread = self.thread(caller)
        with answered(NotFound, Code.UNKNOWN):
            try:
                return self.hub.database.bucket(thread, key)
            except NotFound:
                with answered(NotFound, Code.NOT_FOUND):
                    self.hub.database.thread(thread)
                raise

    def tree(
        self, row: BucketRow, upload: bytes = b"", *, check: Check = unchecked, admission: UploadCheck | None = None
    ) -> BucketTree:
        """The tree of a bucket. ``check`` raises when the call it is for has ended, ``admission`` is asked for content."""
        return tree_of(WorkingSet(self.hub.blockstore, upload, check=check, admission=admission), row.link_key)

    def find(self, row: BucketRow, tree: BucketTree, path: Path) -> Link:
        """What is at a path. Raises Status with the not-found text of the bucket's kind."""
        with answered(PathNotFound, Code.UNKNOWN):
            return tree.find(row.root, path)

    def find_readable(self, caller: Call, row: BucketRow, tree: BucketTree, path: Path) -> Link:
        """As ``find``, if the caller may see it. Raises Status."""
        text = path_text(path)
        if not access.may_read(row, text, caller.writer):
            raise Status(Code.UNKNOWN, f"could not resolve path: {text}")
        return self.find(row, tree, path)

    # Checking

    def check_fast_forward(self, row: BucketRow, expected: str) -> None:
        """Raises Status unless the bucket's root is the one the caller named, if it named one. Compared as text."""
        if expected and expected != root_path(row.root):
            raise Status(Code.FAILED_PRECONDITION, NON_FAST_FORWARD)

    def check_visible(self, caller: Call, row: BucketRow, path: Path) -> None:
        """Raises Denied for a path that the caller may not see, before it shows whether anything is there. The owner makes names,
        and so may ask for them."""
        if caller.writer != row.owner and not access.may_read(row, path_text(path), caller.writer):
            raise Denied(access.DENIED)

    def check_entries(self, caller: Call, row: BucketRow, entries: Entries, bare_files: Collection[str] = ()) -> None:
        """Raises Denied unless the caller may turn the bucket's entries into these.

        ``bare_files`` are files that exist without an entry of their own (they came with a tree). They count as if they had
        an empty one, so that writers may replace them as they may replace files that were pushed one by one.
        """
        if access.may_all(row, caller.writer):
            return
        bare = {path: PathEntry() for path in bare_files}
        stored = replace(row, entries={**row.entries, **bare}) if bare else row
        access.check_save(stored, replace(row, entries=entries), caller.writer)

    def check_write(self, caller: Call, row: BucketRow, tree: BucketTree, entries: Entries, paths: Sequence[Path]) -> None:
        """As ``check_entries``, for a write to these paths of the tree."""
        self.check_entries(caller, row, entries, self._bare_files(caller, row, tree, paths))

    def _bare_files(self, caller: Call, row: BucketRow, tree: BucketTree, paths: Sequence[Path]) -> list[str]:
        if access.may_all(row, caller.writer):
            return []
        found = []
        for path in paths:
            if path and path_text(path) not in row.entries:
                try:
                    link = tree.find(row.root, path)
                except PathNotFound:
                    continue
                if not tree.is_directory(link.cid):
                    found.append(path_text(path))
        return found

    @property
    def counts_bytes(self) -> bool:
        """Whether a bucket or an account may be too large."""
        return bool(self.hub.config.bucket_bytes_max or self.hub.config.limits.bytes)

    def check_quota(self, row: BucketRow, size_bytes: int, *, new: bool = False) -> None:
        """Raises OverQuota when the bucket may not become this large (a cumulative size): early, before anything is stored. The
        save checks again, then exactly."""
        most = self.hub.config.bucket_bytes_max
        if most and size_bytes > most:
            raise OverQuota(f"{STORAGE}: the bucket would have {size_bytes} bytes of at most {most}")
        limits = self.hub.config.limits
        if limits.bytes or (new and limits.buckets):
            had = self.hub.database.usage(self.hub.database.thread(row.thread).payer)
            refuse_growth(had, AccountUsage(buckets=int(new), bytes=size_bytes - row.size_bytes), limits)

    # Writing

    def receive(self, caller: Call, upload: bytes) -> BlockWriter:
        """Takes in what a client sends for an upload; its account pledges to link it."""
        return self.hub.blockstore.receive(upload, self.hub.upload_quota.of(caller.payer, upload))

    def write(
        self,
        caller: Call,
        key: str,
        planner: Planner,
        *,
        expected: str = "",
        upload: bytes = b"",
        check: Check = unchecked,
    ) -> Saved:
        """Does what the planner plans, durably, and announces it.

        With ``expected`` the root must (still) be that one. ``check`` is called while it waits and works, and raises when the call
        has ended. Raises Status, Denied, NoSpace, OverQuota, Corrupt.
        """
        own = not upload
        upload = upload or secrets.token_bytes(16)
        admission = self.hub.upload_quota.of(caller.payer, upload)
        grown_bytes = 0

        def step(row: BucketRow) -> BucketRow | None:
            nonlocal grown_bytes
            self.check_fast_forward(row, expected)
            tree = self.tree(row, upload, check=check, admission=admission)
            plan = planner(row, tree)
            if plan is None:
                return None
            new, grown_bytes = self._built(row, tree, plan)
            return new

        saved = self.commit(caller, key, step, upload, self._locks.of(key, check))
        if own:
            # Only this call knew the upload, and all it made is in the root.
            self.hub.upload_quota.drop(caller.payer, upload)
        return Saved(saved, grown_bytes)

    def commit(
        self,
        caller: Call,
        key: str,
        step: Callable[[BucketRow], BucketRow | None],
        upload: bytes,
        lock: AbstractContextManager[None] | None = None,
    ) -> BucketRow:
        """Saves what ``step`` makes of the bucket, and announces it; ``None`` leaves it as it is. Returns the row afterwards.

        When another process changed the bucket in between, ``step`` is called again with the bucket as it is then. Whatever the new
        root needs must be stored, durably, when it returns.
        """
        with lock or nullcontext():
            for attempt in range(1, ATTEMPTS_MAX + 1):
                row = self.row(caller, key)
                new = step(row)
                if new is None:
                    return row
                try:
                    with answered(NotFound, Code.UNKNOWN):
                        saved = self.hub.database.save_bucket(new, row.root, self.hub.config.limits)
                    break
                except RootMoved:
                    if attempt == ATTEMPTS_MAX:
                        raise
        # Only after the save, or the collector would meet blocks that neither a lease nor a root holds; and listeners read the
        # bucket as soon as they hear of it.
        self.hub.blockstore.release(upload)
        self.hub.events.publish(saved.thread, saved.key, EventAction.SAVE)
        return saved

    def _built(self, row: BucketRow, tree: BucketTree, plan: WritePlan) -> tuple[BucketRow, int]:
        """The row with its new tree, which is stored; and by how much it grew."""
        with answered(NotADirectory, Code.UNKNOWN, "not a directory"):
            link = plan.build()
        before = total_size(row.root, tree.blocks.get(row.root))
        size_bytes = tree.size_after(row.root, row.size_bytes, link)
        if size_bytes > row.size_bytes:
            self.check_quota(row, size_bytes)
        tree.blocks.store_for(link.cid, makes_room=size_bytes < row.size_bytes)
        new = replace(row, root=link.cid, entries=plan.entries, updated_at_ns=later_ns(row), size_bytes=size_bytes)
        return new, link.tsize - before


def later_ns(row: BucketRow) -> int:
    """Now; but a clock set back must not make a bucket look older than it was."""
    return max(time.time_ns(), row.updated_at_ns + 1)


class StreamQuota:
    """How much a stream may bring into a bucket: what it brings is in the bucket afterwards, so more can never be linked."""

    def __init__(self, writer: BucketWriter, row: BucketRow) -> None:
        self._writer = writer
        self._row = row
        self._taken_bytes = 0
        self._checked_bytes = 0

    def take(self, size_bytes: int) -> None:
        """That many bytes more came. Raises OverQuota; the limits are looked at once in QUOTA_EVERY_BYTES."""
        self._taken_bytes += size_bytes
        if self._taken_bytes - self._checked_bytes >= QUOTA_EVERY_BYTES:
            self._checked_bytes = self._taken_bytes
            self._writer.check_quota(self._row, self._taken_bytes)


class KeyedLocks:
    """A lock per key, made when it is wanted and dropped when it is not."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def of(self, key: str, check: Check = unchecked) -> Iterator[None]:
        """Holds the lock of ``key``. Calls ``check`` now and then while it waits."""
        with self._guard:
            lock, users = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = (lock, users + 1)
        try:
            while not lock.acquire(timeout=LOOK_EVERY_S):
                check()
            try:
                yield
            finally:
                lock.release()
        finally:
            with self._guard:
                lock, users = self._locks[key]
                if users == 1:
                    del self._locks[key]
                else:
                    self._locks[key] = (lock, users - 1)


@contextmanager
def denied_as(prefix: str = "", code: Code = Code.UNKNOWN) -> Iterator[None]:
    """Answers a refused write in the words of the method: clients match on their end, but some on the beginning."""
    try:
        yield
    except Denied as error:
        raise Status(code, prefix + str(error)) from error
