"""One directory, or two of them compared: listing, looking up, checking. Plain ones are one block; sharded ones see `hamt`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bucketfs.dag.codec import (
    DAG_PB,
    SYMLINK_TARGET_MAX,
    Built,
    PbLink,
    UnixFs,
    UnixFsType,
    built_node,
    canonical_attributes,
    cid_text,
    codec_of,
    decode_node,
    decode_pb,
    multihash_of,
    same_node,
)
from bucketfs.dag.dirs.hamt import (
    TOP,
    Bucket,
    Shard,
    ShardEditor,
    ShardEntry,
    ShardPlace,
    all_entries,
    check_place,
    child_place,
    meet_once,
    open_child,
    open_shard,
)
from bucketfs.dag.steps import BATCH_MAX, fetch, fetch_one
from bucketfs.errors import Corrupt, InvalidArgument, NameTooLong, NotADirectory, Refused
from bucketfs.names import NAME_BYTES_MAX, check_name
from bucketfs.types import NO_ATTRIBUTES, Cid, Link, NodeAttributes, Steps

Difference = tuple[bytes, Link | None, Link | None]
"""A name, and what one directory and the other have there."""


@dataclass(frozen=True, slots=True)
class Directory:
    """All of a directory. ``entries`` stand in the order of their names' bytes."""

    entries: Mapping[bytes, Link]
    attributes: NodeAttributes
    sharded: bool
    impossible: tuple[bytes, ...] = ()
    """Names that no path can have (see ``check_name``). Entries of these names are left out, and kept by edits."""


def empty_directory(attributes: NodeAttributes = NO_ATTRIBUTES, *, cid_version: int = 1) -> Built:
    """A directory without entries."""
    return built_node(UnixFs(UnixFsType.DIRECTORY).with_attributes(attributes), [], cid_version)


def symlink(target: bytes, attributes: NodeAttributes = NO_ATTRIBUTES, *, cid_version: int = 1) -> Built:
    """A symlink; its mode is never written. Raises NameTooLong over 4,095 bytes, InvalidArgument when empty or with a
    NUL.
    """
    if len(target) > SYMLINK_TARGET_MAX:
        raise NameTooLong(f"a symlink target of {len(target)} bytes; at most {SYMLINK_TARGET_MAX} are allowed")
    if not target or b"\0" in target:
        raise InvalidArgument(f"not a symlink target: {target!r}")
    return built_node(UnixFs(UnixFsType.SYMLINK, data=target).with_attributes(attributes), [], cid_version)


# Reading


@dataclass(frozen=True, slots=True)
class OpenDirectory:
    """The decoded root block of a directory."""

    link: Link
    links: Sequence[PbLink]
    message: UnixFs

    @property
    def sharded(self) -> bool:
        return self.message.type is UnixFsType.SHARD

    def shard(self) -> Shard:
        """The root shard of a sharded directory."""
        return open_shard(self.links, self.message)


def decode_directory(cid: Cid, block: bytes) -> OpenDirectory | None:
    """A directory from its root block; None when the block is another kind of node. Raises Corrupt."""
    if codec_of(cid) != DAG_PB:
        return None
    links, message = decode_node(block)
    if message.type not in (UnixFsType.DIRECTORY, UnixFsType.SHARD):
        return None
    return OpenDirectory(Link(cid, len(block) + sum(link.tsize for link in links)), links, message)


@dataclass(frozen=True, slots=True)
class DirectoryBlock:
    """What one block of a directory names: child shards, and entries, with their names in the same order."""

    shards: Sequence[Cid]
    entries: Sequence[Cid]
    names: Sequence[bytes]
    sharded: bool


def directory_block(cid: Cid, block: bytes) -> DirectoryBlock | None:
    """One block of a directory, its root or a shard; None for another kind of node. Raises Corrupt."""
    found = decode_directory(cid, block)
    if found is None:
        return None
    if not found.sharded:
        return DirectoryBlock((), [link.cid for link in found.links], [link.name for link in found.links], sharded=False)
    buckets = found.shard().buckets.values()
    entries = [bucket for bucket in buckets if isinstance(bucket, ShardEntry)]
    shards = [bucket.cid for bucket in buckets if isinstance(bucket, Link)]
    return DirectoryBlock(shards, [one.link.cid for one in entries], [one.name for one in entries], sharded=True)


def open_directory(cid: Cid) -> Steps[OpenDirectory]:
    """Ask for and decode the root block of a directory. Raises NotADirectory, Corrupt."""
    block = b"" if codec_of(cid) != DAG_PB else (yield from fetch_one(cid))
    found = decode_directory(cid, block)
    if found is None:
        raise NotADirectory(f"{cid_text(cid)} is not a directory")
    return found


def list_directory(cid: Cid) -> Steps[Directory]:
    """All entries of a directory, plain or sharded.

    Of several entries with one name the first counts. An entry whose name is impossible is left out: one such name, which
    another user can make, must not hide what is beside it. Raises NotADirectory, Corrupt.
    """
    found = yield from open_directory(cid)
    entries = yield from raw_entries(found)
    impossible = impossible_names(list(entries))
    for name in impossible:
        del entries[name]
    return Directory(entries, found.message.attributes, found.sharded, impossible)


def directory_entries(directory: OpenDirectory) -> Steps[dict[bytes, Link]]:
    """The entries of a directory whose root block is at hand, in byte order, without impossible names. Raises Corrupt."""
    entries = yield from raw_entries(directory)
    for name in impossible_names(list(entries)):
        del entries[name]
    return entries


def raw_entries(directory: OpenDirectory) -> Steps[dict[bytes, Link]]:
    """All entries of a directory whose root block is at hand, whatever their names, in byte order. Raises Corrupt."""
    if not directory.sharded:
        return plain_entries(directory.links)
    return dict(sorted((yield from all_entries(directory.shard())) or []))


def entries_named(directory: OpenDirectory, names: Iterable[bytes]) -> Steps[Mapping[bytes, Link]]:
    """Those of the names that a directory has, whose root block is at hand. Of shards only those on the way are asked for.

    Raises Corrupt.
    """
    if directory.sharded:
        top = directory.shard()
        return (yield from ShardEditor(top.fanout).load(top, names))
    wanted = set(names)
    return plain_entries([link for link in directory.links if link.name in wanted])


def lookup(cid: Cid, name: bytes) -> Steps[Link | None]:
    """The entry of one name, None when there is none. Of shards only those on the way are asked for.

    Raises NotADirectory, Corrupt.
    """
    directory = yield from open_directory(cid)
    return (yield from entries_named(directory, (name,))).get(name)


def resolve(root: Cid, components: Sequence[bytes]) -> Steps[Link | None]:
    """Follow a path of names from a root; symlinks are not followed.

    None when a name does not exist or something on the way is no directory. The empty path is the root itself, whose
    cumulative size is computed from its block.
    """
    if not components:
        block = yield from fetch_one(root)
        below = sum(link.tsize for link in decode_pb(block).links) if codec_of(root) == DAG_PB else 0
        return Link(root, len(block) + below)
    link = Link(root, 0)
    for component in components:
        try:
            found = yield from lookup(link.cid, component)
        except NotADirectory:
            return None
        if found is None:
            return None
        link = found
    return link


def plain_entries(links: Sequence[PbLink]) -> dict[bytes, Link]:
    """The entries of a plain directory in byte order, whatever their names; the first of equal names counts."""
    entries: dict[bytes, Link] = {}
    before = b""
    in_order = True
    for cid, name, tsize in links:
        if name > before:
            entries[name] = Link(cid, tsize)
        else:
            in_order = False
            entries.setdefault(name, Link(cid, tsize))
        before = name
    return entries if in_order else dict(sorted(entries.items()))


def impossible_names(names: Sequence[bytes]) -> tuple[bytes, ...]:
    """Those of these names that no directory may hold.

    All names are looked at as one string first: large directories are listed often and are nearly always fine.
    """
    if not names:
        return ()
    joined = b"/".join(names)
    one_each = joined.count(b"/") == len(names) - 1 and b"\0" not in joined and len(max(names, key=len)) <= NAME_BYTES_MAX
    if one_each and b"" not in names and b"." not in names and b".." not in names and _is_utf8(joined):
        return ()
    return tuple(name for name in names if not is_possible(name))


def check_shards(cid: Cid, within: Container[Cid]) -> Steps[None]:
    """Refuse a sharded directory with an entry where its name does not belong, looking at those of its shards only that are
    ``within`` some. Raises Corrupt."""
    found = yield from open_directory(cid)
    if found.sharded:
        yield from all_entries(found.shard(), within=within)


def check_entries(cid: Cid, block: bytes, known: Container[bytes] = ()) -> None:
    """Refuse one block of a directory whose entries have impossible names, except for those in ``known``, or repeated ones.
    Raises Corrupt, also for a block that makes no sense."""
    found = directory_block(cid, block)
    names = () if found is None else found.names
    for name in impossible_names(names):
        if name not in known:
            raise Corrupt(
                f"directory {cid_text(cid)}: an entry with the name {name[:NAME_BYTES_MAX]!r}, which no path can have"
            )
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise Corrupt(f"directory {cid_text(cid)}: two entries with the name {twice!r}")


def is_possible(name: bytes) -> bool:
    """Whether a directory may hold this name."""
    try:
        check_name(name)
    except Refused:
        return False
    return True


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


# Two directories


def own_attributes(directory: OpenDirectory) -> tuple[NodeAttributes, int, bytes]:
    """What a directory says of itself besides its entries."""
    message = directory.message
    return canonical_attributes(message.type, message.attributes), message.mode_extra, message.unknown


def directory_differences(old: OpenDirectory, new: OpenDirectory) -> Steps[list[Difference]]:
    """The names, impossible ones too, whose CIDs differ between two directories whose root blocks are at hand. Raises Corrupt."""
    if old.sharded and new.sharded and old.message.fanout == new.message.fanout:
        return (yield from _shard_differences(old.shard(), new.shard()))
    if old.sharded or new.sharded:
        old_entries = yield from raw_entries(old)
        new_entries = yield from raw_entries(new)
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
    waiting: list[tuple[Link, Link, ShardPlace]] = []
    lone: list[tuple[Bucket | None, Bucket | None, ShardPlace, int]] = []
    met: set[tuple[bytes, bytes]] = set()
    _compare_buckets(old, new, TOP, differences, waiting, lone)
    while waiting:
        batch = waiting[-BATCH_MAX // 2 :]
        del waiting[-BATCH_MAX // 2 :]
        blocks = yield from fetch(link.cid for old_link, new_link, _ in batch for link in (old_link, new_link))
        for old_link, new_link, place in batch:
            meet_once((multihash_of(old_link.cid), multihash_of(new_link.cid)), met)
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
    place: ShardPlace,
    differences: list[Difference],
    waiting: list[tuple[Link, Link, ShardPlace]],
    lone: list[tuple[Bucket | None, Bucket | None, ShardPlace, int]],
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


def _bucket_entries(bucket: Bucket | None, parent: Shard, place: ShardPlace, index: int) -> Steps[dict[bytes, Link]]:
    """All entries in and below a bucket."""
    if bucket is None:
        return {}
    if isinstance(bucket, ShardEntry):
        check_place(bucket.name, place, index, parent.bits)
        return {bucket.name: bucket.link}
    blocks = yield from fetch((bucket.cid,))
    child = open_child(bucket.cid, blocks[bucket.cid], parent)
    return dict((yield from all_entries(child, child_place(place, index, parent.bits))) or [])
