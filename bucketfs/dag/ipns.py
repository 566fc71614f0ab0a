"""IPNS names and the signed records that say what a name stands for (IPNS record specification).

A name is the CID of a public key: codec libp2p-key, for Ed25519 an identity multihash over the key's protobuf. A record is a
protobuf whose ``data`` is dag-cbor, signed over "ipns-signature:" + data; older fields repeat it for older readers.

    public key    08 01 12 20 key[32]          private key    08 01 12 40 seed[32] key[32]
    record        1 value, 2 signature (old), 3 validity type, 4 validity, 5 sequence, 6 ttl, 8 signature, 9 data
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from nacl.exceptions import BadSignatureError, CryptoError
from nacl.signing import SigningKey, VerifyKey

from bucketfs.dag.cbor import cbor_decode, cbor_encode
from bucketfs.dag.codec import (
    LIBP2P_KEY,
    MASK_64,
    base58_decode,
    base58_encode,
    cid_from_text,
    codec_of,
    identity_block,
    multibase_encode,
    multihash_of,
    parse_cid,
    proto_varint,
    uvarint_encode,
)
from bucketfs.errors import Corrupt, InvalidArgument
from bucketfs.types import Cid

RECORD_MAX = 10_240
RECORD_LIFETIME_NS = 48 * 3600 * 1_000_000_000
RECORD_TTL_NS = 300 * 1_000_000_000

_ED25519_PUBLIC = b"\x08\x01\x12\x20"
_ED25519_PRIVATE = b"\x08\x01\x12\x40"
_SIGNED_PREFIX = b"ipns-signature:"
_VALIDITY = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z")


def name_of_key(public_key: bytes) -> Cid:
    """The IPNS name of an Ed25519 public key (32 bytes)."""
    return Cid(b"\x01\x72" + _peer_multihash(public_key))


def public_key_of(name: Cid) -> bytes:
    """The Ed25519 public key inside a name. Raises InvalidArgument when the name holds none (other kinds of key)."""
    protobuf = identity_block(name)
    if codec_of(name) != LIBP2P_KEY or protobuf is None or protobuf[:4] != _ED25519_PUBLIC or len(protobuf) != 36:
        raise InvalidArgument("not the name of an Ed25519 key")
    return protobuf[4:]


def name_text(name: Cid) -> str:
    """The usual text of a name: base36, ``k51…``, short enough for a label of a domain name."""
    return multibase_encode(name, "k")


def peer_id_text(public_key: bytes) -> str:
    """The older text of the same: the bare multihash in base58btc, ``12D3Koo…``."""
    return base58_encode(_peer_multihash(public_key))


def name_from_text(text: str) -> Cid:
    """A name from any of its texts: a CID in any multibase, or a bare multihash (``12D3Koo…``, ``Qm…``). InvalidArgument."""
    if text.startswith(("1", "Qm")):
        return parse_cid(b"\x01\x72" + base58_decode(text))
    name = cid_from_text(text)
    if codec_of(name) != LIBP2P_KEY:
        raise InvalidArgument(f"not an IPNS name: {text[:80]!r}")
    return name


def routing_key(name: Cid) -> bytes:
    """Under which key routers keep the record of a name."""
    return b"/ipns/" + multihash_of(name)


def private_key_protobuf(seed: bytes) -> bytes:
    """How libp2p stores an Ed25519 key, from its 32-byte seed; ``key/import`` takes it."""
    return _ED25519_PRIVATE + seed + bytes(SigningKey(seed).verify_key)


def seed_of_private_key(protobuf: bytes) -> bytes:
    """The seed in a stored Ed25519 key. Raises InvalidArgument."""
    if len(protobuf) != 68 or protobuf[:4] != _ED25519_PRIVATE:
        raise InvalidArgument("not a private Ed25519 key")
    seed = protobuf[4:36]
    if bytes(SigningKey(seed).verify_key) != protobuf[36:]:
        raise InvalidArgument("a private Ed25519 key whose halves do not belong together")
    return seed


def _peer_multihash(public_key: bytes) -> bytes:
    if len(public_key) != 32:
        raise InvalidArgument(f"an Ed25519 public key has 32 bytes, not {len(public_key)}")
    return b"\x00\x24" + _ED25519_PUBLIC + public_key


@dataclass(frozen=True, slots=True)
class NameRecord:
    """What a record says: the name stands for ``value`` (a path such as ``/ipfs/…``) until ``valid_until_ns`` (since 1970).

    Of two valid records the one with the higher ``sequence`` counts, then the one that is valid longer.
    """

    value: bytes
    sequence: int
    valid_until_ns: int
    ttl_ns: int = RECORD_TTL_NS


def make_record(seed: bytes, record: NameRecord, *, legacy: bool = True) -> bytes:
    """Sign a record with the key of this seed. ``legacy`` adds the fields for readers older than 2022."""
    key = SigningKey(seed)
    validity = _validity_text(record.valid_until_ns)
    data = cbor_encode(
        {
            "TTL": record.ttl_ns,
            "Value": record.value,
            "Sequence": record.sequence,
            "Validity": validity,
            "ValidityType": 0,
        }
    )
    fields: list[bytes] = []
    if legacy:
        signature = key.sign(record.value + validity + b"EOL").signature
        fields += [_bytes_field(1, record.value), _bytes_field(2, signature), b"\x18\x00", _bytes_field(4, validity)]
        fields += [b"\x28" + uvarint_encode(record.sequence), b"\x30" + uvarint_encode(record.ttl_ns)]
    fields += [_bytes_field(8, key.sign(_SIGNED_PREFIX + data).signature), _bytes_field(9, data)]
    return b"".join(fields)


def verify_record(name: Cid, encoded: bytes, now_ns: int | None = None) -> NameRecord:
    """Check a record of a name and say what it says. ``now_ns`` None does not look at its validity.

    Raises Corrupt: over 10 KiB, malformed, signed by another key, legacy fields that say something else, or no longer valid.
    """
    if len(encoded) > RECORD_MAX:
        raise Corrupt(f"IPNS record of {len(encoded)} bytes; at most {RECORD_MAX} are allowed")
    fields = _fields(encoded)
    data, signature = fields.get(9), fields.get(8)
    if not isinstance(data, bytes) or not isinstance(signature, bytes):
        raise Corrupt("IPNS record without data or signature")
    try:
        VerifyKey(public_key_of(name)).verify(_SIGNED_PREFIX + data, signature)
    except (BadSignatureError, CryptoError, ValueError) as error:
        raise Corrupt("IPNS record that is not signed by the key of its name") from error
    record, validity = _record_of(data)
    stated = {1: record.value, 3: 0, 4: validity, 5: record.sequence, 6: record.ttl_ns}
    if any(field in fields and fields[field] != value for field, value in stated.items()):
        raise Corrupt("IPNS record whose older fields differ from what is signed")
    if now_ns is not None and record.valid_until_ns < now_ns:
        raise Corrupt(f"IPNS record that was valid until {validity.decode()}")
    return record


def _record_of(data: bytes) -> tuple[NameRecord, bytes]:
    decoded = cbor_decode(data)
    if not isinstance(decoded, Mapping):
        raise Corrupt("IPNS record whose data is no map")
    value, validity = decoded.get("Value"), decoded.get("Validity")
    sequence, ttl_ns = decoded.get("Sequence"), decoded.get("TTL", 0)
    if not isinstance(value, bytes) or not isinstance(validity, bytes) or decoded.get("ValidityType") != 0:
        raise Corrupt("IPNS record without value or end of validity")
    if not isinstance(sequence, int) or not isinstance(ttl_ns, int) or not (0 <= sequence <= MASK_64 and ttl_ns >= 0):
        raise Corrupt("IPNS record without a sequence number")
    return NameRecord(value, sequence, _validity_ns(validity), ttl_ns), validity


def _validity_text(time_ns: int) -> bytes:
    """RFC 3339, UTC, with nanoseconds."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    except OverflowError as error:
        raise InvalidArgument(f"a time outside the calendar: {time_ns} ns") from error
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09}Z".encode()


def _validity_ns(text: bytes) -> int:
    match = _VALIDITY.fullmatch(text.decode("ascii", "replace"))
    if match is None:
        raise Corrupt(f"IPNS record with the validity {text[:40]!r}")
    try:
        moment = datetime.fromisoformat(match[1] + "+00:00")
    except ValueError as error:
        raise Corrupt(f"IPNS record with the validity {text[:40]!r}") from error
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + int((match[2] or "0").ljust(9, "0"))


def _bytes_field(field: int, value: bytes) -> bytes:
    return uvarint_encode(field << 3 | 2) + uvarint_encode(len(value)) + value


def _fields(encoded: bytes) -> dict[int, int | bytes]:
    """The fields of a record; the last of repeated ones counts. Raises Corrupt."""
    fields: dict[int, int | bytes] = {}
    at, end = 0, len(encoded)
    try:
        while at < end:
            tag, at = proto_varint(encoded, at, end)
            value, at = proto_varint(encoded, at, end)
            if tag & 7 == 0:
                fields[tag >> 3] = value
            elif tag & 7 == 2 and at + value <= end:
                fields[tag >> 3] = encoded[at : at + value]
                at += value
            else:
                raise Corrupt(f"IPNS record with a field of wire type {tag & 7}, or truncated")
    except (IndexError, ValueError) as error:
        raise Corrupt(f"IPNS record: {error}") from error
    return fields
