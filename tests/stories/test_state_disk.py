"""Trouble with the folders of a mount: a disk that turns read-only, damage to what is on it, and two daemons that want one."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import acknowledged
from support.foreground import Foreground
from support.home import Home, program
from support.served import ServedHub
from support.small_disk import AS_ROOT, small_disk

BUCKET = "dear"

READ_ONLY = """
# A disk that is read-only while the file named last exists. A kernel turns one so under open files when it finds damage, which no
# test can ask of every file system.
import errno, pathlib, sys
from bucketfs import disk
from bucketfs.cli import main

flag = pathlib.Path(sys.argv[-1] + '.read-only')

def guard(name, path_of):
    true = getattr(disk.Disk, name)
    def guarded(self, first, *rest, **named):
        path = path_of(first)
        if '/state/' in path and flag.exists():
            disk._fail(OSError(errno.EROFS, 'Read-only file system'), name, path)
        return true(self, first, *rest, **named)
    setattr(disk.Disk, name, guarded)

for name in ('write', 'pwrite', 'truncate', 'allocate'):
    guard(name, lambda file: file.path)
for name in ('_open', 'rename', 'unlink', 'make_folder', 'replace_file'):
    guard(name, str)
sys.exit(main())
"""


@dataclass(eq=False)
class Scene:
    home: Home
    hub: ServedHub
    stack: ExitStack

    def mount(self, *arguments: str | Path, command: list[str] | None = None) -> Foreground:
        daemon = Foreground.start(self.home, *arguments, BUCKET, command=command or [])
        self.stack.callback(self._end, daemon)
        return daemon

    def _end(self, daemon: Foreground) -> None:
        if daemon.process.poll() is None:
            daemon.stop()

    @property
    def log(self) -> str:
        return "".join(path.read_text() for path in self.home.root.joinpath("state").rglob("*.log"))

    @property
    def journal(self) -> Path:
        (journal,) = self.home.state.glob("mounts/*/buckets/*")
        return journal


@contextmanager
def scene(home: Home) -> Iterator[Scene]:
    (home.root / "Buckets").mkdir()
    with ExitStack() as stack:
        hub = stack.enter_context(ServedHub(home, home.root / "hub"))
        home.extra.update(hub.account("writer").variables())
        home.cli("buck", "create", BUCKET)
        yield Scene(home, hub, stack)


def eventually(question: Callable[[], bool], limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not question():
        assert time.monotonic() < deadline, f"not within {limit_s} s"
        time.sleep(0.1)


def refused(act: Callable[[], object]) -> None:
    with pytest.raises(OSError) as raised:
        act()
    assert raised.value.errno in (errno.EROFS, errno.EIO)


@pytest.mark.timeout(120)
def test_the_disk_turns_read_only_and_writable_again(home: Home) -> None:
    """A disk that turns read-only would crash the mount, or programs would be told of success for what cannot be kept."""
    with scene(home) as at:
        daemon = at.mount(command=[sys.executable, "-c", READ_ONLY])
        folder = daemon.place
        (folder / "pushed").write_bytes(b"p" * 5000)
        daemon.ask("sync")
        (folder / "waits").write_bytes(b"w" * 5000)
        tree = acknowledged.look(folder)
        flag = Path(f"{folder}.read-only")
        flag.touch()
        refused(lambda: (folder / "new").write_bytes(b"new"))
        refused(lambda: (folder / "pushed").write_bytes(b"other"))
        refused(lambda: (folder / "waits").rename(folder / "moved"))
        refused(lambda: (folder / "pushed").unlink())
        refused((folder / "made").mkdir)
        assert acknowledged.look(folder) == tree
        with pytest.raises(Exception, match="Read-only file system"):
            daemon.ask("sync")
        assert "Read-only file system" in daemon.ask("status")["error"]
        assert daemon.process.poll() is None and acknowledged.look(folder) == tree
        # No restart is needed, and nobody has to ask.
        flag.unlink()
        eventually(lambda: daemon.ask("status")["error"] is None)
        (folder / "new").write_bytes(b"new")
        (folder / "waits").rename(folder / "moved")
        daemon.ask("sync")
        tree = {"pushed": b"p" * 5000, "moved": b"w" * 5000, "new": b"new"}
        assert acknowledged.look(folder) == tree
        daemon.kill()
        daemon = at.mount()
        assert acknowledged.look(folder) == tree


def test_a_read_only_disk_at_the_start_is_one_clear_line(home: Home) -> None:
    """A mount on a read-only disk would fail without saying why, or damage the changes that wait there."""
    with scene(home) as at, small_disk(home.root / "small", 16) as disk:
        daemon = at.mount("--state", disk.folder / "state")
        at.hub.kill()
        (daemon.place / "waits").write_bytes(b"w")
        daemon.kill()
        at.hub.start()
        remount = [*AS_ROOT, "mount", "-o"]
        subprocess.run([*remount, "remount,ro", disk.folder], check=True)
        line = home.complaint("mount", "--state", disk.folder / "state", BUCKET, daemon.place)
        assert "Read-only file system" in line and "make that disk writable" in line
        subprocess.run([*remount, "remount,rw", disk.folder], check=True)
        daemon = at.mount("--state", disk.folder / "state")
        assert acknowledged.look(daemon.place) == {"waits": b"w"}
        assert daemon.stop() == 0


def test_a_second_daemon_on_the_same_state_is_refused(home: Home) -> None:
    """Two of one machine that cannot see each other: other mounts, another runtime folder, the same state."""
    with scene(home) as at:
        daemon = at.mount()
        (daemon.place / "mine").write_bytes(b"mine")
        other = home.root / "other-run"
        other.mkdir(mode=0o700)
        hidden = ["unshare", "--mount", "sh", "-c", f'umount -l "{daemon.place}" && exec "$@"', "sh"]
        ended = subprocess.run(
            [*AS_ROOT, *hidden, *program(), "mount", "--foreground", BUCKET, str(daemon.place)],
            env=home.environment() | {"XDG_RUNTIME_DIR": str(other)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ended.returncode != 0
        assert "mounted already" in ended.stderr and "--state" in ended.stderr and "Traceback" not in ended.stderr
        (daemon.place / "mine too").write_bytes(b"too")
        assert acknowledged.look(daemon.place) == {"mine": b"mine", "mine too": b"too"}


@pytest.mark.timeout(120)
def test_damage_to_a_journal_and_to_a_draft_costs_what_was_hit(home: Home) -> None:
    """One damaged sector would cost all changes that wait, or keep the mount from starting."""
    with scene(home) as at:
        daemon = at.mount()
        at.hub.kill()  # so that all of it waits
        tree = {f"f{number:02}": b"%d" % number * 2000 for number in range(40)}
        for name, data in tree.items():
            (daemon.place / name).write_bytes(data)
        daemon.kill()
        (segment,) = at.journal.glob("segment-*")
        record = segment.read_bytes()
        where = record.index(b'"f30"')
        segment.write_bytes(record[:where] + b'"f3\x7f' + record[where + 4 :])
        hit = next(path for path in (at.journal / "drafts").glob("*/*") if path.read_bytes() == tree["f10"])
        os.truncate(hit, 100)
        at.hub.start()
        daemon = at.mount()
        found = acknowledged.look(daemon.place)
        # The name that was made before its bytes were lost is there, and says nothing wrong.
        assert found.pop("f10") == b""
        assert found == {name: data for name, data in tree.items() if name < "f30" and name != "f10"}
        (aside,) = [path for path in (at.journal / "set-aside").iterdir() if path.name.startswith("segment")]
        assert b"f31" in aside.read_bytes()
        assert "part of the journal is damaged" in at.log and str(aside) in at.log
        # The bytes of the files that were hit are kept, too, for a person.
        kept = {path.read_bytes() for path in (at.journal / "set-aside").iterdir()}
        assert {data for name, data in tree.items() if name >= "f31"} <= kept
        daemon.ask("sync")
        assert acknowledged.look(daemon.place) == found | {"f10": b""}


def spoil_blocks(cache: Path) -> None:
    """One byte of each block is another one, in files and in rows."""
    for path in cache.rglob("blocks/??/*"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    (path,) = cache.rglob("index.sqlite")
    with closing(sqlite3.connect(path)) as database, database:
        for key, data in database.execute("select key, data from small").fetchall():
            database.execute("update small set data = ? where key = ?", (b"X" + data[1:], key))


def spoil_database(cache: Path) -> None:
    """It holds nothing but zeros, as after a power cut."""
    (path,) = cache.rglob("index.sqlite")
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.whole
@pytest.mark.timeout(120)
def test_damage_to_the_cache_costs_a_fetch(home: Home) -> None:
    """The cut of this for every day is in tests/cache/test_cache.py, without a mount."""
    with scene(home) as at:
        daemon = at.mount()
        tree = {f"small{number}": b"%d" % number * 100 for number in range(20)}
        tree |= {f"large{number}": bytes([number]) * 300_000 for number in range(5)}
        for name, data in tree.items():
            (daemon.place / name).write_bytes(data)
        daemon.ask("sync")
        for spoil in (spoil_blocks, spoil_database):
            assert acknowledged.look(daemon.place) == tree
            assert daemon.stop() == 0
            spoil(home.cache)
            daemon = at.mount()
            assert acknowledged.look(daemon.place) == tree, spoil.__name__
            assert (daemon.ask("status")["cache"]["corrupt"] > 0) == (spoil is spoil_blocks)
