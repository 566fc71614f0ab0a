"""What becomes of one name that two sides changed since they last agreed: the one table of rules.

``base`` is what stood at the name when both agreed, ``ours`` what this side has there now, ``theirs`` what the Hub has; each may
be nothing. In the order in which they are tried:

===============================  ========================================================================================
one side left it as it was       the other side's, be it nothing
both made the same of it         that
gone on one side                 the change survives; of a directory what was changed inside it, and it itself when that
                                 is something or its mode or owner was changed
two directories                  merged inside, name by name; attributes field by field
directory against another kind   the directory, whole, keeps the name; the other stands beside it under a conflict name
file against symlink             the Hub's keeps the name, ours stands beside it
same kind, same content          one of them; attributes field by field
same kind, one wrote             what was written, and its mtime; the other attributes field by field
two files, one of them empty     what was written, and its mtime; the other attributes field by field
else                             the Hub's keeps the name, ours stands beside it
===============================  ========================================================================================

*Content* is a file's bytes by structure, a symlink's target: the node without its attributes. How the node is spelled (inline,
over one leaf, CID version, defaults written out) is no part of it. Fields of the message that we do not know are.

A swap of the sides swaps the verdict, except that in the two cases of "the Hub's keeps the name" it is the other one that does.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bucketfs.dag.codec import (
    DAG_PB,
    RAW,
    PbLink,
    UnixFs,
    UnixFsType,
    canonical_attributes,
    cid_of,
    cid_text,
    codec_of,
    decode_node,
    encode_pb,
    encode_unixfs,
    identity_block,
    mode_default,
    multihash_of,
)
from bucketfs.errors import Corrupt
from bucketfs.types import NO_ATTRIBUTES, Cid, Kind, NodeAttributes

_TYPES = {Kind.FILE: UnixFsType.FILE, Kind.DIRECTORY: UnixFsType.DIRECTORY, Kind.SYMLINK: UnixFsType.SYMLINK}

_RAW_PREFIX = b"\x01\x55"
_DAG_PB_PREFIX = b"\x01\x70"
_NO_BYTES = bytes(cid_of(b""))


class Side(enum.Enum):
    """One of two that changed: this machine, or the Hub."""

    OURS = "ours"
    THEIRS = "theirs"

    @property
    def other(self) -> Side:
        return Side.THEIRS if self is Side.OURS else Side.OURS


@dataclass(frozen=True, slots=True)
class Entry:
    """What one side has at a name. Nothing there is None, in place of an Entry.

    Of ``content`` only equality counts: `entry_of` puts the CIDv1 of the attribute-free node there; for a node that was not built
    yet it may be any bytes that are no CID. ``empty`` is for a file of no bytes.
    """

    kind: Kind
    content: bytes
    attributes: NodeAttributes = NO_ATTRIBUTES
    empty: bool = False


class Outcome(enum.Enum):
    """What to do at a name."""

    NOTHING = "nothing there"
    OURS = "ours as it is"
    THEIRS = "theirs as it is"
    MERGED = "one side's content with merged attributes"
    MERGE_INSIDE = "a directory, merged name by name, with merged attributes"
    OURS_INSIDE = "what we changed inside a directory that the Hub's side removed"
    THEIRS_INSIDE = "what the Hub's side changed inside a directory that we removed"
    OURS_BESIDE = "theirs, and ours beside it under a conflict name"
    THEIRS_BESIDE = "ours, and theirs beside it under a conflict name"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to stand at a name.

    ``attributes`` are those of the result of MERGED, MERGE_INSIDE, OURS_INSIDE and THEIRS_INSIDE. ``content`` is whose bytes a
    MERGED has. ``keep`` says of OURS_INSIDE and THEIRS_INSIDE that the directory stays even when nothing inside it survives.
    """

    outcome: Outcome
    attributes: NodeAttributes = NO_ATTRIBUTES
    content: Side | None = None
    keep: bool = False


_AS_IT_IS = {Side.OURS: Outcome.OURS, Side.THEIRS: Outcome.THEIRS}
_INSIDE = {Side.OURS: Outcome.OURS_INSIDE, Side.THEIRS: Outcome.THEIRS_INSIDE}


def judge(base: Entry | None, ours: Entry | None, theirs: Entry | None) -> Verdict:
    """What becomes of a name. Of two directories of the same content but other attributes it says MERGE_INSIDE, too."""
    base, ours, theirs = _canonical(base), _canonical(ours), _canonical(theirs)
    if ours in (theirs, base):
        return Verdict(Outcome.THEIRS if theirs is not None else Outcome.NOTHING)
    if theirs == base:
        return Verdict(Outcome.OURS if ours is not None else Outcome.NOTHING)
    if ours is None and theirs is not None:
        return _survivor(base, theirs, Side.THEIRS)
    if theirs is None and ours is not None:
        return _survivor(base, ours, Side.OURS)
    assert ours is not None and theirs is not None
    if ours.kind is not theirs.kind:
        return Verdict(Outcome.THEIRS_BESIDE if ours.kind is Kind.DIRECTORY else Outcome.OURS_BESIDE)
    # What was of another kind has no field that could have been changed: both made theirs anew.
    return _same_kind(base if base is not None and base.kind is ours.kind else None, ours, theirs)


def _survivor(base: Entry | None, changed: Entry, side: Side) -> Verdict:
    """One side removed ``base``, the other made ``changed`` of it."""
    if base is None or not base.kind is changed.kind is Kind.DIRECTORY:
        return Verdict(_AS_IT_IS[side])
    # Its mtime moved with whatever happened inside. That alone keeps no directory.
    keep = replace(base.attributes, mtime_ns=None) != replace(changed.attributes, mtime_ns=None)
    return Verdict(_INSIDE[side], changed.attributes, keep=keep)


def _same_kind(base: Entry | None, ours: Entry, theirs: Entry) -> Verdict:
    was = None if base is None else base.attributes
    attributes = merge_attributes(ours.kind, was, ours.attributes, theirs.attributes)
    if ours.kind is Kind.DIRECTORY:
        return Verdict(Outcome.MERGE_INSIDE, attributes)
    if ours.content == theirs.content:
        return _one_of(ours, theirs, attributes)
    side = _writer(base, ours, theirs)
    if side is None:
        return Verdict(Outcome.OURS_BESIDE)
    written = ours if side is Side.OURS else theirs
    attributes = replace(attributes, mtime_ns=written.attributes.mtime_ns)
    return Verdict(_AS_IT_IS[side]) if attributes == written.attributes else Verdict(Outcome.MERGED, attributes, side)


def _one_of(ours: Entry, theirs: Entry, attributes: NodeAttributes) -> Verdict:
    """Two of the same content."""
    if attributes == theirs.attributes:
        return Verdict(Outcome.THEIRS)
    return Verdict(Outcome.OURS) if attributes == ours.attributes else Verdict(Outcome.MERGED, attributes, Side.THEIRS)


def _writer(base: Entry | None, ours: Entry, theirs: Entry) -> Side | None:
    """Whose content counts, of two that differ; None when both do."""
    if base is not None and ours.content == base.content:
        return Side.THEIRS
    if base is not None and theirs.content == base.content:
        return Side.OURS
    if ours.kind is Kind.FILE and ours.empty != theirs.empty:
        return Side.THEIRS if ours.empty else Side.OURS
    return None


# Attributes


def merge_attributes(
    kind: Kind, base: NodeAttributes | None, ours: NodeAttributes, theirs: NodeAttributes
) -> NodeAttributes:
    """The attributes of what both sides have, in their canonical form (a default mode, and any of a symlink, is None).

    A field that one side left as it was is the other's. One that both changed is that of the side with the later mtime; of equal
    mtimes the smaller: both machines must come to the same, whichever is ours. Without ``base`` every
    field was changed by both. A node without mtime is older than any with one; no uid or gid is smaller than any.
    """
    type_ = _TYPES[kind]
    ours, theirs = canonical_attributes(type_, ours), canonical_attributes(type_, theirs)
    was = None if base is None else canonical_attributes(type_, base)
    newer = newer_side(ours.mtime_ns, theirs.mtime_ns)

    def merged(name: str, least: int) -> int | None:
        one: int | None = getattr(ours, name)
        other: int | None = getattr(theirs, name)
        if was is not None and one == getattr(was, name):
            return other
        if was is not None and other == getattr(was, name):
            return one
        if newer is not None:
            return one if newer is Side.OURS else other
        return min(one, other, key=lambda value: least if value is None else value)

    return NodeAttributes(
        mode=merged("mode", mode_default(type_)),
        mtime_ns=merged("mtime_ns", 0),
        uid=merged("uid", -1),
        gid=merged("gid", -1),
    )


def newer_side(ours_ns: int | None, theirs_ns: int | None) -> Side | None:
    """The side with the later mtime, None when there is none."""
    if ours_ns == theirs_ns:
        return None
    if ours_ns is None or (theirs_ns is not None and theirs_ns > ours_ns):
        return Side.THEIRS
    return Side.OURS


def _canonical(entry: Entry | None) -> Entry | None:
    return None if entry is None else replace(entry, attributes=canonical_attributes(_TYPES[entry.kind], entry.attributes))


# From nodes


def entry_of(cid: Cid, block: bytes = b"") -> Entry:
    """What a node is to a merge. The block of a raw leaf, which says nothing more, may be left out. Raises Corrupt."""
    if codec_of(cid) != DAG_PB:
        content = content_of(cid, block)
        return Entry(Kind.FILE, content, empty=content == _NO_BYTES)
    links, message = decode_node(block)
    kind = message.type.kind
    attributes = canonical_attributes(message.type, message.attributes)
    empty = kind is Kind.FILE and not message.filesize
    return Entry(kind, _content(links, message), attributes, empty)


def content_of(cid: Cid, block: bytes = b"") -> bytes:
    """A key that is equal for nodes of equal content, whatever their attributes and spelling: the CIDv1 of the same node without
    attributes, which for a file of one leaf is the leaf. The block of a raw leaf may be left out. Raises Corrupt."""
    codec = codec_of(cid)
    if codec == RAW:
        inline = identity_block(cid)
        return _RAW_PREFIX + multihash_of(cid) if inline is None else cid_of(inline)
    if codec != DAG_PB:
        raise Corrupt(f"block {cid_text(cid)}: no UnixFS node, its codec is {codec:#x}")
    links, message = decode_node(block)
    return _content(links, message)


def _content(links: Sequence[PbLink], message: UnixFs) -> bytes:
    bare = message.with_attributes(NO_ATTRIBUTES)
    if message.type in (UnixFsType.FILE, UnixFsType.RAW) and bare.is_plain:
        if not links:
            return cid_of(message.data)
        if len(links) == 1 and not message.data and codec_of(links[0].cid) == RAW:
            return content_of(links[0].cid)
    return _DAG_PB_PREFIX + multihash_of(cid_of(encode_pb((links, encode_unixfs(bare))), DAG_PB))
