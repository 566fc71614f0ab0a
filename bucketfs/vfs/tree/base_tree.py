"""The base tree: the immutable tree of the Hub under all pending changes, decoded and in memory, within a bound."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import cachetools

from bucketfs.cache import Source
from bucketfs.dag import Directory, Leaf, NodeInfo, cid_text, leaves, list_directory
from bucketfs.errors import NotFound
from bucketfs.types import Cid, Link, Steps
from bucketfs.vfs.tree.tree_reader import TreeReader, Unreadable, raw_info, root_info, together

log = logging.getLogger(__name__)

REPORTED_MAX = 1000
"""Folders with impossible names that are remembered, so that each is logged once."""

MEMORY_BYTES = 200 << 20
"""About how much memory decoded nodes may take: all volumes of a mount share it."""

INFO_BYTES = 400
ENTRY_BYTES = 250
LEAF_BYTES = 250
"""What a root block, a directory entry and the place of a leaf take, decoded and remembered."""

WINDOW_BYTES = 174 * 262_144
"""A file's leaves are looked up one window at a time: what one full inner node spans in the standard layout."""

FORGOTTEN_WINDOWS_MAX = 1000
"""Of a file that is larger (45 GB) the rest is left to the order of use."""

DAMAGED_S = 60.0
"""How long a root block counts as damaged before the source is asked again."""


class BaseTree(TreeReader):
    """The base trees of one Hub. Every method but `load` and `resolve` is immediate, and raises Wanted, Unreadable."""

    def __init__(
        self, source: Source, *, memory_bytes: int = MEMORY_BYTES, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        # What is larger than all of the memory stays until the next result: an attempt must find what was fetched for it.
        super().__init__(source, cachetools.LRUCache(memory_bytes, lambda result: min(_size_bytes(result), memory_bytes)))
        self._monotonic_s = monotonic_s
        self._damaged_until_s: dict[Cid, float] = {}
        self._reported: set[Cid] = set()

    def info(self, link: Link) -> NodeInfo:
        """Kind, attributes and size of what ``link`` names."""
        return raw_info(link) or self.read(root_info, link.cid)

    def shown(self, link: Link) -> NodeInfo | None:
        """Like `info`, but None where the source has no right block, or one that is no file or folder: the name is shown all the
        same."""
        if self.damaged(link.cid):
            return None
        try:
            return self.info(link)
        except Unreadable:
            self._damaged_until_s[link.cid] = self._monotonic_s() + DAMAGED_S
            return None

    def damaged(self, cid: Cid) -> bool:
        """Whether the source lately had no right block for a CID."""
        until_s = self._damaged_until_s.get(cid)
        if until_s is not None and until_s <= self._monotonic_s():
            del self._damaged_until_s[cid]
            return False
        return until_s is not None

    def directory(self, cid: Cid) -> Directory:
        """The entries of a base directory."""
        directory = self.read(list_directory, cid)
        if directory.impossible:
            self._report_impossible(cid, directory)
        return directory

    def leaves(self, cid: Cid, start: int, stop: int) -> list[Leaf]:
        """The leaves of a base file that overlap ``[start, stop)``, in order."""
        found: list[Leaf] = []
        windows = range(start // WINDOW_BYTES, (stop - 1) // WINDOW_BYTES + 1)
        for held in together(lambda window: self.read(_window, cid, window), windows):
            for leaf in held:
                # A leaf that reaches over the end of a window is in both.
                if leaf.offset < stop and leaf.offset + leaf.size > start and (not found or leaf.offset > found[-1].offset):
                    found.append(leaf)
        return found

    def known_info(self, cid: Cid) -> NodeInfo | None:
        """What a root block says that is in memory."""
        return self.remembered(root_info, cid)

    def known_directory(self, cid: Cid) -> Directory | None:
        """A base directory that is in memory."""
        return self.remembered(list_directory, cid)

    def forget(self, link: Link) -> None:
        """The base names this node no longer. What is remembered of it goes before its turn, or a folder that changes every second
        would fill the memory with its former states. An open file that is still read is decoded again."""
        self._memory.pop((list_directory, link.cid), None)
        self._memory.pop((root_info, link.cid), None)
        # A file is no longer than its tree; the link's word for that is good enough here.
        for window in range(min(max(link.tsize, 0) // WINDOW_BYTES + 1, FORGOTTEN_WINDOWS_MAX)):
            self._memory.pop((_window, link.cid, window), None)

    async def resolve(self, root: Cid, names: Sequence[bytes]) -> Link:
        """The link at a path of an immutable tree. Raises NotFound."""

        def attempt() -> Link:
            link = Link(root, 0)
            for name in names:
                found = self.directory(link.cid).entries.get(name)
                if found is None:
                    raise NotFound(f"no entry named {name.decode(errors='replace')!r}")
                link = found
            return link

        return await self.load(attempt)

    def _report_impossible(self, cid: Cid, directory: Directory) -> None:
        """Log that another client has put names into a folder that no path can have."""
        if cid in self._reported or len(self._reported) >= REPORTED_MAX:
            return
        self._reported.add(cid)
        log.warning(
            "the folder %s has %d entries that are not shown, because no path can have their names (%.100r)",
            cid_text(cid),
            len(directory.impossible),
            directory.impossible[0],
        )


def _window(cid: Cid, number: int) -> Steps[list[Leaf]]:
    return leaves(cid, number * WINDOW_BYTES, (number + 1) * WINDOW_BYTES)


def _size_bytes(result: object) -> int:
    match result:
        case Directory(entries=entries):
            return (len(entries) + 8) * ENTRY_BYTES
        case list():
            found: list[Leaf] = result
            return LEAF_BYTES + sum(LEAF_BYTES + len(leaf.inline or b"") for leaf in found)
        case _:
            return INFO_BYTES
