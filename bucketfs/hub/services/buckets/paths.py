"""Paths of buckets, and what a write does to the entries that a bucket keeps about them. Pure.

A path is a tuple of names; its text, names joined by ``/`` without a leading slash, is the key of its entry. ``""`` is the root.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from bucketfs.errors import InvalidArgument, Refused
from bucketfs.hub.db import BucketRow, PathEntry
from bucketfs.hub.rpc import Code, Status
from bucketfs.hub.trees import Path
from bucketfs.names import SEED_NAME, check_name
from bucketfs.roles import lineage

LEVELS_MAX = 2048
"""No program reaches deeper: a path of Linux has 4,096 bytes. Each level is a node that the Hub makes anew."""
READ_LEVELS_MAX = 2 * LEVELS_MAX
READ_BYTES_MAX = 512 * 1024
"""Trees that came as blocks may be deeper than what is written by path. But roles are asked for each level of a path, so a message
full of slashes must not be one."""
SEED_REFUSED = f"paths containing {SEED_NAME} are not allowed"
_FEW = 8


def read_path(text: str) -> Path:
    """A path to look at: one leading slash, ``.``, doubled and trailing slashes do not count. Raises InvalidArgument for ``..``,
    and for a path that is too long."""
    names = tuple(name for name in text.encode().split(b"/") if name not in (b"", b"."))
    if len(names) > READ_LEVELS_MAX or len(text) > READ_BYTES_MAX:
        raise InvalidArgument(f"a path of {len(names)} levels and {len(text)} characters is too long")
    if b".." in names:
        raise InvalidArgument(f"path with a .. in it: {text}")
    return names


def write_path(text: str, *, seed_allowed: bool = False) -> Path:
    """A path to change, ``()`` for the root. Raises InvalidArgument for one that no tree can hold, Status for the seed's."""
    if not seed_allowed and SEED_NAME in text:
        raise Status(Code.UNKNOWN, SEED_REFUSED)
    bare = text.removeprefix("/")
    if not bare:
        return ()
    names = tuple(bare.encode().split(b"/"))
    if len(names) > LEVELS_MAX:
        raise InvalidArgument(f"a path of {len(names)} levels; at most {LEVELS_MAX} are allowed")
    try:
        for name in names:
            check_name(name)
    except Refused as error:
        raise InvalidArgument(f"invalid path {text}: {error}") from error
    return names


def path_text(path: Path) -> str:
    """The key of the path's entry."""
    return b"/".join(path).decode()


def file_key(row: BucketRow, entries: Mapping[str, PathEntry], path: Path) -> bytes | None:
    """The key that encrypts the content of a file at this path: of the nearest entry that has one. ``None`` in the clear."""
    if row.private and row.version:
        for place in lineage(path_text(path)):
            entry = entries.get(place)
            if entry is not None and entry.key is not None:
                return entry.key
    return row.link_key


def entries_written(entries: Mapping[str, PathEntry], paths: Iterable[Path], now_ns: int) -> dict[str, PathEntry]:
    """The entries after a write to each of these paths.

    The path's own entry (a new one has no roles and no key) gets the time; entries below it are dropped, for what they were about
    is gone.
    """
    written = {path_text(path) for path in paths}
    kept = _without_below(entries, written)
    for place in written:
        kept[place] = replace(kept.get(place, PathEntry()), updated_at_ns=now_ns)
    return kept


def entries_removed(entries: Mapping[str, PathEntry], path: Path) -> dict[str, PathEntry]:
    """The entries after everything at a path was removed."""
    gone = path_text(path)
    kept = _without_below(entries, {gone})
    kept.pop(gone, None)
    return kept


def _without_below(entries: Mapping[str, PathEntry], paths: set[str]) -> dict[str, PathEntry]:
    """The entries without those below any of these paths.

    Those of the root and of the seed stay in any case: a new root keeps its roles.
    """
    if len(paths) <= _FEW:
        # Much faster than looking at every ancestor, and most writes are to one path.
        starts = tuple(f"{path}/" if path else "" for path in paths)
        kept = {place: entry for place, entry in entries.items() if not place.startswith(starts)}
    else:
        kept = {place: entry for place, entry in entries.items() if not any(up in paths for up in list(lineage(place))[1:])}
    return kept | {place: entries[place] for place in ("", SEED_NAME) if place in entries}
