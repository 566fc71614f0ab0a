"""One bucket, mounted twice: what one mount changes the other shows, by the Hub's feed or by asking, and never takes back; the
kernel is told of what changed, and of nothing else; and when both are written to, with the Hub dying under them, nobody loses a
byte and both end up the same."""

from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.callproxy import Feed
from support.foreground import Foreground
from support.home import Home
from support.kernel import Watch, cached_pages, kept_in_memory
from support.pair import BUCKET, Cost, Pair, two_mounts
from support.reading import Reader
from support.soak import soak

FOR_EVER = ("--poll", "10h")
"""With this whatever arrives came by the feed, or by the look that follows its opening."""


@pytest.fixture(scope="module")
def held(new_home: Callable[..., Home]) -> Iterator[Pair]:
    """Two mounts, of which ``b`` has not got its feed yet, and hardly ever asks."""
    with two_mounts(new_home().root / "p", options=FOR_EVER, feed=Feed.HELD) as pair:
        yield pair


@pytest.fixture
def pair(held: Pair) -> Iterator[Pair]:
    """The same with the feed, and a folder ``d`` that both have."""
    assert held.proxy is not None
    held.proxy.feed = Feed.OPEN
    with held.watched(100):
        wait_for(lambda: hears(held.b) == "feed", "the feed does not open")
        (held.a.place / "d").mkdir(exist_ok=True)
        held.settle()
        yield held
        for path in (held.a.place / "d").iterdir():
            path.unlink()


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
    """A change of another machine, made just before the feed opened, would not show until the next change."""
    proxy = held.proxy
    assert proxy is not None
    with held.watched(100):
        wait_for(lambda: proxy.listens > 0, "nobody asks for the feed")
        wait_for(lambda: held.b.ask("status")["connection"]["heard_age_s"] is not None, "the first look does not come")
        assert hears(held.b) == "poll"
        (held.a.place / "early").write_text("early")
        held.a.ask("sync")
        assert not (held.b.place / "early").exists()
        proxy.feed = Feed.OPEN
        Reader(held.b.place).until("early", b"early")
        assert hears(held.b) == "feed"


@pytest.mark.timeout(120)
def test_nothing_stale_is_shown_once_a_change_was_seen(pair: Pair) -> None:
    """A file would show its former bytes again after its new ones were seen."""
    folder, reader = pair.a.place / "d", Reader(pair.b.place / "d")
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
        pair.a.ask("sync")
        reader.until(name, now.get(name))
        for beside, unchanged in now.items():
            reader.check(beside, unchanged)


@pytest.mark.timeout(120)
def test_without_the_feed_changes_arrive_by_asking(home: Home) -> None:
    """Behind a proxy that breaks streams, changes of others would never show."""
    with two_mounts(home.root / "p", options=("--poll", "0.5s"), feed=Feed.SILENT) as pair, pair.watched(100):
        assert pair.proxy is not None
        reader = Reader(pair.b.place)
        for number, feed in enumerate((Feed.SILENT, Feed.REFUSED)):
            pair.proxy.feed = feed
            (pair.a.place / "file").write_bytes(b"%d" % number * 1000)
            pair.a.ask("sync")
            reader.until("file", b"%d" % number * 1000)
        wait_for(lambda: hears(pair.b) == "poll", "a feed that was refused counts as one")


# What the kernel is told


@pytest.mark.timeout(120)
def test_what_did_not_change_stays_in_the_kernels_caches(pair: Pair) -> None:
    """One small change of another machine would make all large files be read from the Hub again."""
    here, there = pair.a.place / "d", pair.b.place / "d"
    (here / "still").write_bytes(random.Random(1).randbytes(1 << 20))
    (here / "moves").write_bytes(b"before")
    pair.settle()
    content = (there / "still").read_bytes()
    (there / "moves").read_bytes()
    facts, inode = os.stat(there / "still"), os.stat(there / "moves").st_ino
    with kept_in_memory(there / "still"):
        assert cached_pages(there / "still") == (256, 256)
        before = Cost.of(pair.b)
        reader = Reader(there)
        for change in (b"after", b"longer than before"):
            (here / "moves").write_bytes(change)
            pair.a.ask("sync")
            reader.until("moves", change)
        (here / "moves").chmod(0o600)
        (here / "fresh").write_bytes(b"new beside it")
        pair.a.ask("sync")
        reader.until("fresh", b"new beside it")
        wait_for(lambda: os.stat(there / "moves").st_mode & 0o777 == 0o600, "the mode does not come")
        assert cached_pages(there / "still") == (256, 256)
        asked = Cost.of(pair.b)
        assert (there / "still").read_bytes() == content
        cost = Cost.of(pair.b).since(asked)
    assert cost.requests["read"] == cost.requests["lookup"] == 0
    after = os.stat(there / "still")
    assert (after.st_ino, after.st_ctime_ns, after.st_mtime_ns) == (facts.st_ino, facts.st_ctime_ns, facts.st_mtime_ns)
    assert os.stat(there / "moves").st_ino != inode
    # Of what was fetched since nothing is the large file's.
    assert Cost.of(pair.b).since(before).bytes < 10_000


@pytest.mark.timeout(120)
def test_an_open_file_reads_its_old_bytes_to_the_end(pair: Pair) -> None:
    """A player or a copy that reads a file would get its end from another version."""
    here, there = pair.a.place / "d", pair.b.place / "d"
    old, new = random.Random(2).randbytes(3_000_000), random.Random(3).randbytes(2_900_000)
    (here / "big").write_bytes(old)
    pair.settle()
    with (there / "big").open("rb", buffering=0) as file:
        assert file.read(100_000) == old[:100_000]
        (here / "big").write_bytes(new)
        pair.a.ask("sync")
        Reader(there).until("big", new)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        rest = b"".join(iter(lambda: file.read(250_000), b""))
        assert rest == old[100_000:]
        assert os.fstat(file.fileno()).st_size == len(old)
        file.seek(0)
        assert file.read(1000) == old[:1000]
    assert (there / "big").read_bytes() == new


@pytest.mark.timeout(120)
def test_a_file_open_for_writing_comes_back_when_it_is_written_to(pair: Pair) -> None:
    """What is written to a file that another machine removed or replaced meanwhile would be lost."""
    here, there = pair.a.place / "d", pair.b.place / "d"
    for name in ("removed", "rewritten"):
        (here / name).write_text("old ")
    pair.settle()
    with (there / "removed").open("a") as removed, (there / "rewritten").open("a") as rewritten:
        (here / "removed").unlink()
        (here / "rewritten").write_text("theirs")
        pair.a.ask("sync")
        reader = Reader(there)
        reader.until("removed", None)
        reader.until("rewritten", b"theirs")
        removed.write("and mine")
        rewritten.write("and mine")
    pair.b.ask("sync")
    pair.a.ask("sync")
    for folder in (here, there):
        copies = [path for path in folder.iterdir() if path.name.startswith("rewritten (conflict")]
        assert [path.read_text() for path in copies] == ["old and mine"]
        assert (folder / "removed").read_text() == "old and mine"
        assert (folder / "rewritten").read_text() == "theirs"
        assert {os.stat(path).st_nlink for path in folder.iterdir()} == {1}


@pytest.mark.timeout(120)
def test_who_watches_a_file_hears_that_it_went_or_was_replaced(pair: Pair) -> None:
    """An editor or a build tool that watches files would not notice the changes of others."""
    here, there = pair.a.place / "d", pair.b.place / "d"
    names = ("written to", "replaced", "removed", "renamed", "untouched")
    for name in names:
        (here / name).write_text("old")
    pair.settle()
    with Watch(*(there / name for name in names)) as watch:
        (here / "written to").write_text("new")
        (here / "aside").write_text("new")
        (here / "aside").rename(here / "replaced")
        (here / "removed").unlink()
        (here / "renamed").rename(here / "renamed now")
        pair.settle()
        heard = watch.events()
        # That there is no name any more is a change of the link count.
        assert {name for name, event in heard if event == "delete_self"} == set(names) - {"untouched"}
        assert {name for name, _ in heard} == set(names) - {"untouched"}
    assert (there / "written to").read_text() == "new"


# What a change costs the mount that only hears of it


def walk(folder: Path) -> int:
    """What ``find -ls`` does: list every folder, stat every name. How many there were."""
    count, waiting = 0, [str(folder)]
    while waiting:
        for entry in os.scandir(waiting.pop()):
            count += 1
            os.stat(entry.path)
            if entry.is_dir():
                waiting.append(entry.path)
    return count


def check_cost_of_one_change(pair: Pair, source: Path, folders: int, files: int) -> None:
    for folder in range(folders):
        (source / f"folder {folder}").mkdir(parents=True)
        for number in range(files):
            (source / f"folder {folder}" / f"file {number}").write_text(f"{folder} {number}\n")
    pair.hub.home.cli("buck", "push", source, f"{BUCKET}/many", timeout_s=600)
    pair.settle()
    there = pair.b.place / "many"
    assert walk(there) == folders * (files + 1)
    warm = Cost.of(pair.b)
    walk(there)
    listing = Cost.of(pair.b).since(warm)
    # The kernel keeps names and attributes, but lists folders anew each time, and asks when the topmost was last listed.
    assert set(listing.requests) <= {"opendir", "readdir", "releasedir", "getattr"} and not listing.calls
    assert listing.requests["getattr"] <= 1

    path = Path("folder 7/file 3")
    old = os.stat(there / path)
    before = Cost.of(pair.b)
    (pair.a.place / "many" / path).write_text("changed")
    pair.a.ask("sync")
    wait_for(lambda: os.stat(there / path).st_size != old.st_size, "the change does not come")
    assert (there / path).read_text() == "changed"
    cost = Cost.of(pair.b).since(before)
    depth = len(Path("many", path).parts)
    # The root's CID, whether the Hub still has the old one, a directory for each level, the file's own block.
    assert cost.calls.total() <= depth + 3, cost
    assert cost.blocks <= depth + 1, cost
    assert cost.bytes < 200 * (folders + files), cost
    before = Cost.of(pair.b)
    walk(there)
    cost = Cost.of(pair.b).since(before)
    assert cost.requests <= listing.requests | Counter(getattr=1) and not cost.calls


@pytest.mark.timeout(120)
def test_one_change_among_many_files_costs_its_path(pair: Pair) -> None:
    """One change in a large bucket would transfer or look at all of its files."""
    check_cost_of_one_change(pair, pair.a.home.root / "many", 40, 25)


@pytest.mark.whole
@pytest.mark.timeout(1200)
def test_one_change_among_a_hundred_thousand_files_costs_its_path(home: Home) -> None:
    """The same with 100,000 files: each change would stop the mount for minutes."""
    with two_mounts(home.root / "p", options=FOR_EVER) as fresh, fresh.watched(1100):
        check_cost_of_one_change(fresh, home.root / "many", 1000, 100)


# Both are written to, and the Hub dies


@pytest.mark.timeout(240)
def test_two_writers_in_two_mounts_while_the_hub_is_killed(pair: Pair) -> None:
    """Two machines that write while the Hub restarts would lose bytes, or stay different for ever."""
    soak(pair, 4, [1.5], seed=3)


@pytest.mark.whole
@pytest.mark.timeout(1500)
def test_two_writers_in_two_mounts_for_ten_minutes(home: Home) -> None:
    """The same for ten minutes: the daemons would also need more memory from minute to minute."""
    options = ("--memory-size", "32M", "--cache-size", "256M")
    with two_mounts(home.root / "p", options=options) as fresh, fresh.watched(1400):
        memory = soak(fresh, 600, [150.0, 420.0], seed=4)
        minutes = [memory.floor(start, start + 60) for start in range(0, 600, 60)]
        sys.stdout.write(f"memory of the daemons in KiB, its least in each minute: {minutes}\n")
        for before, after in zip(minutes[3], minutes[-1], strict=True):
            assert after < before * 1.15 + 8 * 1024, "memory grows"
