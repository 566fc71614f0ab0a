"""Identifiers of the protocol and the random texts that a hub hands out. Lengths are those clients know by heart."""

from __future__ import annotations

import hashlib
import secrets

from bucketfs.dag import multibase_decode, multibase_encode
from bucketfs.errors import InvalidArgument
from bucketfs.types import BucketKey, ThreadId

API_KEY_BYTES = 16
API_SECRET_BYTES = 24
SESSION_BYTES = 44
"""Of sessions, confirmation secrets and invitation tokens."""
THREAD_ID_BYTES_MAX = 128
"""Everyone makes 34; the protocol names no limit, a table wants one."""

_THREAD_VARIANTS = (0x55, 0x70)  # raw, access controlled; the difference means nothing to a hub
_IPNS_HEAD = bytes.fromhex("01721220")  # CIDv1, codec libp2p-key, sha2-256, 32 bytes


def random_text(size_bytes: int) -> str:
    """Multibase base32 of fresh random bytes."""
    return multibase_encode(secrets.token_bytes(size_bytes))


def parse_thread_id(data: bytes) -> ThreadId:
    """A binary thread ID: version 1, a known variant, random bytes. Raises InvalidArgument."""
    if not 3 <= len(data) <= THREAD_ID_BYTES_MAX or data[0] != 1 or data[1] not in _THREAD_VARIANTS:
        raise InvalidArgument("invalid thread ID")
    return ThreadId(bytes(data))


def thread_id_from_text(text: str) -> ThreadId:
    """A thread ID in any multibase. Raises InvalidArgument."""
    return parse_thread_id(multibase_decode(text))


def thread_id_text(thread: ThreadId) -> str:
    """The one spelling that a hub emits: base32."""
    return multibase_encode(thread)


def bucket_key_of(public_key: bytes) -> BucketKey:
    """The IPNS name of a public key (IPNS spec), which is the key of the bucket it was made for."""
    return BucketKey(multibase_encode(_IPNS_HEAD + hashlib.sha256(public_key).digest()))


def fresh_bucket_key() -> BucketKey:
    """A bucket key that nobody has. Nothing is published under it, so random bytes stand in for a key pair."""
    return bucket_key_of(secrets.token_bytes(32))
