"""The tree of a bucket, whatever its kind, and the kind that is in the clear."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bucketfs.dag import (
    DAG_PB,
    RAW,
    NodeInfo,
    block_links,
    cid_text,
    codec_of,
    decode_pb,
    edit_tree,
    list_directory,
    lookup,
    node_info,
)
from bucketfs.errors import IsADirectory, NotADirectory, NotFound
from bucketfs.hub.trees.content import read_file
from bucketfs.hub.trees.working_set import WorkingSet
from bucketfs.types import Cid, Kind, Link

Path = tuple[bytes, ...]
KeyOf = Callable[[Path], bytes | None]
"""The file key of a path."""


class PathNotFound(NotFound):
    """There is nothing at a path of a bucket."""


@dataclass(frozen=True, slots=True)
class ListingItem:
    """One line of a listing. ``size`` is the cumulative size; ``count`` the number of children of a directory."""

    name: bytes
    cid: Cid
    size: int
    is_directory: bool
    count: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """What is at a path, with its children when it is a directory."""

    item: ListingItem
    children: tuple[ListingItem, ...] = ()


class BucketTree(Protocol):
    """The tree of one bucket. ``Link.cid`` is always that of the stored node; a key is the file key of a place, ``None`` in the
    clear."""

    blocks: WorkingSet

    def find(self, root: Cid, path: Path) -> Link:
        """What is at a path. Raises PathNotFound with the text that clients expect."""

    def listing(self, link: Link, name: bytes) -> Listing:
        """A node as ``ListPath`` shows it."""

    def is_directory(self, cid: Cid) -> bool:
        """Whether the node is one."""

    def read(self, cid: Cid, key: bytes | None, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes [start, stop) of a file; a symlink reads as its target. Raises IsADirectory, Corrupt."""

    def content_size(self, cid: Cid) -> int:
        """The bytes that ``read`` gives. Raises IsADirectory, Corrupt."""

    def is_symlink(self, cid: Cid) -> bool:
        """Whether the node is one."""

    def edit(self, root: Cid, changes: Mapping[Path, Link | None]) -> Link:
        """The root with entries set or removed; missing parents are made. Raises NotADirectory, TooLarge."""

    def size(self, root: Link) -> int:
        """The stored bytes of a whole bucket."""

    def size_after(self, root: Cid, size_bytes: int, new: Link) -> int:
        """The stored bytes of a bucket that had ``root`` and ``size_bytes`` of them and now has the root ``new``."""

    def bring_in(self, link: Link, key_of: KeyOf, at: Path) -> Link:
        """A DAG in the clear as this tree keeps it, to be put at a path."""

    def rekey(self, link: Link, old_key: KeyOf, new_key: KeyOf) -> Link:
        """The same tree with file contents under other keys. Both functions are asked with paths below ``link``."""


class PublicTree:
    """A tree in the clear."""

    def __init__(self, blocks: WorkingSet) -> None:
        self.blocks = blocks

    def find(self, root: Cid, path: Path) -> Link:
        link = Link(root, 0) if path else Link(root, self._total_size(root))
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
        if not self.is_directory(link.cid):
            return Listing(ListingItem(name, link.cid, link.tsize, is_directory=False))
        entries = self.blocks.run(list_directory(link.cid)).entries
        counts = self._child_counts([child.cid for child in entries.values()])
        children = tuple(
            ListingItem(entry, child.cid, child.tsize, child.cid in counts, counts.get(child.cid, 0))
            for entry, child in entries.items()
        )
        size = self._total_size(link.cid)
        return Listing(ListingItem(name, link.cid, size, is_directory=True, count=len(children)), children)

    def is_directory(self, cid: Cid) -> bool:
        return codec_of(cid) != RAW and node_info(cid, self.blocks.get(cid)).kind is Kind.DIRECTORY

    def read(self, cid: Cid, key: bytes | None = None, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        info = self._file_info(cid)
        if info.target is not None:
            return iter((info.target[start:stop],))
        return read_file(self.blocks, cid, info.size_bytes, start, stop)

    def content_size(self, cid: Cid) -> int:
        info = self._file_info(cid)
        return info.size_bytes if info.target is None else len(info.target)

    def is_symlink(self, cid: Cid) -> bool:
        return codec_of(cid) != RAW and node_info(cid, self.blocks.get(cid)).kind is Kind.SYMLINK

    def _file_info(self, cid: Cid) -> NodeInfo:
        info = node_info(cid, self.blocks.get(cid))
        if info.kind is Kind.DIRECTORY:
            raise IsADirectory("node is a directory")
        return info

    def edit(self, root: Cid, changes: Mapping[Path, Link | None]) -> Link:
        built = self.blocks.run(edit_tree(root, changes))
        self.blocks.add(built.blocks)
        return built.link

    def size(self, root: Link) -> int:
        return root.tsize

    def size_after(self, root: Cid, size_bytes: int, new: Link) -> int:
        # Links say by how much it grew. Those that stood there before may lie, see size_check.py.
        return max(0, size_bytes + new.tsize - self._total_size(root))

    def bring_in(self, link: Link, key_of: KeyOf, at: Path) -> Link:
        return link

    def rekey(self, link: Link, old_key: KeyOf, new_key: KeyOf) -> Link:
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
