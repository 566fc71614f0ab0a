"""Names in trees and names of buckets: what a name may be, and the one that belongs to the Hub. Pure."""

from __future__ import annotations

from bucketfs.errors import NameInvalid, NameTooLong

NAME_BYTES_MAX = 255
"""Of a file, and of a bucket, which is a folder of a mount: NAME_MAX of Linux."""

SEED_NAME = ".textileseed"
"""In the root of every bucket the Hub keeps 32 random bytes of this name, so that no two buckets share a root."""
SEED = SEED_NAME.encode()


def check_name(name: bytes) -> None:
    """Refuse a name that no directory may hold. Raises NameInvalid, or NameTooLong over 255 bytes."""
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise NameInvalid(f"not a name: {name!r}")
    check_name_bytes(name)


def check_name_bytes(name: bytes) -> None:
    """The part of ``check_name`` that a kernel does not check itself: the length, and that the name is text (dag-pb links)."""
    if len(name) > NAME_BYTES_MAX:
        raise NameTooLong(f"a name of {len(name)} bytes; at most {NAME_BYTES_MAX} are allowed")
    if not name.isascii():
        try:
            name.decode()
        except UnicodeDecodeError as error:
            raise NameInvalid(f"a name that is not UTF-8: {name!r}") from error


def bucket_name_fault(name: str) -> str:
    """Why a bucket cannot be called so, in words; empty when it can. The protocol allows an empty name, which names nothing."""
    if name in (".", ".."):
        return f"{name!r} has a meaning of its own"
    if "/" in name:
        return "it has a '/', which ends a name in a path"
    if any(not c.isprintable() and (c < " " or "\x7f" <= c < "\xa0" or c in "\u2028\u2029") for c in name):
        return "it has a line break or another control character"
    if len(name.encode("utf-8", "surrogateescape")) > NAME_BYTES_MAX:
        return f"it has more than {NAME_BYTES_MAX} bytes"
    return ""
