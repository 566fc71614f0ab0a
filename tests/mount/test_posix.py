"""What POSIX and Linux promise of files, asked of a mount; and first of the disk, so that the questions are right."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import stat
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.kernel import EXCHANGE, NOREPLACE, refused, renameat2


@pytest.fixture(params=["disk", "mount"])
def folder(request: pytest.FixtureRequest, stage: Path) -> Iterator[Path]:
    if request.param == "mount":
        yield request.getfixturevalue("bucket")
    else:
        yield Path(tempfile.mkdtemp(dir=stage))


def python(code: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Another process; what it maps or locks is its own affair (a page fault that fails kills it and not the tests)."""
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


# Bytes


def test_write_read_back_and_size(folder: Path) -> None:
    """A file holds what was written, of every size around a block."""
    path = folder / "f"
    data = random.Random(0).randbytes(700_000)
    assert path.write_bytes(data) == len(data)
    assert path.read_bytes() == data
    assert path.stat().st_size == len(data)
    assert path.stat().st_blocks * 512 >= len(data) - 512 * 8


def test_write_at_any_offset(folder: Path) -> None:
    """Random writes land where they belong."""
    path = folder / "f"
    path.write_bytes(b"." * 600_000)
    with path.open("r+b") as file:
        for offset in (0, 262_143, 262_144, 524_280, 599_999):
            file.seek(offset)
            file.write(b"X")
    expected = bytearray(b"." * 600_000)
    for offset in (0, 262_143, 262_144, 524_280, 599_999):
        expected[offset : offset + 1] = b"X"
    assert path.read_bytes() == expected


def test_random_edits_beside_plain_bytes(folder: Path) -> None:
    """Writes, truncations and reads at random places, closed and opened in between, beside a bytearray."""
    chance = random.Random(7)
    path, model = folder / "f", bytearray()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    for _ in range(400):
        offset = chance.choice((0, 1, 4095, 4096, 262_143, 262_144, 300_000, chance.randrange(1_000_000)))
        match chance.randrange(5):
            case 0 | 1:
                data = chance.randbytes(chance.choice((1, 100, 4096, 70_000)))
                os.pwrite(descriptor, data, offset)
                model.extend(bytes(max(0, offset + len(data) - len(model))))
                model[offset : offset + len(data)] = data
            case 2:
                os.ftruncate(descriptor, offset)
                del model[offset:]
                model.extend(bytes(offset - len(model)))
            case 3:
                assert os.pread(descriptor, 80_000, offset) == model[offset : offset + 80_000]
            case 4:
                os.close(descriptor)
                descriptor = os.open(path, os.O_RDWR)
        assert os.fstat(descriptor).st_size == len(model)
    os.close(descriptor)
    assert path.read_bytes() == model


def test_truncate_down_then_up_shows_zeros(folder: Path) -> None:
    """Bytes that were cut off do not come back."""
    path = folder / "f"
    path.write_bytes(b"secret" * 100_000)
    os.truncate(path, 10)
    assert path.read_bytes() == b"secretsecr"
    os.truncate(path, 300_000)
    assert path.read_bytes() == b"secretsecr" + bytes(299_990)


def test_open_with_trunc_empties(folder: Path) -> None:
    """ "> file" empties it."""
    path = folder / "f"
    path.write_bytes(b"old")
    path.open("wb").close()
    assert path.stat().st_size == 0
    assert path.read_bytes() == b""


def test_sparse_file(folder: Path) -> None:
    """A hole reads as zeros and takes no room."""
    path = folder / "f"
    with path.open("wb") as file:
        file.seek(50 << 20)
        file.write(b"end")
    assert path.stat().st_size == (50 << 20) + 3
    with path.open("rb") as file:
        file.seek((25 << 20) - 7)
        assert file.read(100_000) == bytes(100_000)
        file.seek(-5, os.SEEK_END)
        assert file.read() == b"\0\0end"


def test_what_one_descriptor_writes_another_reads(folder: Path) -> None:
    """Two programs see one file."""
    path = folder / "f"
    with path.open("wb", buffering=0) as writer, path.open("rb", buffering=0) as reader:
        for number in range(20):
            writer.write(b"%05d" % number)
            assert reader.read(10) == b"%05d" % number


def test_append(folder: Path) -> None:
    """O_APPEND writes at the end, wherever that is by then."""
    path = folder / "f"
    path.write_bytes(b"one")
    with path.open("ab") as file:
        file.write(b"two")
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, b"three")
    os.close(descriptor)
    assert path.read_bytes() == b"onetwothree"


def test_append_from_two_processes_loses_nothing(folder: Path) -> None:
    """Two processes can append to one log."""
    path = folder / "f"
    path.touch()
    code = (
        "import os, sys\n"
        "descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)\n"
        "for number in range(500): os.write(descriptor, (sys.argv[2] * 9 + '\\n').encode())\n"
    )
    writers = [python(code, path, letter) for letter in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    for writer in writers:
        writer.communicate()
    lines = path.read_text().splitlines()
    assert sorted(lines) == ["a" * 9] * 500 + ["b" * 9] * 500


def test_exclusive_creation_has_one_winner(folder: Path) -> None:
    """Lock files work."""
    path = folder / "f"
    code = (
        "import os, sys\n"
        "try: os.open(sys.argv[1], os.O_CREAT | os.O_EXCL | os.O_WRONLY)\n"
        "except FileExistsError: print('lost')\n"
        "else: print('won')\n"
    )
    answers = [process.communicate(timeout=60)[0].strip() for process in [python(code, path) for _ in range(4)]]
    assert sorted(answers) == ["lost", "lost", "lost", "won"]
    with refused(errno.EEXIST):
        os.open(path, os.O_CREAT | os.O_EXCL)


def test_unlinked_file_lives_while_open(folder: Path) -> None:
    """A program keeps reading a file that was removed under it."""
    path = folder / "f"
    path.write_bytes(b"still here")
    with path.open("r+b", buffering=0) as file:
        path.unlink()
        assert not path.exists()
        assert os.fstat(file.fileno()).st_nlink == 0
        assert file.read() == b"still here"
        file.write(b", and growing")
        path.write_bytes(b"another")
        file.seek(0)
        assert file.read() == b"still here, and growing"
    assert path.read_bytes() == b"another"
    assert os.listdir(folder) == ["f"]


def test_replaced_file_lives_while_open(folder: Path) -> None:
    """A program keeps reading a file that was replaced under it."""
    old, new = folder / "old", folder / "new"
    old.write_bytes(b"old" * 100_000)
    new.write_bytes(b"new")
    with old.open("rb", buffering=0) as file:
        new.replace(old)
        assert file.read() == b"old" * 100_000
    assert old.read_bytes() == b"new"


def test_fsync_of_files_and_folders(folder: Path) -> None:
    """fsync works on files and folders."""
    path = folder / "f"
    with path.open("wb") as file:
        file.write(b"x" * 100_000)
        file.flush()
        os.fsync(file.fileno())
        os.fdatasync(file.fileno())
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)


def test_mmap_read_and_write(folder: Path) -> None:
    """Programs may map files into memory."""
    path = folder / "f"
    path.write_bytes(b"a" * 600_000)
    code = (
        "import mmap, sys\n"
        "with open(sys.argv[1], 'r+b') as file, mmap.mmap(file.fileno(), 0) as view:\n"
        "    assert view[:] == b'a' * 600_000\n"
        "    view[300_000:300_003] = b'XYZ'\n"
        "    view[599_999:] = b'!'\n"
        "    view.flush()\n"
        "    assert open(sys.argv[1], 'rb').read()[300_000:300_003] == b'XYZ'\n"
        "with open(sys.argv[1], 'rb') as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:\n"
        "    assert view[299_999:300_004] == b'aXYZa'\n"
        "print('mapped')\n"
    )
    assert python(code, path).communicate(timeout=60)[0] == "mapped\n"
    assert path.read_bytes() == b"a" * 300_000 + b"XYZ" + b"a" * 299_996 + b"!"


def test_locks_between_processes(folder: Path) -> None:
    """A lock that one process holds keeps another one out."""
    path = folder / "f"
    path.touch()
    code = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'r+b')\n"
        "try: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except BlockingIOError: print('taken')\n"
        "else: print('free')\n"
    )
    with path.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert python(code, path).communicate(timeout=60)[0] == "taken\n"
    assert python(code, path).communicate(timeout=60)[0] == "free\n"


# Names


def test_rename_file_over_file(folder: Path) -> None:
    """Saving by rename replaces the file in one step."""
    (folder / "a").write_text("a")
    (folder / "b").write_text("b")
    inode = (folder / "a").stat().st_ino
    os.rename(folder / "a", folder / "b")
    assert os.listdir(folder) == ["b"]
    assert (folder / "b").read_text() == "a"
    assert (folder / "b").stat().st_ino == inode


def test_rename_directory_with_all_below(folder: Path) -> None:
    """A folder moves with all that is in it."""
    (folder / "a/b/c").mkdir(parents=True)
    (folder / "a/b/c/f").write_text("deep")
    (folder / "empty").mkdir()
    with (folder / "a/b/c/f").open("a") as file:
        os.rename(folder / "a", folder / "empty")
        file.write(", and still written to")
    assert (folder / "empty/b/c/f").read_text() == "deep, and still written to"
    assert os.listdir(folder) == ["empty"]
    os.rename(folder / "empty/b", folder / "b")
    assert (folder / "b/c/f").exists()
    assert os.listdir(folder / "empty") == []


def test_rename_refusals(folder: Path) -> None:
    """A rename that makes no sense is refused with the errno of POSIX."""
    (folder / "d/sub").mkdir(parents=True)
    (folder / "e").mkdir()
    (folder / "f").touch()
    with refused(errno.ENOTEMPTY):
        os.rename(folder / "e", folder / "d")
    with refused(errno.EISDIR):
        os.rename(folder / "f", folder / "e")
    with refused(errno.ENOTDIR):
        os.rename(folder / "e", folder / "f")
    with refused(errno.EINVAL):
        os.rename(folder / "d", folder / "d/sub/d")
    with refused(errno.ENOENT):
        os.rename(folder / "missing", folder / "f")
    os.rename(folder / "f", folder / "f")
    assert sorted(os.listdir(folder)) == ["d", "e", "f"]


def test_rename_noreplace(folder: Path) -> None:
    """mv -n does not overwrite."""
    (folder / "a").write_text("a")
    (folder / "b").write_text("b")
    with refused(errno.EEXIST):
        renameat2(folder / "a", folder / "b", NOREPLACE)
    assert (folder / "b").read_text() == "b"
    renameat2(folder / "a", folder / "c", NOREPLACE)
    assert sorted(os.listdir(folder)) == ["b", "c"]


def test_rename_exchange(folder: Path) -> None:
    """Two names can be swapped in one step."""
    (folder / "f").write_text("file")
    (folder / "d/sub").mkdir(parents=True)
    (folder / "other").mkdir()
    (folder / "other/g").write_text("g")
    renameat2(folder / "f", folder / "d", EXCHANGE)
    assert (folder / "d").read_text() == "file"
    assert (folder / "f/sub").is_dir()
    renameat2(folder / "other/g", folder / "d", EXCHANGE)
    assert (folder / "d").read_text() == "g"
    assert (folder / "other/g").read_text() == "file"
    with refused(errno.ENOENT):
        renameat2(folder / "d", folder / "missing", EXCHANGE)
    with refused(errno.EINVAL):
        renameat2(folder / "f", folder / "f/sub", EXCHANGE)


def test_removal_refusals(folder: Path) -> None:
    """A folder that is not empty is not removed, nor a file by rmdir."""
    (folder / "d/sub").mkdir(parents=True)
    (folder / "f").touch()
    with refused(errno.ENOTEMPTY):
        os.rmdir(folder / "d")
    with refused(errno.ENOTDIR):
        os.rmdir(folder / "f")
    with refused(errno.EISDIR):
        os.unlink(folder / "d")
    with refused(errno.EISDIR):
        os.open(folder / "d", os.O_WRONLY)
    with refused(errno.EEXIST):
        os.mkdir(folder / "f")
    with refused(errno.ENOTDIR):
        os.stat(folder / "f/x")
    with refused(errno.ENOENT):
        os.unlink(folder / "missing")


def test_names_of_all_kinds(folder: Path) -> None:
    """Names with spaces, newlines and any script are kept."""
    names = ["n" * 255, "ü" * 127, "世界🗂", " ", "a\nb", "a\\b", "-rf", "trailing.", "*?[", "CON", "..."]
    names += [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]
    for name in names:
        (folder / name).write_text(name)
    assert sorted(os.listdir(folder)) == sorted(names)
    for name in names:
        assert (folder / name).read_text() == name
    with refused(errno.ENAMETOOLONG):
        (folder / ("n" * 256)).touch()
    with refused(errno.ENAMETOOLONG):
        (folder / ("ü" * 128)).mkdir()


def test_big_directory_is_listed_and_emptied(folder: Path) -> None:
    """Thousands of entries are each listed once, also while they are removed."""
    for number in range(3000):
        (folder / f"{number}").touch()
    assert sorted(os.listdir(folder), key=int) == [str(number) for number in range(3000)]
    # As `rm -r` does: unlink while the listing is being read.
    with os.scandir(folder) as listing:
        for entry in listing:
            assert entry.is_file(follow_symlinks=False)
            os.unlink(entry.path)
    assert os.listdir(folder) == []


def test_listing_says_what_things_are(folder: Path) -> None:
    """readdir tells files, folders and symlinks apart."""
    (folder / "d").mkdir()
    (folder / "f").touch()
    (folder / "l").symlink_to("f")
    with os.scandir(folder) as listing:
        kinds = {entry.name: (entry.is_dir(), entry.is_file(follow_symlinks=False), entry.is_symlink()) for entry in listing}
    assert kinds == {"d": (True, False, False), "f": (False, True, False), "l": (False, False, True)}
    inodes = {path.lstat().st_ino for path in (folder, *folder.iterdir())}
    assert len(inodes) == 4


def test_symlinks(folder: Path) -> None:
    """Symlinks keep their target, whatever it is."""
    (folder / "f").write_text("target")
    (folder / "d").mkdir()
    links = {"l": "f", "dangling": "no/where", "up": "../", "self": "self", "long": "x/" * 2000 + "y", "absolute": "/etc"}
    for name, target in links.items():
        (folder / name).symlink_to(target)
    for name, target in links.items():
        assert os.readlink(folder / name) == target.rstrip("\0")
        assert stat.S_ISLNK((folder / name).lstat().st_mode)
        assert (folder / name).lstat().st_size == len(target)
    assert (folder / "l").read_text() == "target"
    with refused(errno.ENOENT):
        (folder / "dangling").read_text()
    with refused(errno.ELOOP):
        (folder / "self").read_text()
    with refused(errno.EEXIST):
        (folder / "l").symlink_to("elsewhere")
    with refused(errno.EINVAL):
        os.readlink(folder / "f")
    (folder / "l").unlink()
    assert (folder / "f").exists()


# Attributes


def test_chmod_and_umask(folder: Path) -> None:
    """Modes are kept, and the umask counts."""
    path = folder / "f"
    before = os.umask(0o027)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o666))
        os.mkdir(folder / "d", 0o777)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE((folder / "d").stat().st_mode) == 0o750
    for mode in (0o000, 0o400, 0o644, 0o755, 0o1777, 0o4755, 0o2755):
        path.chmod(mode)
        assert stat.S_IMODE(path.stat().st_mode) == mode, oct(mode)
        (folder / "d").chmod(mode | 0o700)
        assert stat.S_IMODE((folder / "d").stat().st_mode) == mode | 0o700, oct(mode)


@pytest.mark.parametrize("mtime_ns", [0, 1, 1_234_567_890_123_456_789, 4_000_000_000_999_999_999, -1_000_000_001])
def test_times_in_nanoseconds(folder: Path, mtime_ns: int) -> None:
    """Times are kept to the nanosecond."""
    (folder / "f").touch()
    (folder / "d").mkdir()
    (folder / "l").symlink_to("f")
    for name in ("f", "d", "l"):
        os.utime(folder / name, ns=(mtime_ns, mtime_ns), follow_symlinks=False)
        assert (folder / name).lstat().st_mtime_ns == mtime_ns, name


def test_what_moves_which_time(folder: Path) -> None:
    """make and rsync can trust mtime and ctime."""
    path, past = folder / "f", 1_000_000_000_000_000_000
    path.write_text("x")

    def rewind() -> None:
        for file in folder.glob("[fh]"):
            os.utime(file, ns=(past, past))
        os.utime(folder, ns=(past, past))

    rewind()
    changed = path.stat().st_ctime_ns
    path.chmod(0o600)
    assert path.stat().st_mtime_ns == past
    assert path.stat().st_ctime_ns >= changed
    with path.open("a") as file:
        file.write("y")
    assert path.stat().st_mtime_ns > past
    assert folder.stat().st_mtime_ns == past
    rewind()
    os.truncate(path, 1)
    assert path.stat().st_mtime_ns > past
    changes: tuple[Callable[[], object], ...] = (
        lambda: (folder / "g").touch(),
        lambda: (folder / "d").mkdir(),
        lambda: os.rename(path, folder / "h"),
        lambda: os.rename(folder / "h", path),
        lambda: (folder / "g").unlink(),
        lambda: (folder / "d").rmdir(),
    )
    for change in changes:
        rewind()
        change()
        assert folder.stat().st_mtime_ns > past
        assert {file.stat().st_mtime_ns for file in folder.glob("[fh]")} == {past}, "a rename is no change of the file"


def test_an_explicit_time_survives_the_close(folder: Path) -> None:
    """rsync and cp -p set the time on the open file, after the last write; a late flush must not move it again."""
    path, past = folder / "f", 1_000_000_000_000_000_123
    with path.open("wb") as file:
        file.write(b"x" * 500_000)
        file.flush()
        os.utime(file.fileno(), ns=(past, past))
    assert path.stat().st_mtime_ns == past
    assert path.read_bytes() == b"x" * 500_000
    assert path.stat().st_mtime_ns == past


def test_statfs(folder: Path) -> None:
    """df shows figures that add up."""
    found = os.statvfs(folder)
    assert found.f_namemax == 255
    assert found.f_bsize > 0
    assert found.f_blocks >= found.f_bfree > 0
    assert subprocess.run(["df", folder], capture_output=True, check=True).stdout


def test_copies_by_the_usual_programs(folder: Path) -> None:
    """cp, dd and tar copy within a mount without a difference."""
    source = folder / "source"
    source.write_bytes(random.Random(3).randbytes(1_000_000))
    source.chmod(0o751)
    os.utime(source, ns=(5, 1_600_000_000_123_456_789))
    subprocess.run(["cp", "-a", source, folder / "copy"], check=True)
    subprocess.run(["dd", f"if={source}", f"of={folder / 'dd'}", "bs=100k", "conv=fsync", "status=none"], check=True)
    subprocess.run(["tar", "-C", folder, "-cf", folder / "t.tar", "source"], check=True)
    (folder / "out").mkdir()
    subprocess.run(["tar", "-C", folder / "out", "-xpf", folder / "t.tar"], check=True)
    for copy in (folder / "copy", folder / "dd", folder / "out/source"):
        assert subprocess.run(["cmp", source, copy], check=False).returncode == 0
    assert (folder / "copy").stat().st_mtime_ns == source.stat().st_mtime_ns
    assert (folder / "copy").stat().st_mode == (folder / "out/source").stat().st_mode == source.stat().st_mode
