"""The texts and bytes of thread IDs and root paths.

A thread ID is ``version (uvarint 1) | variant (uvarint 0x55 raw, 0x70 access controlled) | random bytes``; its text is
multibase base32, and every other multibase is read too (go-threads ``core/thread/id.go``, js-hub ``packages/id``). Pure.
"""

from __future__ import annotations

from bucketfs.dag import cid_from_text, cid_text, multibase_decode, multibase_encode
from bucketfs.errors import InvalidArgument
from bucketfs.types import Cid, RootPath, ThreadId

VARIANT_RAW = 0x55
VARIANT_ACCESS_CONTROLLED = 0x70
THREAD_RANDOM_BYTES = 32

_IPFS_PREFIX = "/ipfs/"


def parse_thread(data: bytes) -> ThreadId:
    """``data`` as a thread ID. Raises InvalidArgument when version, variant or the random part is not right."""
    # Both varints are below 128 for every ID there is, so each is one byte.
    if len(data) < 2 or data[0] != 1:
        raise InvalidArgument(f"not a thread ID: it begins {data[:2].hex() or 'with nothing'}")
    if data[1] not in (VARIANT_RAW, VARIANT_ACCESS_CONTROLLED):
        raise InvalidArgument(f"not a thread ID: unknown variant 0x{data[1]:x}")
    if len(data) == 2:
        raise InvalidArgument("not a thread ID: nothing follows the variant")
    return ThreadId(data)


def thread_of_random(random: bytes) -> ThreadId:
    """A raw thread ID around ``random`` (32 bytes in practice; JavaScript refuses fewer than 16)."""
    return parse_thread(bytes([1, VARIANT_RAW]) + random)


def thread_text(thread: ThreadId) -> str:
    """The text of a thread ID: multibase base32, ``bafk…``."""
    return multibase_encode(thread)


def thread_from_text(text: str) -> ThreadId:
    """The thread ID that ``text`` spells, in any multibase. Raises InvalidArgument."""
    return parse_thread(multibase_decode(text))


def root_path(cid: Cid) -> RootPath:
    """``/ipfs/<cid>``, exactly as ``Root.path`` has it: a Hub compares roots as strings."""
    return RootPath(_IPFS_PREFIX + cid_text(cid))


def cid_of_root_path(path: str) -> Cid:
    """The CID of an ``/ipfs/<cid>`` path without anything behind it. Raises InvalidArgument."""
    if not path.startswith(_IPFS_PREFIX):
        raise InvalidArgument(f"not a root path: {path!r}")
    return cid_from_text(path.removeprefix(_IPFS_PREFIX))
