"""What pushes and pulls of whole folders share: options, figures, and a Remote's blocks as a source of nodes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from cachetools import LRUCache

from bucketfs.cache import run_steps
from bucketfs.dag import RAW, Leaf, cid_text, codec_of, identity_block, leaf_data, leaves
from bucketfs.errors import Corrupt
from bucketfs.remote import Remote, Sent
from bucketfs.transfer.local_fs import PLAIN, Rights
from bucketfs.types import Cid, Link

Names = tuple[bytes, ...]

NODES_CACHE_BYTES = 32 << 20
WINDOW_BYTES = 8 << 20
"""About how much is asked of the Hub at once."""
LEAVES_RANGE_BYTES = 1 << 30
"""The leaves of a huge file are listed for this many bytes at a time."""
SEED_IS_TAKEN = "the Hub keeps a file of its own under this name"


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that was left as it is, and why."""

    path: str
    reason: str


@dataclass(slots=True)
class Figures:
    """What a transfer has done so far. Bytes of files count when they are read or written; those sent are of blocks."""

    files: int = 0
    folders: int = 0
    symlinks: int = 0
    unchanged: int = 0
    removed: int = 0
    bytes_done: int = 0
    path: str = ""
    sent: Sent = field(default_factory=Sent)
    skipped: list[Skipped] = field(default_factory=list)
    root: Cid | None = None


Progress = Callable[[Figures], None]


@dataclass(frozen=True, slots=True)
class PushOptions:
    """``attributes`` False leaves mode and mtime out (other clients then see the CIDs they would make themselves);
    ``delete`` removes from the bucket what is not in the folder, and what is of another kind there; ``reread`` reads files whose
    size and mtime are those in the bucket, and offers the Hub the blocks of what is unchanged, in case it lost some; ``into`` makes
    the path of a file that of the folder it goes into, ``exact`` that of itself, also where a folder is.
    """

    attributes: bool = True
    delete: bool = False
    reread: bool = False
    into: bool = False
    exact: bool = False


@dataclass(frozen=True, slots=True)
class PullOptions:
    """``delete`` removes locally what is not in the bucket, and what is of another kind there; ``reread`` compares files by content
    even if size and mtime agree; ``into`` makes the local path of a file that of the folder it goes into; ``rights`` says what of
    other people's attributes is given to files here.
    """

    delete: bool = False
    reread: bool = False
    into: bool = False
    rights: Rights = PLAIN


PUSH_DEFAULTS = PushOptions()
PULL_DEFAULTS = PullOptions()


def unwatched(_figures: Figures) -> None:
    """The progress nobody watches."""


def left_out(path: Names, impossible: Sequence[bytes]) -> list[Skipped]:
    """What is said of the entries of a folder that have impossible names. The path is that of the folder: with such a name it
    would be the path of something else."""
    at = path_text(path) or "."
    return [Skipped(at, f"an entry with the name {name[:100]!r}, which no path can have") for name in impossible]


def path_text(path: Names) -> str:
    """A path of a bucket for messages."""
    return b"/".join(path).decode(errors="surrogateescape")


class Blocks(Protocol):
    """Blocks by CID: all that were asked for, or Corrupt. Awaits."""

    async def get(self, cid: Cid) -> bytes: ...

    async def get_many(self, cids: Collection[Cid]) -> dict[Cid, bytes]: ...

    def peek(self, cid: Cid) -> bytes | None: ...


class NodeSource:
    """A Remote's blocks for walks over trees: small and recent ones are kept. All or Corrupt, as a Source."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._kept: LRUCache[Cid, bytes] = LRUCache(NODES_CACHE_BYTES, getsizeof=len)

    async def get(self, cid: Cid) -> bytes:
        """One block."""
        return (await self.get_many([cid]))[cid]

    async def get_many(self, cids: Collection[Cid]) -> dict[Cid, bytes]:
        """All of these blocks. Raises Corrupt when the Hub lacks one: the tree that names it is damaged there."""
        found = {cid: data for cid in cids if (data := self.peek(cid)) is not None}
        wanted = [cid for cid in dict.fromkeys(cids) if cid not in found]
        if wanted:
            fetched = await self._remote.blocks(wanted)
            for cid in wanted:
                if cid not in fetched:
                    raise Corrupt(f"the Hub lacks block {cid_text(cid)} of a tree that it serves")
                found[cid] = fetched[cid]
                if codec_of(cid) != RAW:
                    self._kept[cid] = fetched[cid]
        return found

    def peek(self, cid: Cid) -> bytes | None:
        """A block that is in memory."""
        inline = identity_block(cid)
        return self._kept.get(cid) if inline is None else inline


async def blocks_there(source: Blocks, cids: Collection[Cid]) -> dict[Cid, bytes]:
    """Those of these blocks that the Hub has, whole. Awaits. What one file lacks is no reason not to have the others."""
    try:
        return await source.get_many(cids)
    except Corrupt:
        found: dict[Cid, bytes] = {}
        for cid in dict.fromkeys(cids):
            with suppress(Corrupt):
                found[cid] = await source.get(cid)
        return found


async def read_content(source: NodeSource, link: Link) -> AsyncGenerator[bytes, None]:
    """The bytes of a file in order, checked, some megabytes in memory at a time. Raises IsADirectory, InvalidArgument (a
    symlink), Corrupt. To be closed (``aclosing``) when left."""
    start = 0
    while True:
        found = await run_steps(leaves(link.cid, start, start + LEAVES_RANGE_BYTES), source)
        if not found:
            return
        for window in leaf_windows(found):
            blocks = await source.get_many([leaf.cid for leaf in window if leaf.inline is None])
            for leaf in window:
                yield bytes_of(leaf, blocks)
        start += LEAVES_RANGE_BYTES


def bytes_of(leaf: Leaf, blocks: Mapping[Cid, bytes]) -> bytes:
    """The file bytes of a leaf, out of itself or its block."""
    return leaf.inline if leaf.inline is not None else leaf_data(leaf.cid, blocks[leaf.cid], leaf.size)


def leaf_windows(found: Sequence[Leaf]) -> Iterator[list[Leaf]]:
    """Leaves in runs that are fetched together."""
    window: list[Leaf] = []
    size = 0
    for leaf in found:
        window.append(leaf)
        size += leaf.size
        if size >= WINDOW_BYTES:
            yield window
            window, size = [], 0
    if window:
        yield window
