"""What differs between two trees, name by name; where CIDs are equal nobody looks."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

from bucketfs.dag.cid import DAG_PB, codec_of, same_node
from bucketfs.dag.directories import OpenDirectory, check_names, decode_directory, directory_entries, plain_entries, resolve
from bucketfs.dag.hamt import TOP, Bucket, Entry, Place, Shard, all_entries, check_place, child_place, open_child
from bucketfs.dag.steps import BATCH_MAX, fetch, fetch_one, gather
from bucketfs.dag.unixfs import canonical_attributes
from bucketfs.errors import Corrupt, NotADirectory, TooLarge
from bucketfs.types import NO_ATTRIBUTES, Cid, Link, NodeAttributes, Steps

CHANGES_MAX = 4_000_000
"""Differences that one answer may hold. A small DAG that links a directory again and again can claim more."""

PAIRS_AT_ONCE = 64
"""Directories whose root blocks, of which some are large, are held at a time."""

DEPTH_MAX = 4096
"""Directories above one another that are descended into: twice what fits a path of the kernel's."""


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


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two dag-pb nodes at one path that differ."""

    path: tuple[bytes, ...]
    old: Link
    new: Link


Difference = tuple[bytes, Link | None, Link | None]


def diff(old: Cid | None, new: Cid, lost: Container[Cid] = ()) -> Steps[list[Change]]:
    """The changes from one tree to another, at the highest names that differ, in the order of paths.

    Two directories at one name are descended into, equal CIDs never; sharded directories are compared shard by shard. How a
    directory is encoded (shards, CID version, cumulative sizes) is no difference. ``old`` None stands for an empty
    directory. ``lost`` are nodes of the old tree that nobody has: nobody looks into them, and what stands there now differs as a
    whole. Raises Corrupt, also beyond DEPTH_MAX levels, and TooLarge beyond CHANGES_MAX changes.
    """
    if old is None:
        return (yield from _diff_from_nothing(new))
    changes: list[Change] = []
    pairs: list[_Pair] = []
    # The cumulative sizes of the roots are computed at the end, if somebody is to see them.
    _sort_out((), [(b"", Link(old, 0), Link(new, 0))], changes, pairs, lost, is_root=True)
    while pairs:
        batch = pairs[-PAIRS_AT_ONCE:]
        del pairs[-PAIRS_AT_ONCE:]
        opened = yield from _open_pairs(batch)
        differences = yield from gather([directory_differences(*both) for both in opened if both is not None])
        remaining = iter(differences)
        for pair, both in zip(batch, opened, strict=True):
            if both is None:
                changes.append(Change(pair.path, pair.old, pair.new))
                continue
            if _own_attributes(both[0]) != _own_attributes(both[1]):
                changes.append(Change(pair.path, pair.old, pair.new, attributes_only=True))
            _sort_out(pair.path, next(remaining), changes, pairs, lost)
        if len(changes) + len(pairs) > CHANGES_MAX:
            raise TooLarge(f"trees with more than {CHANGES_MAX} differences")
    changes.sort(key=lambda change: change.path)
    if changes and not changes[0].path:
        was = changes[0].old if old in lost else (yield from resolve(old, ()))
        changes[0] = replace(changes[0], old=was, new=(yield from resolve(new, ())))
    return changes


def directory_changes(old: Cid, new: Cid) -> Steps[dict[bytes, tuple[Link | None, Link | None]]]:
    """The names of one directory that stand for something else in ``new`` than in ``old``, with what they stood and stand for.

    Nobody looks inside of what differs. Two sharded directories are compared shard by shard, so the cost is that of the
    difference. Raises NotADirectory, Corrupt.
    """
    if codec_of(old) != DAG_PB or codec_of(new) != DAG_PB:
        raise NotADirectory("a raw block is not a directory")
    blocks = yield from fetch((old, new))
    before, after = decode_directory(old, blocks[old]), decode_directory(new, blocks[new])
    if before is None or after is None:
        raise NotADirectory("one of two nodes to be compared is not a directory")
    differences = yield from directory_differences(before, after)
    return {name: (was, now) for name, was, now in differences}


def _diff_from_nothing(new: Cid) -> Steps[list[Change]]:
    new_link = yield from resolve(new, ())
    if codec_of(new) != DAG_PB:
        return [Change((), None, new_link)]
    directory = decode_directory(new, (yield from fetch_one(new)))
    if directory is None:
        return [Change((), None, new_link)]
    entries = yield from directory_entries(directory)
    changes = [Change((name,), None, link) for name, link in entries.items()]
    if _own_attributes(directory) != (NO_ATTRIBUTES, 0, b""):
        changes.insert(0, Change((), None, new_link, attributes_only=True))
    return changes


def _sort_out(
    path: tuple[bytes, ...],
    differences: Sequence[Difference],
    changes: list[Change],
    pairs: list[_Pair],
    lost: Container[Cid],
    *,
    is_root: bool = False,
) -> None:
    """Differing names become changes, or pairs to look into where both sides may be directories."""
    for name, old, new in differences:
        at = path if is_root else (*path, name)
        if old is None or new is None:
            changes.append(Change(at, old, new))
        elif not same_node(old.cid, new.cid):
            if codec_of(old.cid) == codec_of(new.cid) == DAG_PB and old.cid not in lost:
                pairs.append(_Pair(at, old, new))
            else:
                changes.append(Change(at, old, new))
    if pairs and len(path) > DEPTH_MAX:
        raise Corrupt(f"directories more than {DEPTH_MAX} levels deep")


def _open_pairs(pairs: Sequence[_Pair]) -> Steps[list[tuple[OpenDirectory, OpenDirectory] | None]]:
    """Both directories of each pair; None where one is none.

    The new nodes are looked at first: where one is a file, the old node, which nobody may have at hand any more, is not
    needed.
    """
    blocks = yield from fetch(pair.new.cid for pair in pairs)
    new = [decode_directory(pair.new.cid, blocks[pair.new.cid]) for pair in pairs]
    blocks = yield from fetch(pair.old.cid for pair, found in zip(pairs, new, strict=True) if found is not None)
    opened: list[tuple[OpenDirectory, OpenDirectory] | None] = []
    for pair, new_directory in zip(pairs, new, strict=True):
        old_directory = None if new_directory is None else decode_directory(pair.old.cid, blocks[pair.old.cid])
        opened.append(None if old_directory is None or new_directory is None else (old_directory, new_directory))
    return opened


def _own_attributes(directory: OpenDirectory) -> tuple[NodeAttributes, int, bytes]:
    message = directory.message
    return canonical_attributes(message.type, message.attributes), message.mode_extra, message.unknown


def directory_differences(old: OpenDirectory, new: OpenDirectory) -> Steps[list[Difference]]:
    """The names whose CIDs differ between two directories whose root blocks are at hand. Raises Corrupt."""
    if old.sharded and new.sharded and old.message.fanout == new.message.fanout:
        differences = yield from _shard_differences(old.shard(), new.shard())
        check_names([name for name, _, link in differences if link is not None])
        return differences
    if old.sharded or new.sharded:
        old_entries = yield from directory_entries(old)
        new_entries = yield from directory_entries(new)
        return _entry_differences(old_entries, new_entries)
    # Two large directories mostly share their links: only what is not in both is looked at.
    touched = {link.name for link in set(old.links) ^ set(new.links)}
    old_entries = plain_entries([link for link in old.links if link.name in touched])
    new_entries = plain_entries([link for link in new.links if link.name in touched])
    return _entry_differences(old_entries, new_entries)


def _entry_differences(old: Mapping[bytes, Link], new: Mapping[bytes, Link]) -> list[Difference]:
    differences: list[Difference] = [(name, link, None) for name, link in old.items() if name not in new]
    for name, link in new.items():
        before = old.get(name)
        if before is None or (before.cid != link.cid and not same_node(before.cid, link.cid)):
            differences.append((name, before, link))
    return differences


def _shard_differences(old: Shard, new: Shard) -> Steps[list[Difference]]:
    """Compare two sharded directories bucket by bucket."""
    differences: list[Difference] = []
    waiting: list[tuple[Link, Link, Place]] = []
    lone: list[tuple[Bucket | None, Bucket | None, Place, int]] = []
    _compare_buckets(old, new, TOP, differences, waiting, lone)
    while waiting:
        batch = waiting[-BATCH_MAX // 2 :]
        del waiting[-BATCH_MAX // 2 :]
        blocks = yield from fetch(link.cid for old_link, new_link, _ in batch for link in (old_link, new_link))
        for old_link, new_link, place in batch:
            old_child = open_child(old_link.cid, blocks[old_link.cid], old)
            new_child = open_child(new_link.cid, blocks[new_link.cid], new)
            _compare_buckets(old_child, new_child, place, differences, waiting, lone)
    for old_bucket, new_bucket, place, index in lone:
        old_entries = yield from _bucket_entries(old_bucket, old, place, index)
        new_entries = yield from _bucket_entries(new_bucket, new, place, index)
        differences += _entry_differences(old_entries, new_entries)
    return differences


def _compare_buckets(
    old: Shard,
    new: Shard,
    place: Place,
    differences: list[Difference],
    waiting: list[tuple[Link, Link, Place]],
    lone: list[tuple[Bucket | None, Bucket | None, Place, int]],
) -> None:
    """Buckets of one shard: child shards that differ wait to be compared; a child shard that faces none stands alone."""
    for index in old.buckets.keys() | new.buckets.keys():
        before, after = old.buckets.get(index), new.buckets.get(index)
        if before == after:
            continue
        if isinstance(before, Link) and isinstance(after, Link):
            if not same_node(before.cid, after.cid):
                waiting.append((before, after, child_place(place, index, new.bits)))
        elif isinstance(before, Link) or isinstance(after, Link):
            lone.append((before, after, place, index))
        else:
            for entry in (before, after):
                if entry is not None:
                    check_place(entry.name, place, index, new.bits)
            differences += _entry_differences(
                dict((before,)) if before is not None else {}, dict((after,)) if after is not None else {}
            )


def _bucket_entries(bucket: Bucket | None, parent: Shard, place: Place, index: int) -> Steps[dict[bytes, Link]]:
    """All entries in and below a bucket."""
    if bucket is None:
        return {}
    if isinstance(bucket, Entry):
        check_place(bucket.name, place, index, parent.bits)
        return {bucket.name: bucket.link}
    blocks = yield from fetch((bucket.cid,))
    child = open_child(bucket.cid, blocks[bucket.cid], parent)
    return dict((yield from all_entries(child, child_place(place, index, parent.bits))) or [])
