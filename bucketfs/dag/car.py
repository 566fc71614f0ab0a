"""CARv1 archives: a header with roots, then blocks one after the other (ipld CARv1 spec).

    len(varint) dag-cbor {"roots": [CID…], "version": 1}     then, for each block     len(varint) CID bytes

A cut archive looks like a shorter one unless it is cut inside a block, and roots are a promise, not a fact: a reader that needs all
of a DAG walks it afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bucketfs.dag.cbor import CborLink, cbor_decode, cbor_encode
from bucketfs.dag.codec import (
    BLOCK_MAX,
    UVARINT_BYTES_MAX,
    V0_PREFIX,
    V0_SIZE,
    parse_cid,
    uvarint_decode,
    uvarint_encode,
    verify,
)
from bucketfs.errors import Corrupt, InvalidArgument
from bucketfs.types import Cid

HEADER_MAX = 1 << 20
EMPTY_ROOT = Cid(b"\x01\x55\x00\x00")
"""What stands for no root where a reader insists on one, as Go's does: the empty identity CID."""


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive being read: its roots, and its blocks in the writer's order, which may repeat. Iterate once."""

    roots: tuple[Cid, ...]
    blocks: Iterator[tuple[Cid, bytes]]


def car_write(roots: Sequence[Cid], blocks: Iterable[tuple[Cid, bytes]]) -> Iterator[bytes]:
    """The pieces of an archive: its header, then one piece for each block."""
    header = cbor_encode({"roots": [CborLink(root) for root in roots], "version": 1})
    yield uvarint_encode(len(header)) + header
    for cid, block in blocks:
        yield b"%b%b%b" % (uvarint_encode(len(cid) + len(block)), cid, block)


def car_read(data: bytes | Iterable[bytes], *, block_max: int = BLOCK_MAX) -> Archive:
    """Read an archive given whole or in pieces of any size.

    Reads the header at once and the blocks as they are iterated; each is verified. Raises Corrupt: cut short, no CARv1, a
    bad CID or hash, a block larger than ``block_max``.
    """
    source = _Bytes((data,) if isinstance(data, bytes) else data)
    section = source.section(HEADER_MAX)
    if section is None:
        raise Corrupt("archive: empty")
    header = cbor_decode(section)
    if not isinstance(header, Mapping) or header.get("version") != 1:
        version = header.get("version") if isinstance(header, Mapping) else None
        raise Corrupt(f"archive: version {version} is not supported, only CARv1 is")
    roots = header.get("roots")
    if isinstance(roots, str | bytes) or not isinstance(roots, Sequence):
        raise Corrupt("archive: a header without roots")
    found = tuple(root.cid for root in roots if isinstance(root, CborLink))
    if len(found) != len(roots):
        raise Corrupt("archive: a root that is no CID")
    return Archive(found, _blocks(source, block_max))


def _blocks(source: _Bytes, block_max: int) -> Iterator[tuple[Cid, bytes]]:
    while (section := source.section(block_max + 256)) is not None:
        cid, block = _split(section)
        if len(block) > block_max:
            raise Corrupt(f"archive: a block of {len(block)} bytes")
        verify(cid, block)
        yield cid, block


def _split(section: bytes) -> tuple[Cid, bytes]:
    """The CID at the head of a section, and the block behind it."""
    try:
        if section[:2] == V0_PREFIX:
            end = V0_SIZE
        else:
            at = 0
            for _ in range(3):
                _, at = uvarint_decode(section, at)
            size, at = uvarint_decode(section, at)
            end = at + size
        return parse_cid(section[:end]), section[end:]
    except InvalidArgument as error:
        raise Corrupt(f"archive: a block without a CID ({error})") from error


class _Bytes:
    """Pieces of any size, read in sections with a length before them."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""
        self._at = 0

    def _fill(self, count: int) -> bool:
        """Have ``count`` bytes at hand, if there are so many."""
        if len(self._rest) - self._at >= count:
            return True
        gathered = [self._rest[self._at :]]
        size = len(gathered[0])
        while size < count:
            piece = next(self._pieces, None)
            if piece is None:
                break
            gathered.append(piece)
            size += len(piece)
        self._rest, self._at = b"".join(gathered), 0
        return size >= count

    def section(self, size_max: int) -> bytes | None:
        """The next section; None at the end. Raises Corrupt when it is cut, empty, or over ``size_max`` bytes."""
        self._fill(UVARINT_BYTES_MAX)
        if self._at == len(self._rest):
            return None
        try:
            size, start = uvarint_decode(self._rest, self._at)
        except InvalidArgument as error:
            raise Corrupt(f"archive: a bad length ({error})") from error
        if not 0 < size <= size_max:
            raise Corrupt(f"archive: a section of {size} bytes")
        self._at = start
        if not self._fill(size):
            raise Corrupt("archive: cut inside a section")
        section = self._rest[self._at : self._at + size]
        self._at += size
        return section
