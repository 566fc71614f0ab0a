"""A write that fails after write(2) returned: the disk or the quota is full, or the disk is broken. The program is told, the file
is what was stored, and running the same command again, now or when there is room, never ends in success over bytes that are not
there.

The kernel's write-back cache takes the bytes first, and by itself goes on showing what was lost.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.foreground import Foreground
from support.home import Home, plain_user
from support.hubprocess import developer
from support.served import Account, ServedHub
from support.small_disk import AS_ROOT, small_disk
from support.writing import at_the_hub

BUCKET = "backup"
MIB = 1 << 20
SIZE = 3 * MIB
DATA = random.Random("new").randbytes(SIZE)
OLD = random.Random("old").randbytes(SIZE)

FAILING = """
# A disk that refuses what is written to drafts from an offset on, while the file named last says so. A real one that is full is in
# `test_a_full_disk`; no test can break one at will.
import pathlib, sys
from bucketfs import disk
from bucketfs.cli import main

flag = pathlib.Path(sys.argv[-1] + '.fails')
true = disk.Disk.pwrite

def pwrite(self, file, offset, data):
    if '/drafts/' in file.path and flag.exists():
        number, first = map(int, flag.read_text().split())
        if offset + len(data) > first:
            disk._fail(OSError(number, 'refused'), 'write', file.path)
    return true(self, file, offset, data)

disk.Disk.pwrite = pwrite
sys.exit(main())
"""


def evict() -> None:
    """Have the kernel forget what it holds, as under pressure."""
    subprocess.run([*AS_ROOT, "tee", "/proc/sys/vm/drop_caches"], input=b"3", stdout=subprocess.DEVNULL, check=True)


@dataclass(eq=False)
class Scene:
    home: Home
    account: Account
    daemon: Foreground

    @property
    def folder(self) -> Path:
        return self.daemon.place

    def fail(self, number: int, first: int = MIB) -> None:
        """From now on writes behind offset ``first`` end in ``number``."""
        self._flag.write_text(f"{number} {first}")

    def heal(self) -> None:
        self._flag.unlink(missing_ok=True)

    @property
    def _flag(self) -> Path:
        return Path(f"{self.daemon.place}.fails")


@pytest.fixture(scope="module")
def scene(new_home: Callable[..., Home]) -> Iterator[Scene]:
    home = new_home()
    (home.root / "Buckets").mkdir()
    (home.root / "new").write_bytes(DATA)
    with ServedHub(home, home.root / "hub") as hub:
        account = hub.account("writer")
        home.extra.update(account.variables())
        home.cli("buck", "create", BUCKET)
        daemon = Foreground.start(home, BUCKET, command=[sys.executable, "-c", FAILING])
        try:
            yield Scene(home, account, daemon)
            daemon.ask("sync")
            with account.plain() as plain:
                found = at_the_hub(plain, BUCKET)
            for path, data in found.items():
                assert data is None or data == (daemon.place / path).read_bytes(), path
        finally:
            daemon.stop()


# How programs write. Each is given the file and raises OSError, or CalledProcessError, when it would tell its user of an error.


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


def rsync(source: Path, file: Path) -> None:
    run("rsync", "-a", source, file)


def rsync_inplace(source: Path, file: Path) -> None:
    run("rsync", "-a", "--inplace", source, file)


def rsync_append(source: Path, file: Path) -> None:
    run("rsync", "-a", "--append", source, file)


def copy(source: Path, file: Path) -> None:
    run("cp", source, file)


def dd(source: Path, file: Path) -> None:
    run("dd", f"if={source}", f"of={file}", "bs=128k", "conv=notrunc", "status=none")


def write_and_close(source: Path, file: Path) -> None:
    with file.open("wb") as out:
        out.write(source.read_bytes())


def write_and_fsync(source: Path, file: Path) -> None:
    with file.open("wb") as out:
        out.write(source.read_bytes())
        out.flush()
        os.fsync(out.fileno())


def go_on_from_its_size(source: Path, file: Path) -> None:
    """As wget -c and curl -C - do."""
    with file.open("ab") as out, source.open("rb") as data:
        data.seek(out.tell())
        out.write(data.read())


def mmap_and_msync(source: Path, file: Path) -> None:
    data = source.read_bytes()
    with closing(Descriptor(file, os.O_RDWR | os.O_CREAT)) as out:
        os.ftruncate(out.number, len(data))
        with mmap.mmap(out.number, len(data)) as mapped:
            mapped[:] = data
            mapped.flush()


class Descriptor:
    def __init__(self, file: Path, flags: int) -> None:
        self.number = os.open(file, flags, 0o644)

    def close(self) -> None:
        os.close(self.number)


PROGRAMS = [
    rsync_inplace,
    rsync,
    rsync_append,
    copy,
    dd,
    write_and_close,
    write_and_fsync,
    go_on_from_its_size,
    mmap_and_msync,
]


def told_when_opened(file: Path) -> int | None:
    """What who opens the file next is told, if anything; the one after is told nothing."""
    try:
        os.close(os.open(file, os.O_RDONLY))
    except OSError as error:
        os.close(os.open(file, os.O_RDONLY))
        return error.errno
    return None


def content(file: Path) -> bytes:
    """The bytes of a file, which are the same, as is its size, when the kernel asks anew."""
    size = file.stat().st_size
    data = file.read_bytes()
    assert len(data) == size
    evict()
    assert file.stat().st_size == size
    assert file.read_bytes() == data, "the kernel showed what is not stored"
    return data


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=["full", "broken"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_new_file(scene: Scene, program: Callable[[Path, Path], None], number: int) -> None:
    """A copy that failed on a full disk would succeed the second time, over bytes that were never stored."""
    source, file = scene.home.root / "new", scene.folder / f"{program.__name__}-{number}"
    scene.fail(number)
    try:
        for _ in range(2):
            with pytest.raises((OSError, subprocess.CalledProcessError)):
                program(source, file)
            if file.exists():
                size = file.stat().st_size
                told_when_opened(file)
                assert file.stat().st_size == size
                assert content(file) == DATA[:size], "there are bytes in the file that were never written"
                assert size <= MIB, "the file is longer than what was stored"
    finally:
        scene.heal()
    program(source, file)
    assert content(file) == DATA


@pytest.mark.parametrize("program", [rsync_inplace, dd, mmap_and_msync])
def test_an_old_file_that_is_written_over(scene: Scene, program: Callable[[Path, Path], None]) -> None:
    """A failed overwrite would leave a file that shows new bytes, which are lost later."""
    source, file = scene.home.root / "new", scene.folder / f"old-{program.__name__}"
    file.write_bytes(OLD)
    scene.daemon.ask("sync")
    evict()
    scene.fail(errno.EIO)
    try:
        for _ in range(2):
            with pytest.raises((OSError, subprocess.CalledProcessError)):
                program(source, file)
            told_when_opened(file)
            assert content(file) in (OLD, DATA[:MIB] + OLD[MIB:])
    finally:
        scene.heal()
    program(source, file)
    assert content(file) == DATA


def test_a_mapping_that_is_given_up_without_msync(scene: Scene) -> None:
    """No call of the program can fail, so the next one that opens the file is told."""
    file = scene.folder / "mapped"
    out = os.open(file, os.O_RDWR | os.O_CREAT)
    os.ftruncate(out, SIZE)
    mapped = mmap.mmap(out, SIZE)
    os.close(out)
    mapped[:] = DATA
    scene.fail(errno.ENOSPC)
    mapped.close()
    scene.heal()
    assert told_when_opened(file) == errno.ENOSPC
    # The size was set and confirmed by a close before a byte was written: these zeros are what the program made.
    assert content(file) == DATA[:MIB] + bytes(SIZE - MIB)


def test_a_log_that_is_appended_to_goes_on_when_there_is_room(scene: Scene) -> None:
    """A program that keeps its file open for months: what was lost is told, and what comes after stands where it should."""
    file = scene.folder / "log"
    with closing(Descriptor(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)) as log:
        os.write(log.number, b"first\n")
        os.fsync(log.number)
        scene.fail(errno.ENOSPC, first=0)
        os.write(log.number, b"lost\n")
        with pytest.raises(OSError):
            os.fsync(log.number)
        assert os.fstat(log.number).st_size == file.stat().st_size == 6
        scene.heal()
        os.write(log.number, b"second\n")
        with suppress(OSError):  # of the loss before, which the kernel told already
            os.fsync(log.number)
        os.fsync(log.number)
        assert os.fstat(log.number).st_size == file.stat().st_size == 13
    told_when_opened(file)
    assert content(file) == b"first\nsecond\n"


def test_a_program_that_was_not_told_leaves_no_hole(scene: Scene) -> None:
    """It writes on behind what was lost, at its own position, until it is told."""
    file = scene.folder / "sequential"
    with pytest.raises(OSError), file.open("wb", buffering=0) as out:
        out.write(DATA[:MIB])
        os.fsync(out.fileno())
        scene.fail(errno.ENOSPC)
        out.write(DATA[MIB : 2 * MIB])
        with pytest.raises(OSError):
            os.fsync(out.fileno())
        scene.heal()
        out.write(DATA[2 * MIB :])
        with pytest.raises(OSError):
            os.ftruncate(out.fileno(), SIZE)
    told_when_opened(file)
    assert content(file) == DATA[:MIB]


def test_everybody_who_has_the_file_open_is_told(scene: Scene) -> None:
    """A program would close its file without an error although its bytes were lost."""
    file = scene.folder / "shared"
    first, second = (os.open(file, os.O_RDWR | os.O_CREAT) for _ in range(2))
    reader = os.open(file, os.O_RDONLY)
    scene.fail(errno.ENOSPC)
    os.pwrite(first, DATA, 0)
    for descriptor in (first, second):
        with pytest.raises(OSError) as caught:
            os.close(descriptor)
        assert caught.value.errno == errno.ENOSPC
    scene.heal()
    assert os.fstat(reader).st_size == MIB
    assert os.pread(reader, SIZE, 0) == DATA[:MIB]
    os.close(reader)
    assert told_when_opened(file) == errno.ENOSPC
    assert content(file) == DATA[:MIB]


def test_a_size_that_was_set_and_never_written_stays(scene: Scene) -> None:
    """An image of a disk: its holes are meant, and a lost write takes nothing of them."""
    file = scene.folder / "image"
    run("truncate", "-s", str(SIZE), file)
    scene.fail(errno.ENOSPC)
    with pytest.raises(OSError), file.open("r+b") as image:
        image.seek(2 * MIB)
        image.write(b"block")
    scene.heal()
    told_when_opened(file)
    assert content(file) == bytes(SIZE)


def test_a_database(scene: Scene) -> None:
    """A database would be damaged by a full disk, or keep a row that was never stored."""
    file = scene.folder / "db"

    def insert(number: int) -> None:
        with closing(sqlite3.connect(file)) as database:
            database.execute("create table if not exists t (n integer, data blob)")
            with database:
                database.execute("insert into t values (?, ?)", (number, DATA[: MIB // 2]))

    insert(0)
    insert(1)
    scene.fail(errno.ENOSPC)
    for number in (2, 3):
        with pytest.raises(sqlite3.Error):
            insert(number)
        evict()
    scene.heal()
    told_when_opened(file)
    for name in ("db-journal", "db"):
        if (scene.folder / name).exists():
            told_when_opened(scene.folder / name)
    insert(4)
    evict()
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert database.execute("select n, length(data) from t").fetchall() == [(n, MIB // 2) for n in (0, 1, 4)]


READ_ONLY_FILE = """
# A file that its owner may not open for writing, as git's objects; written by who made it. Tells what it was told, and the sizes.
import json, os, sys, time
path, size = sys.argv[1], int(sys.argv[2])
said = {}

def told(name, act):
    try:
        act()
    except OSError as error:
        said[name] = error.errno

file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o444)
for at in range(0, size, 1 << 20):
    os.write(file, bytes([at >> 20 or 255]) * (1 << 20))
told('close', lambda: os.close(file))
told('open', lambda: os.close(os.open(path, os.O_RDONLY)))
until = time.monotonic() + 20
while os.stat(path).st_size == size and time.monotonic() < until:
    time.sleep(0.01)
said['size'] = os.stat(path).st_size
said['read'] = len(open(path, 'rb').read())
print(json.dumps(said))
"""


def test_a_mount_without_rights_over_the_file(new_home: Callable[..., Home]) -> None:
    """It cannot have the kernel take the length of the file while that is open; who asks after that hears the right one."""
    home = new_home(plain_user())
    place = home.root / "Buckets"
    place.mkdir()
    os.chown(place, home.user.uid or -1, -1)
    daemon = Foreground.start(home, command=[sys.executable, "-c", FAILING])
    try:
        Path(f"{place}.fails").write_text(f"{errno.ENOSPC} {MIB}")
        file = place / "home" / "object"
        done = home.run([sys.executable, "-I", "-S", "-c", READ_ONLY_FILE, file, str(SIZE)])
        assert json.loads(done.stdout) == {"close": errno.ENOSPC, "open": errno.ENOSPC, "size": MIB, "read": MIB}
    finally:
        daemon.stop()


@pytest.mark.timeout(120)
def test_a_full_disk(home: Home) -> None:
    """The same with a disk that is truly full, and no Hub to push to."""
    (home.root / "Buckets").mkdir()
    (home.root / "new").write_bytes(DATA * 4)
    with small_disk(home.root / "small", 12) as disk, ServedHub(home, home.root / "hub") as hub:
        home.extra.update(hub.account("writer").variables())
        home.cli("buck", "create", BUCKET)
        daemon = Foreground.start(home, "--state", disk.folder, BUCKET)
        try:
            hub.kill()
            file = daemon.place / "big"
            for _ in range(2):
                with pytest.raises(subprocess.CalledProcessError):
                    rsync_inplace(home.root / "new", file)
                size = file.stat().st_size
                assert 0 < size < len(DATA) * 4
                assert told_when_opened(file) == errno.ENOSPC
                assert content(file) == (DATA * 4)[:size]
            daemon.kill()
            hub.start()
            daemon = Foreground.start(home, "--state", disk.folder, BUCKET)
            assert content(file) == (DATA * 4)[:size]
            disk.resize(64)
            rsync_inplace(home.root / "new", file)
            assert content(file) == DATA * 4
            daemon.ask("sync")
        finally:
            daemon.stop()


@pytest.mark.timeout(120)
def test_a_quota(home: Home) -> None:
    """A copy over the quota would succeed the second time, over bytes that were never stored."""
    (home.root / "new").write_bytes(DATA)
    with developer(home, "--account-size", "2MiB"):
        mount = home.mount()
        (mount.path / BUCKET).mkdir()
        file = mount.path / BUCKET / "big"
        for _ in range(2):
            with pytest.raises(subprocess.CalledProcessError):
                rsync_inplace(home.root / "new", file)
            size = file.stat().st_size
            assert size < SIZE
            assert told_when_opened(file) == errno.EDQUOT
            assert content(file) == DATA[:size]
        mount.umount()
