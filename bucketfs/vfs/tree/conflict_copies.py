"""Conflict copies: how they are named, and which of a bucket are not resolved yet. Pure.

The list of them lives in the journal: a `Conflict` record goes in where a copy is made, beside the records of the copy or in the
head of the checkpoint that holds both, and every checkpoint says the list again. So a kill at any moment leaves a copy with its
conflict, or neither, and a replay ends with the list that was.

It follows what is done here: a folder above that is renamed takes its conflicts along; a copy that is renamed or removed, or that
its original is laid over, is resolved by that. Another file that is renamed over a copy is the copy from then on: so editors save.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from bucketfs.journal import Conflict
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


class Conflicts:
    """The conflicts that are not resolved yet, oldest first, by the paths of their copies."""

    def __init__(self) -> None:
        self._items: dict[str, Conflict] = {}

    def __iter__(self) -> Iterator[Conflict]:
        return iter(list(self._items.values()))

    def __len__(self) -> int:
        return len(self._items)

    def get(self, copy: str) -> Conflict | None:
        """The conflict whose copy stands at a path."""
        return self._items.get(copy)

    def add(self, conflict: Conflict) -> None:
        """A copy was made."""
        self._items[conflict.copy] = conflict

    def resolve(self, copy: str) -> None:
        """The conflict of a copy, if there is one, is resolved."""
        self._items.pop(copy, None)

    def moved(self, old: str, new: str, *, exchange: bool) -> None:
        """What stood at ``old`` stands at ``new`` now; what stood there is gone, or at ``old`` when ``exchange``."""
        if not self._items:
            return
        there, back = f"{old}/", f"{new}/"
        kept: dict[str, Conflict] = {}
        for item in self._items.values():
            if item.copy == old or (item.copy == new and (exchange or item.original == old)):
                continue  # the user gave the copy a name of its own, or chose the other version
            moved = _moved(item, there, back)
            if moved is item and exchange:
                moved = _moved(item, back, there)
            kept[moved.copy] = moved
        self._items = kept


def _moved(item: Conflict, old: str, new: str) -> Conflict:
    """An item whose copy, and so its original, stands below a folder (written with a slash at the end) that was moved."""
    if not item.copy.startswith(old):
        return item
    return replace(item, copy=new + item.copy[len(old) :], original=new + item.original[len(old) :])
