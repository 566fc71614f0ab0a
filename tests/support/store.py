"""Blocks in a dict, for computations over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from bucketfs.dag import Built, Merge, drive, resolve
from bucketfs.types import Cid, Link, Steps

T = TypeVar("T")


class Store:
    """Blocks in a dict, and what was asked of it: checks that no request is long, repeats a CID or names an identity CID."""

    def __init__(self) -> None:
        self.blocks: dict[Cid, bytes] = {}
        self.asked: list[Cid] = []
        self.requests = 0

    def get_many(self, cids: Sequence[Cid]) -> Mapping[Cid, bytes]:
        assert 0 < len(cids) <= 256
        assert len(set(cids)) == len(cids)
        assert not any(cid[:1] == b"\x01" and cid[2] == 0 for cid in cids)
        self.asked += cids
        self.requests += 1
        return {cid: self.blocks[cid] for cid in cids}

    def run(self, steps: Steps[T]) -> T:
        """The result of a computation over these blocks."""
        return drive(steps, self.get_many)

    def keep(self, built: Built | Merge) -> Link:
        """Take in the new blocks of something that was built."""
        self.blocks |= built.blocks
        return built.link

    def make(self, steps: Steps[Built]) -> Link:
        return self.keep(self.run(steps))

    def find(self, root: Cid, *names: bytes) -> Link:
        """What stands at a path."""
        link = self.run(resolve(root, names))
        assert link is not None
        return link

    def forget_questions(self) -> None:
        self.asked.clear()
        self.requests = 0
