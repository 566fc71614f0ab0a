"""Walking a tree for ``GetTree``: the blocks of directories and the root blocks of what is in them, level by level."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bucketfs.dag import DAG_PB, codec_of, drive, list_directory, node_info
from bucketfs.errors import Corrupt, NotADirectory
from bucketfs.hub.rpc import Context
from bucketfs.hub.store import BlockStore
from bucketfs.types import Cid, Kind

_BATCH = 256


class TreeWalk:
    """Yields each block once, as it is met: all shards of a directory, then the root blocks of its children."""

    def __init__(self, store: BlockStore, context: Context) -> None:
        self._store = store
        self._context = context
        self._given: set[Cid] = set()
        self._directories: set[Cid] = set()
        """Those children that were given out and are directories."""

    def run(self, cid: Cid, depth: int) -> Iterator[tuple[Cid, bytes | None]]:
        found = self._store.get_many((cid,))
        if cid not in found:
            yield cid, None
            return
        level = [cid]
        # Each directory once, at the highest level that names it: from there its children are reached as deep as from any other.
        opened = {cid}
        for left in range(depth, -1, -1):
            below: list[Cid] = []
            for directory in level:
                self._context.check_active()
                blocks, children = self._open(directory)
                yield from blocks
                if left:
                    yield from self._children(children, below if left > 1 else None)
            level = [one for one in dict.fromkeys(below) if one not in opened]
            opened.update(level)

    def _open(self, cid: Cid) -> tuple[list[tuple[Cid, bytes | None]], list[Cid]]:
        """The blocks of a directory that were not given out yet, and its children that have a block of their own."""
        seen: dict[Cid, bytes | None] = {}

        def fetch(cids: Iterable[Cid]) -> dict[Cid, bytes]:
            self._context.check_active()
            wanted = list(cids)
            held = self._store.get_many(wanted)
            for one in wanted:
                seen[one] = held.get(one)
            if len(held) < len(set(wanted)):
                raise _Incomplete
            return held

        try:
            entries = drive(list_directory(cid), fetch).entries
        except (NotADirectory, _Incomplete):
            entries = {}
        if not seen and cid not in self._given:
            # Something without directory blocks: the block itself is all there is to give.
            seen.update(self._store.get_many((cid,)))
        fresh = [(one, data) for one, data in seen.items() if one not in self._given]
        self._given.update(seen)
        return fresh, [link.cid for link in entries.values() if codec_of(link.cid) == DAG_PB]

    def _children(self, cids: list[Cid], directories: list[Cid] | None) -> Iterator[tuple[Cid, bytes | None]]:
        wanted = list(dict.fromkeys(cids))
        fresh = [cid for cid in wanted if cid not in self._given]
        for start in range(0, len(fresh), _BATCH):
            batch = fresh[start : start + _BATCH]
            held = self._store.get_many(batch)
            for cid in batch:
                data = held.get(cid)
                self._given.add(cid)
                if data is not None and _is_directory(cid, data):
                    self._directories.add(cid)
                yield cid, data
        if directories is not None:
            directories += [cid for cid in wanted if cid in self._directories]


class _Incomplete(Exception):
    """A shard of a directory is not here."""


def _is_directory(cid: Cid, data: bytes) -> bool:
    try:
        return node_info(cid, data).kind is Kind.DIRECTORY
    except Corrupt:
        return False
