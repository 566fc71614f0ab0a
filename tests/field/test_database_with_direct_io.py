"""A database writes past the kernel's cache, with asynchronous direct I/O, and other programs read the same file through it."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support import aio
from support.foreground import Foreground
from support.home import Home

BLOCKS = 4
ROUNDS = 25

SLOW = """
# A mount that is busy: readers have the time to bring a page back before the write that it was dropped for.
import sys
import trio
from bucketfs.cli import main
from bucketfs.vfs.open_files import OpenFiles

true = OpenFiles.write

async def write(self, *arguments):
    await trio.sleep(0.003)
    return await true(self, *arguments)

OpenFiles.write = write
sys.exit(main())
"""

READER = f"""
# Keeps pages of the file in the kernel's cache, until its standard input ends.
import os, select, sys
file = os.open(sys.argv[1], os.O_RDONLY)
print('reads', flush=True)
while not select.select([0], [], [], 0)[0]:
    for at in range({BLOCKS}):
        os.pread(file, {aio.BLOCK}, at * {aio.BLOCK})
        if len(sys.argv) > 2:
            os.close(file)
            file = os.open(sys.argv[1], os.O_RDONLY)
"""


@pytest.fixture(scope="module")
def folder(new_home: Callable[..., Home]) -> Iterator[Path]:
    home = new_home()
    (home.root / "Buckets").mkdir()
    daemon = Foreground.start(home, command=[sys.executable, "-c", SLOW])
    yield daemon.place / "home"
    assert daemon.stop() == 0
    daemon.mounted().check_log()


@contextmanager
def reading(file: Path, *arguments: str) -> Iterator[None]:
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", READER, file, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline()
            yield
        finally:
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(30) == 0


def block(round_: int, at: int) -> bytes:
    return b"%08d %08d " % (round_, at) + bytes(aio.BLOCK - 18)


@pytest.mark.parametrize("reopens", [False, True], ids=["open all the time", "opened again and again"])
def test_what_was_written_is_what_is_read(folder: Path, reopens: bool) -> None:
    """A database that writes with O_DIRECT would be read back with former blocks, and take itself for damaged."""
    file = folder / f"table{reopens}"
    file.write_bytes(b"".join(block(0, at) for at in range(BLOCKS)))
    with ExitStack() as stack:
        direct = os.open(file, os.O_RDWR | os.O_DIRECT)
        stack.callback(os.close, direct)
        cached = os.open(file, os.O_RDONLY)
        stack.callback(os.close, cached)
        stack.enter_context(reading(file, *(["reopens"] if reopens else [])))
        writer = stack.enter_context(aio.writer(direct))
        for round_ in range(1, ROUNDS + 1):
            for at in range(BLOCKS):
                data = block(round_, at)
                writer.write(at * aio.BLOCK, data)
                found = os.pread(cached, aio.BLOCK, at * aio.BLOCK)
                assert found == data, f"round {round_}, block {at}: {found[:18]!r}"
    assert file.read_bytes() == b"".join(block(ROUNDS, at) for at in range(BLOCKS))


def test_direct_writes_beside_a_mapping_that_is_written(folder: Path) -> None:
    """The kernel has changes of its own to write back in the pages that have to go."""
    file = folder / "mapped"
    file.write_bytes(bytes(aio.BLOCK * BLOCKS))
    with ExitStack() as stack:
        direct = os.open(file, os.O_RDWR | os.O_DIRECT)
        stack.callback(os.close, direct)
        plain = os.open(file, os.O_RDWR)
        stack.callback(os.close, plain)
        mapped = stack.enter_context(mmap.mmap(plain, aio.BLOCK * BLOCKS))
        writer = stack.enter_context(aio.writer(direct))
        for round_ in range(1, ROUNDS + 1):
            for at in range(0, BLOCKS, 2):
                mapped[at * aio.BLOCK : (at + 1) * aio.BLOCK] = block(round_, at)
                writer.write((at + 1) * aio.BLOCK, block(round_, at + 1))
        mapped.flush()
    assert file.read_bytes() == b"".join(block(ROUNDS, at) for at in range(BLOCKS))
