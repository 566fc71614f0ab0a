"""Local files as DAGs: small ones many to a thread hop, large ones in runs of leaves that are handed on as they are read."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

import trio

from bucketfs.dag import LEAF_SIZE, Built, NodeInfo, file_root
from bucketfs.errors import BucketfsError
from bucketfs.transfer import local_fs as folder
from bucketfs.transfer.local_fs import Block, LocalEntry
from bucketfs.transfer.options import Figures, Progress
from bucketfs.types import Cid, Kind, NodeAttributes

Emit = Callable[[Sequence[Block]], Awaitable[None]]

SMALL_FILES_PER_HOP = 128
SMALL_BYTES_PER_HOP = 4 << 20
LEAVES_PER_HOP = 16


@dataclass(frozen=True, slots=True)
class Plan:
    """A file or symlink to be built: its status, where it is, and the attributes that it shall have in the bucket."""

    entry: LocalEntry
    where: bytes
    attributes: NodeAttributes


BuiltSmall = tuple[Built, list[Block]] | BucketfsError | None
"""A DAG with all its blocks; why there is none; or None for a file that has grown and is small no longer."""


def is_small(entry: LocalEntry) -> bool:
    """Whether all of it fits one leaf."""
    return entry.kind is Kind.SYMLINK or entry.size_bytes <= LEAF_SIZE


def small_batches(entries: Sequence[LocalEntry]) -> Iterator[list[LocalEntry]]:
    """Small files, so many together as are built in one thread hop."""
    batch: list[LocalEntry] = []
    size = 0
    for entry in entries:
        batch.append(entry)
        size += entry.size_bytes
        if len(batch) >= SMALL_FILES_PER_HOP or size >= SMALL_BYTES_PER_HOP:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def build_batch(plans: Sequence[Plan]) -> list[BuiltSmall]:
    """In a thread: small files, in the order of ``plans``. What cannot be read is an error in its place, not raised."""
    results: list[BuiltSmall] = []
    for plan in plans:
        try:
            results.append(folder.build_small(plan.where, plan.entry, plan.attributes))
        except folder.ONE_PATH as error:
            results.append(error)
    return results


async def stream_large(plan: Plan, emit: Emit, figures: Figures, progress: Progress) -> Built:
    """A file of any length: its leaves are emitted as they are read, and its nodes, which are in the result, after them. Raises
    Denied, NotFound, and what ``emit`` raises."""
    parts: list[tuple[Cid, int]] = []
    whole = b""
    with folder.ours("reading", plan.where), folder.opened(plan.where, os.O_RDONLY) as file:
        while True:
            start = len(parts) * LEAF_SIZE
            leaves = await trio.to_thread.run_sync(folder.read_leaves, file, start, LEAVES_PER_HOP)
            parts += [(cid, len(data)) for cid, data in leaves]
            whole = leaves[0][1] if len(parts) == 1 else whole
            figures.bytes_done += sum(len(data) for _, data in leaves)
            await emit(leaves)
            progress(figures)
            if len(leaves) < LEAVES_PER_HOP or parts[-1][1] < LEAF_SIZE:
                break
    # A file that shrank meanwhile may be of one leaf now.
    built = await trio.to_thread.run_sync(file_root, parts, plan.attributes, whole if len(parts) <= 1 else None)
    await emit(list(built.blocks.items()))
    return built


def looks_equal(entry: LocalEntry, info: NodeInfo) -> bool:
    """Whether a local file is, by size and mtime, one of the bucket."""
    if info.kind is not Kind.FILE or entry.kind is not Kind.FILE or info.size_bytes != entry.size_bytes:
        return False
    return info.attributes.mtime_ns == entry.mtime_ns
