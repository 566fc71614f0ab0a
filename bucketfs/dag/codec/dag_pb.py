"""dag-pb: links and data in one block (ipld dag-pb spec).

Written canonically: links before data, links sorted by name bytes (stable), name and size of a link always present. Read as
strictly as the spec's codec: the order found is kept, because the block's bytes are its name.

    node  12 len link, for each link     0a len data, unless there is none
    link  0a len cid   12 len name   18 size
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bucketfs.dag.codec.cid import SHA2_256_PREFIXES, parse_cid
from bucketfs.dag.codec.varint import proto_varint, uvarint_encode
from bucketfs.errors import Corrupt, InvalidArgument
from bucketfs.types import Cid

_USUAL_LINK = struct.Struct(">BB38sBB")
_USUAL_PREFIXES = frozenset(b"\x0a\x24" + prefix for prefix in SHA2_256_PREFIXES)
"""Head and length of a link, its whole hash field, head and length of its name: what nearly all links begin with."""

SIZE_MAX = (1 << 63) - 1
"""Sizes must fit a signed 64-bit number: Go and SQL keep them there."""


class PbLink(NamedTuple):
    """A link of a node; ``tsize`` is the cumulative size below it, a hint.

    A tuple and no dataclass: directories of many thousand links are decoded often, and this takes half the time.
    """

    cid: Cid
    name: bytes
    tsize: int


class PbNode(NamedTuple):
    """A decoded node: its links, in the order found, and its data, None when the block has none, which differs from empty."""

    links: Sequence[PbLink]
    data: bytes | None


def encode_pb(node: tuple[Iterable[tuple[Cid, bytes, int]], bytes | None]) -> bytes:
    """The canonical block of a node, whose links (cid, name, tsize) may stand in any order."""
    links, data = node
    parts: list[bytes] = []
    varint = uvarint_encode
    for cid, name, tsize in sorted(links, key=_name_of):
        body = b"\x0a%b%b\x12%b%b\x18%b" % (varint(len(cid)), cid, varint(len(name)), name, varint(tsize))
        parts.append(b"\x12%b%b" % (varint(len(body)), body))
    if data is not None:
        parts.append(b"\x0a%b%b" % (varint(len(data)), data))
    return b"".join(parts)


def _name_of(link: tuple[Cid, bytes, int]) -> bytes:
    return link[1]


def decode_pb(block: bytes) -> PbNode:
    """Decode a block strictly. Raises Corrupt with what is wrong.

    Refused, as the spec asks: links on both sides of the data, data twice, fields of a link out of order or repeated,
    unknown fields or wire types, a link without a CID, truncation.
    """
    links: list[PbLink] = []
    data: bytes | None = None
    links_closed = False
    at, size = 0, len(block)
    try:
        while at < size:
            if not links_closed:
                at = _usual_links(block, at, links)
                if at == size:
                    break
            tag = block[at]
            length, start = proto_varint(block, at + 1, size)
            at = start + length
            if at > size:
                raise IndexError("truncated field")
            if tag == 0x12:
                if links_closed:
                    raise ValueError("links on both sides of the data")
                links.append(_decode_link(block, start, at))
            elif tag == 0x0A:
                if data is not None:
                    raise ValueError("data twice")
                data = block[start:at]
                links_closed = bool(links)
            else:
                raise ValueError(f"unknown field or wire type (tag {tag:#x})")
    except IndexError as error:
        raise Corrupt("dag-pb block: truncated") from error
    except (ValueError, InvalidArgument) as error:
        raise Corrupt(f"dag-pb block: {error}") from error
    return PbNode(links, data)


def _usual_links(block: bytes, at: int, links: list[PbLink]) -> int:
    """Append the links from ``at`` on that look as all known writers make them; returns where the first other thing begins.

    Usual is a link of less than 128 bytes, with a 36-byte sha2-256 CID, a name and a size. Each takes one unpack instead
    of a walk over its bytes, which halves the time for large directories.
    """
    total = len(block)
    unpack, prefixes, make, append = _USUAL_LINK.unpack_from, _USUAL_PREFIXES, tuple.__new__, links.append
    while at + 44 <= total:
        head, length, hash_field, name_head, name_length = unpack(block, at)
        name_end = at + 42 + name_length
        end = at + 2 + length
        if head != 0x12 or name_head != 0x12 or length >= 0x80 or not name_end + 1 < end <= total:
            break
        if block[name_end] != 0x18 or hash_field[:6] not in prefixes:
            break
        tsize = block[name_end + 1]
        if tsize >= 0x80 or name_end + 2 != end:
            tsize, after = proto_varint(block, name_end + 1, end)
            if after != end or tsize > SIZE_MAX:
                break
        append(make(PbLink, (hash_field[2:], block[at + 42 : name_end], tsize)))
        at = end
    return at


def skip_links(block: bytes) -> tuple[int, bytes | None]:
    """How many links a block has, and its data, without decoding the links: for a quick look at a large directory.

    Raises Corrupt when the outer structure is broken; the links themselves are not checked.
    """
    count = at = 0
    data: bytes | None = None
    size = len(block)
    try:
        while at < size:
            tag = block[at]
            length = block[at + 1]
            start = at + 2
            if length >= 0x80:
                length, start = proto_varint(block, at + 1, size)
            at = start + length
            if tag == 0x12:
                count += 1
            elif tag == 0x0A and data is None:
                data = block[start:at]
            else:
                raise Corrupt(f"dag-pb block: unknown or repeated field (tag {tag:#x})")
    except (IndexError, ValueError) as error:
        raise Corrupt("dag-pb block: truncated") from error
    if at != size:
        raise Corrupt("dag-pb block: truncated")
    return count, data


def _decode_link(block: bytes, start: int, end: int) -> PbLink:
    """Any link that the spec allows. Raises ValueError, InvalidArgument or IndexError."""
    cid: Cid | None = None
    name = b""
    tsize = 0
    field_before = 0
    at = start
    while at < end:
        tag, at = proto_varint(block, at, end)
        field = tag >> 3
        if tag not in (0x0A, 0x12, 0x18):
            raise ValueError(f"unknown field or wire type in a link (tag {tag:#x})")
        if field <= field_before:
            raise ValueError("fields of a link out of order or repeated")
        field_before = field
        value, at = proto_varint(block, at, end)
        if field == 3:
            tsize = value
            continue
        if at + value > end:
            raise IndexError("truncated link")
        if field == 1:
            cid = parse_cid(block[at : at + value])
        else:
            name = block[at : at + value]
        at += value
    if cid is None:
        raise ValueError("a link without a CID")
    if tsize > SIZE_MAX:
        raise ValueError(f"a link of {tsize} bytes")
    return PbLink(cid, name, tsize)
