"""What a rebase has seen of the trees so far: the Hub's, and the one that the overlay rests on. (It serves other comparisons, too.)

A rebase decides in plain functions that ask here. What was not seen yet is noted, and raises `Unseen`; the caller goes on with
whatever else it can decide, so that one `supply` fetches all that was found lacking, in as few requests as it takes: one or two
for each level of folders, whatever their number. All of it is kept until the rebase is done, so that no limit of a cache makes it
ask twice. Of two states of a folder only the names that differ are held, however many it has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from bucketfs.cache import Source
from bucketfs.dag import (
    RAW,
    Change,
    Entry,
    NodeInfo,
    codec_of,
    diff,
    directory_changes,
    entry_of,
    gather,
    identity_block,
    list_directory,
    lookup,
    node_info,
)
from bucketfs.errors import Corrupt, NotFound, TooLarge
from bucketfs.types import NO_ATTRIBUTES, Cid, Kind, Link, Steps
from bucketfs.vfs.lens import run_steps

T = TypeVar("T")

AT_ONCE = 128
"""Looks that are made side by side. Each holds the blocks of a folder or two while it is made."""


class Unseen(Exception):
    """Something of a tree was not looked at yet. Internal to a rebase: it never comes out."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a link stands for. ``info`` is None when nobody has a right block for it; then ``entry`` is a file like no other."""

    entry: Entry
    info: NodeInfo | None


class Sight:
    """Two trees, as far as they were looked at. Every method but `supply` is immediate, and raises `Unseen`."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._found: dict[object, object] = {}
        self._wanted: dict[object, Callable[[], Steps[object]]] = {}
        self._seen: dict[Cid, Seen] = {}
        self._unseen: dict[Cid, Link] = {}

    def changes(self, old: Cid, new: Cid) -> Mapping[bytes, tuple[Link | None, Link | None]]:
        """The names that differ between two states of a directory."""
        return self._look(("changes", old, new), lambda: directory_changes(old, new))

    def entries(self, directory: Cid) -> Mapping[bytes, Link]:
        """All names of a directory."""
        return self._look(("directory", directory), lambda: list_directory(directory)).entries

    def entry(self, directory: Cid, name: bytes) -> Link | None:
        """One name of a directory."""
        return self._look(("entry", directory, name), lambda: lookup(directory, name))

    def tree_changes(self, old: Cid, new: Cid) -> Sequence[Change]:
        """All that differs between two trees, at the highest names that do; nothing when they cannot be compared as a whole. What
        is damaged, or too much, somewhere in them must not keep all the rest from being seen."""
        return self._look(("tree", old, new), lambda: diff(old, new))

    def seen(self, link: Link) -> Seen:
        """What stands at ``link``. A damaged block is none of its owner's faults, and stops no rebase."""
        found = self._seen.get(link.cid)
        if found is not None:
            return found
        if codec_of(link.cid) == RAW:
            return Seen(entry_of(link), NodeInfo(Kind.FILE, NO_ATTRIBUTES, link.tsize))
        inline = identity_block(link.cid)
        if inline is not None:
            return _decoded(link, inline)
        self._unseen[link.cid] = link
        raise Unseen

    def _look(self, key: object, steps: Callable[[], Steps[T]]) -> T:
        if key in self._found:
            return cast(T, self._found[key])
        self._wanted[key] = steps
        raise Unseen

    async def supply(self) -> None:
        """Fetch all that was found lacking. Raises what the source does: Unavailable, TimedOut, and Corrupt for directories."""
        for key in [key for key in self._wanted if isinstance(key, tuple) and key[0] == "tree"]:
            try:
                self._found[key] = await run_steps(self._wanted.pop(key)(), self._source)
            except (Corrupt, NotFound, TooLarge):
                self._found[key] = ()
        wanted, self._wanted = list(self._wanted.items()), {}
        for start in range(0, len(wanted), AT_ONCE):
            part = wanted[start : start + AT_ONCE]
            found = await run_steps(gather([steps() for _, steps in part]), self._source)
            self._found.update(zip((key for key, _ in part), found, strict=True))
        unseen, self._unseen = list(self._unseen.values()), {}
        waiting = [unseen] if unseen else []
        while waiting:
            await self._supply_seen(waiting.pop(), waiting)

    async def _supply_seen(self, links: Sequence[Link], waiting: list[list[Link]]) -> None:
        try:
            blocks = await self._source.get_many([link.cid for link in links])
        except (Corrupt, NotFound):
            if len(links) == 1:
                self._seen[links[0].cid] = _damaged(links[0])
                return
            middle = len(links) // 2
            waiting += [list(links[:middle]), list(links[middle:])]
            return
        for link in links:
            self._seen[link.cid] = _decoded(link, blocks[link.cid])


def _decoded(link: Link, block: bytes) -> Seen:
    try:
        return Seen(entry_of(link, block), node_info(link.cid, block))
    except Corrupt:
        return _damaged(link)


def _damaged(link: Link) -> Seen:
    return Seen(Entry(Kind.FILE, b"damaged " + link.cid), None)
