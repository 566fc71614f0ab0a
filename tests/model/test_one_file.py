"""Random histories of one file that waits for the Hub, against a bytearray: each read gives what was written last.

Checksums, pushes, pushes that fail, checkpoints and kills come in between, and the same few ranges are written and read again and
again, on both sides of where checksums end and of where blocks do.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.memory_remote import MemoryRemote
from support.world import World

from bucketfs.errors import Unavailable
from bucketfs.journal.checksums import BLOCK_SIZE
from bucketfs.vfs import FileNode, queue_recovered, seal
from bucketfs.vfs.tree import read_file

Step = tuple[str, int, int]

PLACES = [0, 100, BLOCK_SIZE]
END = -1
"""The place of a write that ends where the file does."""

SIZES = [5, 100, BLOCK_SIZE]

steps = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(PLACES), st.sampled_from(SIZES)),
    st.tuples(st.just("append"), st.just(0), st.sampled_from(SIZES)),
    st.tuples(st.just("write"), st.just(END), st.sampled_from(SIZES)),
    st.tuples(st.just("seal"), st.just(0), st.just(0)),
    st.tuples(st.just("read"), st.sampled_from(PLACES), st.sampled_from([5, 3 * BLOCK_SIZE])),
    st.tuples(st.just("truncate"), st.sampled_from(PLACES), st.just(0)),
    st.tuples(st.sampled_from(["fail", "checkpoint", "kill", "push"]), st.just(0), st.just(0)),
)

READ_BEHIND_A_SEAL: list[Step] = [
    ("append", 0, 100),
    ("seal", 0, 0),
    ("append", 0, 5),
    ("read", 0, 3 * BLOCK_SIZE),
    ("write", 100, 5),
]
"""The bytes behind the sealed ones were read, remembered, and changed."""


class OneFile:
    """The file ``f`` of a bucket, and what its bytes have to be."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.wanted = bytearray()
        self._writes = 0

    async def do(self, verb: str, at: int, size: int) -> None:
        """Do one step; a read compares."""
        if verb in ("write", "append"):
            await self._write(len(self.wanted) if verb == "append" else at, size)
        elif verb == "truncate":
            self.wanted = self.wanted[:at] + bytes(max(0, at - len(self.wanted)))
            await self.world.truncate("f", at)
        elif verb == "read":
            node = self.world.volume.tree.registry[await self.world.inode("f")]
            assert isinstance(node, FileNode)
            found = await read_file(self.world.volume.tree.base_tree, node, at, size)
            assert found == self.wanted[at : at + size]
        elif verb == "seal":
            await seal(self.world.volume, 0)
        elif verb == "checkpoint":
            await self.world.pusher().checkpoints.write()
        elif verb == "push":
            await self.world.pusher().push()
        elif verb == "fail":
            await self._fail_to_push()
        else:
            await self._kill()

    async def _write(self, at: int, size: int) -> None:
        self._writes += 1
        if at == END:
            at = max(0, len(self.wanted) - size)
        data = bytes([self._writes % 251]) * size
        self.wanted += bytes(max(0, at + size - len(self.wanted)))
        self.wanted[at : at + size] = data
        await self.world.write("f", data, at, truncate=False)

    async def _fail_to_push(self) -> None:
        self.world.remote.away = True
        try:
            await self.world.pusher().push()
        except Unavailable:
            assert self.world.volume.root.dirty
        finally:
            self.world.remote.away = False

    async def _kill(self) -> None:
        self.world.close()
        self.world = await World(self.world.folder, self.world.remote).open()
        assert self.world.quarantined == []
        queue_recovered(self.world.volume)


async def history(folder: Path, steps: list[Step]) -> None:
    remote = MemoryRemote()
    file = OneFile(await World(folder / "here", remote).open())
    await file.do("write", 0, 0)
    for step in steps:
        await file.do(*step)
    await file.do("read", 0, 1 << 30)
    await file.world.pusher().push()
    file.world.close()
    there = await World(folder / "there", remote).open()
    assert await there.read("f") == file.wanted
    there.close()


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, min_size=5, max_size=25))
@example(READ_BEHIND_A_SEAL)
def test_what_waits_is_read_and_pushed_as_it_was_written_last(steps: list[Step]) -> None:
    """A program would read, and the Hub would get, bytes that were overwritten before."""
    folder = Path(tempfile.mkdtemp(prefix="bucketfs-model-"))
    try:
        trio.run(history, folder, steps)
    finally:
        shutil.rmtree(folder)
