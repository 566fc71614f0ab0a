"""Which files a request walks through: a write(2) from the kernel's handler to the journal, a new root of the Hub to the kernel.

    .venv/bin/python tests/bench/walk.py

Prints the files in the order in which they are entered, and how often the walk changes from one to another. A lower room that
is entered through its door counts as one stop (`STOPS`), however many files it has: a reader of the walk reads its door.
Making an object that is not asked for anything is no stop. Runs in one process, without a kernel: pyfuse3's handlers over a
VFS, a volume with a journal on this disk, a scheduler, and a Hub in memory."""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, cast

import trio

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

from support.memory_remote import MemoryRemote  # noqa: E402
from support.world import World  # noqa: E402

from bucketfs.mount.amending import Amender  # noqa: E402
from bucketfs.mount.invalidate import Invalidator  # noqa: E402
from bucketfs.mount.kernel_clock import KernelClock  # noqa: E402
from bucketfs.mount.operations import Operations  # noqa: E402
from bucketfs.mount.settings import MountSettings  # noqa: E402
from bucketfs.sync import Pace, Pusher, Scheduler  # noqa: E402
from bucketfs.types import ROOT_INODE  # noqa: E402

HOUSE = str(TESTS.parent / "bucketfs") + os.sep

STOPS = {"journal/": "journal", "disk.py": "journal", "dag/": "dag"}
"""What counts as one stop: the journal with its disk, the computations over blocks."""


@dataclass
class Walk:
    """The functions of bucketfs that ran, in their order, as (file, function)."""

    frames: list[tuple[str, str]] = field(default_factory=list)

    @property
    def stops(self) -> list[str]:
        """The files, and rooms that count as one, in the order in which they were entered first."""
        return list(dict.fromkeys(_stop(file) for file, _ in self.frames))

    @property
    def files(self) -> list[str]:
        """The files, each by itself."""
        return list(dict.fromkeys(file for file, _ in self.frames))

    @property
    def switches(self) -> int:
        """How often the walk changed from one stop to another."""
        stops = [_stop(file) for file, _ in self.frames]
        return sum(1 for one, other in itertools.pairwise(stops) if one != other)

    def __str__(self) -> str:
        stops = self.stops
        return f"{len(stops)} stops ({len(self.files)} files), {self.switches} changes: {' '.join(stops)}"

    def until(self, function: str) -> Walk:
        """The walk up to the last call of a function."""
        last = max(at for at, (_, name) in enumerate(self.frames) if name == function)
        return Walk(self.frames[: last + 1])


def _stop(file: str) -> str:
    return next((stop for start, stop in STOPS.items() if file.startswith(start)), file)


async def trace(request: Callable[[], Awaitable[object]]) -> Walk:
    """Make a request, and note each function of bucketfs that is called for it on this thread."""
    walk = Walk()

    def note(frame: FrameType, event: str, argument: object) -> None:
        code: CodeType = frame.f_code
        if event == "call" and code.co_filename.startswith(HOUSE) and code.co_name != "__init__":
            walk.frames.append((code.co_filename.removeprefix(HOUSE), code.co_qualname))

    sys.setprofile(note)
    try:
        await request()
    finally:
        sys.setprofile(None)
    return walk


class _Context:
    """What pyfuse3 says of the program that asks."""

    uid, gid, pid, umask = os.getuid(), os.getgid(), os.getpid(), 0o022


async def walks_of_writes(folder: Path) -> dict[str, Walk]:
    """The walk of the first write to a file of the base, of one over it, and of one at its end."""
    here = World(folder / "writing", MemoryRemote())
    here.clock = cast(Any, KernelClock())
    await here.open()
    await here.write("file", b"x" * 100_000)
    pusher = Pusher(here.volume, here.remote, here.source, here.told.append)
    Scheduler(here.volume, here.remote, pusher, Pace())
    await pusher.push()
    handlers = Operations(here.vfs, MountSettings(), Amender(here.vfs), lambda parent, name: None)
    context = cast(Any, _Context())
    entry = await handlers.lookup(ROOT_INODE, b"file", context)
    opened = await handlers.open(entry.st_ino, os.O_RDWR, context)
    found = {}
    for what, offset in {"first": 0, "over": 50_000, "append": 100_000}.items():
        found[what] = await trace(lambda offset=offset: handlers.write(opened.fh, offset, b"hello"))  # type: ignore[misc]
    await handlers.release(opened.fh)
    here.close()
    return found


async def walk_of_a_root(folder: Path) -> Walk:
    """The walk of a new root of the Hub, with a changed file in a folder that the kernel knows, to the last announcement."""
    remote = MemoryRemote()
    here = await World(folder / "here", remote).open()
    there = await World(folder / "there", remote).open()
    pushing = Pusher(there.volume, remote, there.source, there.told.append)
    await there.mkdir("folder")
    await there.write("folder/file", b"x" * 100_000)
    await pushing.push()
    heard = Invalidator(lambda news: None)
    pusher = Pusher(here.volume, remote, here.source, heard.notify)
    scheduler = Scheduler(here.volume, remote, pusher, Pace())
    await scheduler._follow()
    assert await here.read("folder/file") == b"x" * 100_000
    await there.write("folder/file", b"y" * 100_000)
    await there.write("folder/other", b"z")
    await pushing.push()
    walk = await trace(scheduler._follow)
    here.close()
    there.close()
    return walk.until("Invalidator.notify")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for what, walk in (await walks_of_writes(Path(folder))).items():
            print(f"write, {what}: {walk}")
        print(f"root: {await walk_of_a_root(Path(folder))}")


if __name__ == "__main__":
    trio.run(main)
