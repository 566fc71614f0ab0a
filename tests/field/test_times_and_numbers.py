"""What stat says does not change by itself: not when the kernel forgets an inode, not by a remount, a lost cache, a push, a kill.

Backup tools, make and git take a file for changed when one of these figures is another one.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.home import Home, Mounted
from support.kernel import forget_inodes

FIGURES = (
    "st_mode",
    "st_ino",
    "st_nlink",
    "st_uid",
    "st_gid",
    "st_size",
    "st_blocks",
    "st_atime_ns",
    "st_mtime_ns",
    "st_ctime_ns",
)

Stats = dict[str, dict[str, int]]


def stats(top: Path) -> Stats:
    """All figures of all that is below ``top``, and of itself."""
    found = {"": _figures(top), "..": _figures(top.parent)}
    for folder, folders, names in os.walk(top):
        for name in folders + names:
            path = Path(folder, name)
            found[str(path.relative_to(top))] = _figures(path)
    return found


def _figures(path: Path) -> dict[str, int]:
    status = path.lstat()
    return {figure: getattr(status, figure) for figure in FIGURES}


def differences(before: Stats, after: Stats) -> list[str]:
    """What is not as it was, a line each."""
    assert before.keys() == after.keys()
    return [
        f"{path or '.'}: {figure} was {before[path][figure]} and is {after[path][figure]}"
        for path in before
        for figure in FIGURES
        if before[path][figure] != after[path][figure]
    ]


class Calls:
    """Random calls on a folder, a few names of which collide."""

    def __init__(self, top: Path, chance: random.Random) -> None:
        self._top = top
        self._chance = chance
        self._acts = [act for name, act in vars(Calls).items() if not name.startswith("_") and name != "make"]

    def make(self, count: int) -> list[str]:
        """What was called, and what came of it."""
        made = []
        for _ in range(count):
            act = self._chance.choice(self._acts)
            try:
                act(self)
                made.append(act.__name__)
            except OSError as error:
                made.append(f"{act.__name__}: {error.strerror}")
        return made

    def _path(self) -> Path:
        return self._top.joinpath(*(self._chance.choice("abc") for _ in range(self._chance.choice((1, 1, 2)))))

    def _time_ns(self) -> int:
        return self._chance.choice((0, -1, 1, 10**18 + 5, -(10**17) - 7, 4 * 10**18, self._chance.randrange(2 * 10**18)))

    def write(self) -> None:
        self._path().write_bytes(b"w" * self._chance.randrange(1, 9000))

    def write_twice(self) -> None:
        path = self._path()
        path.write_bytes(b"1")
        with path.open("r+b") as file:
            file.write(b"2")

    def append(self) -> None:
        with self._path().open("ab") as file:
            file.write(b"a" * self._chance.randrange(1, 5000))
            file.flush()
            file.write(b"b")

    def write_and_set(self) -> None:
        with self._path().open("wb") as file:
            file.write(b"s")
            file.flush()
            os.utime(file.fileno(), ns=(self._time_ns(), self._time_ns()))
            if self._chance.random() < 0.5:
                file.write(b"t")

    def write_direct(self) -> None:
        descriptor = os.open(self._path(), os.O_RDWR | os.O_CREAT | os.O_DIRECT)
        try:
            with mmap.mmap(-1, 4096) as page:
                os.pwrite(descriptor, page, 0)
        finally:
            os.close(descriptor)

    def map(self) -> None:
        path = self._path()
        with path.open("r+b") as file:
            if not path.stat().st_size:
                return
            mapped = mmap.mmap(file.fileno(), 0)
        mapped[0] = 109
        mapped.close()

    def read(self) -> None:
        self._path().read_bytes()

    def cut(self) -> None:
        os.truncate(self._path(), self._chance.choice((0, 1, 100, 8192)))

    def set_times(self) -> None:
        os.utime(self._path(), ns=(self._time_ns(), self._time_ns()), follow_symlinks=False)

    def touch(self) -> None:
        os.utime(self._path(), follow_symlinks=False)

    def set_mode(self) -> None:
        self._path().chmod(self._chance.choice((0o644, 0o600, 0o755, 0o4711)))

    def rename(self) -> None:
        self._path().rename(self._path())

    def remove(self) -> None:
        path = self._path()
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()

    def make_folder(self) -> None:
        self._path().mkdir()

    def make_link(self) -> None:
        self._path().symlink_to("somewhere")

    def copy_into_place(self) -> None:
        path, other = self._path(), self._path()
        aside = path.with_name(".aside")
        status = other.lstat()
        if stat.S_ISREG(status.st_mode):
            aside.write_bytes(other.read_bytes())
            os.utime(aside, ns=(status.st_atime_ns, status.st_mtime_ns))
            aside.rename(path)


class Trials:
    """A mount, and what may happen to it."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.mounted: Mounted = home.mount()
        self.top = self.mounted.path / "home"

    def evict(self) -> None:
        if not forget_inodes(self.mounted.path):
            self.remount()

    def remount(self) -> None:
        self.mounted.umount()
        self.mounted = self.home.mount()

    def lose_the_cache(self) -> None:
        self.mounted.umount()
        self.home.forget("cache")
        self.mounted = self.home.mount()

    def push(self) -> None:
        self.mounted.sync()

    def root(self) -> str:
        """What is at the Hub."""
        return str(json.loads(self.home.cli("buck", "ls", "--json").stdout))

    def kill(self) -> None:
        self.mounted.kill()
        self.mounted = self.home.mount()

    def push_and_kill(self) -> None:
        self.push()
        self.kill()

    def one(self, chance: random.Random) -> Callable[[], None]:
        return chance.choice(
            (self.evict, self.evict, self.remount, self.lose_the_cache, self.push, self.kill, self.push_and_kill)
        )


@pytest.fixture
def trials(home: Home) -> Iterator[Trials]:
    trials = Trials(home)
    yield trials
    trials.mounted.umount()


def assert_stats_stay(trials: Trials, seed: int, rounds: int) -> None:
    chance = random.Random(seed)
    calls = Calls(trials.top, chance)
    made: list[str] = []
    for _ in range(rounds):
        made += calls.make(chance.randrange(5, 60))
        if chance.random() < 0.5:
            trials.evict()  # what is still in memory of it may be right, and the next calls find it evicted
            made += calls.make(3)
        before = stats(trials.top)
        for _ in range(chance.randrange(1, 3)):
            trial = trials.one(chance)
            made.append(trial.__name__)
            trial()
            wrong = differences(before, stats(trials.top))
            assert not wrong, "\n".join([f"seed {seed}", *made, *wrong])


def test_the_order_of_calls_is_the_order_of_times(trials: Trials) -> None:
    """Stamped here or in the kernel: what is made or changed later is never older, as ``find -newer`` and make ask."""
    top = trials.top
    (top / "touched").mkdir()

    def write(number: int) -> Path:
        path = top / f"file {number}"
        path.write_bytes(b"x")
        return path

    def make(number: int) -> Path:
        path = top / f"folder {number}"
        path.mkdir()
        return path

    def link(number: int) -> Path:
        path = top / f"link {number}"
        path.symlink_to("x")
        return path

    def touch(number: int) -> Path:
        os.utime(top / "touched")
        return top / "touched"

    chance = random.Random(2)
    calls = [chance.choice((write, make, link, touch)) for _ in range(400)]
    before, before_ns = "", 0
    for number, call in enumerate(calls):
        status = call(number).lstat()
        assert min(status.st_mtime_ns, status.st_ctime_ns) >= before_ns, f"{call.__name__} after {before}, call {number}"
        before, before_ns = call.__name__, max(status.st_mtime_ns, status.st_ctime_ns)
        if chance.random() < 0.2:
            # With stamps finer than a tick on another file system the kernel's own become so.
            for _ in range(2):
                (trials.home.root / "beside").write_bytes(b"")
                (trials.home.root / "beside").stat()


def test_times_alone_are_sent_only_where_a_bucket_keeps_them(trials: Trials) -> None:
    """Reading files would change the bucket at the Hub, or times would be others after a kill."""
    path, folder = trials.top / "f", trials.top / "d"
    folder.mkdir()
    path.write_bytes(b"x")
    trials.push()
    root = trials.root()
    for at in (path, folder):
        at.chmod(at.stat().st_mode & 0o777)  # a new ctime
        os.utime(at, ns=(5, at.stat().st_mtime_ns))  # and another atime
    before = stats(trials.top)
    trials.push()
    assert trials.root() == root
    trials.kill()
    assert not differences(before, stats(trials.top))
    path.rename(folder / "f")
    path = folder / "f"
    before = stats(trials.top)
    trials.kill()
    assert not differences(before, stats(trials.top))


ODD_TIMES_NS = (
    0,
    -1,
    -10_000_000_000_000_000_001,  # before 1677, where 64 bits of nanoseconds end
    -2_208_988_800_000_000_005,  # before 1901
    9_223_372_036_854_775_808,
    9_223_372_037_000_000_000,
    253_402_300_800_000_000_007,  # the year 10,000
    (1 << 62) * 10**9 + 999_999_999,
)


def test_odd_times_are_kept_as_they_are(trials: Trials) -> None:
    """Files, folders and links, over all that forgets what was in memory; and what cannot show them shows the nearest."""
    made: list[Path] = []
    for number, time_ns in enumerate(ODD_TIMES_NS):
        folder = trials.top / f"d{number}"
        folder.mkdir()
        (folder / "f").write_bytes(b"x")
        (folder / "l").symlink_to("x")
        made += [folder / "f", folder / "l", folder]
        for path in made[-3:]:
            os.utime(path, ns=(time_ns, time_ns), follow_symlinks=False)
    before = stats(trials.top)
    times = [path.lstat().st_mtime_ns for path in made]
    assert times == [time_ns for time_ns in ODD_TIMES_NS for _ in range(3)]
    for trial in (trials.evict, trials.kill, trials.push, trials.lose_the_cache):
        trial()
        wrong = differences(before, stats(trials.top))
        assert not wrong, "\n".join([trial.__name__, *wrong])
    local, pulled, mirror = trials.home.root / "local", trials.home.root / "pulled", trials.home.root / "mirror"
    trials.home.cli("buck", "ls", "-l", "home/d6")
    for target in (local, pulled, mirror):
        target.mkdir()
    for number, time_ns in enumerate(ODD_TIMES_NS):
        (local / str(number)).write_bytes(b"")
        os.utime(local / str(number), ns=(time_ns, time_ns))  # as this file system shows it
    trials.home.cli("buck", "pull", "home", pulled)
    trials.home.cli("buck", "watch", mirror, "home", "--once")
    root = trials.root()
    trials.home.cli("buck", "watch", mirror, "home", "--once")
    assert trials.root() == root, "a watch takes a time that the disk cannot hold for a change of the user's"
    for number in range(len(ODD_TIMES_NS)):
        for folder in (pulled, mirror):
            shown = (folder / f"d{number}" / "f").stat().st_mtime_ns
            assert shown == (local / str(number)).stat().st_mtime_ns


def test_nothing_moves_a_figure(trials: Trials) -> None:
    """make, git and backup tools would take files for changed after a push, a kill or a lost cache."""
    calls = Calls(trials.top, random.Random(4))
    made: list[str] = []
    for trial in (trials.evict, trials.push, trials.kill, trials.lose_the_cache, trials.push_and_kill):
        made += calls.make(60)
        before = stats(trials.top)
        trial()
        trials.evict()
        made.append(trial.__name__)
        wrong = differences(before, stats(trials.top))
        assert not wrong, "\n".join([*made, *wrong])


@pytest.mark.whole
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(8))
def test_nothing_moves_a_figure_whole(trials: Trials, seed: int) -> None:
    """The same over many random histories: a rare one would change a time, a size or an inode number."""
    assert_stats_stay(trials, seed, 12)
