"""Trees of blocks as the bucket service sees them: paths resolved, listed, read and edited over the block store.

The algorithms are generators of ``bucketfs.dag``; here they are driven, in the thread of the call. What an edit makes stays in
memory (``WorkingSet``) until it is known which of it the new root needs: pushing a thousand files one after another makes a
thousand roots, and only the last one is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, TypeVar

from bucketfs.dag import (
    DAG_PB,
    LEAF_SIZE,
    RAW,
    FileTree,
    block_links,
    cid_of,
    cid_text,
    codec_of,
    decode_pb,
    drive,
    edit_tree,
    leaf_data,
    leaves,
    list_directory,
    lookup,
    node_info,
)
from bucketfs.errors import BucketfsError, Corrupt, IsADirectory, NotADirectory, NotFound
from bucketfs.hub.store import BlockStore, BlockWriter, UploadCheck
from bucketfs.hub.trees.crypt import Encryptor
from bucketfs.types import Cid, Kind, Link, Steps

T = TypeVar("T")
Path = tuple[bytes, ...]

PRUNE_BYTES = 32 * 1024 * 1024
_READ_WINDOW = 4 * 1024 * 1024
_LEAVES_AT_ONCE = 8


class PathNotFound(NotFound):
    """Nothing is at a path of a bucket."""


def unchecked() -> None:
    """For work that is finished whether or not its call has ended."""


class WorkingSet:
    """The store with blocks on top that are not stored yet. For one call, used by one thread at a time.

    ``absent`` is what a block that is not here means: of a bucket, that the hub has lost it; of a CID that a client
    brought, that it is not found.
    """

    def __init__(
        self,
        store: BlockStore,
        upload: bytes = b"",
        *,
        absent: type[BucketfsError] = Corrupt,
        check: Callable[[], None] = unchecked,
        admission: UploadCheck | None = None,
    ) -> None:
        """``check`` is asked whenever blocks are wanted, and raises once the call has ended that all of this is done for.
        ``admission`` has a say in content that is made on the way."""
        self.store = store
        self.upload = upload
        self._admission = admission
        self.check = check
        self._absent = absent
        self._made: dict[Cid, bytes] = {}
        self._hidden_links: dict[Cid, list[Cid]] = {}
        self._made_bytes = 0

    def get_many(self, cids: Iterable[Cid]) -> dict[Cid, bytes]:
        """All of these blocks. Raises Corrupt, what ``absent`` says when one is not here, and what ``check`` raises."""
        self.check()
        wanted = list(cids)
        found = {cid: self._made[cid] for cid in wanted if cid in self._made}
        if len(found) < len(wanted):
            found.update(self.store.get_many([cid for cid in wanted if cid not in found]))
            for cid in wanted:
                if cid not in found:
                    raise self._absent(f"block {cid_text(cid)} is not on this hub")
        return found

    def get(self, cid: Cid) -> bytes:
        """One block, as ``get_many``."""
        return self.get_many((cid,))[cid]

    def lengths(self, cids: Iterable[Cid]) -> dict[Cid, int]:
        """How long these blocks are. Raises as ``get_many``."""
        self.check()
        wanted = list(cids)
        found = {cid: len(self._made[cid]) for cid in wanted if cid in self._made}
        found.update(self.store.lengths([cid for cid in wanted if cid not in found]))
        for cid in wanted:
            if cid not in found:
                raise self._absent(f"block {cid_text(cid)} is not on this hub")
        return found

    def receive(self) -> BlockWriter:
        """Takes in content that is made on the way."""
        return self.store.receive(self.upload, self._admission)

    def run(self, steps: Steps[T]) -> T:
        """Drives a computation to its end."""
        return drive(steps, self.get_many)

    def add(self, blocks: Mapping[Cid, bytes], hidden_links: Mapping[Cid, list[Cid]] = MappingProxyType({})) -> None:
        """Blocks that an edit made; of encrypted ones also the CIDs that they link to."""
        self._hidden_links.update(hidden_links)
        for cid, data in blocks.items():
            if cid not in self._made:
                self._made[cid] = data
                self._made_bytes += len(data)

    def forget_all_but(self, root: Cid) -> None:
        """Drops what was made for roots that are no more, once that is much."""
        if self._made_bytes > PRUNE_BYTES:
            self._made = self._needed(root)
            self._made_bytes = sum(map(len, self._made.values()))

    def store_for(self, root: Cid, *, makes_room: bool = False) -> None:
        """Stores, durably, what was made and ``root`` needs. ``makes_room``: the bucket becomes smaller by it."""
        needed = self._needed(root)
        if needed:
            self.store.put_many(needed, upload=self.upload, verified=True, makes_room=makes_room)
        self._made.clear()
        self._made_bytes = 0

    def _needed(self, root: Cid) -> dict[Cid, bytes]:
        needed: dict[Cid, bytes] = {}
        ahead = [root]
        while ahead:
            cid = ahead.pop()
            if cid in self._made and cid not in needed:
                needed[cid] = self._made[cid]
                ahead += self._hidden_links.get(cid) or block_links(cid, needed[cid])
        return needed


@dataclass(frozen=True, slots=True)
class Item:
    """One line of a listing. ``size`` is the cumulative size; ``count`` the number of children of a directory."""

    name: bytes
    cid: Cid
    size: int
    is_directory: bool
    count: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """Something at a path, with its children when it is a directory."""

    item: Item
    children: tuple[Item, ...] = ()


class BucketTree(Protocol):
    """The tree of one bucket, in the clear (``PublicTree``) or encrypted (``private.PrivateTree``).

    ``Link.cid`` is always that of the stored node. A key is the file key of the place, ``None`` in the clear.
    """

    blocks: WorkingSet

    def find(self, root: Cid, path: Path) -> Link:
        """What is at a path. Raises PathNotFound with the text that clients expect."""

    def listing(self, link: Link, name: bytes) -> Listing:
        """A node as ``ListPath`` shows it."""

    def is_directory(self, cid: Cid) -> bool:
        """Whether the node is one."""

    def read(self, cid: Cid, key: bytes | None) -> Iterator[bytes]:
        """The content of a file. Raises IsADirectory, Corrupt."""

    def edit(self, root: Cid, changes: Mapping[Path, Link | None]) -> Link:
        """The root with entries set or removed; missing parents are made. Raises NotADirectory."""

    def size_after(self, root: Cid, size_bytes: int, new: Link) -> int:
        """The stored bytes of a bucket that had ``root`` and ``size_bytes`` of them and now has the root ``new``."""

    def bring_in(self, link: Link, key_of: Callable[[Path], bytes | None], at: Path) -> Link:
        """A DAG in the clear as this tree keeps it, to be put at a path."""


class PublicTree:
    """A tree in the clear."""

    def __init__(self, blocks: WorkingSet) -> None:
        self.blocks = blocks

    def find(self, root: Cid, path: Path) -> Link:
        """See `BucketTree`."""
        link = Link(root, self._total_size(root)) if not path else Link(root, 0)
        for name in path:
            parent = link.cid
            try:
                found = self.blocks.run(lookup(parent, name))
            except NotADirectory:
                found = None
            if found is None:
                raise PathNotFound(f'no link named "{name.decode(errors="replace")}" under {cid_text(parent)}')
            link = found
        return link

    def listing(self, link: Link, name: bytes) -> Listing:
        """See `BucketTree`."""
        if not self.is_directory(link.cid):
            return Listing(Item(name, link.cid, link.tsize, is_directory=False))
        entries = self.blocks.run(list_directory(link.cid)).entries
        counts = self._child_counts([child.cid for child in entries.values()])
        children = tuple(
            Item(entry, child.cid, child.tsize, child.cid in counts, counts.get(child.cid, 0))
            for entry, child in entries.items()
        )
        return Listing(Item(name, link.cid, self._total_size(link.cid), is_directory=True, count=len(children)), children)

    def is_directory(self, cid: Cid) -> bool:
        """See `BucketTree`."""
        return codec_of(cid) != RAW and node_info(cid, self.blocks.get(cid)).kind is Kind.DIRECTORY

    def read(self, cid: Cid, key: bytes | None = None) -> Iterator[bytes]:
        """See `BucketTree`. A symlink reads as its target."""
        info = node_info(cid, self.blocks.get(cid))
        if info.kind is Kind.DIRECTORY:
            raise IsADirectory("node is a directory")
        if info.target is not None:
            return iter((info.target,))
        return read_file(self.blocks, cid, info.size_bytes)

    def edit(self, root: Cid, changes: Mapping[Path, Link | None]) -> Link:
        """See `BucketTree`."""
        built = self.blocks.run(edit_tree(root, changes))
        self.blocks.add(built.blocks)
        return built.link

    def size_after(self, root: Cid, size_bytes: int, new: Link) -> int:
        """See `BucketTree`: links say by how much it grew. (Those that stood there before may lie, see sizes.py.)"""
        return max(0, size_bytes + new.tsize - self._total_size(root))

    def bring_in(self, link: Link, key_of: Callable[[Path], bytes | None], at: Path) -> Link:
        """See `BucketTree`: as it is."""
        return link

    def _total_size(self, cid: Cid) -> int:
        return total_size(cid, self.blocks.get(cid))

    def _child_counts(self, cids: Sequence[Cid]) -> dict[Cid, int]:
        """The number of children of those that are directories."""
        counts: dict[Cid, int] = {}
        nodes = list(dict.fromkeys(cid for cid in cids if codec_of(cid) == DAG_PB))
        for start in range(0, len(nodes), 256):
            for cid, block in self.blocks.get_many(nodes[start : start + 256]).items():
                info = node_info(cid, block)
                if info.kind is Kind.DIRECTORY:
                    # Only a sharded directory needs more than its own block.
                    counts[cid] = (
                        len(self.blocks.run(list_directory(cid)).entries) if info.sharded else len(block_links(cid, block))
                    )
        return counts


def total_size(cid: Cid, block: bytes) -> int:
    """Cumulative size of a node: its block and all that its links claim."""
    if codec_of(cid) != DAG_PB:
        return len(block)
    return len(block) + sum(link.tsize for link in decode_pb(block).links)


def read_file(blocks: WorkingSet, cid: Cid, size_bytes: int) -> Iterator[bytes]:
    """The bytes of a file in the clear, in pieces of leaf size. Few leaves are in memory at a time."""
    for start in range(0, size_bytes, _READ_WINDOW):
        stop = min(start + _READ_WINDOW, size_bytes)
        found = blocks.run(leaves(cid, start, stop, size_bytes))
        for begin in range(0, len(found), _LEAVES_AT_ONCE):
            batch = found[begin : begin + _LEAVES_AT_ONCE]
            held = blocks.get_many({leaf.cid for leaf in batch if leaf.inline is None})
            for leaf in batch:
                data = leaf.inline if leaf.inline is not None else leaf_data(leaf.cid, held[leaf.cid], leaf.size)
                # A leaf may reach over the window's ends; each window gives only what is its own.
                yield data[max(start - leaf.offset, 0) : stop - leaf.offset]


class FileWriter:
    """Takes the bytes of one file as they come and stores its leaves; with a key it stores the blob instead.

    Layout as every Hub writes it: leaves of 256 KiB, balanced tree, a single leaf alone.
    """

    def __init__(self, receiving: BlockWriter, key: bytes | None = None, leaves_at_once: int = _LEAVES_AT_ONCE) -> None:
        """``leaves_at_once`` are held in memory and stored together."""
        self._receiving = receiving
        self._leaves_at_once = leaves_at_once
        self._encryptor = Encryptor(key) if key is not None else None
        self._rest = bytearray()
        self._leaves: list[tuple[Cid, int]] = []
        self._batch: dict[Cid, bytes] = {}
        self.bytes_taken = 0
        """Bytes stored so far or about to be: of the blob when there is a key."""
        if self._encryptor is not None:
            self._take(self._encryptor.head)

    def feed(self, data: bytes) -> None:
        """The next bytes. Raises NoSpace, DiskFailed."""
        self._take(self._encryptor.update(data) if self._encryptor is not None else data)

    def finish(self) -> Link:
        """Ends the file. Its blocks are in the store; durable they are after ``finish`` of the receiving."""
        if self._encryptor is not None:
            self._take(self._encryptor.finish())
        if self._rest or not self._leaves:
            self._leaf(bytes(self._rest))
            self._rest.clear()
        tree = FileTree()
        for cid, size in self._leaves:
            tree.add(cid, size)
        built = tree.finish()
        self._batch.update(built.blocks)
        self._send()
        return built.link

    def _take(self, data: bytes) -> None:
        self.bytes_taken += len(data)
        if not self._rest and len(data) == LEAF_SIZE:
            self._leaf(bytes(data))
            return
        self._rest += data
        while len(self._rest) >= LEAF_SIZE:
            self._leaf(bytes(memoryview(self._rest)[:LEAF_SIZE]))
            del self._rest[:LEAF_SIZE]

    def _leaf(self, data: bytes) -> None:
        cid = cid_of(data)
        self._leaves.append((cid, len(data)))
        self._batch[cid] = data
        if len(self._batch) >= self._leaves_at_once:
            self._send()

    def _send(self) -> None:
        self._receiving.put(self._batch, verified=True)
        self._batch = {}
