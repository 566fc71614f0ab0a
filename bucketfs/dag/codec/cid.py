"""Content identifiers, binary inside and text at the edges (multiformats CID spec).

CIDv1      01, codec (varint), multihash
CIDv0      a multihash 12 20 + 32 bytes; the codec dag-pb is implied
multihash  function (varint), digest length (varint), digest
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from bucketfs.dag.codec.multibase import base58_decode, base58_encode, multibase_decode, multibase_encode
from bucketfs.dag.codec.varint import uvarint_decode, uvarint_encode
from bucketfs.errors import Corrupt, InvalidArgument
from bucketfs.types import Cid

RAW = 0x55
DAG_PB = 0x70
LIBP2P_KEY = 0x72

BLOCK_MAX = 2_097_152
"""The largest block to accept from outside, in bytes."""

IDENTITY = 0x00
SHA2_256 = 0x12
IDENTITY_DIGEST_MAX = 128
DIGEST_MIN = 20
DIGEST_MAX = 128
CID_TEXT_MAX = 1024

V0_SIZE = 34
V0_PREFIX = b"\x12\x20"
SHA2_256_PREFIXES = frozenset((b"\x01\x55\x12\x20", b"\x01\x70\x12\x20"))
"""How nearly every CID we meet begins: version 1, raw or dag-pb, sha2-256, 32 bytes."""

_HASHERS: dict[int, Callable[[bytes], bytes]] = {
    SHA2_256: lambda data: hashlib.sha256(data).digest(),
    0x13: lambda data: hashlib.sha512(data).digest(),
    0xB220: lambda data: hashlib.blake2b(data, digest_size=32).digest(),
}


def cid_of(data: bytes, codec: int = RAW, version: int = 1) -> Cid:
    """The sha2-256 CID of a block: version 1 with ``codec``, or version 0 (dag-pb only)."""
    digest = hashlib.sha256(data).digest()
    if version == 0:
        if codec != DAG_PB:
            raise InvalidArgument("only a dag-pb block has a CIDv0")
        return Cid(V0_PREFIX + digest)
    if codec == RAW:
        return Cid(b"\x01\x55\x12\x20" + digest)
    if codec == DAG_PB:
        return Cid(b"\x01\x70\x12\x20" + digest)
    return Cid(b"\x01" + uvarint_encode(codec) + V0_PREFIX + digest)


def is_v0(cid: Cid) -> bool:
    """Whether this is a CIDv0, a bare multihash."""
    return len(cid) == V0_SIZE and cid[:2] == V0_PREFIX


def codec_of(cid: Cid) -> int:
    """The codec of a well-formed CID: RAW, DAG_PB, LIBP2P_KEY or another number of the multicodec table."""
    if is_v0(cid):
        return DAG_PB
    codec = cid[1]
    return codec if codec < 0x80 else uvarint_decode(cid, 1)[0]


def multihash_of(cid: Cid) -> bytes:
    """The multihash of a well-formed CID: what names the block, whatever version and codec say."""
    if is_v0(cid):
        return cid
    return cid[2:] if cid[1] < 0x80 else cid[uvarint_decode(cid, 1)[1] :]


def same_node(one: Cid, other: Cid) -> bool:
    """Whether two CIDs name the same bytes read by the same codec (``Qm…`` and ``bafybei…`` of one digest do)."""
    return one == other or (multihash_of(one) == multihash_of(other) and codec_of(one) == codec_of(other))


def identity_block(cid: Cid) -> bytes | None:
    """The block inside an identity CID; None for every other CID. Such blocks are never stored or asked for."""
    if cid[:4] in SHA2_256_PREFIXES or is_v0(cid):
        return None
    multihash = multihash_of(cid)
    if multihash[0] != IDENTITY:
        return None
    return multihash[uvarint_decode(multihash, 1)[1] :]


def parse_cid(data: bytes) -> Cid:
    """Check the binary form. Raises InvalidArgument: bad version, varints, lengths, or a digest of a forbidden size."""
    if len(data) == 36 and data[:4] in SHA2_256_PREFIXES:
        return Cid(bytes(data))
    if data[:2] == V0_PREFIX:
        if len(data) != V0_SIZE:
            raise InvalidArgument(f"a CIDv0 has 34 bytes, not {len(data)}")
        return Cid(bytes(data))
    version, at = uvarint_decode(data)
    if version != 1:
        raise InvalidArgument(f"not a CID: version {version}")
    _, at = uvarint_decode(data, at)
    _check_multihash(data, at)
    return Cid(bytes(data))


def _check_multihash(data: bytes, start: int) -> None:
    function, at = uvarint_decode(data, start)
    size, at = uvarint_decode(data, at)
    if len(data) - at != size:
        raise InvalidArgument(f"not a CID: a digest of {len(data) - at} bytes where {size} are announced")
    if function == IDENTITY:
        if size > IDENTITY_DIGEST_MAX:
            raise InvalidArgument(f"an identity CID of {size} bytes; at most {IDENTITY_DIGEST_MAX} are allowed")
    elif not DIGEST_MIN <= size <= DIGEST_MAX or (function == SHA2_256 and size != 32):
        raise InvalidArgument(f"not a CID: a digest of {size} bytes for hash function {function:#x}")


def cid_text(cid: Cid) -> str:
    """The usual text: base32 (``baf…``) for a CIDv1, base58btc (``Qm…``) for a CIDv0."""
    return base58_encode(cid) if is_v0(cid) else multibase_encode(cid, "b")


def cid_from_text(text: str) -> Cid:
    """The CID that a text names, in any multibase. Raises InvalidArgument."""
    if len(text) == 46 and text.startswith("Qm"):
        return parse_cid(base58_decode(text))
    if len(text) > CID_TEXT_MAX:
        raise InvalidArgument(f"not a CID: a text of {len(text)} characters")
    try:
        data = multibase_decode(text)
        if data[:2] == V0_PREFIX:
            raise InvalidArgument("a CIDv0 has no multibase letter")
        return parse_cid(data)
    except InvalidArgument as error:
        raise InvalidArgument(f"not a CID: {text[:80]!r} ({error})") from error


def verify(cid: Cid, data: bytes) -> None:
    """Check that ``data`` is what ``cid`` names. Raises Corrupt, also for a hash function we cannot compute.

    Computed: sha2-256, sha2-512, blake2b-256; identity is compared.
    """
    digest = hashlib.sha256(data).digest()
    if len(cid) == 36 and cid[:4] in SHA2_256_PREFIXES:
        matches = cid[4:] == digest
    elif is_v0(cid):
        matches = cid[2:] == digest
    else:
        multihash = multihash_of(cid)
        function, at = uvarint_decode(multihash)
        _, at = uvarint_decode(multihash, at)
        if function == IDENTITY:
            matches = multihash[at:] == data
        elif function in _HASHERS:
            matches = multihash[at:] == _HASHERS[function](data)
        else:
            raise Corrupt(f"block {cid_text(cid)}: hash function {function:#x} is not supported")
    if not matches:
        raise Corrupt(f"block {cid_text(cid)}: {len(data)} bytes with another hash")
