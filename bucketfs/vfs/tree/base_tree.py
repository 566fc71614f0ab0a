"""A look at the base tree that never waits, and the one way to wait for what it could not see.

Everything the VFS decides, it decides in plain functions that run between two awaits, so that nothing interleaves with a
decision. Such a function (an *attempt*) looks at the base through the `BaseTree`. When something is not in memory the tree raises
`Wanted`; the attempt has changed nothing by then (a rule every attempt keeps: look first, then change). `BaseTree.load` catches it,
fetches what was wanted, and makes the attempt anew. When all is in memory, an operation does not await at all.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from bucketfs.cache import Source, run_steps
from bucketfs.dag import (
    RAW,
    Directory,
    Leaf,
    NodeInfo,
    cid_text,
    codec_of,
    identity_block,
    leaves,
    list_directory,
    node_info,
)
from bucketfs.errors import Corrupt, NotFound, Unavailable
from bucketfs.types import NO_ATTRIBUTES, Cid, Kind, Link

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

log = logging.getLogger(__name__)

TOLD_MAX = 1000
"""Folders with impossible names that are remembered, so that each is logged once."""

INFOS_MAX = 100_000
"""Decoded root blocks kept; about 400 bytes each."""

DIRECTORY_ENTRIES_MAX = 500_000
"""Entries of decoded directories kept, over all directories; about 250 bytes each."""

LEAVES_MAX = 200_000
"""Leaves of file indexes kept, over all files."""

INLINE_BYTES_PER_LEAF = 256
"""Bytes held inside a node weigh as much as so many bytes of index: 50 MB of them at the most."""

WINDOW_BYTES = 174 * 262_144
"""A file's leaves are looked up one window at a time: what one full inner node spans in the standard layout."""

OUTDATED_WINDOWS_MAX = 1000
"""Of a file that is larger (45 GB) the rest is left to the order of use."""

DAMAGED_S = 60.0
"""How long a root block counts as damaged before the source is asked again."""

ATTEMPTS_MAX = 10_000
"""An attempt that still lacks something after so many fetches chases a base that is damaged."""


class Wanted(Exception):
    """Something of the base is not in memory. Internal to the VFS: `BaseTree.load` never lets it out."""

    def __init__(
        self,
        *,
        infos: Sequence[Cid] = (),
        directories: Sequence[Cid] = (),
        window: tuple[Cid, int] | None = None,
        blocks: Sequence[Cid] = (),
        doubtful: bool = False,
    ) -> None:
        """``doubtful``: what cannot be had of ``infos`` is remembered as damaged and not raised."""
        super().__init__("not in memory")
        self.infos = infos
        self.directories = directories
        self.window = window
        self.blocks = blocks
        self.doubtful = doubtful


class Weighted(Generic[K, V]):
    """A least-recently-used map bounded by the sum of weights; what was put in last always stays."""

    def __init__(self, weight_max: int) -> None:
        self._weight_max = weight_max
        self._weight = 0
        self._items: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def get(self, key: K) -> V | None:
        item = self._items.get(key)
        if item is None:
            return None
        self._items.move_to_end(key)
        return item[0]

    def drop(self, key: K) -> None:
        old = self._items.pop(key, None)
        if old is not None:
            self._weight -= old[1]

    def put(self, key: K, value: V, weight: int) -> None:
        self.drop(key)
        self._items[key] = (value, weight)
        self._weight += weight
        while self._weight > self._weight_max and len(self._items) > 1:
            _, (_, gone) = self._items.popitem(last=False)
            self._weight -= gone


class BaseTree:
    """The base tree of one Hub, decoded and in memory, by CID."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.lost: set[Cid] = set()
        """Directories that nobody has any more, and that count as empty (see `salvage`)."""
        self._damaged: dict[Cid, float] = {}
        self._infos: Weighted[Cid, NodeInfo] = Weighted(INFOS_MAX)
        self._directories: Weighted[Cid, Directory] = Weighted(DIRECTORY_ENTRIES_MAX)
        self._told: set[Cid] = set()
        """Folders of whose entries it was logged that some are not shown."""
        self._windows: Weighted[tuple[Cid, int], list[Leaf]] = Weighted(LEAVES_MAX)

    def info(self, link: Link) -> NodeInfo:
        """Kind, attributes and size of what ``link`` names. A raw block is a file and says all by its link."""
        if codec_of(link.cid) == RAW:
            return NodeInfo(kind=Kind.FILE, attributes=NO_ATTRIBUTES, size_bytes=link.tsize, target=None, sharded=False)
        info = self._infos.get(link.cid)
        if info is None and link.cid in self.lost:
            return NodeInfo(Kind.DIRECTORY, NO_ATTRIBUTES, 0)
        if info is None:
            block = self._at_hand(link.cid)
            if block is None:
                raise Wanted(infos=[link.cid])
            info = self._remember_info(link.cid, block)
        return info

    def shown(self, link: Link) -> NodeInfo | None:
        """Like `info`, but None where the source has no right block, or one that is no file or folder: the name is shown all the
        same."""
        if self.damaged(link.cid):
            return None
        try:
            return self.info(link)
        except Corrupt:
            return None
        except Wanted as wanted:
            raise Wanted(infos=wanted.infos, doubtful=True) from None

    def damaged(self, cid: Cid) -> bool:
        """Whether the source lately had no right block for a CID."""
        until_s = self._damaged.get(cid)
        if until_s is not None and until_s <= time.monotonic():
            del self._damaged[cid]
            return False
        return until_s is not None

    def lacks_info(self, link: Link) -> bool:
        """Whether `info` would have to wait; for collecting many wants into one fetch."""
        return codec_of(link.cid) != RAW and self._infos.get(link.cid) is None and self._at_hand(link.cid) is None

    def _at_hand(self, cid: Cid) -> bytes | None:
        inline = identity_block(cid)
        return self.source.peek(cid) if inline is None else inline

    def directory(self, cid: Cid) -> Directory:
        """The entries of a base directory."""
        directory = self._directories.get(cid)
        if directory is None and cid in self.lost:
            return Directory({}, NO_ATTRIBUTES, False)
        if directory is None:
            raise Wanted(directories=[cid])
        return directory

    def leaves(self, cid: Cid, start: int, stop: int) -> list[Leaf]:
        """The leaves of a base file that overlap ``[start, stop)``, in order."""
        found: list[Leaf] = []
        for window in range(start // WINDOW_BYTES, (stop - 1) // WINDOW_BYTES + 1):
            held = self._windows.get((cid, window))
            if held is None:
                raise Wanted(window=(cid, window))
            for leaf in held:
                if leaf.offset < stop and leaf.offset + leaf.size > start and (not found or leaf.offset > found[-1].offset):
                    found.append(leaf)
        return found

    def block(self, cid: Cid) -> bytes:
        """A block that is in memory."""
        block = self.source.peek(cid)
        if block is None:
            raise Wanted(blocks=[cid])
        return block

    async def load(self, attempt: Callable[[], T]) -> T:
        """Make an attempt until it has all it needs of the base; its result. Awaits only when something has to be fetched."""
        for _ in range(ATTEMPTS_MAX):
            try:
                return attempt()
            except Wanted as wanted:
                lacking = wanted
            await self._supply(lacking)
        raise Unavailable("the base tree changes faster than it can be read")

    def _tell_impossible(self, cid: Cid, directory: Directory) -> None:
        """Other people's clients may have put names into a folder that no path can have: they are not shown."""
        if directory.impossible and cid not in self._told:
            if len(self._told) < TOLD_MAX:
                self._told.add(cid)
            log.warning(
                "the folder %s has %d entries that are not shown, because no path can have their names (%.100r)",
                cid_text(cid),
                len(directory.impossible),
                directory.impossible[0],
            )

    async def _supply(self, wanted: Wanted) -> None:
        if len(wanted.directories) > 1:
            await self.source.get_many(list(dict.fromkeys(wanted.directories)))
        for cid in wanted.directories:
            if self._directories.get(cid) is None:
                directory = await run_steps(list_directory(cid), self.source)
                self._tell_impossible(cid, directory)
                self._directories.put(cid, directory, len(directory.entries) + 8)
        if wanted.infos:
            lacking = [cid for cid in dict.fromkeys(wanted.infos) if self._infos.get(cid) is None]
            await self._supply_infos(lacking, wanted.doubtful)
        if wanted.window is not None:
            cid, window = wanted.window
            held = await run_steps(leaves(cid, window * WINDOW_BYTES, (window + 1) * WINDOW_BYTES), self.source)
            weight = len(held) + 1 + sum(len(leaf.inline or b"") for leaf in held) // INLINE_BYTES_PER_LEAF
            self._windows.put((cid, window), held, weight)
        if wanted.blocks:
            await self.source.get_many(list(wanted.blocks))

    async def _supply_infos(self, lacking: list[Cid], doubtful: bool) -> None:
        waiting = [lacking]
        while waiting:
            batch = waiting.pop()
            try:
                for cid, block in (await self.source.get_many(batch)).items():
                    self._remember_info(cid, block)
            except (Corrupt, NotFound):
                if not doubtful:
                    raise
                if len(batch) == 1:
                    self._damaged[batch[0]] = time.monotonic() + DAMAGED_S
                else:
                    middle = len(batch) // 2
                    waiting += [batch[:middle], batch[middle:]]

    def _remember_info(self, cid: Cid, block: bytes) -> NodeInfo:
        info = node_info(cid, block)
        self._infos.put(cid, info, 1)
        return info

    def known_info(self, cid: Cid) -> NodeInfo | None:
        """What a root block says that is in memory."""
        return self._infos.get(cid)

    def known_directory(self, cid: Cid) -> Directory | None:
        """A base directory that is in memory."""
        return self._directories.get(cid)

    def forget(self, link: Link) -> None:
        """The base names this node no longer: what is known of it goes before its turn, or a folder that changes every second would
        fill the memory with what it was. If somebody still reads it (an open file does) it is decoded again."""
        self._directories.drop(link.cid)
        self._infos.drop(link.cid)
        # A file is no longer than its tree; the links' word for that is good enough here.
        for window in range(min(max(link.tsize, 0) // WINDOW_BYTES + 1, OUTDATED_WINDOWS_MAX)):
            self._windows.drop((link.cid, window))

    async def resolve(self, root: Cid, names: Sequence[bytes]) -> Link:
        """The link at a path of an immutable tree. Raises NotFound."""
        link = Link(root, 0)
        for name in names:

            def step(cid: Cid = link.cid, name: bytes = name) -> Link | None:
                return self.directory(cid).entries.get(name)

            found = await self.load(step)
            if found is None:
                raise NotFound(f"no entry named {name.decode(errors='replace')!r}")
            link = found
        return link
