"""The UnixFS message: what a dag-pb node's data says about a file, directory or symlink (ipfs specs, UnixFS 1.5).

Fields 1 to 8 are the specification's; 1000 (uid) and 1001 (gid) are ours, from the range 1000–1099 that we keep for what
UnixFS has no field for. Other readers skip them, and we keep every field that we do not know, byte for byte.

Writing is canonical: fields in number order, blocksizes not packed, a mode equal to the default (0755 for directories, 0644
for files) and nanoseconds of zero left out, no mode on symlinks. Reading accepts the other spellings.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from bucketfs.dag.codec.dag_pb import SIZE_MAX
from bucketfs.dag.codec.varint import MASK_64, proto_varint, uvarint_encode
from bucketfs.errors import Corrupt
from bucketfs.types import NO_ATTRIBUTES, Kind, NodeAttributes

MODE_BITS = 0o7777
FILE_MODE_DEFAULT = 0o644
DIRECTORY_MODE_DEFAULT = 0o755
NANOSECONDS = 1_000_000_000

_UID = 1000
_GID = 1001
_UID_TAG = uvarint_encode(_UID << 3)
_GID_TAG = uvarint_encode(_GID << 3)


class UnixFsType(enum.IntEnum):
    """What a node is. RAW is an old kind of file leaf: read, never written. METADATA was never used."""

    RAW = 0
    DIRECTORY = 1
    FILE = 2
    METADATA = 3
    SYMLINK = 4
    SHARD = 5

    @property
    def kind(self) -> Kind:
        """What a node of this type is to a user. Not for METADATA, which is refused before."""
        if self in (UnixFsType.DIRECTORY, UnixFsType.SHARD):
            return Kind.DIRECTORY
        return Kind.SYMLINK if self is UnixFsType.SYMLINK else Kind.FILE


@dataclass(frozen=True, slots=True)
class UnixFs:
    """A UnixFS message. Sizes are bytes of file content; None stands for a field that is not there.

    ``mode`` holds the low 12 bits and ``mode_extra`` the 20 above them, which readers ignore and writers keep. ``unknown``
    holds other fields as they were.
    """

    type: UnixFsType
    data: bytes = b""
    filesize: int | None = None
    blocksizes: tuple[int, ...] = ()
    hash_type: int | None = None
    fanout: int | None = None
    mode: int | None = None
    mtime_ns: int | None = None
    uid: int | None = None
    gid: int | None = None
    mode_extra: int = 0
    unknown: bytes = b""

    @property
    def attributes(self) -> NodeAttributes:
        """The attributes as other rooms know them."""
        return NodeAttributes(mode=self.mode, mtime_ns=self.mtime_ns, uid=self.uid, gid=self.gid)

    def with_attributes(self, attributes: NodeAttributes) -> UnixFs:
        """The same message with all four attributes replaced."""
        return replace(self, mode=attributes.mode, mtime_ns=attributes.mtime_ns, uid=attributes.uid, gid=attributes.gid)

    @property
    def is_plain(self) -> bool:
        """Whether nothing would be written beyond type, data and sizes: such a file of one chunk is just its raw block."""
        return canonical_attributes(self.type, self.attributes) == NO_ATTRIBUTES and not self.mode_extra and not self.unknown


def mode_default(type_: UnixFsType) -> int:
    """The mode that a node without one has."""
    return DIRECTORY_MODE_DEFAULT if type_.kind is Kind.DIRECTORY else FILE_MODE_DEFAULT


def canonical_attributes(type_: UnixFsType, attributes: NodeAttributes) -> NodeAttributes:
    """The attributes as they are written: a default mode, and any mode of a symlink, is left out."""
    if attributes.mode is None:
        return attributes
    mode = attributes.mode & MODE_BITS
    if type_ is UnixFsType.SYMLINK or mode == mode_default(type_):
        return replace(attributes, mode=None)
    return replace(attributes, mode=mode)


def encode_unixfs(message: UnixFs) -> bytes:
    """The canonical bytes of a message."""
    varint = uvarint_encode
    parts = [b"\x08", varint(message.type)]
    if message.data:
        parts += (b"\x12", varint(len(message.data)), message.data)
    if message.filesize is not None:
        parts += (b"\x18", varint(message.filesize))
    for size in message.blocksizes:
        parts.append(b"\x20" + varint(size))
    if message.hash_type is not None:
        parts += (b"\x28", varint(message.hash_type))
    if message.fanout is not None:
        parts += (b"\x30", varint(message.fanout))
    parts.append(_encode_attributes(message))
    parts.append(message.unknown)
    return b"".join(parts)


def _encode_attributes(message: UnixFs) -> bytes:
    attributes = canonical_attributes(message.type, message.attributes)
    encoded = b""
    mode = attributes.mode
    if message.mode_extra and mode is None:
        mode = mode_default(message.type) if message.mode is None else message.mode & MODE_BITS
    if mode is not None:
        encoded += b"\x38" + uvarint_encode(message.mode_extra << 12 | mode)
    if attributes.mtime_ns is not None:
        seconds, nanoseconds = divmod(attributes.mtime_ns, NANOSECONDS)
        mtime = b"\x08" + uvarint_encode(seconds & MASK_64)
        if nanoseconds:
            mtime += b"\x15" + nanoseconds.to_bytes(4, "little")
        encoded += b"\x42" + uvarint_encode(len(mtime)) + mtime
    if attributes.uid is not None:
        encoded += _UID_TAG + uvarint_encode(attributes.uid)
    if attributes.gid is not None:
        encoded += _GID_TAG + uvarint_encode(attributes.gid)
    return encoded


def decode_unixfs(data: bytes) -> UnixFs:
    """Read a message. Raises Corrupt: truncated, no type, an unknown type, a size over 63 bits, a known field of another
    wire type.

    An mtime that cannot be (no seconds, nanoseconds of 10⁹ and more) reads as none. Its seconds have 64 bits, so in nanoseconds it
    may have more.
    """
    try:
        return _Reader(data).message()
    except IndexError as error:
        raise Corrupt("UnixFS message: truncated") from error
    except ValueError as error:
        raise Corrupt(f"UnixFS message: {error}") from error


class _Reader:
    """One pass over the bytes of a message. Its methods raise IndexError (truncated) and ValueError (wrong)."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._numbers: dict[int, int] = {}
        self._content = b""
        self._blocksizes: list[int] = []
        self._mtime_ns: int | None = None
        self._unknown: list[bytes] = []

    def message(self) -> UnixFs:
        data, at, end = self._data, 0, len(self._data)
        while at < end:
            if data[at] == 0x20:
                at = self._sizes(at, end)
            else:
                at = self._field(at, end)
        numbers = self._numbers
        if 1 not in numbers:
            raise ValueError("no type")
        type_ = UnixFsType(numbers[1])
        filesize = numbers.get(3)
        if max(filesize or 0, sum(self._blocksizes)) > SIZE_MAX:
            raise ValueError("a size beyond 63 bits")
        mode = numbers.get(7)
        uid, gid = numbers.get(_UID), numbers.get(_GID)
        return UnixFs(
            type=type_,
            data=self._content,
            filesize=filesize,
            blocksizes=tuple(self._blocksizes),
            hash_type=numbers.get(5),
            fanout=numbers.get(6),
            mode=None if mode is None else mode & MODE_BITS,
            mtime_ns=self._mtime_ns,
            uid=None if uid is None else uid & 0xFFFF_FFFF,
            gid=None if gid is None else gid & 0xFFFF_FFFF,
            mode_extra=0 if mode is None else (mode & 0xFFFF_FFFF) >> 12,
            unknown=b"".join(self._unknown),
        )

    def _sizes(self, start: int, end: int) -> int:
        """Read the blocksizes from ``start`` on, the bulk of a large file's node; nearly all of them are the same."""
        data = self._data
        size, at = proto_varint(data, start + 1, end)
        self._blocksizes.append(size)
        same = data[start:at]
        while data.startswith(same, at):
            self._blocksizes.append(size)
            at += len(same)
        return at

    def _field(self, start: int, end: int) -> int:
        """Read the field at ``start``; return where the next one begins."""
        data = self._data
        tag, at = proto_varint(data, start, end)
        field, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = proto_varint(data, at, end)
            if field in (1, 3, 5, 6, 7, _UID, _GID):
                self._numbers[field] = value
                return at
        elif wire == 2:
            length, at = proto_varint(data, at, end)
            body_start, at = at, at + length
            if at > end:
                raise IndexError("truncated field")
            if field == 2:
                self._content = data[body_start:at]
                return at
            if field == 4:
                while body_start < at:
                    size, body_start = proto_varint(data, body_start, at)
                    self._blocksizes.append(size)
                return at
            if field == 8:
                self._mtime_ns = _decode_mtime(data[body_start:at])
                return at
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
            if at > end:
                raise IndexError("truncated field")
        else:
            raise ValueError(f"wire type {wire}")
        if field == 0 or field <= 8 or field in (_UID, _GID):
            raise ValueError(f"field {field} with wire type {wire}")
        self._unknown.append(data[start:at])
        return at


def _decode_mtime(data: bytes) -> int | None:
    at, end = 0, len(data)
    seconds: int | None = None
    nanoseconds = 0
    while at < end:
        tag, at = proto_varint(data, at, end)
        if tag == 0x08:
            value, at = proto_varint(data, at, end)
            seconds = value - (1 << 64) if value >> 63 else value
        elif tag == 0x15 and at + 4 <= end:
            nanoseconds = int.from_bytes(data[at : at + 4], "little")
            at += 4
        else:
            raise ValueError(f"field tag {tag:#x} in mtime")
    if seconds is None or nanoseconds >= NANOSECONDS:
        return None
    return seconds * NANOSECONDS + nanoseconds
