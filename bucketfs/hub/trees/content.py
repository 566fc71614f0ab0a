"""The content of files: leaves stored as bytes come, and read back in pieces."""

from __future__ import annotations

from collections.abc import Iterator

from bucketfs.dag import LEAF_SIZE, FileTree, cid_of, leaf_data, leaves
from bucketfs.hub.store import BlockWriter
from bucketfs.hub.trees.crypt import Encryptor
from bucketfs.hub.trees.working_set import WorkingSet
from bucketfs.types import Cid, Link

_READ_WINDOW_BYTES = 4 * 1024 * 1024
_LEAVES_AT_ONCE = 8


def read_file(blocks: WorkingSet, cid: Cid, size_bytes: int, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The bytes [begin, end) of a file in the clear, in pieces of leaf size at most. Few leaves are in memory at a time."""
    end = size_bytes if end is None else min(end, size_bytes)
    for start in range(begin, end, _READ_WINDOW_BYTES):
        stop = min(start + _READ_WINDOW_BYTES, end)
        found = blocks.run(leaves(cid, start, stop, size_bytes))
        for first in range(0, len(found), _LEAVES_AT_ONCE):
            batch = found[first : first + _LEAVES_AT_ONCE]
            held = blocks.get_many({leaf.cid for leaf in batch if leaf.inline is None})
            for leaf in batch:
                data = leaf.inline if leaf.inline is not None else leaf_data(leaf.cid, held[leaf.cid], leaf.size)
                # A leaf may reach over the window's ends; each window gives only what is its own.
                yield data[max(start - leaf.offset, 0) : stop - leaf.offset]


class LeafWriter:
    """Takes the bytes of one file as they come and stores its leaves; with a key it stores the encrypted blob instead.

    Layout as every Hub writes it: leaves of 256 KiB, balanced tree, a single leaf alone.
    """

    def __init__(self, writer: BlockWriter, key: bytes | None = None, leaves_at_once: int = _LEAVES_AT_ONCE) -> None:
        """``leaves_at_once`` are held in memory and stored together."""
        self._writer = writer
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
        """Ends the file. Its blocks are in the store; they are durable after ``finish`` of the block writer."""
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
        self._writer.put(self._batch, verified=True)
        self._batch = {}
