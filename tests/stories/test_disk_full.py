"""A full disk, under the journal, the cache and the Hub in turn: the writer is told before anything is taken from it, what was
taken stays, reading and deleting go on, and with room everything goes on by itself."""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import acknowledged
from support.foreground import Foreground
from support.home import Home
from support.served import Account, ServedHub
from support.small_disk import SmallDisk, small_disk
from support.writing import at_the_hub

from bucketfs.errors import BucketfsError

BUCKET = "full"
MIB = 1 << 20
HUB_RESERVE_MIB = 32
"""A Hub leaves so much of its disk alone."""


@dataclass(eq=False)
class Scene:
    home: Home
    hub: ServedHub
    account: Account
    disk: SmallDisk
    stack: ExitStack

    def mount(self, *arguments: str | Path) -> Foreground:
        daemon = Foreground.start(self.home, *arguments, BUCKET)
        self.stack.callback(self._end, daemon)
        return daemon

    def _end(self, daemon: Foreground) -> None:
        if daemon.process.poll() is None:
            daemon.stop()

    def at_the_hub(self) -> acknowledged.Tree:
        with self.account.plain() as plain:
            return at_the_hub(plain, BUCKET)


@contextmanager
def scene(home: Home, size_mib: int, *, hub_on_it: bool = False) -> Iterator[Scene]:
    (home.root / "Buckets").mkdir()
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(home.root / "small", size_mib))
        hub = stack.enter_context(ServedHub(home, disk.folder / "hub" if hub_on_it else home.root / "hub"))
        account = hub.account("writer")
        home.extra.update(account.variables())
        home.cli("buck", "create", BUCKET)
        yield Scene(home, hub, account, disk, stack)


def write_until_full(folder: Path, prefix: str, files_max: int) -> acknowledged.Tree:
    """Files of about a MiB until one is refused. Returns those whose close() returned; the refused one is removed again."""
    kept: acknowledged.Tree = {}
    for number in range(files_max):
        data = random.Random(f"{prefix}{number}").randbytes(MIB + number)
        try:
            (folder / f"{prefix}{number}").write_bytes(data)
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
            os.unlink(folder / f"{prefix}{number}")
            return kept
        kept[f"{prefix}{number}"] = data
    return kept


def eventually(question: Callable[[], bool], limit_s: float = 30) -> None:
    deadline = time.monotonic() + limit_s
    while not question():
        assert time.monotonic() < deadline, f"not within {limit_s} s"
        time.sleep(0.1)


@pytest.mark.timeout(120)
def test_the_journal_has_no_room(home: Home) -> None:
    """On a full disk a program would be told of success for bytes that are lost, or nothing could be deleted to make room."""
    with scene(home, 24) as at:
        daemon = at.mount("--state", at.disk.folder)
        folder = daemon.place
        at.hub.kill()  # so that nothing makes room
        kept = write_until_full(folder, "a", 40)
        assert 10 < len(kept) < 24, "the disk was not full, or was full too soon"
        assert acknowledged.look(folder) == kept
        # Deleting works, because room was kept for it.
        somebody = at.disk.fill()
        for name in list(kept)[:3]:
            (folder / name).unlink()
            del kept[name]
        assert acknowledged.look(folder) == kept
        # A kill in this state: it comes up again on the full disk.
        at.hub.start()
        daemon.kill()
        daemon = at.mount("--state", at.disk.folder)
        assert acknowledged.look(folder) == kept
        daemon.ask("sync")
        # Pushed changes give their room back, and somebody else too. Nobody tells the mount, and no restart is needed.
        somebody.unlink()
        more = write_until_full(folder, "b", 4)
        assert len(more) == 4, "there is room again, and it was not taken"
        daemon.ask("sync")
        kept.update(more)
        assert acknowledged.look(folder) == kept == at.at_the_hub()
        assert daemon.ask("status")["error"] is None


@pytest.mark.timeout(120)
def test_the_cache_has_no_room(home: Home) -> None:
    """Clean blocks are nobody's only copy: nobody hears of it when they cannot be kept."""
    with scene(home, 4) as at:
        daemon = at.mount("--cache", at.disk.folder / "cache", "--memory-size", "2M")
        folder = daemon.place
        kept = write_until_full(folder, "c", 12)
        assert len(kept) == 12
        daemon.ask("sync")
        daemon.kill()
        at.disk.fill()
        daemon = at.mount("--cache", at.disk.folder / "cache", "--memory-size", "2M")
        for _ in range(2):
            assert acknowledged.look(folder) == kept
        (folder / "more").write_bytes(bytes(MIB))
        kept["more"] = bytes(MIB)
        daemon.ask("sync")
        assert at.at_the_hub() == acknowledged.look(folder) == kept


@pytest.mark.timeout(120)
def test_the_hub_has_no_room(home: Home) -> None:
    """A full disk at the Hub would lose changes, stop reading, or need a restart after there is room again."""
    with scene(home, HUB_RESERVE_MIB + 16, hub_on_it=True) as at:
        daemon = at.mount()
        folder = daemon.place
        (folder / "first").write_bytes(b"1")
        daemon.ask("sync")
        kept = write_until_full(folder, "d", 24)
        assert len(kept) == 24, "the writer was told of a disk that is not its own"
        kept["first"] = b"1"
        with pytest.raises(BucketfsError):
            daemon.ask("sync")
        status = daemon.ask("status")
        assert status["pending_count"] > 0 and status["error"]
        # What the Hub has it still gives, and what it lacks is here.
        assert acknowledged.look(folder) == kept
        assert at.at_the_hub() == {"first": b"1"}
        (folder / "d0").unlink()
        del kept["d0"]
        # Kill both in this state, and let the Hub come up on a disk with next to no room.
        daemon.kill()
        at.hub.kill()
        somebody = at.disk.fill(leave_bytes=MIB)
        at.hub.start()
        daemon = at.mount()
        assert acknowledged.look(folder) == kept
        somebody.unlink()
        at.disk.resize(HUB_RESERVE_MIB + 96)
        # By itself: nobody asks, the next try after a pause finds room.
        eventually(lambda: daemon.ask("status")["pending_count"] == 0, 60)
        assert at.at_the_hub() == acknowledged.look(folder) == kept
        assert daemon.ask("status")["error"] is None


@pytest.mark.timeout(120)
def test_the_embedded_hub_has_no_room_at_all(home: Home) -> None:
    """It needs some to start; the mount does not need the Hub to start."""
    (home.root / "Buckets").mkdir()
    (home.root / "data").rmdir()
    with small_disk(home.root / "small", HUB_RESERVE_MIB + 16) as disk:
        (home.root / "data").symlink_to(disk.folder)
        daemon = Foreground.start(home)
        folder = daemon.place / "home"
        (folder / "pushed").write_bytes(b"p" * 50_000)
        daemon.ask("sync")
        # The Hub outlives a mount that was killed by a few seconds; on its way out it writes a last time.
        daemon.kill()
        eventually(lambda: not list(disk.folder.rglob("hub.sqlite-wal")))
        # Nor does the room help that it had kept for this.
        next(disk.folder.rglob("reserve")).unlink()
        somebody = disk.fill()
        with (disk.folder / "the rest").open("wb", buffering=0) as file, pytest.raises(OSError):
            while True:
                file.write(bytes(512))
        daemon = Foreground.start(home)
        try:
            assert (folder / "pushed").read_bytes() == b"p" * 50_000
            (folder / "waits").write_bytes(b"w")
            with pytest.raises(BucketfsError):
                daemon.ask("sync")
            (bucket,) = daemon.ask("status")["buckets"]
            assert bucket["paused"] == "room" and f"make room on the disk of {home.data}" in bucket["hint"], bucket
            log = "".join(path.read_text() for path in (home.root / "state").rglob("*.log"))
            assert "the embedded Hub does not start" in log and "is full" in log and "Traceback" not in log
            somebody.unlink()
            eventually(lambda: daemon.ask("status")["pending_count"] == 0, 90)
            assert acknowledged.look(folder) == {"pushed": b"p" * 50_000, "waits": b"w"}
        finally:
            daemon.stop()
