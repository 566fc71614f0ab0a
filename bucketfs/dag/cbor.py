"""The part of dag-cbor that archives and name records need: numbers, bytes, texts, lists, maps and CIDs (ipld dag-cbor spec)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bucketfs.dag.codec import parse_cid
from bucketfs.errors import Corrupt, InvalidArgument
from bucketfs.types import Cid

# Why not cbor2: dag-cbor has one spelling for each value, and what is decoded here comes from strangers. cbor2 (6.3) reads long
# forms, indefinite lengths and bytes left over, and builds bignums, dates, regular expressions and sets from tags that dag-cbor
# forbids, before a caller can look at them; its switches for that do not work as they are documented.

_CID_TAG = 42
_DEPTH_MAX = 32


@dataclass(frozen=True, slots=True)
class CborLink:
    """A CID in dag-cbor: tag 42 over a zero byte and the CID."""

    cid: Cid


Cbor = int | bytes | str | CborLink | Sequence["Cbor"] | Mapping[str, "Cbor"]


def cbor_encode(value: Cbor) -> bytes:
    """The canonical bytes of a value: shortest heads, map keys by length, then by bytes."""
    match value:
        case int():
            return _head(0, value) if value >= 0 else _head(1, -1 - value)
        case bytes():
            return _head(2, len(value)) + value
        case str():
            text = value.encode()
            return _head(3, len(text)) + text
        case CborLink(cid):
            return _head(6, _CID_TAG) + cbor_encode(b"\0" + cid)
        case Mapping():
            keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
            return _head(5, len(keys)) + b"".join(cbor_encode(key) + cbor_encode(value[key]) for key in keys)
        case _:
            return _head(4, len(value)) + b"".join(map(cbor_encode, value))


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes((major << 5 | argument,))
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << 8 * size:
            return bytes((major << 5 | code,)) + argument.to_bytes(size, "big")
    raise InvalidArgument(f"a number too large for CBOR: {argument}")


def cbor_decode(data: bytes) -> Cbor:
    """The one value that ``data`` is. Raises Corrupt: truncated, bytes left over, not canonical, or a kind not listed
    above.
    """
    try:
        value, at = _value(data, 0, 0)
    except (IndexError, ValueError, InvalidArgument) as error:
        raise Corrupt(f"CBOR: {error}") from error
    if at != len(data) or cbor_encode(value) != data:
        raise Corrupt("CBOR: not in canonical form, or with bytes left over")
    return value


def _value(data: bytes, at: int, depth: int) -> tuple[Cbor, int]:
    if depth > _DEPTH_MAX:
        raise ValueError("nested too deep")
    major, code = data[at] >> 5, data[at] & 0x1F
    at += 1
    argument = code
    if code >= 24:
        if code > 27:
            raise ValueError("an indefinite length or a reserved code")
        size = 1 << code - 24
        argument = int.from_bytes(_cut(data, at, size), "big")
        at += size
    match major:
        case 0:
            return argument, at
        case 1:
            return -1 - argument, at
        case 2:
            return _cut(data, at, argument), at + argument
        case 3:
            return _cut(data, at, argument).decode(), at + argument
        case 4:
            items: list[Cbor] = []
            for _ in range(argument):
                item, at = _value(data, at, depth + 1)
                items.append(item)
            return items, at
        case 5:
            return _map(data, at, argument, depth)
        case 6 if argument == _CID_TAG:
            inner, at = _value(data, at, depth + 1)
            if not isinstance(inner, bytes) or inner[:1] != b"\0":
                raise ValueError("a CID without its zero byte")
            return CborLink(parse_cid(inner[1:])), at
        case _:
            raise ValueError(f"a value of major type {major}, which we do not read")


def _map(data: bytes, at: int, count: int, depth: int) -> tuple[Cbor, int]:
    entries: dict[str, Cbor] = {}
    for _ in range(count):
        key, at = _value(data, at, depth + 1)
        if not isinstance(key, str) or key in entries:
            raise ValueError("a map key that is no text, or twice")
        entries[key], at = _value(data, at, depth + 1)
    return entries, at


def _cut(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise IndexError("truncated")
    return data[at : at + size]
