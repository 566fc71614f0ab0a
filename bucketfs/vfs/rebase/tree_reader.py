"""What a rebase has seen of the trees so far: the Hub's, and the one that the overlay rests on. (It serves other comparisons, too.)

A rebase decides in plain functions that ask here. What was not seen yet is noted, and raises `Unseen`; the caller goes on with
whatever else it can decide, so that one `supply` fetches all that was found lacking, in as few requests as it takes: one or two
for each level of folders, whatever their number. All of it is kept until the rebase is done, so that no limit of a cache makes it
ask twice. Of two states of a folder only the names that differ are held, however many it has.

What the overlay rests on may be lost: the Hub collects what somebody has replaced, and what was kept here (`footing`) may have been
damaged, or never have been at hand. Such a folder must not keep all the others from being rebased: it says that it is lost, and
whoever asks goes by what is in memory. A folder of the Hub's that is lost does stop a rebase; nobody can say what is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from bucketfs.cache import Source, run_steps
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

T = TypeVar("T")

AT_ONCE = 128
"""Looks that are made side by side. Each holds the blocks of a folder or two while it is made."""


LOST_ROUNDS_MAX = 64
"""A comparison of two trees is begun anew for each crowd of lost blocks that it meets."""


class Unseen(Exception):
    """Something of a tree was not looked at yet. Internal to a rebase: it never comes out."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a link stands for. ``info`` is None when nobody has a right block for it; then ``entry`` is like no other, a file or
    what else it is known to have been."""

    entry: Entry
    info: NodeInfo | None


class Sight:
    """Two trees, as far as they were looked at. Every method but `supply` is immediate, and raises `Unseen`."""

    def __init__(self, source: Source, lost: Collection[Cid] = ()) -> None:
        """``lost`` are directories that nobody has, as far as that is known before."""
        self._source = source
        self.lost = set(lost)
        """Directories of the overlay's tree that nobody has."""
        self._ours: set[Cid] = set()
        self._theirs: set[Cid] = set()
        self._folders: set[Cid] = set()
        self._found: dict[object, object] = {}
        self._wanted: dict[object, Callable[[], Steps[object]]] = {}
        self._seen: dict[Cid, Seen] = {}
        self._unseen: dict[Cid, Link] = {}

    def changes(self, old: Cid, new: Cid) -> Mapping[bytes, tuple[Link | None, Link | None]] | None:
        """The names that differ between two states of a directory, of ours and of the Hub's; None when ours is lost."""
        self._ours.add(old)
        self._theirs.add(new)
        if old in self.lost:
            return None
        return self._look(("changes", old, new), lambda: directory_changes(old, new))

    def entries(self, directory: Cid, *, ours: bool = False) -> Mapping[bytes, Link]:
        """All names of a directory; none of one of ``ours`` that is lost."""
        (self._ours if ours else self._theirs).add(directory)
        if ours and directory in self.lost:
            return {}
        return self._look(("directory", directory), lambda: list_directory(directory)).entries

    def entry(self, directory: Cid, name: bytes, *, ours: bool = False) -> Link | None:
        """One name of a directory; nothing in one of ``ours`` that is lost."""
        (self._ours if ours else self._theirs).add(directory)
        if ours and directory in self.lost:
            return None
        return self._look(("entry", directory, name), lambda: lookup(directory, name))

    def folder(self, cid: Cid) -> None:
        """That is known to be a directory, should it be lost."""
        self._folders.add(cid)

    def tree_changes(self, old: Cid, new: Cid) -> Sequence[Change]:
        """All that differs between two trees, at the highest names that do, or that can be looked into; nothing when the Hub's is
        damaged, or there is too much. That must not keep all the rest from being seen."""
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
            return self._decoded(link, inline)
        if link.cid in self.lost:
            return self._damaged(link)
        self._unseen[link.cid] = link
        raise Unseen

    def _look(self, key: object, steps: Callable[[], Steps[T]]) -> T:
        if key in self._found:
            return cast(T, self._found[key])
        self._wanted[key] = steps
        raise Unseen

    async def supply(self) -> None:
        """Fetch all that was found lacking. Raises what the source does: Unavailable, TimedOut, and Corrupt for directories of the
        Hub's."""
        for key in [key for key in self._wanted if isinstance(key, tuple) and key[0] == "tree"]:
            del self._wanted[key]
            self._found[key] = await self._compared(*key[1:])
        wanted, self._wanted = list(self._wanted.items()), {}
        for start in range(0, len(wanted), AT_ONCE):
            await self._supply_looks(wanted[start : start + AT_ONCE])
        unseen, self._unseen = list(self._unseen.values()), {}
        waiting = [unseen] if unseen else []
        while waiting:
            await self._supply_seen(waiting.pop(), waiting)

    async def _compared(self, old: Cid, new: Cid) -> Sequence[Change]:
        """All that differs, as far as it can be seen."""
        source = _Noting(self._source)
        lost: set[Cid] = set()
        for _ in range(LOST_ROUNDS_MAX):
            try:
                return await run_steps(diff(old, new, lost), source)
            except TooLarge:
                break
            except (Corrupt, NotFound):
                if source.lacking <= lost:
                    break
                lost |= source.lacking
        return ()

    async def _supply_looks(self, looks: Sequence[tuple[object, Callable[[], Steps[object]]]]) -> None:
        try:
            found = await run_steps(gather([steps() for _, steps in looks]), self._source)
        except (Corrupt, NotFound):
            for key, steps in looks:
                await self._supply_alone(key, steps)
        else:
            self._found.update(zip((key for key, _ in looks), found, strict=True))

    async def _supply_alone(self, key: object, steps: Callable[[], Steps[object]]) -> None:
        try:
            self._found[key] = await run_steps(steps(), self._source)
        except (Corrupt, NotFound):
            assert isinstance(key, tuple)
            if not await self._is_lost(key[1]):
                raise
            self.lost.add(key[1])

    async def _is_lost(self, directory: Cid) -> bool:
        """Whether a directory is one of ours, and none of the Hub's, and nobody has it."""
        if directory not in self._ours or directory in self._theirs:
            return False
        try:
            await run_steps(list_directory(directory), self._source)
        except (Corrupt, NotFound):
            return True
        return False

    async def _supply_seen(self, links: Sequence[Link], waiting: list[list[Link]]) -> None:
        try:
            blocks = await self._source.get_many([link.cid for link in links])
        except (Corrupt, NotFound):
            if len(links) == 1:
                self._seen[links[0].cid] = self._damaged(links[0])
                return
            middle = len(links) // 2
            waiting += [list(links[:middle]), list(links[middle:])]
            return
        for link in links:
            self._seen[link.cid] = self._decoded(link, blocks[link.cid])

    def _decoded(self, link: Link, block: bytes) -> Seen:
        try:
            return Seen(entry_of(link, block), node_info(link.cid, block))
        except Corrupt:
            return self._damaged(link)

    def _damaged(self, link: Link) -> Seen:
        kind = Kind.DIRECTORY if link.cid in self._folders or link.cid in self.lost else Kind.FILE
        return Seen(Entry(kind, b"damaged " + link.cid), None)


class _Noting:
    """A source that remembers what it lacked."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.lacking: set[Cid] = set()

    async def get(self, cid: Cid) -> bytes:
        return (await self.get_many([cid]))[cid]

    async def get_many(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        try:
            return await self._source.get_many(cids)
        except (Corrupt, NotFound):
            for cid in cids:
                try:
                    await self._source.get_many([cid])
                except (Corrupt, NotFound):
                    self.lacking.add(cid)
            raise

    def peek(self, cid: Cid) -> bytes | None:
        return self._source.peek(cid)
