"""docs/semantics.md through the kernel: two mounts of a bucket do every pair of its table while they do not hear of each other."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.foreground import Foreground
from support.home import Home, Watchdog
from support.outcomes import Case, Step, cases, difference
from support.proxy import Proxy, Weather
from support.served import ServedHub

from bucketfs.errors import BucketfsError

BUCKET = "shared"
OPTIONS = ("--poll", "10h", BUCKET)
Tree = dict[str, tuple[str, bytes, int, int]]


@dataclass
class Two:
    """Two mounts of ``BUCKET``. Between the Hub and ``second`` is ``proxy``."""

    first: Foreground
    second: Foreground
    proxy: Proxy

    def part(self) -> None:
        """From here the second one hears and says nothing."""
        self.proxy.weather = Weather(refuse=True)
        self.proxy.cut()

    def meet(self) -> None:
        """And now it does again."""
        self.proxy.weather = Weather()

    @contextmanager
    def watched(self, limit_s: float) -> Iterator[None]:
        """A mount that does not answer is killed, so that a test fails in place of hanging."""
        with Watchdog(self.first.home, limit_s), Watchdog(self.second.home, limit_s):
            yield

    def settle(self) -> None:
        for mount in (self.first, self.second, self.first):
            synced(mount)


def synced(mount: Foreground, limit_s: float = 120) -> None:
    """Asks until all of it is at the Hub, and shows what the Hub has."""
    deadline = time.monotonic() + limit_s
    while True:
        try:
            mount.ask("sync")
        except BucketfsError:
            # It has not noticed yet that the Hub is there again.
            assert time.monotonic() < deadline, "the Hub is not found again"
            time.sleep(0.1)
        else:
            return


@contextmanager
def two(root: Path, new_home: Callable[[], Home]) -> Iterator[Two]:
    homes = [new_home() for _ in range(3)]
    with ServedHub(homes[0], root / "store") as hub, Proxy(hub.address, 1) as proxy:
        account = hub.account("writer")
        mounts: list[Foreground] = []
        for home, address in zip(homes[1:], (hub.address, proxy.address), strict=True):
            home.extra.update(account.variables() | {"BUCKETFS_HUB": address})
            if not mounts:
                home.cli("buck", "create", BUCKET)
            (home.root / "Buckets").mkdir()
            mounts.append(Foreground.start(home, *OPTIONS))
        one, other = mounts
        yield Two(one, other, proxy)
        for mount in mounts:
            assert mount.stop() == 0
            mounted = mount.mounted()
            mounted.expect("changes wait here: ")
            mounted.check_log()


def run(top: Path, steps: Sequence[Step]) -> None:
    for verb, at, arguments in steps:
        place = top / at
        match verb, arguments:
            case "write", (bytes() as data,):
                place.write_bytes(data)
            case "append", (bytes() as data,):
                with place.open("ab") as file:
                    file.write(data)
            case "truncate", (int() as size,):
                os.truncate(place, size)
            case "rename", (str() as new,):
                place.rename(top / new)
            case "chmod", (int() as mode,):
                place.chmod(mode)
            case "utime", (int() as when_ns,):
                os.utime(place, ns=(when_ns, when_ns))
            case "symlink", (str() as target,):
                place.symlink_to(target)
            case (("mkdir" | "rmdir" | "unlink"), ()):
                getattr(place, verb)()
            case _:
                raise AssertionError(f"no such step: {verb} {arguments}")


def tree(folder: Path) -> Tree:
    found: Tree = {}
    for above, folders, files in os.walk(folder):
        for name in (*folders, *files):
            place = Path(above, name)
            status = place.lstat()
            kind, data = "folder", b""
            if stat.S_ISLNK(status.st_mode):
                kind, data = "link", os.fsencode(place.readlink())
            elif stat.S_ISREG(status.st_mode):
                kind, data = "file", place.read_bytes()
            found[str(place.relative_to(folder))] = (kind, data, stat.S_IMODE(status.st_mode), status.st_mtime_ns)
    return found


def names(folder: Path) -> set[str]:
    return {str(place.relative_to(folder)) for place in folder.rglob("*") if place.lstat()}


@pytest.fixture(scope="module")
def mounts(stage: Path, new_home: Callable[[], Home]) -> Iterator[Two]:
    with two(stage / "semantics", new_home) as both:
        yield both


def check(mounts: Two, every: Sequence[Case]) -> None:
    first, second = mounts.first.place, mounts.second.place
    for case in every:
        run(first, case.prepare)
    mounts.settle()
    # Whoever changes something has seen it, and needs no Hub for it.
    assert names(second) == names(first)
    for case in every:
        for at in {at for verb, at, _ in case.second if verb == "append"}:
            (second / at).read_bytes()
    mounts.part()
    for case in every:
        run(first, case.first)
    synced(mounts.first)
    for case in every:
        run(second, case.second)
    mounts.meet()
    synced(mounts.second)
    mounts.settle()
    assert tree(second) == tree(first)
    wrong = [f"{case.folder}: {why}" for case in every if (why := difference(case, tree(first / case.folder)))]
    assert wrong == [], "\n".join(wrong)


@pytest.mark.timeout(280)
def test_some_cells_of_the_table_through_two_mounts(mounts: Two) -> None:
    """Two people who change the same things at once would get another result than docs/semantics.md promises."""
    with mounts.watched(250):
        check(mounts, cases()[::13])


@pytest.mark.whole
@pytest.mark.timeout(280)
def test_every_cell_of_the_table_through_two_mounts(tmp_path: Path, new_home: Callable[[], Home]) -> None:
    """The same for all pairs of actions: one of them would lose or double a file."""
    with two(tmp_path, new_home) as both, both.watched(250):
        check(both, cases())


@pytest.mark.timeout(120)
def test_who_works_in_a_folder_that_another_renames_goes_on_working_in_it(mounts: Two) -> None:
    """A shell in a folder that another user renames would get errors, or write into a second folder."""
    with mounts.watched(100):
        work_in_a_folder_that_is_renamed(mounts)


def work_in_a_folder_that_is_renamed(mounts: Two) -> None:
    first, second = mounts.first.place, mounts.second.place
    (first / "before/deep").mkdir(parents=True)
    (first / "before/deep/log").write_text("line 1\n")
    mounts.settle()
    inside = os.open(second / "before/deep", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with (second / "before/deep/log").open("a+") as log:
            number = os.fstat(log.fileno()).st_ino
            log.write("line 2\n")
            log.flush()
            (first / "before").rename(first / "after")
            mounts.settle()
            assert not (second / "before").exists()
            assert (second / "after/deep/log").stat().st_ino == number
            log.write("line 3\n")
        # A program whose working directory it is makes files there as before.
        with os.fdopen(os.open("made", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=inside), "w") as made:
            made.write("in the folder")
    finally:
        os.close(inside)
    mounts.settle()
    for top in (first, second):
        assert not (top / "before").exists()
        assert (top / "after/deep/log").read_text() == "line 1\nline 2\nline 3\n"
        assert (top / "after/deep/made").read_text() == "in the folder"
