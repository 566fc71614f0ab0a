"""One bucket, mounted twice: what one mount changes the other shows, by the Hub's feed or by asking, and never takes back; and
when both are written to, with the Hub dying under them, nobody loses a byte and both end up the same."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support import acknowledged, colliding
from support.acknowledged import Tree
from support.callproxy import Feed
from support.foreground import Foreground
from support.home import Home, Watchdog
from support.pair import BUCKET, Pair, two_mounts
from support.reading import Reader
from support.writing import Writing, assert_as_written, at_the_hub

from bucketfs.errors import BucketfsError

FOR_EVER = ("--poll", "10h")
"""With this whatever arrives came by the feed, or by the look that follows its opening."""


@pytest.fixture(scope="module")
def held(new_home: Callable[..., Home]) -> Iterator[Pair]:
    """Two mounts, of which ``b`` has not got its feed yet, and hardly ever asks."""
    root = new_home().root
    with two_mounts(root, options=FOR_EVER, feed=Feed.HELD) as pair:
        yield pair


def guarded(pair: Pair, limit_s: float = 100) -> tuple[Watchdog, Watchdog]:
    return Watchdog(pair.a.home, limit_s), Watchdog(pair.b.home, limit_s)


def wait_for(what: Callable[[], bool], why: str, limit_s: float = 60) -> None:
    deadline = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < deadline, why
        time.sleep(0.02)


def hears(mount: Foreground) -> str:
    return str(mount.ask("status")["connection"]["hears"])


# How changes arrive. The first test releases the feed that the others use.


@pytest.mark.timeout(120)
def test_what_moved_before_the_feed_was_open_is_found_when_it_opens(held: Pair) -> None:
    one, other = guarded(held)
    with one, other:
        assert held.proxy is not None
        wait_for(lambda: bool(held.proxy and held.proxy.listens), "nobody asks for the feed")
        wait_for(lambda: held.b.ask("status")["connection"]["heard_age_s"] is not None, "the first look does not come")
        assert hears(held.b) == "poll"
        (held.a.place / "early").write_text("early")
        held.a.ask("sync")
        assert not (held.b.place / "early").exists()
        held.proxy.feed = Feed.OPEN
        Reader(held.b.place).until("early", b"early")
        assert hears(held.b) == "feed"


@pytest.mark.timeout(120)
def test_nothing_stale_is_shown_once_a_change_was_seen(held: Pair) -> None:
    one, other = guarded(held)
    with one, other:
        assert held.proxy is not None
        held.proxy.feed = Feed.OPEN
        folder = held.a.place / "folder"
        folder.mkdir()
        held.a.ask("sync")
        wait_for((held.b.place / "folder").is_dir, "the folder does not come")
        reader = Reader(held.b.place / "folder")
        now: dict[str, bytes] = {}
        for number in range(40):
            name = f"file {number % 7}"
            content = f"change {number} ".encode().ljust((30, 30, 0, 5000, 300_000)[number % 5], b"x")
            if number % 11 == 10:
                (folder / name).unlink()
                now.pop(name, None)
            elif number % 3 == 2:
                # As editors do it: a new file takes the place of the old one.
                (folder / "aside").write_bytes(content)
                (folder / "aside").rename(folder / name)
                now[name] = content
            else:
                (folder / name).write_bytes(content)
                now[name] = content
            held.a.ask("sync")
            reader.until(name, now.get(name))
            for beside, unchanged in now.items():
                reader.check(beside, unchanged)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("feed", [Feed.REFUSED, Feed.SILENT], ids=["refused", "silent"])
def test_without_the_feed_changes_arrive_by_asking(home: Home, feed: Feed) -> None:
    with two_mounts(home.root / "p", options=("--poll", "0.5s"), feed=feed) as pair, Watchdog(pair.b.home, 100):
        reader = Reader(pair.b.place)
        for number in range(3):
            content = b"%d" % number * 1000
            (pair.a.place / "file").write_bytes(content)
            pair.a.ask("sync")
            reader.until("file", content)
        if feed is Feed.REFUSED:
            assert hears(pair.b) == "poll"


# Both are written to, and the Hub dies


@dataclass(eq=False)
class Colliding:
    """A writer of `support.colliding` that runs."""

    folder: Path
    log: Path
    seed: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> Colliding:
        command = [sys.executable, "-I", "-S", colliding.__file__, self.folder, self.log, str(self.seed)]
        self.process = subprocess.Popen(command, cwd="/")
        return self

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        try:
            assert self.process.wait(60) == 0, "the writer itself broke"
        finally:
            self.process.kill()
            self.process.wait()


@dataclass(eq=False)
class Memory:
    """Samples of what both daemons hold of the machine's memory, in KiB."""

    mounts: tuple[Foreground, ...]
    samples: list[tuple[float, tuple[int, ...]]] = field(default_factory=list)

    def take(self, at_s: float) -> None:
        sizes = []
        for mount in self.mounts:
            status = Path(f"/proc/{mount.process.pid}/status").read_text()
            sizes.append(int(status.partition("VmRSS:")[2].split()[0]))
        self.samples.append((at_s, tuple(sizes)))

    def between(self, from_s: float, to_s: float) -> list[float]:
        """The mean of each mount's samples in a span of time."""
        chosen = [sizes for at_s, sizes in self.samples if from_s <= at_s <= to_s]
        return [sum(column) / len(column) for column in zip(*chosen, strict=True)]


def soak(pair: Pair, lasts_s: float, kills_s: list[float], seed: int) -> Memory:
    """Four writers, two in each mount: one in a folder of its own, one at the names that all share. The Hub is killed at the given
    times. Holds all that was acknowledged to what both mounts and the Hub have in the end."""
    chance = random.Random(seed)
    pair.expect("changes wait here: ")  # the Hub is killed
    own: dict[str, Writing] = {}
    for name, mount in (("of a", pair.a), ("of b", pair.b)):
        (mount.place / name).mkdir()
        own[name] = Writing(mount.place / name, mount.home.root / "own.log", seed + len(own))
    (pair.a.place / "common").mkdir()
    pair.settle()
    for one in own.values():
        one.start()
    common = [
        Colliding(mount.place / "common", mount.home.root / "common.log", seed * 10 + number).start()
        for number, mount in enumerate(pair.both)
    ]
    memory, begun_s = Memory(pair.both), time.monotonic()
    stop = threading.Event()

    def push(mount: Foreground) -> None:
        """Now and then a push is asked for, so that pushes meet each other, too."""
        asked = random.Random(seed)
        while not stop.wait(asked.expovariate(1)):
            with suppress(BucketfsError):  # the Hub may be away
                mount.ask("sync", {"timeout_s": 5})

    pushing = [threading.Thread(target=push, args=(mount,)) for mount in pair.both]
    for thread in pushing:
        thread.start()
    try:
        kills = sorted(kills_s)
        while (at_s := time.monotonic() - begun_s) < lasts_s:
            memory.take(at_s)
            if kills and at_s >= kills[0]:
                kills.pop(0)
                pair.hub.kill()
                time.sleep(chance.uniform(0.2, 1.0))
                pair.hub.start()
            time.sleep(0.25)
    finally:
        stop.set()
        for thread in pushing:
            thread.join(60)
        for writer in common:
            writer.stop()
    for one in own.values():
        one.stop()
    check_soak(pair, own, common)
    return memory


def check_soak(pair: Pair, own: dict[str, Writing], common: list[Colliding]) -> None:
    equal(pair)
    found = acknowledged.look(pair.a.place)
    with pair.account.plain() as client:
        assert at_the_hub(client, BUCKET) == found
    for name, one in own.items():
        assert_as_written(one.model, below(found, name), name)
    claims = colliding.Claims()
    for writer in common:
        claims.add(writer.log)
    assert claims.complaints == []
    assert claims.acts > 10, "the writers hardly wrote"
    files = {path: data for path, data in below(found, "common").items() if data is not None}
    differences = claims.differences(files)
    assert not differences, "\n".join(differences[:12])
    for mount in pair.both:
        status = mount.ask("status")
        assert status["mount"]["overdue"] == 0
        assert status["pending_count"] == 0 and status["error"] is None
    sys.stdout.write(f"{claims.acts} acts at common names, {sum(map(is_copy, files))} conflict copies at the end\n")


def is_copy(name: str) -> bool:
    return colliding.COPY.search(name) is not None


def equal(pair: Pair, limit_s: float = 120) -> None:
    """Both settle, and then show the same."""
    deadline = time.monotonic() + limit_s
    while True:
        try:
            pair.settle()
            break
        except BucketfsError as error:
            assert time.monotonic() < deadline, f"not at the Hub after {limit_s} s: {error}"
    one, other = acknowledged.look(pair.a.place), acknowledged.look(pair.b.place)
    assert one.keys() == other.keys()
    assert [path for path in one if one[path] != other[path]] == []


def below(tree: Tree, folder: str) -> Tree:
    return {path.removeprefix(f"{folder}/"): data for path, data in tree.items() if path.startswith(f"{folder}/")}


@pytest.mark.timeout(240)
def test_two_writers_in_two_mounts_while_the_hub_is_killed(home: Home) -> None:
    with two_mounts(home.root / "p") as pair, Watchdog(pair.a.home, 200), Watchdog(pair.b.home, 200):
        soak(pair, 6, [2.5], seed=3)


@pytest.mark.whole
@pytest.mark.timeout(1200)
def test_two_writers_in_two_mounts_for_ten_minutes(home: Home) -> None:
    options = ("--memory-size", "32M", "--cache-size", "256M")
    with two_mounts(home.root / "p", options=options) as pair, Watchdog(pair.a.home, 1100), Watchdog(pair.b.home, 1100):
        memory = soak(pair, 600, [150.0, 420.0], seed=4)
        early, late = memory.between(150, 210), memory.between(540, 600)
        sys.stdout.write(f"memory of the daemons in MiB: {early} KiB about minute 3, {late} KiB in the last one\n")
        for before, after in zip(early, late, strict=True):
            assert after < before * 1.5 + 64 * 1024, "memory grows without end"
        shutil.rmtree(home.root / "p" / "hub" / "store", ignore_errors=True)
