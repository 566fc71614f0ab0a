"""The bytes of a segment: one header line and frames around ops. Pure.

A segment file is laid out as ::

    header   bucketfs-journal 1 segment=3 next_draft=17 base=bafy… crc=89abcdef   one line of text; base=- when there is none
    frame    length[4] crc32[4] index[4] kind[1] version[1] payload[length]       numbers big-endian
    frame …

``crc32`` covers everything after itself, so a frame vouches for its place in the segment (``index`` counts from 0) as
well as for its payload. The payload of an op is a JSON object with the op's own field names, CIDs being base32 text;
``kind`` is a letter that can be seen in a hex dump. The frame of kind ``H`` ends the head of a segment, its checkpoint.

A version above ours or a letter we do not know, under a right checksum, was written by a newer bucketfs: Unsupported, and
the journal is left alone. Old versions stay readable for ever: a change of a payload takes the next number.
"""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from bucketfs.errors import Corrupt, InvalidArgument, Unsupported
from bucketfs.journal.ops import (
    NO_OWNER,
    Arrived,
    Conflict,
    Create,
    Left,
    Lost,
    MakeDirectory,
    MakeSymlink,
    Place,
    Proposed,
    Quarantined,
    Record,
    Remove,
    Rename,
    Resolved,
    Seal,
    SetAttributes,
    SetContent,
    Stamp,
)
from bucketfs.types import Cid, DraftId

SEGMENT_VERSION = 1
RECORD_VERSION = 2
"""The newest. A record says the oldest that can say it: 2 for one with an owner that is `NO_OWNER`, else 1."""

HEAD_END = ord("H")
FRAME_HEADER_SIZE = 14
HEADER_SIZE_MAX = 4096

_SUMMED = struct.Struct(">IBB")
_OUTER = struct.Struct(">II")
_HEADER = re.compile(rb"bucketfs-journal (\d+) ([^\n]*) crc=([0-9a-f]{8})\n")

_KINDS: dict[int, type[Record]] = {
    ord("C"): Create,
    ord("D"): MakeDirectory,
    ord("L"): MakeSymlink,
    ord("P"): Place,
    ord("A"): SetAttributes,
    ord("T"): Stamp,
    ord("W"): SetContent,
    ord("R"): Rename,
    ord("X"): Remove,
    ord("B"): Proposed,
    ord("V"): Arrived,
    ord("G"): Left,
    ord("K"): Conflict,
    ord("S"): Resolved,
    ord("E"): Seal,
    ord("M"): Lost,
    ord("Q"): Quarantined,
}
_LETTERS = {op: letter for letter, op in _KINDS.items()}
_FIELDS = {op: tuple(field.name for field in fields(op)) for op in _LETTERS}
_FIELD_SETS = {op: frozenset(names) for op, names in _FIELDS.items()}


@dataclass(frozen=True, slots=True)
class Header:
    """What a segment says of itself. ``next_draft`` is above every draft ever named, so that no id comes back."""

    segment: int
    base: Cid | None
    next_draft: DraftId


def encode_header(header: Header) -> bytes:
    """The first line of a segment."""
    base = "-" if header.base is None else cid_to_text(header.base)
    line = f"bucketfs-journal {SEGMENT_VERSION} segment={header.segment} next_draft={header.next_draft} base={base}"
    return f"{line} crc={zlib.crc32(line.encode()):08x}\n".encode()


def decode_header(data: bytes) -> tuple[Header, int]:
    """The header at the start of ``data`` and its size in bytes. Corrupt, or Unsupported for a newer version."""
    found = _HEADER.match(data[:HEADER_SIZE_MAX])
    if found is None:
        raise Corrupt("no journal header")
    line = data[: found.start(3) - len(" crc=")]
    # Before the version: a damaged header of ours must not pass for that of a newer bucketfs, which would refuse the whole
    # journal.
    if zlib.crc32(line) != int(found[3], 16):
        raise Corrupt("a journal header with a wrong checksum")
    if int(found[1]) > SEGMENT_VERSION:
        raise Unsupported(
            f"the journal has format {int(found[1])}, this bucketfs reads up to {SEGMENT_VERSION}",
            hint="start the newer bucketfs that wrote it",
        )
    words = dict(word.split("=", 1) for word in found[2].decode().split(" "))
    base = None if words["base"] == "-" else cid_from_text(words["base"])
    return Header(int(words["segment"]), base, DraftId(int(words["next_draft"]))), found.end()


def encode_op(index: int, op: Record) -> bytes:
    """The frame of ``op`` as record ``index`` of its segment. InvalidArgument for a text that is not UTF-8."""
    kind = type(op)
    payload = {name: getattr(op, name) for name in _FIELDS[kind]}
    for name, encode in _ENCODED[kind]:
        payload[name] = encode(payload[name])
    try:
        data = _to_json(payload).encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"a path that is not UTF-8: {op!r}") from error
    return encode_frame(index, _LETTERS[kind], data, _version_of(op))


def encode_frame(index: int, kind: int, payload: bytes, version: int = 1) -> bytes:
    """``payload`` as record ``index``."""
    summed = _SUMMED.pack(index, kind, version) + payload
    return _OUTER.pack(len(payload), zlib.crc32(summed)) + summed


def _version_of(op: Record) -> int:
    return 2 if isinstance(op, SetAttributes) and NO_OWNER in (op.uid, op.gid) else 1


def decode_op(kind: int, version: int, payload: bytes) -> Record:
    """The op of a frame whose checksum was right. Unsupported when a newer bucketfs wrote it; Corrupt when it makes no
    sense."""
    op = _KINDS.get(kind)
    if op is None or version > RECORD_VERSION:
        raise Unsupported(
            f"the journal holds a record of kind {chr(kind)!r}, version {version}, which this bucketfs does not know",
            hint="start the newer bucketfs that wrote it",
        )
    try:
        # The types of the values are not checked one by one: the checksum says that we wrote them, and this runs
        # a hundred thousand times at a start.
        found = _from_json(payload.decode())
        if found.keys() != _FIELD_SETS[op]:
            raise ValueError("other fields than an op of this kind has")
        for name, decode in _DECODED[op]:
            found[name] = decode(found[name])
        return op(**found)
    except (ValueError, TypeError, AttributeError) as error:
        raise Corrupt(f"a record of kind {chr(kind)!r} makes no sense: {error}") from error


def frame_at(data: bytes, offset: int, index: int) -> tuple[int, int, bytes] | None:
    """Kind, version and payload of the frame at ``offset`` if it is whole and is record ``index``, else None."""
    start = offset + FRAME_HEADER_SIZE
    if start > len(data):
        return None
    length, crc = _OUTER.unpack_from(data, offset)
    stop = start + length
    if stop > len(data) or zlib.crc32(data[offset + 8 : stop]) != crc:
        return None
    found, kind, version = _SUMMED.unpack_from(data, offset + 8)
    return (kind, version, data[start:stop]) if found == index else None


def cid_to_text(cid: Cid) -> str:
    """Multibase base32, whatever the CID's version: here the text is for us, not for other programs."""
    return "b" + base64.b32encode(cid).decode().lower().rstrip("=")


_BASE32_DIGITS = str.maketrans("abcdefghijklmnopqrstuvwxyz234567", "0123456789abcdefghijklmnopqrstuv")


def cid_from_text(text: str) -> Cid:
    """The inverse of ``cid_to_text``. ValueError when it is none."""
    # int() reads base 32 in C; base64.b32decode takes ten times as long, and a checkpoint may hold a CID per record.
    digits = text[1:]
    bits = len(digits) * 5
    return Cid((int(digits.translate(_BASE32_DIGITS), 32) >> bits % 8).to_bytes(bits // 8, "big"))


def _extents(pairs: list[list[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((start, stop) for start, stop in pairs)


_CODECS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "cid": (cid_to_text, cid_from_text),
    "root": (cid_to_text, cid_from_text),
    "extents": (tuple, _extents),
    "sums": (bytes.hex, bytes.fromhex),
}
"""How the values are written, and read, that JSON has no type for; by the names of the fields."""

_ENCODED = {op: [(name, _CODECS[name][0]) for name in names if name in _CODECS] for op, names in _FIELDS.items()}
_DECODED = {op: [(name, _CODECS[name][1]) for name in names if name in _CODECS] for op, names in _FIELDS.items()}
_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_from_json = json.JSONDecoder().decode
