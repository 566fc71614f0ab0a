"""Reads of immutable trees for code that must not wait while it decides.

Everything the VFS decides, it decides in plain functions that run between two awaits, so that nothing interleaves with a decision.
Such a function, an *attempt*, looks at a tree through a `TreeReader`. `TreeReader.read` gives the result of a computation over
blocks (`Steps`) when it is remembered or the blocks are in memory; otherwise it raises `Wanted`, which names the computation.
`TreeReader.load` catches that, runs what was wanted, and makes the attempt anew. So an attempt looks first and changes afterwards:
until its last read has succeeded it may run again from the start. When all is in memory, an operation does not await at all.

The reasons for this, and what else was considered, stand in docs/adr/0008-asking-for-blocks.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, ClassVar, TypeVar, TypeVarTuple, cast

from bucketfs.cache import Source
from bucketfs.dag import RAW, NodeInfo, codec_of, drive, fetch_one, node_info
from bucketfs.errors import BucketfsError, Corrupt, NotFound, Unavailable
from bucketfs.types import NO_ATTRIBUTES, Cid, Kind, Link, Steps

T = TypeVar("T")
K = TypeVar("K")
Ts = TypeVarTuple("Ts")

Read = tuple[Any, ...]
"""A call that was not made yet: a function that returns `Steps`, and its arguments. Results are remembered by it."""

AT_ONCE = 128
"""Computations that run side by side. Each may hold the blocks of a large folder or two while it runs."""

ATTEMPTS_MAX = 100_000
"""An attempt that still lacks something after so many fetches reads a tree that changes faster than it can be read. A rebase
fetches a few times for each level of folders, of which there may be ten thousand (`rebase.limits`)."""

_NOTHING = object()


class Wanted(Exception):
    """Results that are not in memory. Internal to the VFS: `TreeReader.load` never lets it out."""

    def __init__(self, reads: Iterable[Read]) -> None:
        super().__init__("not in memory")
        self.reads = tuple(dict.fromkeys(reads))


class Unreadable(Exception):
    """What was read makes no sense (``cause`` says why), or the source has no right block for some ``missing`` CIDs.

    It is no `BucketfsError`, so that no attempt takes a lost block for a name that is free. `TreeReader.load` raises the cause.
    """

    def __init__(self, cause: BucketfsError, missing: frozenset[Cid] = frozenset()) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.missing = missing


def together(look: Callable[[K], T], items: Iterable[K]) -> list[T]:
    """What ``look`` says of each item. Raises one `Wanted` for all that any of them lacks, so that it comes in one fetch."""
    found: list[T] = []
    lacking: list[Read] = []
    for item in items:
        try:
            found.append(look(item))
        except Wanted as wanted:
            lacking += wanted.reads
    if lacking:
        raise Wanted(lacking)
    return found


def root_info(cid: Cid) -> Steps[NodeInfo]:
    """What the root block of a file, directory or symlink says."""
    return node_info(cid, (yield from fetch_one(cid)))


def raw_info(link: Link) -> NodeInfo | None:
    """A raw block is a file, and its link says all about it; None for other nodes."""
    return NodeInfo(Kind.FILE, NO_ATTRIBUTES, link.tsize) if codec_of(link.cid) == RAW else None


class TreeReader:
    """The trees of one source, as far as they were read."""

    ONE_BLOCK: ClassVar[frozenset[Callable[..., Steps[Any]]]] = frozenset({root_info})
    """Computations that ask for one small block: any number of them runs at once."""

    def __init__(self, source: Source, memory: MutableMapping[Read, object] | None = None) -> None:
        """``memory`` holds results, and may forget them. Without it, all are held as long as the reader."""
        self.source = source
        self._memory: MutableMapping[Read, object] = {} if memory is None else memory
        self._failed: dict[Read, Unreadable] = {}

    def read(self, compute: Callable[[*Ts], Steps[T]], *args: *Ts) -> T:
        """The result of ``compute(*args)``. Immediate. Raises Wanted, Unreadable."""
        read: Read = (compute, *args)
        found = self._memory.get(read, _NOTHING)
        if found is _NOTHING:
            failed = self._failed.get(read)
            if failed is not None:
                # A new one each time: an exception that is raised again and again gathers tracebacks.
                raise Unreadable(failed.cause, failed.missing)
            found = self._memory[read] = self._from_memory(read)
        return cast(T, found)

    def remembered(self, compute: Callable[[*Ts], Steps[T]], *args: *Ts) -> T | None:
        """The result of ``compute(*args)`` if it is remembered."""
        return cast("T | None", self._memory.get((compute, *args)))

    async def load(self, attempt: Callable[[], T]) -> T:
        """The result of an attempt, made until it lacks nothing. Awaits only when something has to be fetched.

        Raises what the attempt raises, what `fetch` raises, and the cause of what cannot be read.
        """
        fetched: set[Read] = set()
        try:
            for _ in range(ATTEMPTS_MAX):
                unreadable: Unreadable | None = None
                lacking: Sequence[Read] = ()
                try:
                    return attempt()
                except Wanted as wanted:
                    lacking = wanted.reads
                except Unreadable as error:
                    unreadable = error
                # Raised here, outside of the `except`: the cause is what the caller handles, without `Unreadable` as its context.
                if unreadable is not None:
                    raise unreadable.cause
                fetched.update(lacking)
                await self.fetch(lacking)
        finally:
            # A later attempt asks the source again: a block that was lost may have come back. This must hold also when the fetch
            # was cancelled or failed half-way.
            for read in fetched:
                self._failed.pop(read, None)
        raise Unavailable("the tree changes faster than it can be read")

    async def fetch(self, reads: Sequence[Read]) -> None:
        """Run computations, so that `read` has their results or failures. Raises Unavailable, TimedOut."""
        lacking = [read for read in reads if read not in self._memory]
        await self._run([read for read in lacking if read[0] in self.ONE_BLOCK])
        others = [read for read in lacking if read[0] not in self.ONE_BLOCK]
        for start in range(0, len(others), AT_ONCE):
            await self._run(others[start : start + AT_ONCE])

    async def _run(self, reads: Sequence[Read]) -> None:
        """Run computations side by side. What all of them ask for at one time is one request; a block that cannot be had stops
        only those that ask for it."""
        running = {read: read[0](*read[1:]) for read in reads}
        asked: dict[Read, Sequence[Cid]] = {}
        for read, steps in running.items():
            self._advance(read, partial(next, steps), asked)
        while asked:
            blocks, lost = await self._get_many(list(dict.fromkeys(chain.from_iterable(asked.values()))))
            for read, cids in list(asked.items()):
                missing = frozenset(cid for cid in cids if cid in lost)
                if missing:
                    step = partial(running[read].throw, lost[next(iter(missing))])
                else:
                    step = partial(running[read].send, {cid: blocks[cid] for cid in cids})
                self._advance(read, step, asked, missing)

    def _advance(
        self,
        read: Read,
        step: Callable[[], Sequence[Cid]],
        asked: dict[Read, Sequence[Cid]],
        missing: frozenset[Cid] = frozenset(),
    ) -> None:
        """Go one step on with a computation: to what it asks for next, or to its end."""
        asked.pop(read, None)
        try:
            asked[read] = step()
        except StopIteration as stop:
            self._memory[read] = stop.value
            self._failed.pop(read, None)
        except BucketfsError as error:
            self._failed[read] = Unreadable(error, missing)

    async def _get_many(self, cids: Sequence[Cid]) -> tuple[dict[Cid, bytes], dict[Cid, BucketfsError]]:
        """The blocks, and the errors of those that cannot be had. The source does not say which of many it lacks: halving tells."""
        blocks: dict[Cid, bytes] = {}
        lost: dict[Cid, BucketfsError] = {}
        waiting = [cids]
        while waiting:
            batch = waiting.pop()
            try:
                blocks |= await self.source.get_many(batch)
            except (Corrupt, NotFound) as error:
                middle = len(batch) // 2
                if middle:
                    waiting += [batch[:middle], batch[middle:]]
                else:
                    lost[batch[0]] = error
        return blocks, lost

    def _from_memory(self, read: Read) -> object:
        """Run a computation on the blocks that are in memory. Raises Wanted when they are not enough."""

        def peek_many(cids: Sequence[Cid]) -> Mapping[Cid, bytes]:
            blocks = {cid: block for cid in cids if (block := self.source.peek(cid)) is not None}
            if len(blocks) < len(cids):
                raise Wanted([read])
            return blocks

        try:
            return drive(read[0](*read[1:]), peek_many)
        except BucketfsError as error:
            raise Unreadable(error) from error
