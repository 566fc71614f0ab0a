"""How a bucket changes: read the row, ask what is allowed, build the new tree, swap, announce. One place for every write.

The swap is a compare-and-swap in the metadata, because other processes may write the same bucket; a lock per bucket keeps the
threads of this process from making each other start over. Content is received before any of this, so that a slow client delays
no other.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from bucketfs.errors import Denied, NotADirectory, NotFound, OverQuota, RootMoved
from bucketfs.hub.context import BucketAction, Hub
from bucketfs.hub.db import STORAGE, AccountUsage, BucketRow, PathEntry, refuse_growth
from bucketfs.hub.rpc import NON_FAST_FORWARD, Call, Code, Status
from bucketfs.hub.services.buckets.messages import root_path
from bucketfs.hub.services.buckets.paths import Path, path_text
from bucketfs.hub.store import BlockWriter, UploadCheck
from bucketfs.hub.trees import BucketTree, PathNotFound, PrivateTree, PublicTree, WorkingSet, access, total_size, unchecked
from bucketfs.roles import Role
from bucketfs.types import Link, ThreadId

ASKED_EVERY_BYTES = 1 << 20
"""How much a stream brings between two looks at the limits."""
ATTEMPTS_MAX = 20
"""Saves tried when other processes keep changing the bucket in between."""

LOOK_EVERY_S = 0.5
"""How long a call waits for a bucket between two looks at whether it is still wanted."""

Check = Callable[[], None]
PathEntries = Mapping[str, PathEntry]


@dataclass(frozen=True, slots=True)
class WritePlan:
    """What a write will do: the entries it leaves, and the root it makes once it is known to be allowed."""

    entries: PathEntries
    build: Callable[[], Link]


Planner = Callable[[BucketRow, BucketTree], WritePlan | None]
"""Thinks a write through on the bucket as it is now; ``None`` when there is nothing to do. May be asked again."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A bucket after a write, and by how many bytes (cumulative sizes) it grew."""

    row: BucketRow
    grown_bytes: int


class BucketWriter:
    """Where the services of buckets read and write them."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._locks = KeyedLocks()

    # Reading

    def thread(self, call: Call) -> ThreadId:
        """The thread that a call names. Raises Status."""
        if call.thread is None:
            raise Status(Code.UNKNOWN, "db required")
        return call.thread

    def row(self, call: Call, key: str) -> BucketRow:
        """The whole bucket, for any caller. Raises Status with the protocol's texts."""
        thread = self.thread(call)
        try:
            return self.hub.database.bucket(thread, key)
        except NotFound as error:
            try:
                self.hub.database.thread(thread)
            except NotFound as no_thread:
                raise Status(Code.NOT_FOUND, str(no_thread)) from no_thread
            raise Status(Code.UNKNOWN, str(error)) from error

    def tree(
        self, row: BucketRow, upload: bytes = b"", *, check: Check = unchecked, admission: UploadCheck | None = None
    ) -> BucketTree:
        """The tree of a bucket. ``check`` raises when the call it is for has ended, ``admission`` is asked for content."""
        blocks = WorkingSet(self.hub.blockstore, upload, check=check, admission=admission)
        return PublicTree(blocks) if row.link_key is None else PrivateTree(blocks, row.link_key)

    def find_readable(self, call: Call, row: BucketRow, tree: BucketTree, path: Path) -> Link:
        """What is at a path, if the caller may see it. Raises Status."""
        text = path_text(path)
        if not access.may_read(row, text, call.writer):
            raise Status(Code.UNKNOWN, f"could not resolve path: {text}")
        return self.find(row, tree, path)

    def find(self, row: BucketRow, tree: BucketTree, path: Path) -> Link:
        """What is at a path. Raises Status with the not-found text of the bucket's kind."""
        try:
            return tree.find(row.root, path)
        except PathNotFound as error:
            raise Status(Code.UNKNOWN, str(error)) from error

    # Writing

    def receive(self, call: Call, upload: bytes) -> BlockWriter:
        """Receive what a client sends for an upload; it counts against the account's upload quota until a root links it."""
        return self.hub.blockstore.receive(upload, self.hub.upload_quota.of(call.payer, upload))

    def check_fast_forward(self, row: BucketRow, expected: str) -> None:
        """Raises Status unless the bucket's root is the one the caller named, if it named one. Compared as text."""
        if expected and expected != root_path(row.root):
            raise Status(Code.FAILED_PRECONDITION, NON_FAST_FORWARD)

    def check_sight(self, call: Call, row: BucketRow, path: Path) -> None:
        """Raises Denied for a path that the caller may not see, before it shows whether something is there. The owner makes names,
        and so may ask for them."""
        if call.writer != row.owner and not access.may_read(row, path_text(path), call.writer):
            raise Denied(access.DENIED)

    def check_write(self, call: Call, row: BucketRow, entries: PathEntries, bare_files: Collection[str] = ()) -> None:
        """Raises Denied unless the caller may turn the bucket's entries into these.

        ``bare_files`` are files that exist without an entry of their own (they came with a tree). They count as if they had
        an empty one, so that writers may replace them as they may replace files that were pushed one by one.
        """
        if may_all(row, call.writer):
            return
        bare = {path: PathEntry() for path in bare_files}
        stored = replace(row, entries={**row.entries, **bare}) if bare else row
        access.check_save(stored, replace(row, entries=entries), call.writer)

    def bare_files(self, call: Call, row: BucketRow, tree: BucketTree, paths: Sequence[Path]) -> list[str]:
        """Which of these paths are files without an entry, if it matters to the caller's rights."""
        if may_all(row, call.writer):
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

    def write(
        self,
        call: Call,
        key: str,
        planner: Planner,
        *,
        expected: str = "",
        upload: bytes = b"",
        check: Check = unchecked,
    ) -> Saved | None:
        """Does what the planner plans, durably, and announces it. ``None`` when it planned nothing.

        With ``expected`` the root must (still) be that one. ``check`` is asked while it waits and works, and raises when the call
        has ended. Raises Status, Denied, NoSpace, OverQuota, Corrupt.
        """
        own = not upload
        upload = upload or secrets.token_bytes(16)
        admission = self.hub.upload_quota.of(call.payer, upload)
        with self._locks.of(key, check):
            for attempt in range(ATTEMPTS_MAX):
                row = self.row(call, key)
                self.check_fast_forward(row, expected)
                tree = self.tree(row, upload, check=check, admission=admission)
                plan = planner(row, tree)
                if plan is None:
                    return None
                try:
                    saved = self._save(row, tree, plan)
                except RootMoved:
                    if attempt == ATTEMPTS_MAX - 1:
                        raise
                else:
                    break
        self.hub.blockstore.release(upload)
        if own:
            # Only this call knew the upload, and all it made is in the root.
            self.hub.upload_quota.drop(call.payer, upload)
        self.hub.events.publish(saved.row.thread, saved.row.key, BucketAction.SAVE)
        return saved

    def _save(self, row: BucketRow, tree: BucketTree, plan: WritePlan) -> Saved:
        try:
            link = plan.build()
        except NotADirectory as error:
            raise Status(Code.UNKNOWN, "not a directory") from error
        before = total_size(row.root, tree.blocks.get(row.root))
        size_bytes = tree.size_after(row.root, row.size_bytes, link)
        if size_bytes > row.size_bytes:
            self.check_quota(row, size_bytes)
        tree.blocks.store_for(link.cid, makes_room=size_bytes < row.size_bytes)
        # A clock set back must not make a bucket look older than it was.
        now_ns = max(time.time_ns(), row.updated_at_ns + 1)
        new = replace(row, root=link.cid, entries=plan.entries, updated_at_ns=now_ns, size_bytes=size_bytes)
        saved = self.hub.database.save_bucket(new, row.root, self.hub.config.limits)
        return Saved(saved, link.tsize - before)

    @property
    def counts_bytes(self) -> bool:
        """Whether a bucket or an account may be too large."""
        return bool(self.hub.config.bucket_bytes_max or self.hub.config.limits.bytes)

    def check_quota(self, row: BucketRow, size_bytes: int, *, new: bool = False) -> None:
        """Raises OverQuota when the bucket may not become this large (a cumulative size): early, before anything is stored.
        Saving asks again, then exactly.
        """
        most = self.hub.config.bucket_bytes_max
        if most and size_bytes > most:
            raise OverQuota(f"{STORAGE}: the bucket would have {size_bytes} bytes of at most {most}")
        limits = self.hub.config.limits
        if limits.bytes or (new and limits.buckets):
            had = self.hub.database.usage(self.hub.database.thread(row.thread).payer)
            refuse_growth(had, AccountUsage(buckets=int(new), bytes=size_bytes - row.size_bytes), limits)


class Allowance:
    """How much a stream may bring into a bucket: what it brings is in the bucket afterwards, so more can never be linked."""

    def __init__(self, writer: BucketWriter, row: BucketRow) -> None:
        self._writer = writer
        self._row = row
        self._taken = 0
        self._asked_at = 0

    def take(self, size_bytes: int) -> None:
        """That many bytes more came. Raises OverQuota, once in a while at the latest."""
        self._taken += size_bytes
        if self._taken - self._asked_at >= ASKED_EVERY_BYTES:
            self._asked_at = self._taken
            self._writer.check_quota(self._row, self._taken)


def may_all(row: BucketRow, writer: str | None) -> bool:
    """Whether every change is allowed, so that nothing needs to be asked path by path: that takes time in large buckets."""
    if not row.owner:
        return True
    return writer == row.owner and access.role_at(row.entries, "", writer) >= Role.ADMIN


class KeyedLocks:
    """A lock per key, made when it is wanted and gone when it is not."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def of(self, key: str, check: Check = unchecked) -> Iterator[None]:
        """Holds the lock of ``key``. Asks ``check`` now and then while it waits."""
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
    """Answers a refused write in the words of the method: clients look for their end, but some for the beginning."""
    try:
        yield
    except Denied as error:
        raise Status(code, prefix + str(error)) from error


WRAPPED = "verifying bucket update: rpc error: code = Unknown desc = "
"""What stands before the text of a denial that a method of the original meets behind an inner call."""
