"""Directories: listing, looking up, editing. Plain ones are one block; sharded ones see ``hamt``.

What a directory's CID depends on: its entries, its attributes and the fields kept for others, never the way it came about.
It is sharded when its links-bytes (the bytes of all names and CIDs) are more than SHARD_THRESHOLD, plain otherwise: Kubo's
and Helia's default estimate. An edit that changes nothing gives back the very directory, in whatever form it was written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bucketfs.dag.codec.cid import DAG_PB, cid_text, codec_of
from bucketfs.dag.codec.dag_pb import PbLink, decode_pb
from bucketfs.dag.codec.nodes import SYMLINK_TARGET_MAX, Built, built_node, decode_node
from bucketfs.dag.codec.unixfs import UnixFs, UnixFsType, encode_unixfs
from bucketfs.dag.dirs.hamt import Entry, Shard, ShardEditor, all_entries, find_entry, links_bytes, open_shard
from bucketfs.dag.steps import fetch_one
from bucketfs.errors import Corrupt, InvalidArgument, NameTooLong, NotADirectory, Refused
from bucketfs.names import NAME_BYTES_MAX, check_name
from bucketfs.types import NO_ATTRIBUTES, Cid, Link, NodeAttributes, Steps

SHARD_THRESHOLD = 262_144
"""Links-bytes above which a directory is sharded (equal stays plain)."""


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
    """What one block of a directory names: child shards, and entries."""

    shards: Sequence[Cid]
    entries: Sequence[Cid]
    sharded: bool = False


def directory_block(cid: Cid, block: bytes) -> DirectoryBlock | None:
    """One block of a directory, its root or a shard; None for another kind of node. Raises Corrupt."""
    found = decode_directory(cid, block)
    if found is None:
        return None
    if not found.sharded:
        return DirectoryBlock((), [link.cid for link in found.links])
    buckets = list(found.shard().buckets.values())
    return DirectoryBlock(
        [bucket.cid for bucket in buckets if isinstance(bucket, Link)],
        [bucket.link.cid for bucket in buckets if not isinstance(bucket, Link)],
        sharded=True,
    )


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
    found = yield from open_directory(cid)
    if found.sharded:
        return (yield from find_entry(found.shard(), name))
    return next((Link(link.cid, link.tsize) for link in found.links if link.name == name), None)


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


def directory_names(cid: Cid, block: bytes) -> list[bytes]:
    """The names of the entries in one block of a directory, with repetitions; a block of another kind has none. Raises Corrupt."""
    found = decode_directory(cid, block)
    if found is None:
        return []
    if found.sharded:
        return [bucket.name for bucket in found.shard().buckets.values() if isinstance(bucket, Entry)]
    return [link.name for link in found.links]


def check_shards(cid: Cid, within: Container[Cid]) -> Steps[None]:
    """Refuse a sharded directory with an entry where its name does not belong, looking at those of its shards only that are
    ``within`` some. Raises Corrupt."""
    found = yield from open_directory(cid)
    if found.sharded:
        yield from all_entries(found.shard(), within=within)


def check_entries(cid: Cid, block: bytes, known: Container[bytes] = ()) -> None:
    """Refuse one block of a directory whose entries have impossible names, except for those in ``known``, or repeated ones.
    Raises Corrupt, also for a block that makes no sense."""
    names = directory_names(cid, block)
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


# Editing


def edit_directory(
    cid: Cid | None,
    changes: Mapping[bytes, Link | None],
    attributes: NodeAttributes | None = None,
    *,
    shard: bool = True,
    cid_version: int = 1,
    threshold: int = SHARD_THRESHOLD,
) -> Steps[Built]:
    """The directory ``cid`` (None: an empty one) with entries set, or removed where a change is None.

    ``attributes`` None keeps those it has. Entries with impossible names stay, unless a change removes them. The result holds the
    new link and new blocks only. Removing a name that is not there changes nothing. ``shard`` False never shards, as a Textile
    Hub; ``threshold`` is for tests and other profiles.
    Raises NotADirectory, Corrupt, and NameInvalid or NameTooLong for a name that is to be set.

    The cost of editing a sharded directory is in proportion to the change. Only when its links-bytes shrink, other shards
    are read too, until they add up to more than the threshold.
    """
    for name, link in changes.items():
        if link is not None:
            check_name(name)
    original = None if cid is None else (yield from open_directory(cid))
    form = _Form(shard, cid_version, threshold)
    if original is None:
        message = UnixFs(UnixFsType.DIRECTORY).with_attributes(attributes or NO_ATTRIBUTES)
        return _build({name: link for name, link in changes.items() if link is not None}, message, form)
    message = original.message.with_attributes(original.message.attributes if attributes is None else attributes)
    same_message = encode_unixfs(message) == encode_unixfs(original.message)
    if original.sharded:
        return (yield from _edit_sharded(original, changes, message, form, same_message))
    entries = plain_entries(original.links)
    effective = _effective(entries, changes)
    if same_message and not effective:
        return Built(original.link)
    return _build(_applied(entries, effective), message, form)


@dataclass(frozen=True, slots=True)
class _Form:
    """How directories are to be written."""

    shard: bool
    cid_version: int
    threshold: int


def _effective(entries: Mapping[bytes, Link], changes: Mapping[bytes, Link | None]) -> dict[bytes, Link | None]:
    """The changes that change something."""
    return {name: link for name, link in changes.items() if entries.get(name) != link}


def _applied(entries: Mapping[bytes, Link], changes: Mapping[bytes, Link | None]) -> dict[bytes, Link]:
    applied = dict(entries)
    for name, link in changes.items():
        if link is None:
            applied.pop(name, None)
        else:
            applied[name] = link
    return applied


def _build(entries: Mapping[bytes, Link], message: UnixFs, form: _Form) -> Built:
    """A directory from all its entries, with what ``message`` says besides."""
    if form.shard and sum(links_bytes(name, link) for name, link in entries.items()) > form.threshold:
        # A shard has no place for the empty name, which means a child shard there; no path leads to it.
        entries = {name: link for name, link in entries.items() if name}
        return ShardEditor(cid_version=form.cid_version).edit({}, entries, message)
    plain = replace(message, type=UnixFsType.DIRECTORY, data=b"", filesize=None, hash_type=None, fanout=None)
    return built_node(plain, [(link.cid, name, link.tsize) for name, link in entries.items()], form.cid_version)


def _edit_sharded(
    original: OpenDirectory, changes: Mapping[bytes, Link | None], message: UnixFs, form: _Form, same_message: bool
) -> Steps[Built]:
    top = original.shard()
    editor = ShardEditor(top.fanout, form.cid_version)
    existing = yield from editor.load(top, changes)
    effective = _effective(existing, changes)
    if same_message and not effective:
        return Built(original.link)
    old = sum(links_bytes(name, existing[name]) for name in effective if name in existing)
    new = sum(links_bytes(name, link) for name, link in effective.items() if link is not None)
    if new < old or not form.shard:
        # The old entries may add up to what the new ones may, and what is taken away from them.
        budget = form.threshold + old - new if form.shard else None
        entries = yield from all_entries(top, loaded=editor.loaded, budget=budget)
        if entries is not None:
            return _build(_applied(dict(entries), effective), message, form)
    return editor.edit(top.buckets, effective, message)
