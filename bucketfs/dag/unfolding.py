"""How far a DAG may unfold into a tree: one directory may be named in many places, but not without bound.

A folder that was copied two hundred times is a tree of two hundred times as many entries as its blocks hold, and that is fine.
Thirty blocks that unfold into a billion folders are an attack or an accident. So a walk that visits paths counts the entries
that it meets, and those of them that it meets for the first time. One rule for every such walk: of the Hub, a mount, a pull.
"""

from __future__ import annotations

from bucketfs.dag.codec import DAG_PB, codec_of
from bucketfs.dag.dirs import decode_directory, list_directory
from bucketfs.dag.steps import BATCH_MAX, fetch
from bucketfs.errors import TooLarge
from bucketfs.types import Cid, Steps

COUNTED_MAX = 1 << 62

LOOKED_AHEAD_MAX = 2_000
"""Entries that are read before a walk begins."""

ENTRIES_FREE = 200_000
"""Entries that any tree may unfold into."""

REPEATS_MAX = 1000
"""Beyond ENTRIES_FREE: how often the entries of a directory may be met, on average."""


def check_unfolding(entries_count: int, distinct_count: int, free: int = ENTRIES_FREE) -> None:
    """Refuse ``entries_count`` entries of which only ``distinct_count`` are different. Raises TooLarge."""
    most = max(free, REPEATS_MAX * distinct_count)
    if entries_count > most:
        raise TooLarge(
            f"the tree names the same folders again and again: {distinct_count} entries in its blocks make more than {most} paths",
            hint="remove it from the bucket, or take single folders of it",
        )


def count_entries(root: Cid, distinct_max: int = COUNTED_MAX) -> Steps[tuple[int, int]]:
    """How many entries the tree below a directory unfolds into, and how many its directories hold when each is counted once.

    Each directory is read once. Not more than COUNTED_MAX entries are told, and once more than ``distinct_max`` were met, only
    those. Raises Corrupt.
    """
    counts: dict[Cid, int] = {}
    distinct_count = 0
    open_directories = [(root, (yield from _directories_in(root)))]
    while open_directories and distinct_count <= distinct_max:
        at, (entries_count, below) = open_directories[-1]
        unknown = next((one for one in below if one not in counts), None)
        if unknown is not None:
            open_directories.append((unknown, (yield from _directories_in(unknown))))
            continue
        counts[at] = min(COUNTED_MAX, 1 + entries_count + sum(counts[one] for one in below))
        distinct_count += 1 + entries_count
        open_directories.pop()
    return counts.get(root, distinct_count), distinct_count


def check_small_tree(root: Cid) -> Steps[None]:
    """Refuse a tree of few blocks that unfolds too far, before anything is made of it. A tree of many is not read ahead:
    ``Unfolding`` stops it on the way. Raises TooLarge, Corrupt."""
    check_unfolding(*(yield from count_entries(root, LOOKED_AHEAD_MAX)))


def _directories_in(directory: Cid) -> Steps[tuple[int, list[Cid]]]:
    """How many entries a directory has, and those of them that are directories."""
    entries = (yield from list_directory(directory)).entries
    nodes = [link.cid for link in entries.values() if codec_of(link.cid) == DAG_PB]
    directories: set[Cid] = set()
    distinct = list(dict.fromkeys(nodes))
    for start in range(0, len(distinct), BATCH_MAX):
        blocks = yield from fetch(distinct[start : start + BATCH_MAX])
        directories.update(cid for cid, block in blocks.items() if decode_directory(cid, block) is not None)
    return len(entries), [cid for cid in nodes if cid in directories]


class Unfolding:
    """Counts the entries of one walk. Tell it of every directory that is opened, at each path."""

    def __init__(self) -> None:
        self._met: set[Cid] = set()
        self._entries_count = 0
        self._distinct_count = 0
        self._repeats = False

    def open(self, directory: Cid, entries_count: int) -> bool:
        """A directory of so many entries was opened. Whether it is the first that is met again: only then it is worth to look ahead
        with `check_small_tree`. Raises TooLarge when the tree unfolds too far."""
        # A directory counts as one entry itself: empty ones must not be free.
        self._entries_count += entries_count + 1
        if directory not in self._met:
            self._met.add(directory)
            self._distinct_count += entries_count + 1
            check_unfolding(self._entries_count, self._distinct_count)
            return False
        check_unfolding(self._entries_count, self._distinct_count)
        first, self._repeats = not self._repeats, True
        return first
