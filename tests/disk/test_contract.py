"""One contract for the real disk and for the faulty one that crash tests use."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio
from support.faulty_disk import FaultyDisk, Stopped

from bucketfs.disk import _ERRORS, Disk, Workers
from bucketfs.errors import Busy, DiskFailed, Exists, IsADirectory, NoSpace, NotADirectory, NotFound


@pytest.fixture(params=["real", "faulty"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Disk, str]:
    if request.param == "real":
        return Disk(), str(tmp_path)
    disk = FaultyDisk()
    disk.make_folder("/place")
    return disk, "/place"


def test_offsets_and_gaps(place: tuple[Disk, str]) -> None:
    """Bytes are read back where they were written, gaps as zeros."""
    disk, folder = place
    file = disk.open(f"{folder}/a", create=True)
    disk.pwrite(file, 4, b"efgh")
    disk.pwrite(file, 0, memoryview(b"ab"))
    assert disk.pread(file, 0, 100) == b"ab\0\0efgh"
    assert disk.pread(file, 2, 3) == b"\0\0e"
    assert disk.pread(file, 8, 5) == b""
    assert disk.size(file) == disk.file_size(f"{folder}/a") == 8
    disk.truncate(file, 3)
    disk.truncate(file, 5)
    assert disk.read_file(f"{folder}/a") == b"ab\0\0\0"
    disk.allocate(file, 16)
    assert disk.size(file) == 16
    disk.fsync(file)
    disk.close(file)


def test_appends_go_to_the_end_after_a_cut(place: tuple[Disk, str]) -> None:
    """The journal goes on at the end after a broken record was cut off."""
    disk, folder = place
    file = disk.open_append(f"{folder}/a", exclusive=True)
    disk.write(file, b"one two")
    disk.truncate(file, 4)
    disk.write(file, b"three")
    disk.close(file)
    again = disk.open_append(f"{folder}/a")
    disk.write(again, b"!")
    disk.close(again)
    assert disk.read_file(f"{folder}/a") == b"one three!"


def test_names(place: tuple[Disk, str]) -> None:
    """Files and folders are made, replaced, renamed and removed."""
    disk, folder = place
    assert disk.make_folder(f"{folder}/sub") is True
    assert disk.make_folder(f"{folder}/sub") is False
    disk.replace_file(f"{folder}/sub/a", b"first")
    disk.replace_file(f"{folder}/sub/a", b"2nd")
    disk.replace_file(f"{folder}/sub/b", b"b")
    assert sorted(disk.list_folder(f"{folder}/sub")) == ["a", "b"]
    assert disk.read_file(f"{folder}/sub/a") == b"2nd"
    disk.rename(f"{folder}/sub/a", f"{folder}/sub/b")
    disk.rename(f"{folder}/sub/b", f"{folder}/c")
    assert disk.read_file(f"{folder}/c") == b"2nd"
    assert disk.list_folder(f"{folder}/sub") == []
    disk.unlink(f"{folder}/c")
    disk.fsync_folder(folder)
    assert disk.list_folder(folder) == ["sub"]
    assert disk.free_bytes(folder) > 0


def test_errors_are_ours(place: tuple[Disk, str]) -> None:
    """Each failure names the path and what was tried."""
    disk, folder = place
    for missing in (
        lambda: disk.open(f"{folder}/none"),
        lambda: disk.read_file(f"{folder}/none"),
        lambda: disk.file_size(f"{folder}/none"),
        lambda: disk.unlink(f"{folder}/none"),
        lambda: disk.rename(f"{folder}/none", f"{folder}/other"),
        lambda: disk.list_folder(f"{folder}/none"),
        lambda: disk.make_folder(f"{folder}/none/below"),
        lambda: disk.fsync_folder(f"{folder}/none"),
        lambda: disk.open(f"{folder}/none/below", create=True),
    ):
        with pytest.raises(NotFound, match="none"):
            missing()
    file = disk.open(f"{folder}/a", exclusive=True)
    with pytest.raises(Exists):
        disk.open(f"{folder}/a", exclusive=True)
    with pytest.raises(NotADirectory):
        disk.list_folder(f"{folder}/a")
    with pytest.raises(IsADirectory):
        disk.open(folder)
    disk.close(file)


def test_a_lock_is_held_by_one(place: tuple[Disk, str]) -> None:
    """Two daemons never write one journal."""
    disk, folder = place
    lock = disk.lock_file(f"{folder}/lock")
    with pytest.raises(Busy):
        disk.lock_file(f"{folder}/lock")
    assert disk.is_locked(f"{folder}/lock")
    disk.close(lock)
    assert not disk.is_locked(f"{folder}/lock")
    disk.close(disk.lock_file(f"{folder}/lock"))


def test_a_full_device_is_no_space() -> None:
    """A full disk is told from a broken one."""
    disk = Disk()
    file = disk.open("/dev/full")
    with pytest.raises(NoSpace, match="/dev/full"):
        disk.write(file, b"x")
    with pytest.raises(NoSpace):
        disk.pwrite(file, 0, b"x")
    disk.close(file)
    with pytest.raises(DiskFailed):
        disk.close(file)  # EBADF is in no table


def test_short_writes_and_reads_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system call that did only a part loses no bytes."""
    real_write, real_pwrite, real_pread = os.write, os.pwrite, os.pread
    monkeypatch.setattr(os, "write", lambda fd, data: real_write(fd, bytes(data)[:3]))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real_pwrite(fd, bytes(data)[:3], at))
    monkeypatch.setattr(os, "pread", lambda fd, size, at: real_pread(fd, min(size, 2), at))
    disk = Disk()
    appended = disk.open_append(tmp_path / "a", create=True)
    disk.write(appended, b"0123456789")
    placed = disk.open(tmp_path / "b", create=True)
    disk.pwrite(placed, 1, b"0123456789")
    assert disk.pread(placed, 0, 64) == b"\x000123456789"
    assert disk.pread(appended, 0, 10) == b"0123456789"
    disk.close(appended)
    disk.close(placed)


def test_every_row_of_the_table_names_an_errno() -> None:
    """The table of errnos holds no number that is none."""
    assert all(number in errno.errorcode for number in _ERRORS)
    assert _ERRORS[errno.ENOSPC] is _ERRORS[errno.EDQUOT] is NoSpace


async def test_one_worker_works_one_after_the_other() -> None:
    """Records are written in the order asked."""
    workers = Workers(1)
    done: list[int] = []
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(workers.run, done.append, number)
    assert sorted(done) == list(range(5))
    with pytest.raises(ZeroDivisionError):
        await workers.run(divmod, 1, 0)


class TestTheFaultyDisk:
    """What it forgets, since the crash tests stand on it."""

    def test_unsynced_bytes_and_names_are_forgotten(self) -> None:
        """The crash tests forget what a power loss would take."""
        disk = FaultyDisk()
        disk.make_folder("/f")
        disk.fsync_folder("/")
        file = disk.open("/f/a", create=True)
        disk.pwrite(file, 0, b"kept")
        disk.fsync(file)
        assert disk.after_power_loss().everything() == {}, "the name was not synced"
        disk.fsync_folder("/f")
        disk.pwrite(file, 0, b"gone")
        disk.rename("/f/a", "/f/b")
        assert disk.after_power_loss().everything() == {"/f/a": b"kept"}
        assert disk.after_kill().everything() == {"/f/b": b"gone"}
        seen = {tuple(disk.after_power_loss(seed).everything().items()) for seed in range(200)}
        assert {(("/f/a", b"kept"),), (("/f/b", b"gone"),), (("/f/a", b"gone"),), (("/f/a", b"gopt"),)} <= seen
        assert all(len(names) == 1 for names in seen), "a rename is one step"

    def test_it_stops_at_the_call_it_was_told(self) -> None:
        """The crash tests stop at each call, done or half done."""
        for after in (False, True):
            disk = FaultyDisk(stop_at=2, stop_after=after)
            file = disk.open_append("/a", create=True)
            with pytest.raises(Stopped):
                disk.write(file, b"0123")
            with pytest.raises(Stopped):
                disk.fsync(file)
            assert disk.after_kill().read_file("/a") == (b"0123" if after else b"01")

    def test_a_failed_fsync_lies_afterwards(self) -> None:
        """The crash tests know that a second fsync proves nothing."""
        disk = FaultyDisk(fail_at={3: DiskFailed("bad sector")})
        file = disk.open_append("/a", create=True)
        disk.write(file, b"0123")
        with pytest.raises(DiskFailed):
            disk.fsync(file)
        disk.fsync(file)
        disk.fsync_folder("/")
        assert disk.after_power_loss().read_file("/a") == b""
        assert disk.after_kill().read_file("/a") == b"0123"
