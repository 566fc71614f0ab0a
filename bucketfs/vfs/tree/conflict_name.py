"""The name of a conflict copy. Pure."""

from __future__ import annotations

from collections.abc import Callable

from bucketfs.names import NAME_BYTES_MAX

EXTENSION_MAX = 24
"""Longer endings are no extensions but part of the name."""

HOST_BYTES_MAX = 64
"""As many as a host name has at the kernel (HOST_NAME_MAX)."""

DOUBLE = (b".tar", b".user", b".d", b".min", b".spec", b".test")
"""First halves of double extensions that are kept whole, as in ``.tar.gz``."""


def conflict_name(name: bytes, host: str, when: str, taken: Callable[[bytes], bool]) -> bytes:
    """``name (conflict HOST WHEN).ext``, with a counter when that is taken, cut to 255 bytes at a character's edge.

    ``when`` is the text of the time, such as ``2026-11-21 143005``. ``host`` is what the machine says, with whatever is no text of
    one line in it.
    """
    stem, extension = split_extension(name)
    clean = _clean(host)
    count = 1
    while True:
        number = "" if count == 1 else f" {count}"
        mark = f" (conflict {clean} {when}{number})".encode()
        cut = stem[: NAME_BYTES_MAX - len(mark) - len(extension)].decode(errors="ignore").encode()
        candidate = cut + mark + extension
        if not taken(candidate):
            return candidate
        count += 1


def _clean(host: str) -> str:
    """A host name (any bytes that sethostname(2) takes, decoded by Python) as a part of a file's name."""
    text = "".join("_" if c == "/" or not (c == " " or c.isprintable()) else c for c in host).strip()
    return text.encode()[:HOST_BYTES_MAX].decode(errors="ignore") or "unnamed"


def split_extension(name: bytes) -> tuple[bytes, bytes]:
    """A name as stem and extension; the extension has its dot, or is empty. A leading dot begins no extension."""
    at = name.rfind(b".")
    if at <= 0 or len(name) - at > EXTENSION_MAX or b" " in name[at:]:
        return name, b""
    stem, extension = name[:at], name[at:]
    for first in DOUBLE:
        if stem.endswith(first) and len(stem) > len(first):
            return stem[: -len(first)], first + extension
    return stem, extension
