"""Directories: listing, looking up, editing. Plain ones are one block; sharded ones see ``hamt``.

What a directory's CID depends on: its entries, its attributes and the fields kept for others, never the way it came about.
It is sharded when its links-bytes (the bytes of all names and CIDs) are more than SHARD_THRESHOLD, plain otherwise: Kubo's
and Helia's default estimate. An edit that changes nothing gives back the very directory, in whatever form it was written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bucketfs.dag.cid import DAG_PB, cid_text, codec_of
from bucketfs.dag.nodes import NAME_MAX, SYMLINK_TARGET_MAX, Built, built_node, check_name, decode_node
from bucketfs.dag.pb import PbLink, split_pb
from bucketfs.dag.steps import fetch_one
from bucketfs.dag.unixfs import UnixFs, UnixFsType, canonical_attributes
from bucketfs.errors import Corrupt, InvalidArgument, NameTooLong, NotADirectory, Refused, Unsupported
from bucketfs.types import NO_ATTRIBUTES, Cid, Link, NodeAttributes, Steps

SHARD_THRESHOLD = 262_144
"""Links-bytes above which a directory is sharded (equal stays plain)."""


@dataclass(frozen=True, slots=True)
class Directory:
    """All of a directory. ``entries`` stand in the order of their names' bytes."""

    entries: Mapping[bytes, Link]
    attributes: NodeAttributes
    sharded: bool


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


def list_directory(cid: Cid) -> Steps[Directory]:
    """All entries of a directory, plain or sharded.

    Of several entries with one name the first counts. Raises NotADirectory, or Corrupt, also when a name is none that a
    directory may hold.
    """
    links, message = yield from _open_directory(cid)
    if message.type is UnixFsType.SHARD:
        raise Unsupported("sharded directories")
    entries = plain_entries(links)
    return Directory(entries, message.attributes, sharded=False)


def lookup(cid: Cid, name: bytes) -> Steps[Link | None]:
    """The entry of one name, None when there is none. Raises NotADirectory. Of shards only those on the way are asked
    for.
    """
    links, message = yield from _open_directory(cid)
    if message.type is UnixFsType.SHARD:
        raise Unsupported("sharded directories")
    return next((Link(link.cid, link.tsize) for link in links if link.name == name), None)


def resolve(root: Cid, components: Sequence[bytes]) -> Steps[Link | None]:
    """Follow a path of names from a root; symlinks are not followed.

    None when a name does not exist or something on the way is no directory. The empty path is the root itself, whose
    cumulative size is computed from its block.
    """
    if not components:
        return (yield from link_of(root))
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


def link_of(cid: Cid) -> Steps[Link]:
    """A root with its cumulative size, computed from its block."""
    block = yield from fetch_one(cid)
    below = sum(link.tsize for link in split_pb(block)[0]) if codec_of(cid) == DAG_PB else 0
    return Link(cid, len(block) + below)


def _open_directory(cid: Cid) -> Steps[tuple[list[PbLink], UnixFs]]:
    """The decoded root block of a directory. Raises NotADirectory, Corrupt."""
    if codec_of(cid) != DAG_PB:
        raise NotADirectory(f"{cid_text(cid)} is not a directory")
    block = yield from fetch_one(cid)
    links, message = decode_node(block)
    if message.type not in (UnixFsType.DIRECTORY, UnixFsType.SHARD):
        raise NotADirectory(f"{cid_text(cid)} is not a directory")
    return links, message


def plain_entries(links: Sequence[PbLink]) -> dict[bytes, Link]:
    """The entries of a plain directory in byte order; the first of equal names counts. Raises Corrupt for impossible
    names.
    """
    check_names([link.name for link in links])
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


def check_names(names: Sequence[bytes]) -> None:
    """Refuse names from outside that no directory may hold. Raises Corrupt.

    All names are looked at as one string first: large directories are listed often and are nearly always fine.
    """
    if not names:
        return
    joined = b"/".join(names)
    fine = joined.count(b"/") == len(names) - 1 and b"\0" not in joined and len(max(names, key=len)) <= NAME_MAX
    if fine and joined.isascii() and b"" not in names and b"." not in names and b".." not in names:
        return
    for name in names:
        try:
            check_name(name)
        except Refused as error:
            raise Corrupt(f"directory with an entry that cannot be: {error}") from error


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

    ``attributes`` None keeps those it has. The result holds the new link and new blocks only. Removing a name that is not
    there changes nothing. ``shard`` False never shards, as a Textile Hub; ``threshold`` is for tests and other profiles.
    Raises NotADirectory, Corrupt, and NameInvalid or NameTooLong for a name that is to be set.
    """
    for name, link in changes.items():
        if link is not None:
            check_name(name)
    links: list[PbLink] = []
    message = UnixFs(UnixFsType.DIRECTORY)
    if cid is not None:
        links, message = yield from _open_directory(cid)
    wanted = message.attributes if attributes is None else attributes
    same_attributes = canonical_attributes(message.type, wanted) == canonical_attributes(message.type, message.attributes)
    message = message.with_attributes(wanted)
    if message.type is UnixFsType.SHARD:
        raise Unsupported("sharded directories")
    entries = plain_entries(links)
    if cid is not None and same_attributes and not _changes_anything(entries, changes):
        return Built((yield from link_of(cid)))
    _apply(entries, changes)
    return _build(message, entries, shard=shard, cid_version=cid_version, threshold=threshold)


def _changes_anything(entries: Mapping[bytes, Link], changes: Mapping[bytes, Link | None]) -> bool:
    """Whether some change is one. Only CIDs count: a cumulative size is a hint."""
    for name, link in changes.items():
        old = entries.get(name)
        if (old is None) != (link is None) or (old is not None and link is not None and old.cid != link.cid):
            return True
    return False


def _apply(entries: dict[bytes, Link], changes: Mapping[bytes, Link | None]) -> None:
    for name, link in changes.items():
        if link is None:
            entries.pop(name, None)
        else:
            entries[name] = link


def _build(message: UnixFs, entries: Mapping[bytes, Link], *, shard: bool, cid_version: int, threshold: int) -> Built:
    plain = UnixFs(UnixFsType.DIRECTORY, mode_extra=message.mode_extra, unknown=message.unknown)
    links = [(link.cid, name, link.tsize) for name, link in entries.items()]
    return built_node(plain.with_attributes(message.attributes), links, cid_version)
