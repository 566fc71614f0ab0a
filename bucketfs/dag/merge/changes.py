"""What differs between two trees, name by name, as a list; where CIDs are equal nothing is looked into."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from bucketfs.dag.codec.cid import DAG_PB, codec_of
from bucketfs.dag.dirs.directory import decode_directory, directory_entries, impossible_names, resolve
from bucketfs.dag.merge.diff import Comparison, Delta, compare, directory_differences, open_both, own_attributes
from bucketfs.dag.steps import fetch_one
from bucketfs.dag.unfolding import check_unfolding
from bucketfs.errors import TooLarge
from bucketfs.types import NO_ATTRIBUTES, Cid, Link, Steps

CHANGES_MAX = 4_000_000
"""Differences that one answer may hold, each at a path of its own."""

NAMES_MAX = 32_000_000
"""Names in all paths of an answer."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: what stood at a path and what stands there now; None where there is nothing.

    With ``attributes_only`` both are directories whose own attributes differ; what differs below them comes as changes of
    its own. Otherwise the two links differ as a whole: added, removed, replaced, or a file with other bytes or attributes.
    """

    path: tuple[bytes, ...]
    old: Link | None
    new: Link | None
    attributes_only: bool = False


def diff(old: Cid | None, new: Cid, lost: Container[Cid] = ()) -> Steps[list[Change]]:
    """The changes from one tree to another, at the highest names that differ, in the order of paths.

    Two directories at one name are descended into, equal CIDs never; sharded directories are compared shard by shard. How a
    directory is encoded (shards, CID version, cumulative sizes) is no difference. ``old`` None stands for an empty
    directory. ``lost`` are nodes of the old tree that are not to be had: nothing looks into them, and what stands there now differs
    as a whole. Names that no directory may hold are left out. Raises Corrupt, also beyond DEPTH_MAX levels, and TooLarge beyond
    CHANGES_MAX changes, or when far more paths differ than blocks do (``check_unfolding``).
    """
    if old is None:
        return (yield from _diff_from_nothing(new))
    comparison = yield from compare(old, new, lost)
    _check_size(comparison)
    top = comparison.top
    changes = sorted(_unfolded(top), key=lambda change: change.path)
    if top.is_whole or top.attributes:
        was = Link(old, 0) if old in lost else (yield from resolve(old, ())) or Link(old, 0)
        now = (yield from resolve(new, ())) or Link(new, 0)
        changes.insert(0, Change((), was, now, attributes_only=not top.is_whole))
    return changes


def _check_size(comparison: Comparison) -> None:
    """Refuse an answer that would be too long, before it is made."""
    if comparison.top.count > CHANGES_MAX or comparison.top.names > NAMES_MAX:
        raise TooLarge(f"trees with more than {CHANGES_MAX} differences")
    check_unfolding(comparison.top.count, comparison.distinct)


def _unfolded(top: Delta) -> list[Change]:
    """The changes below the top, in no order."""
    changes: list[Change] = []
    waiting: list[tuple[tuple[bytes, ...], Delta]] = [((), top)]
    while waiting:
        path, delta = waiting.pop()
        changes += [Change((*path, name), old, new) for name, (old, new) in delta.whole.items()]
        for name, (old, new, child) in delta.below.items():
            if child.attributes:
                changes.append(Change((*path, name), old, new, attributes_only=True))
            if child.count:
                waiting.append(((*path, name), child))
    return changes


def directory_changes(old: Cid, new: Cid) -> Steps[dict[bytes, tuple[Link | None, Link | None]]]:
    """The names of one directory that stand for something else in ``new`` than in ``old``, with what they stood and stand for.

    What differs is not looked into, and impossible names are left out. Two sharded directories are compared shard by shard, so the
    cost is that of the difference. Raises NotADirectory, Corrupt.
    """
    before, after = yield from open_both(old, new)
    differences = yield from directory_differences(before, after)
    impossible = frozenset(impossible_names([name for name, _, _ in differences]))
    return {name: (was, now) for name, was, now in differences if name not in impossible}


def _diff_from_nothing(new: Cid) -> Steps[list[Change]]:
    new_link = yield from resolve(new, ())
    if codec_of(new) != DAG_PB:
        return [Change((), None, new_link)]
    directory = decode_directory(new, (yield from fetch_one(new)))
    if directory is None:
        return [Change((), None, new_link)]
    entries = yield from directory_entries(directory)
    changes = [Change((name,), None, link) for name, link in entries.items()]
    if own_attributes(directory) != (NO_ATTRIBUTES, 0, b""):
        changes.insert(0, Change((), None, new_link, attributes_only=True))
    return changes
