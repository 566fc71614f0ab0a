"""Edits of a large file, pushed one after the other: the same tree as of all its leaves, at the cost of the edit."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from support.memory_remote import MemoryRemote
from support.world import World

from bucketfs.dag import FILE_WIDTH, LEAF_SIZE, FileTree, cid_of, drive, list_directory
from bucketfs.types import Cid

WINDOW = FILE_WIDTH * LEAF_SIZE
ZEROS = cid_of(bytes(LEAF_SIZE))


class Leaves:
    """What the file should be: its length, and the leaves that are not zeros."""

    def __init__(self) -> None:
        self.size = 0
        self.data: dict[int, bytearray] = {}

    def write(self, offset: int, data: bytes) -> None:
        self.size = max(self.size, offset + len(data))
        for at, byte in enumerate(data, offset):
            self.data.setdefault(at // LEAF_SIZE, bytearray(LEAF_SIZE))[at % LEAF_SIZE] = byte

    def cut(self, size: int) -> None:
        self.size = size
        self.data = {index: leaf for index, leaf in self.data.items() if index * LEAF_SIZE < size}
        if size % LEAF_SIZE and size // LEAF_SIZE in self.data:
            self.data[size // LEAF_SIZE][size % LEAF_SIZE :] = bytes(LEAF_SIZE - size % LEAF_SIZE)

    def cid(self) -> Cid:
        tree = FileTree()
        for index in range(-(-self.size // LEAF_SIZE)):
            size = min(LEAF_SIZE, self.size - index * LEAF_SIZE)
            leaf = self.data.get(index)
            tree.add(cid_of(bytes(leaf[:size])) if leaf else ZEROS if size == LEAF_SIZE else cid_of(bytes(size)), size)
        return tree.finish().link.cid


@pytest.mark.parametrize("seed", range(3))
async def test_edits_of_a_large_file(tmp_path: Path, seed: int) -> None:
    """An edit in a file of gigabytes would build another tree than the whole file has, or cost as much as all of
    it."""
    chance = random.Random(seed)
    remote = MemoryRemote()
    world = await World(tmp_path, remote).open()
    pusher = world.pusher(attributes=False)
    wanted = Leaves()
    await world.write("f", b"")
    for number in range(12):
        near = chance.randint(1, 5) * WINDOW + chance.choice([-LEAF_SIZE, -1, 0, 1, 7 * LEAF_SIZE])
        if chance.random() < 0.3:
            await world.truncate("f", near)
            wanted.cut(near)
        else:
            data = bytes([number + 1]) * chance.choice([3, 5000])
            await world.write("f", data, near, truncate=False)
            wanted.write(near, data)
        before = remote.bytes_put
        await pusher.push()
        link = drive(list_directory(remote.at), remote._get).entries[b"f"]
        assert link.cid == wanted.cid(), f"after edit {number}"
        if number:
            assert remote.bytes_put - before < 3 * LEAF_SIZE + 100_000, "more than the edit was sent"
    world.close()
