"""Sending blocks: ask what the Hub lacks, send that, while the builder makes more.

Blocks flow through a bounded queue from the builder into one Put stream. Before a batch goes out the Hub is asked which of it is
missing, unless the batch is so small that asking costs as much as sending. Doing all of it again after a failure sends only
what did not arrive.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from bucketfs.errors import Unavailable
from bucketfs.remote.remote import Remote
from bucketfs.types import Cid, UploadId

T = TypeVar("T")
Block = tuple[Cid, bytes]
Emit = Callable[[Sequence[Block]], Awaitable[None]]

BATCH_BYTES = 8 << 20
BATCH_BLOCKS = 4096
ASK_FROM_BYTES = 256 << 10
"""Batches below this are sent without asking."""


@dataclass(slots=True)
class Sent:
    """What a push has carried so far. What is *through* was sent, or the Hub had it. ``begun_s`` is of the monotonic clock."""

    blocks_made: int = 0
    bytes_made: int = 0
    blocks_sent: int = 0
    bytes_sent: int = 0
    bytes_through: int = 0
    begun_s: float = field(default_factory=time.monotonic)

    def add(self, other: Sent) -> None:
        """Count ``other`` in."""
        self.blocks_made += other.blocks_made
        self.bytes_made += other.bytes_made
        self.blocks_sent += other.blocks_sent
        self.bytes_sent += other.bytes_sent
        self.bytes_through += other.bytes_through


async def send_all(
    remote: Remote,
    upload: UploadId,
    make: Callable[[Emit], Awaitable[T]],
    sent: Sent,
) -> T:
    """Run ``make(emit)`` and send what it emits; its result once everything has arrived. ``sent`` counts along.

    Raises the first error of either side; the other is cancelled.
    """
    entry, exit_ = trio.open_memory_channel[list[Block]](1)
    result: list[T] = []

    async def produce() -> None:
        async with entry:
            batcher = _Batcher(entry, sent)
            result.append(await make(batcher.emit))
            await batcher.flush()

    async def lacking() -> AsyncGenerator[Sequence[Block], None]:
        taken_bytes = 0
        async for batch in exit_:
            size_bytes = sum(len(data) for _, data in batch)
            if size_bytes > ASK_FROM_BYTES:
                wanted = await remote.missing([cid for cid, _ in batch], upload)
                batch = [block for block in batch if block[0] in wanted]
            sent.blocks_sent += len(batch)
            sent.bytes_sent += sum(len(data) for _, data in batch)
            if batch:
                yield batch
            # The stream takes a batch before the Hub has it; when it takes the next one the former is on its way.
            sent.bytes_through += taken_bytes
            taken_bytes = size_bytes

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(produce)
            async with aclosing(lacking()) as batches:
                await remote.put(batches, upload)
                sent.bytes_through = sent.bytes_made
            # A Put that ends before its input does has failed without saying so; nothing is left to read then.
            exit_.close()
    except BaseExceptionGroup as group:
        error = first_error(group)
        if isinstance(error, trio.BrokenResourceError | trio.ClosedResourceError):
            raise Unavailable("the Hub ended an upload before it was complete") from group
        raise error from group
    return result[0]


class _Batcher:
    """Collects blocks into batches worth a question, each block once."""

    def __init__(self, entry: trio.MemorySendChannel[list[Block]], sent: Sent) -> None:
        self._entry = entry
        self._sent = sent
        self._batch: dict[Cid, bytes] = {}
        self._bytes = 0

    async def emit(self, blocks: Sequence[Block]) -> None:
        for cid, data in blocks:
            if cid not in self._batch:
                self._batch[cid] = data
                self._bytes += len(data)
                self._sent.blocks_made += 1
                self._sent.bytes_made += len(data)
        if self._bytes >= BATCH_BYTES or len(self._batch) >= BATCH_BLOCKS:
            await self.flush()

    async def flush(self) -> None:
        if self._batch:
            batch, self._batch, self._bytes = list(self._batch.items()), {}, 0
            await self._entry.send(batch)


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that a group of tasks failed for: the first that is not a mere cancellation or its echo."""
    candidates: list[tuple[float, BaseException]] = []

    def collect(found: BaseExceptionGroup[BaseException]) -> None:
        for error in found.exceptions:
            if isinstance(error, BaseExceptionGroup):
                collect(error)
            elif isinstance(error, trio.Cancelled | trio.BrokenResourceError | trio.ClosedResourceError):
                candidates.append((math.inf, error))
            else:
                candidates.append((len(candidates), error))

    collect(group)
    return min(candidates, key=lambda candidate: candidate[0])[1]
