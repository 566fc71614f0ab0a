"""What a new root changes: which rights that needs, and which path entries the bucket has afterwards. Nothing is unfolded.

A tree of few blocks may have very many paths (`dag.compare`), and each path that differs needs a right. But rights differ only
where the bucket has entries. Below a path without entries below it, all differences need the rights of that path, so it is
enough to know which kinds of change there are, and a delta has the same kinds in every place. So the work is bounded by the
deltas and by the entries, whatever the tree claims."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import replace

from bucketfs.dag import Comparison, Delta
from bucketfs.hub.db import BucketRow, PathEntry
from bucketfs.roles import PathChange, lineage
from bucketfs.types import Link

IsDirectory = Callable[[Link], bool]

ENTRIES_MAX = 256
"""Up to so many entries a bucket gets new ones for files that a swap changes: all of them go out with every ``Root``."""


class ChangedPaths:
    """What a new root changes, path by path, as far as paths need different rights."""

    def __init__(self, row: BucketRow, comparison: Comparison, is_directory: IsDirectory) -> None:
        self._row = row
        self._top = comparison.top
        self._is_directory = is_directory
        self._kinds: dict[int, frozenset[PathChange]] = {}
        self._above = {above for place in row.entries for above in list(lineage(place))[1:]}
        for delta in comparison.deltas:
            # Children come first.
            self._kinds[id(delta)] = self._kinds_of(delta)

    def __iter__(self) -> Iterator[tuple[str, PathChange]]:
        waiting = [("", self._top)]
        while waiting:
            path, delta = waiting.pop()
            if path and path not in self._above:
                yield from ((path, change) for change in self._kinds[id(delta)])
                continue
            if delta.is_whole or delta.attributes:
                yield path, PathChange.REPLACE
            for name, (old, new) in delta.whole.items():
                at = _below(path, name)
                yield from ((at, change) for change in self._whole(old, new, has_entry=at in self._row.entries))
            waiting += [(_below(path, name), child) for name, (_, _, child) in delta.below.items()]

    def _kinds_of(self, delta: Delta) -> frozenset[PathChange]:
        kinds = {PathChange.REPLACE} if delta.attributes else set()
        for old, new in delta.whole.values():
            kinds.update(self._whole(old, new, has_entry=False))
        for _, _, child in delta.below.values():
            kinds |= self._kinds[id(child)]
        return frozenset(kinds)

    def _whole(self, old: Link | None, new: Link | None, *, has_entry: bool) -> Iterator[PathChange]:
        if old is None:
            yield PathChange.ADD
        elif new is None:
            yield PathChange.REMOVE
        else:
            was_directory = self._is_directory(old)
            # Pushed files have entries, directories only when roles were granted on them. So a file pushed in the place of a
            # directory without one makes a new entry, and only the owner may do that.
            yield PathChange.ADD if was_directory and not has_entry else PathChange.REPLACE
            if was_directory:
                yield PathChange.REMOVE
            elif self._is_directory(new):
                yield PathChange.ADD


def entries_after(row: BucketRow, top: Delta, now_ns: int, is_directory: IsDirectory) -> dict[str, PathEntry]:
    """The entries of a bucket after this change of its tree: those of changed paths get the time, those of removed ones go.

    A changed file that has none gets one, as a file that is pushed by path does. Where a whole folder is new, and beyond
    ENTRIES_MAX, the nearest entry gets the time instead: it is what a listing shows of a path without an entry of its own.
    """
    fates = {place: _fate_of(top, place) for place in row.entries}
    kept = {place: row.entries[place] for place, fate in fates.items() if fate is not _Fate.GONE}
    late = {place for place in kept if fates[place] is _Fate.CHANGED}
    if top.count > ENTRIES_MAX:
        late |= {place for place in kept if fates[place] is _Fate.ABOVE}
    else:
        for place, is_file in _appeared(top, is_directory):
            if is_file and place not in kept and len(kept) < ENTRIES_MAX:
                kept[place] = PathEntry()
            late |= {next(above for above in lineage(place) if above in kept or not above)}
    return kept | {place: replace(kept[place], updated_at_ns=now_ns) for place in late if place in kept}


def _appeared(top: Delta, is_directory: IsDirectory) -> Iterator[tuple[str, bool]]:
    """The paths that hold something else now, and whether that is a file or symlink. As many as ``top`` counts at most."""
    waiting = [("", top)]
    while waiting:
        path, delta = waiting.pop()
        yield from ((_below(path, name), not is_directory(new)) for name, (_, new) in delta.whole.items() if new is not None)
        waiting += [(_below(path, name), child) for name, (_, _, child) in delta.below.items() if child.count]


class _Fate(enum.Enum):
    """What became of a path."""

    SAME = "same"
    CHANGED = "changed"
    ABOVE = "above a change"
    GONE = "gone"


def _fate_of(top: Delta, place: str) -> _Fate:
    """What became of the path of an entry. Where a directory was removed or replaced, what was below it is gone."""
    delta = top
    names = place.encode().split(b"/") if place else []
    for depth, name in enumerate(names, start=1):
        if name in delta.whole:
            _, new = delta.whole[name]
            return _Fate.GONE if new is None or depth < len(names) else _Fate.CHANGED
        if name not in delta.below:
            return _Fate.SAME
        delta = delta.below[name][2]
    return _Fate.CHANGED if place and delta.attributes else _Fate.ABOVE


def _below(path: str, name: bytes) -> str:
    return f"{path}/{name.decode()}" if path else name.decode()
