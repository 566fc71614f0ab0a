"""Unsigned LEB128 numbers, in the strict form of multiformats and the lenient one of Protocol Buffers."""

from __future__ import annotations

from bucketfs.errors import InvalidArgument

UVARINT_BYTES_MAX = 9
PROTO_VARINT_BYTES_MAX = 10
MASK_64 = 0xFFFF_FFFF_FFFF_FFFF

_SHORT = tuple(bytes((value,)) for value in range(128))


def uvarint_encode(value: int) -> bytes:
    """The shortest LEB128 form of ``value`` (>= 0). Raises InvalidArgument for a negative number."""
    if 0 <= value < 128:
        return _SHORT[value]
    if value < 0:
        raise InvalidArgument(f"a varint cannot be negative: {value}")
    if value < 16384:
        return bytes((value & 0x7F | 0x80, value >> 7))
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def uvarint_decode(data: bytes, start: int = 0) -> tuple[int, int]:
    """The number at ``start`` and the position after it: at most 9 bytes, shortest form only (multiformats unsigned-varint).

    Raises InvalidArgument when it is truncated, too long or padded.
    """
    value = shift = 0
    for at in range(start, min(len(data), start + UVARINT_BYTES_MAX)):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and at > start:
                raise InvalidArgument("a varint is not in its shortest form")
            return value, at + 1
        shift += 7
    raise InvalidArgument("a varint is truncated or longer than 9 bytes")


def proto_varint(data: bytes, start: int, end: int) -> tuple[int, int]:
    """A Protocol Buffers varint before ``end``: at most 10 bytes, long forms allowed, cut to 64 bits.

    Raises IndexError when it runs over ``end``, ValueError when it is too long; decoders turn both into Corrupt.
    """
    value = shift = 0
    for at in range(start, min(end, start + PROTO_VARINT_BYTES_MAX)):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & MASK_64, at + 1
        shift += 7
    if start + PROTO_VARINT_BYTES_MAX > end:
        raise IndexError("truncated varint")
    raise ValueError("a varint is longer than ten bytes")
