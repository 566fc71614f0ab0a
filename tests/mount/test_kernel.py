"""The door through the real kernel: a file system in memory, served by another process, used by plain system calls."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support import leftovers
from support.kernel import EXCHANGE, NOREPLACE, refused, renameat2

from bucketfs.errors import Busy, NotFound
from bucketfs.mount import is_dead, mount_above, mounted_at, unmount

SERVER = Path(__file__).with_name("memory.py")


class Served:
    """A mount and the process behind it."""

    def __init__(self, place: Path, settings: dict[str, Any], prefix: Sequence[str] = ()) -> None:
        self.place = place
        self.process = subprocess.Popen(
            [*prefix, sys.executable, str(SERVER), str(place), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, leftovers.HOME_VARIABLE: str(place.parent)},
        )
        assert self.process.stdout is not None and self.process.stdin is not None
        self._in, self._out = self.process.stdin, self.process.stdout
        line = self._out.readline()
        if not line:
            raise RuntimeError(self.stop())
        assert json.loads(line) == {"mounted": str(place)}

    def ask(self, do: str, **arguments: Any) -> Any:
        self._in.write(json.dumps({"do": do, **arguments}) + "\n")
        self._in.flush()
        return json.loads(self._out.readline())

    def counts(self) -> Any:
        return self.ask("counts")

    def stop(self) -> str:
        """Close its orders, so that it parts; returns what it logged, the first time."""
        if self._in.closed:
            return ""
        _, said = self.process.communicate(timeout=30)
        return said


@pytest.fixture
def place(stage: Path, tmp_path: Path) -> Iterator[Path]:
    folder = stage / tmp_path.name / "m"
    folder.mkdir(parents=True)
    yield folder
    if mounted_at(folder):
        unmount(folder, lazy=True)


@pytest.fixture
def serve(place: Path) -> Iterator[Callable[..., Served]]:
    """Starts mounts; at the end each must be gone and must have logged nothing."""
    made: list[Served] = []

    def start(prefix: Sequence[str] = (), **settings: Any) -> Served:
        made.append(Served(place, settings, prefix))
        return made[-1]

    yield start
    for served in made:
        said = served.stop()
        assert mounted_at(served.place) is None
        assert said == ""


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    return serve()


def errno_in(call: Callable[[], object]) -> int | None:
    """The errno that ``call`` raises, in a thread for example; None when it raises none."""
    try:
        call()
    except OSError as error:
        return error.errno
    return None


def test_files_are_written_read_and_synced(served: Served) -> None:
    """Bytes written through the kernel are read back, and fsync reaches us."""
    path = served.place / "file"
    data = os.urandom(3_000_000)
    with path.open("wb") as file:
        file.write(data)
        os.fsync(file.fileno())
    assert path.read_bytes() == data
    assert path.stat().st_size == len(data)
    with path.open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"middle")
        file.truncate(2_000_000)
    assert served.ask("counts")["synced"] == 1
    expected = data[:1_000_000] + b"middle" + data[1_000_006:2_000_000]
    assert path.read_bytes() == expected
    assert served.counts()["overdue"] == 0


def test_names_are_made_listed_renamed_removed(served: Served) -> None:
    """Names behave as in a local folder."""
    folder = served.place / "folder"
    folder.mkdir(mode=0o700)
    for number in range(700):
        (folder / f"n{number:03}").touch()
    assert sorted(os.listdir(folder)) == [f"n{number:03}" for number in range(700)]
    (folder / "link").symlink_to("n001")
    assert os.readlink(folder / "link") == "n001"
    os.rename(folder / "n000", served.place / "moved")
    assert (served.place / "moved").exists() and not (folder / "n000").exists()
    with refused(errno.ENOTEMPTY):
        os.rmdir(folder)
    with refused(errno.EISDIR):
        os.unlink(folder)
    for entry in list(os.scandir(folder)):
        os.unlink(entry.path)
    folder.rmdir()
    assert os.listdir(served.place) == ["moved"]


def test_attributes_are_set_and_shown(served: Served) -> None:
    """Modes and times that are set are shown."""
    path = served.place / "file"
    path.touch()
    os.chmod(path, 0o4751)
    os.utime(path, ns=(1, 1_600_000_000_123_456_789))
    facts = path.stat()
    assert stat.S_IMODE(facts.st_mode) == 0o4751
    assert facts.st_mtime_ns == 1_600_000_000_123_456_789
    if os.geteuid() == 0:
        os.chown(path, 12, 34)
        assert (path.stat().st_uid, path.stat().st_gid) == (12, 34)
    figures = os.statvfs(served.place)
    assert (figures.f_frsize, figures.f_blocks, figures.f_bavail, figures.f_namemax) == (4096, 1 << 20, 1 << 19, 255)


def test_rename_flags(served: Served) -> None:
    """NOREPLACE and EXCHANGE mean what renameat2(2) says."""
    a, b = served.place / "a", served.place / "b"
    a.write_text("a")
    b.write_text("b")
    with refused(errno.EEXIST):
        renameat2(a, b, NOREPLACE)
    renameat2(a, b, EXCHANGE)
    assert (a.read_text(), b.read_text()) == ("b", "a")
    with refused(errno.EINVAL):
        renameat2(a, b, 4)


def test_what_a_bucket_does_not_have(served: Served) -> None:
    """Links, pipes and extended attributes are refused with the errno programs expect."""
    path = served.place / "file"
    path.touch()
    with refused(errno.EPERM):
        os.link(path, served.place / "hard")
    with refused(errno.EPERM):
        os.mkfifo(served.place / "fifo")
    with refused(errno.EOPNOTSUPP):
        os.setxattr(path, "user.x", b"1")
    with refused(errno.EOPNOTSUPP):
        os.getxattr(path, "user.x")
    os.mknod(served.place / "plain", 0o644 | stat.S_IFREG)
    assert (served.place / "plain").is_file()
    assert served.counts()["handles"] == 0


def test_names_that_cannot_be_carried(served: Served) -> None:
    """Names that are not UTF-8 or too long are refused."""
    root = os.fsencode(served.place)
    with refused(errno.EILSEQ):
        os.mkdir(root + b"/\xff")
    with refused(errno.ENAMETOOLONG):
        os.mkdir(root + b"/" + b"n" * 256)
    os.mkdir(root + b"/" + b"n" * 255)
    os.mkdir(root + "/größe ✓".encode())
    assert sorted(os.listdir(root)) == sorted([b"n" * 255, "größe ✓".encode()])


def test_the_kernel_asks_for_no_attributes_on_each_write(served: Served) -> None:
    """Design: answering ``getxattr`` would make it ask ``security.capability`` before every write."""
    with (served.place / "file").open("wb", buffering=0) as file:
        for _ in range(200):
            file.write(b"x" * 100)
    requests = served.counts()["requests"]
    assert requests.get("getxattr", 0) == 0  # it is not even counted: answered without the wrapper, once
    assert requests["write"] <= 5  # the kernel gathers small writes
    assert requests.get("getattr", 0) <= 5


def test_names_and_attributes_are_asked_for_once(served: Served) -> None:
    """Repeated stat calls cost no request."""
    for number in range(50):
        (served.place / f"n{number}").touch()
        (served.place / f"n{number}").stat()  # after each close the kernel asks once for the number of blocks
    before = served.counts()["requests"]
    for _ in range(10):
        for number in range(50):
            (served.place / f"n{number}").stat()
    after = served.counts()["requests"]
    assert after.get("lookup", 0) == before.get("lookup", 0)
    assert after.get("getattr", 0) == before.get("getattr", 0)


def test_news_reaches_the_kernel(served: Served) -> None:
    """A change made elsewhere is seen at once, though the kernel may believe for an hour."""
    path = served.place / "file"
    served.ask("write", name="file", data="one")
    assert path.read_text() == "one"
    held = path.open()
    served.ask("write", name="file", data="two!")
    assert path.read_text() == "two!"
    assert held.read() == "one"  # an open handle keeps what it had
    held.close()
    served.ask("chmod", name="file", mode=0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    served.ask("remove", name="file")
    assert not path.exists()
    assert served.counts()["invalidations"] >= 4


def test_news_does_not_lock_up_with_requests(served: Served) -> None:
    """Requests and announcements contend for the same locks of the kernel; both must go on."""
    done = threading.Event()

    def use() -> None:
        while not done.is_set():
            for name in os.listdir(served.place):
                errno_in((served.place / name).read_bytes)
            (served.place / "mine").write_bytes(b"x")

    users = [threading.Thread(target=use) for _ in range(3)]
    for user in users:
        user.start()
    served.ask("storm", count=3000)
    done.set()
    for user in users:
        user.join(20)
        assert not user.is_alive()
    assert served.counts()["overdue"] == 0


def test_a_request_that_waits_too_long_is_eio_and_the_others_go_on(serve: Callable[..., Served]) -> None:
    """A Hub that hangs holds up the reads that need it, for a bounded time, and no other."""
    served = serve(timeout_s=0.5, grace_s=0.5)
    served.ask("write", name="cold", data="x" * 100)
    (served.place / "warm").write_text("y")
    served.ask("hold")
    started = time.monotonic()
    results: list[int | None] = []
    reader = threading.Thread(target=lambda: results.append(errno_in((served.place / "cold").read_bytes)))
    reader.start()
    time_of_stat = time.monotonic()
    os.stat(served.place / "warm")
    os.statvfs(served.place)
    os.listdir(served.place)
    (served.place / "new").write_text("written while a read hangs")
    assert time.monotonic() - time_of_stat < 0.5
    reader.join(10)
    assert results == [errno.EIO]
    assert 0.9 <= time.monotonic() - started < 3
    assert served.counts()["overdue"] >= 1
    served.ask("release")
    assert "read was not done after 1 s and is answered with EIO" in served.stop()


def test_an_fsync_may_have_a_longer_limit(serve: Callable[..., Served]) -> None:
    """An fsync that waits for the Hub gets the longer limit that was set."""
    served = serve(timeout_s=0.3, grace_s=0.2, fsync_timeout_s=20)
    with (served.place / "file").open("wb", buffering=0) as file:
        file.write(b"x")
        served.ask("hold")
        results: list[int | None] = []
        syncer = threading.Thread(target=lambda: results.append(errno_in(lambda: os.fsync(file.fileno()))))
        syncer.start()
        syncer.join(1.5)
        assert syncer.is_alive()
        served.ask("release")
        syncer.join(10)
    assert results == [None]
    assert served.counts()["overdue"] == 0


def test_a_bug_is_eio_with_one_traceback_and_the_mount_lives(serve: Callable[..., Served]) -> None:
    """A bug fails one request and not the mount."""
    served = serve()
    with refused(errno.EIO):
        os.stat(served.place / "explode")
    with refused(errno.EIO):
        os.stat(served.place / "away")
    (served.place / "file").write_text("alive")
    said = served.stop()
    assert said.count("Traceback") == 1 and "ZeroDivisionError" in said


def test_lookup_counts_balance(served: Served) -> None:
    """Inodes are forgotten when the kernel forgets them, and not before."""
    for number in range(300):
        (served.place / f"n{number}").write_text("x")
    assert len(list(os.scandir(served.place))) == 300
    for number in range(300):
        os.unlink(served.place / f"n{number}")
    deadline = time.monotonic() + 10
    while served.counts()["lookups"] and time.monotonic() < deadline:
        time.sleep(0.05)  # forgets come when the kernel likes
    counts = served.counts()
    assert (counts["lookups"], counts["handles"]) == (0, 0)


def test_umount_from_outside_ends_the_process(served: Served) -> None:
    """umount by any tool ends the daemon."""
    (served.place / "file").write_text("x")
    unmount(served.place)
    assert served.process.wait(10) == 0
    assert mounted_at(served.place) is None
    with pytest.raises(NotFound):
        unmount(served.place)


def test_leaving_writes_back_what_is_still_open(serve: Callable[..., Served]) -> None:
    """Leaving must not lose bytes of the page cache that were not synced, even with the file open."""
    served = serve()
    file = (served.place / "open").open("wb", buffering=0)
    file.write(b"dirty pages")
    with pytest.raises(Busy):
        unmount(served.place)
    served.ask("leave")
    said = served.stop()
    assert "is in use" in said
    assert served.process.returncode == 0
    assert mounted_at(served.place) is None

    def sync() -> None:
        os.fstat(file.fileno())
        os.fsync(file.fileno())

    assert errno_in(sync) in {errno.ENOTCONN, errno.EIO, errno.ECONNABORTED}
    errno_in(file.close)


def test_a_mount_that_hangs_is_not_dead(serve: Callable[..., Served], place: Path) -> None:
    """A mount that hangs is not cleared away under its programs."""
    served = serve()
    served.process.send_signal(signal.SIGSTOP)
    assert not is_dead(place, 0.2)
    served.process.send_signal(signal.SIGCONT)
    assert not is_dead(place)
    assert served.stop() == ""


def test_sigkill_leaves_a_dead_mount_that_the_next_one_clears(serve: Callable[..., Served], place: Path) -> None:
    """After a kill the next mount works without a hand."""
    served = serve()
    (place / "file").write_text("x")
    place.stat()  # the kernel remembers this for an hour, dead or not
    served.process.kill()
    served.process.wait(10)
    assert is_dead(place)
    again = serve()
    assert os.listdir(place) == []
    assert "had lost its process and is cleared" in again.stop()


def test_a_second_mount_is_refused(served: Served, place: Path) -> None:
    """Two mounts on one folder do not shadow each other."""
    with pytest.raises(RuntimeError, match=r"Busy: .* is mounted already"):
        Served(place, {})
    assert mounted_at(place) is not None
    assert mount_above(place / "deep" / "below") == mounted_at(place)


def test_read_only(serve: Callable[..., Served]) -> None:
    """A read-only mount refuses every change."""
    served = serve(read_only=True)
    with refused(errno.EROFS):
        (served.place / "file").touch()


def test_the_mount_says_what_it_is_and_carries_no_setuid(served: Served) -> None:
    """A bucket cannot plant a program that runs as root."""
    mounted = mounted_at(served.place)
    assert mounted is not None and mounted.ours and mounted.source == "bucketfs"
    line = next(one for one in Path("/proc/self/mountinfo").read_text().splitlines() if str(served.place) in one)
    assert "nosuid" in line and "nodev" in line


def test_a_mount_that_left_is_gone(served: Served) -> None:
    """After an unmount nothing is left mounted."""
    (served.place / "file").write_text("x")
    assert served.stop() == ""
    assert served.process.returncode == 0


def test_a_plain_user_mounts_and_unmounts(serve: Callable[..., Served], place: Path) -> None:
    """Through fusermount3. Root becomes another user for it, with a /dev/fuse of its own that is open to all, as elsewhere."""
    enter: list[str] = []
    become: list[str] = []
    if os.geteuid() == 0:
        who = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        os.chown(place, 65534, 65534)
        device = place.parent / "fuse"
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(10, 229))
        os.chmod(device, 0o666)
        script = f'mount --bind {device} /dev/fuse && exec "$@"'
        become = ["unshare", "--mount", "sh", "-c", script, "sh", *who]
        enter = who
    served = serve(prefix=become)
    if enter:
        enter = ["nsenter", f"--target={served.process.pid}", "--mount", *enter]
    script = f"cd {place}; echo hello > file && cat file && stat -c %u file && cd / && fusermount3 -u {place}"
    done = subprocess.run([*enter, "sh", "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"hello\n{65534 if enter else os.geteuid()}\n", "")
    assert served.process.wait(10) == 0


def test_the_kernels_limits_are_raised_after_its_handshake(served: Served) -> None:
    """Root may raise read-ahead; the handshake that follows a mount would set it back."""
    mounted = mounted_at(served.place)
    assert mounted is not None
    tuned = served.counts()["kernel"]
    shown = int(Path(f"/sys/class/bdi/{mounted.device}/read_ahead_kb").read_text())
    assert shown == tuned.get("read_ahead_kb", 128)
