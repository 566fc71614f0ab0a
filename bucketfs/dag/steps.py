"""How computations over blocks ask for them: helpers for ``Steps`` generators.

Every algorithm of `dag` asks through ``fetch``, so that three promises are kept in one place: identity CIDs are never
asked for, one request names no CID twice, and none is longer than BATCH_MAX.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from bucketfs.dag.codec import identity_block
from bucketfs.types import Cid, Steps

T = TypeVar("T")

BATCH_MAX = 256
"""The most CIDs that are asked for at once."""


def fetch(cids: Iterable[Cid]) -> Steps[dict[Cid, bytes]]:
    """The blocks of these CIDs, by CID."""
    found: dict[Cid, bytes] = {}
    wanted: list[Cid] = []
    for cid in dict.fromkeys(cids):
        inline = identity_block(cid)
        if inline is None:
            wanted.append(cid)
        else:
            found[cid] = inline
    for start in range(0, len(wanted), BATCH_MAX):
        batch = wanted[start : start + BATCH_MAX]
        blocks = yield batch
        for cid in batch:
            found[cid] = blocks[cid]
    return found


def fetch_one(cid: Cid) -> Steps[bytes]:
    """The block of one CID."""
    blocks = yield from fetch((cid,))
    return blocks[cid]


def gather(many: Sequence[Steps[T]], known: dict[Cid, bytes] | None = None) -> Steps[list[T]]:
    """Run several computations side by side, so that what they ask for at one time is asked for together.

    ``known`` serves blocks without asking and takes in those that come. The results stand in the order of ``many``.
    """
    results: dict[int, T] = {}
    blocks: dict[Cid, bytes] = {} if known is None else known
    waiting: dict[int, Sequence[Cid]] = {}

    def advance(index: int, reply: Mapping[Cid, bytes] | None) -> None:
        try:
            steps = many[index]
            waiting[index] = next(steps) if reply is None else steps.send(reply)
        except StopIteration as stop:
            waiting.pop(index, None)
            results[index] = stop.value

    for index in range(len(many)):
        advance(index, None)
    while waiting:
        if known is None:
            blocks.clear()
        blocks.update((yield from fetch(cid for wanted in waiting.values() for cid in wanted if cid not in blocks)))
        for index, wanted in list(waiting.items()):
            advance(index, {cid: blocks[cid] for cid in wanted})
    return [results[index] for index in range(len(many))]


def drive(steps: Steps[T], get_many: Callable[[Sequence[Cid]], Mapping[Cid, bytes]]) -> T:
    """Run a computation to its end over a synchronous source. An error of ``get_many`` is thrown into it, and comes out."""
    try:
        wanted = next(steps)
        while True:
            try:
                blocks = get_many(wanted)
            except Exception as error:
                wanted = steps.throw(error)
            else:
                wanted = steps.send(blocks)
    except StopIteration as stop:
        result: T = stop.value
        return result
