"""Texts and bytes of the protocol's identifiers: thread IDs, root paths, bucket keys, and the random texts a Hub hands out.

A thread ID is ``version (uvarint 1) | variant (uvarint 0x55 raw, 0x70 access controlled) | random bytes``; its text is
multibase base32, and every other multibase is read too (go-threads ``core/thread/id.go``, js-hub ``packages/id``).
"""

from __future__ import annotations

import hashlib
import secrets

from bucketfs.dag import cid_from_text, cid_text, multibase_decode, multibase_encode
from bucketfs.errors import InvalidArgument
from bucketfs.types import BucketKey, Cid, ThreadId

# Clients know the lengths of these by heart.
API_KEY_BYTES = 16
API_SECRET_BYTES = 24
SESSION_BYTES = 44
"""Of sessions, confirmation secrets and invitation tokens."""

THREAD_RANDOM_BYTES = 32
THREAD_ID_BYTES_MAX = 128
"""Every known client makes 34. The protocol names no limit, but the Hub's database needs one."""

_VARIANT_RAW = 0x55
_VARIANT_ACCESS_CONTROLLED = 0x70
_IPFS_PREFIX = "/ipfs/"
_IPNS_HEAD = bytes.fromhex("01721220")  # CIDv1, codec libp2p-key, sha2-256, 32 bytes


def parse_thread(data: bytes) -> ThreadId:
    """``data`` as a thread ID. Raises InvalidArgument when version, variant or length is not right."""
    # Both varints are below 128 for every known ID, so each is one byte.
    if (
        not 3 <= len(data) <= THREAD_ID_BYTES_MAX
        or data[0] != 1
        or data[1] not in (_VARIANT_RAW, _VARIANT_ACCESS_CONTROLLED)
    ):
        raise InvalidArgument("invalid thread ID")
    return ThreadId(bytes(data))


def thread_from_text(text: str) -> ThreadId:
    """The thread ID that ``text`` spells, in any multibase. Raises InvalidArgument."""
    return parse_thread(multibase_decode(text))


def thread_text(thread: ThreadId) -> str:
    """The text of a thread ID: multibase base32, ``bafk…``."""
    return multibase_encode(thread)


def fresh_thread() -> ThreadId:
    """A new raw thread ID."""
    return ThreadId(bytes([1, _VARIANT_RAW]) + secrets.token_bytes(THREAD_RANDOM_BYTES))


def root_path(cid: Cid) -> str:
    """``/ipfs/<cid>``, exactly as ``Root.path`` has it: a Hub compares roots as strings."""
    return _IPFS_PREFIX + cid_text(cid)


def cid_of_root_path(path: str) -> Cid:
    """The CID of an ``/ipfs/<cid>`` path with nothing behind it. Raises InvalidArgument."""
    if not path.startswith(_IPFS_PREFIX):
        raise InvalidArgument(f"not a root path: {path!r}")
    return cid_from_text(path.removeprefix(_IPFS_PREFIX))


def bucket_key_of(public_key: bytes) -> BucketKey:
    """The IPNS name of a public key (IPNS spec), which is the key of the bucket it was made for."""
    return BucketKey(multibase_encode(_IPNS_HEAD + hashlib.sha256(public_key).digest()))


def fresh_bucket_key() -> BucketKey:
    """A new bucket key. Nothing is published under it, so random bytes stand in for a key pair."""
    return bucket_key_of(secrets.token_bytes(32))


def random_text(size_bytes: int) -> str:
    """Multibase base32 of fresh random bytes."""
    return multibase_encode(secrets.token_bytes(size_bytes))
