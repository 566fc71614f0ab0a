"""A backlog that is pushed batch by batch: what every root on the way shows."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.memory_remote import MemoryRemote
from support.world import World

from bucketfs.disk import Disk
from bucketfs.errors import BucketfsError, Unavailable
from bucketfs.sync import Pusher
from bucketfs.types import Cid, UploadId
from bucketfs.vfs import BatchLimits, RenameFlags


@dataclass
class RecordingRemote(MemoryRemote):
    """Remembers every root it had. ``away_after`` so many swaps it is away; with ``lost`` it takes one more and does not say so."""

    roots: list[Cid] = field(default_factory=list)
    away_after: int | None = None
    lost: bool = False

    async def swap(self, expected: Cid, new: Cid, upload: UploadId) -> None:
        last = self.away_after == len(self.roots)
        if last:
            self.away = True
        if not last or self.lost:
            self.away = False
            await super().swap(expected, new, upload)
            self.roots.append(new)
        if last:
            self.away = True
            raise Unavailable("the Hub is away")


def pusher_of(world: World, nodes: int = 1 << 30, bytes_: int = 1 << 50) -> Pusher:
    return Pusher(
        world.volume,
        world.remote,
        world.source,
        world.told.append,
        limits=BatchLimits(nodes, bytes_),
    )


async def shown(folder: Path, remote: MemoryRemote, root: Cid) -> dict[str, object]:
    """The tree that somebody sees who mounts while the Hub is at ``root``."""
    other = MemoryRemote()
    other.store, other.at = remote.store, root
    world = await World(folder, other).open()
    try:
        return await world.tree()
    finally:
        world.close()


async def test_old_before_new_and_all_in_the_end(tmp_path: Path) -> None:
    """Other mounts would see newer changes before older ones, or never see some of them."""
    remote = RecordingRemote()
    world = await World(tmp_path / "here", remote).open()
    names = [f"d{number % 7}/f{number * 7 % 100}" for number in range(100)]
    for directory in range(7):
        await world.mkdir(f"d{directory}")
    for name in names:
        await world.write(name, name.encode())
    before = await world.stat_tree()
    done = await pusher_of(world, nodes=10).push()
    assert done is not None and not world.volume.root.dirty
    assert len(remote.roots) >= 10
    had = 0
    for number, root in enumerate(remote.roots):
        files = {path for path, value in (await shown(tmp_path / f"{number}", remote, root)).items() if value is not None}
        assert files == set(names[: len(files)]) and had <= len(files) <= had + 10
        had = len(files)
    assert await world.stat_tree() == before
    world.close()


async def test_bytes_bound_a_batch_and_one_large_file_goes_alone(tmp_path: Path) -> None:
    """A push of many large files would hold all of them in memory, or one file larger than a batch would never go."""
    remote = RecordingRemote()
    world = await World(tmp_path, remote).open()
    for number, size in enumerate([400, 400, 5000, 400, 400]):
        await world.write(f"f{number}", bytes([number]) * size)
    await pusher_of(world, bytes_=1000).push()
    assert len(remote.roots) == 3 and not world.volume.root.dirty
    world.close()


async def test_a_batch_ends_at_a_pause(tmp_path: Path) -> None:
    """A group of files that a program wrote in one go would be seen by halves."""
    remote = RecordingRemote()
    world = await World(tmp_path / "here", remote).open()
    for number in range(60):
        await world.write(f"pair{number}.a", b"a")
        await world.write(f"pair{number}.b", b"b")
        world.clock.at_ns += 1_000_000_000
    await pusher_of(world, nodes=31).push()
    assert len(remote.roots) >= 4
    for number, root in enumerate(remote.roots):
        tree = await shown(tmp_path / f"{number}", remote, root)
        assert {name[:-2] for name in tree if name.endswith(".a")} == {name[:-2] for name in tree if name.endswith(".b")}
    world.close()


async def test_a_tree_that_is_swapped_for_another_is_seen_as_one_of_them(tmp_path: Path) -> None:
    """``mv data data.old; mv data.new data``, and a snapshot that is made aside and renamed."""
    remote = RecordingRemote()
    world = await World(tmp_path / "here", remote).open()
    await world.mkdir("data")
    await world.write("data/old", b"old")
    await pusher_of(world).push()
    old = await world.tree()
    remote.roots.clear()
    for folder in ("data.new", "snapshot.tmp"):
        await world.mkdir(folder)
        for number in range(5):
            await world.write(f"{folder}/f{number}", b"%d" % number)
            await world.write(f"other-{folder}-{number}", b"other")
    await world.rename("data", "data.old")
    await world.rename("data.new", "data")
    await world.rename("snapshot.tmp", "snapshot")
    await world.write("data.old/more", b"more")
    now = await world.tree()
    await pusher_of(world, nodes=2).push()
    assert len(remote.roots) > 4 and not world.volume.root.dirty
    for number, root in enumerate(remote.roots):
        tree = await shown(tmp_path / f"{number}", remote, root)
        for top, was in (("data", old), ("snapshot", {})):
            part = {path: value for path, value in tree.items() if path.split("/")[0] == top}
            states = [{path: value for path, value in state.items() if path.split("/")[0] == top} for state in (was, now)]
            assert part in states
        assert ("data.old" in tree) == ("data/f0" in tree)
    world.close()


async def test_what_was_copied_and_then_removed_is_never_missing(tmp_path: Path) -> None:
    """Between two batches another mount would find a file under neither its old nor its new name."""
    remote = RecordingRemote()
    world = await World(tmp_path / "here", remote).open()
    await world.mkdir("from")
    for number in range(8):
        await world.write(f"from/f{number}", b"%d" % number)
    await world.write("x", b"x")
    await pusher_of(world).push()
    remote.roots.clear()
    await world.rename("x", "y")
    await world.mkdir("to")
    for number in range(8):
        await world.write(f"to/f{number}", b"%d" % number)
        await world.unlink(f"from/f{number}")
    await world.rmdir("from")
    await pusher_of(world, nodes=2).push()
    assert len(remote.roots) > 3
    for number, root in enumerate(remote.roots):
        contents = set((await shown(tmp_path / f"{number}", remote, root)).values())
        assert contents >= {b"%d" % each for each in range(8)} | {b"x"}
    world.close()


NAMES = ("a", "b", "c")
paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=2).map("/".join)
acts = st.one_of(
    st.tuples(st.just("write"), paths),
    st.tuples(st.just("mkdir"), paths),
    st.tuples(st.just("unlink"), paths),
    st.tuples(st.just("rmdir"), paths),
    st.tuples(st.just("rename"), paths, paths),
    st.tuples(st.just("rename"), paths, paths),
    st.tuples(st.just("rename"), paths, paths, st.just(RenameFlags.EXCHANGE)),
)


async def act(world: World, number: int, verb: str, *arguments: object) -> None:
    try:
        if verb == "write":
            await world.write(str(arguments[0]), b"content %d" % number)
        else:
            await getattr(world, verb)(*arguments)
    except BucketfsError:
        pass  # names are few, so that many steps make no sense


def contents(tree: dict[str, object]) -> list[bytes]:
    return sorted(value for value in tree.values() if isinstance(value, bytes))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(acts, max_size=12), st.lists(acts, max_size=12), st.integers(1, 4), st.booleans())
async def test_no_root_shows_half_a_rename(
    tmp_path_factory: pytest.TempPathFactory,
    first: list[tuple[str, ...]],
    then: list[tuple[str, ...]],
    nodes: int,
    again: bool,
) -> None:
    """What was there before and is there after is there in every root between, once; also when a restart came before."""
    folder, counter = tmp_path_factory.mktemp("world"), itertools.count()
    remote = RecordingRemote()
    world = await World(folder / "here", remote).open()
    for verb, *arguments in first:
        await act(world, next(counter), verb, *arguments)
    await pusher_of(world).push()
    old = contents(await world.tree())
    remote.roots.clear()
    for verb, *arguments in then:
        await act(world, next(counter), verb, *arguments)
    if again:
        await pusher_of(world).checkpoints.write()
        world.close()
        world = await World(folder / "here", remote).open()
        assert world.quarantined == []
    tree = await world.stat_tree()
    stays = [content for content in contents(await world.tree()) if content in old]
    await pusher_of(world, nodes=nodes).push()
    assert not world.volume.root.dirty and await world.stat_tree() == tree
    for number, root in enumerate(remote.roots):
        seen = contents(await shown(folder / f"{number}", remote, root))
        assert [content for content in seen if content in stays] == stays
    world.close()


MOVES: dict[str, list[tuple[object, ...]]] = {
    "one of two moves is older": [("rename", "d/x", "y"), ("write", "new"), ("rename", "e/z", "z")],
    "written below before the move": [("write", "d/new"), ("write", "d/newer"), ("rename", "d", "moved")],
    "moved into what was made here and renamed": [
        ("mkdir", "t"),
        ("rename", "d/x", "t/x"),
        ("write", "t/new"),
        ("rename", "t", "u"),
        ("write", "u/newer"),
    ],
    "out of what was removed": [("rename", "d/x", "e/x"), ("unlink", "d/w"), ("rmdir", "d"), ("write", "d")],
    "around in a ring": [("rename", "d/x", "t"), ("rename", "d/w", "d/x"), ("rename", "t", "d/w")],
    "exchanged": [("rename", "d", "e", RenameFlags.EXCHANGE), ("write", "d/new"), ("write", "e/new")],
}


@pytest.mark.parametrize("name", MOVES)
async def test_moves_in_small_batches(tmp_path: Path, name: str) -> None:
    """A moved tree would be gone for other mounts until the last batch."""
    remote = RecordingRemote()
    world = await World(tmp_path / "here", remote).open()
    for folder in ("d", "e"):
        await world.mkdir(folder)
    for path in ("d/w", "d/x", "e/z"):
        await world.write(path, path.encode())
    await pusher_of(world).push()
    old = contents(await world.tree())
    remote.roots.clear()
    for number, (verb, *arguments) in enumerate(MOVES[name]):
        if verb == "write":
            await world.write(str(arguments[0]), b"%d" % number)
        else:
            await getattr(world, str(verb))(*arguments)
    stays = [content for content in contents(await world.tree()) if content in old]
    await pusher_of(world, nodes=1).push()
    assert not world.volume.root.dirty and remote.roots
    for number, root in enumerate(remote.roots):
        seen = contents(await shown(tmp_path / f"{number}", remote, root))
        assert [content for content in seen if content in stays] == stays
    world.close()


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("swaps", range(5))
async def test_a_kill_between_batches(tmp_path: Path, swaps: int, lost: bool) -> None:
    """Whatever batch was the last to arrive, and whether its answer did: nothing is lost and nothing conflicts."""
    remote = RecordingRemote()
    world = await World(tmp_path / "here", remote).open()
    await world.mkdir("base")
    for number in range(4):
        await world.write(f"base/{number}", b"%d" % number)
    await pusher_of(world).push()
    for number in range(12):
        await world.write(f"new{number}", b"new %d" % number)
    await world.rename("base/0", "moved")
    await world.write("base/1", b"changed")
    await world.unlink("base/2")
    remote.roots.clear()
    remote.away_after, remote.lost = swaps, lost
    pusher = pusher_of(world, nodes=3)
    with pytest.raises(Unavailable):
        await pusher.push()
    await world.write("new0", b"again")
    await world.rename("new1", "renamed")
    await world.unlink("new2")
    await world.write("new3", b"X", offset=1, truncate=False)
    tree = await world.stat_tree()
    world.close()
    remote.away, remote.away_after = False, None
    world = await World(tmp_path / "here", remote).open()
    assert world.quarantined == [] and await world.stat_tree() == tree
    done = await pusher_of(world, nodes=3).push()
    assert done is not None and done.conflicts == [] and not world.volume.root.dirty
    assert await world.stat_tree() == tree
    world.close()
    fresh = await World(tmp_path / "fresh", remote).open()
    assert await fresh.stat_tree() == tree
    fresh.close()


async def test_a_kill_between_batches_and_a_push_of_somebody_else(tmp_path: Path) -> None:
    """The journal stands on the base before the batches, and the Hub's root is none that was proposed from here."""
    remote = RecordingRemote()
    world = await World(tmp_path / "here", remote).open()
    await world.mkdir("d")
    for number in range(40):
        await world.write(f"d/f{number}", b"%d" % number)
    remote.away_after = 5
    with pytest.raises(Unavailable):
        await pusher_of(world, nodes=3).push()
    tree = await world.tree()
    world.close()
    remote.away, remote.away_after = False, None
    other = await World(tmp_path / "other", remote).open()
    assert 0 < len(await other.names("d")) < 40
    await other.write("d/theirs", b"theirs")
    await pusher_of(other).push()
    world = await World(tmp_path / "here", remote).open()
    done = await pusher_of(world, nodes=3).push()
    assert done is not None and done.conflicts == []
    assert await world.tree() == tree | {"d/theirs": b"theirs"}
    world.close()
    other.close()


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("checkpoint", [False, True])
async def test_changes_after_a_slice_a_kill_and_a_push_of_somebody_else(
    tmp_path: Path, lost: bool, checkpoint: bool
) -> None:
    """What was done here to what a batch had brought to the Hub is no conflict with that batch, and nothing comes back."""
    remote = RecordingRemote()
    world = await World(tmp_path / "here", remote).open()
    await world.mkdir("d")
    for number in range(40):
        await world.write(f"d/f{number:02}", b"%d" % number)
    remote.away_after, remote.lost = 5, lost
    with pytest.raises(Unavailable):
        await pusher_of(world, nodes=3).push()
    await world.unlink("d/f00")
    await world.rename("d/f01", "d/renamed")
    await world.write("d/f02", b"again")
    await world.write("d/f03", b"X", offset=5, truncate=False)
    await world.rename("d/f04", "d/f05")
    tree = await world.tree()
    world.close()
    remote.away, remote.away_after = False, None
    other = await World(tmp_path / "other", remote).open()
    assert (await other.names("d"))[:6] == [f"f{number:02}" for number in range(6)]
    await other.write("theirs", b"theirs")
    await other.write("d/f06", b"theirs, too")
    await other.unlink("d/f07")
    await pusher_of(other).push()
    other.close()
    world = await World(tmp_path / "here", remote).open()
    assert world.quarantined == [] and await world.tree() == tree
    if checkpoint:
        await pusher_of(world).checkpoints.write()
        world.close()
        world = await World(tmp_path / "here", remote).open()
    done = await pusher_of(world, nodes=3).push()
    assert done is not None
    seen = await world.tree()
    # Replayed, what the batches carried counts as changed here: what the other client changed of it is kept beside it.
    assert [path for path in seen if "conflict" in path] == done.conflicts and len(done.conflicts) == 1
    assert {seen["d/f06"], seen[done.conflicts[0]]} == {b"6", b"theirs, too"}
    expected = tree | {"theirs": b"theirs", "d/f06": seen["d/f06"], done.conflicts[0]: seen[done.conflicts[0]]}
    assert seen == expected
    world.close()


async def test_a_power_loss_between_batches_takes_nothing_from_the_hub(tmp_path: Path) -> None:
    """The disk kept the records and forgot the bytes; the Hub has them, in files that were pushed already."""
    remote = RecordingRemote()
    world = await World(tmp_path / "here", remote).open()
    await world.mkdir("d")
    for number in range(20):
        await world.write(f"d/f{number:02}", b"%d" % number)
    remote.away_after = 3
    with pytest.raises(Unavailable):
        await pusher_of(world, nodes=3).push()
    await world.unlink("d/f00")
    await world.write("d/f00", b"")
    await world.rename("d/f01", "d/renamed")
    world.close()
    for draft in (tmp_path / "here/journal/drafts").rglob("*"):
        if draft.is_file():
            os.truncate(draft, 0)
    remote.away, remote.away_after = False, None
    other = await World(tmp_path / "other", remote).open()
    arrived = {f"d/{name}": await other.read(f"d/{name}") for name in await other.names("d")}
    other.close()
    assert 3 < len(arrived) < 20
    world = await World(tmp_path / "here", remote).open()
    await pusher_of(world, nodes=3).push()
    assert not world.volume.root.dirty
    seen = await world.tree()
    world.close()
    fresh = await World(tmp_path / "fresh", remote).open()
    assert await fresh.tree() == seen
    fresh.close()
    del arrived["d/f00"], arrived["d/f01"]
    assert {path: seen[path] for path in arrived} == arrived
    assert "d/f01" not in seen and seen["d/f19"] == b""


async def test_equal_files_outside_of_the_slice_do_not_conflict(tmp_path: Path) -> None:
    """Two machines are given the same tree and push it in batches: what is equal is known as such although it was not built."""
    remote = RecordingRemote()
    one, two = [await World(tmp_path / name, remote).open() for name in ("one", "two")]
    for world in (one, two):
        await world.mkdir("d")
        for number in range(20):
            await world.write(f"d/f{number}", b"same %d" % number)
            await world.utime(f"d/f{number}", 1_000_000_000)
        await world.symlink("d/link", "target")
        await world.utime("d/link", 1_000_000_000)
    await two.write("d/f3", b"other 3")
    await pusher_of(one, nodes=4).push()
    done = await pusher_of(two, nodes=4).push()
    assert done is not None and len(done.conflicts) == 1
    assert sorted(await two.names("d")) == sorted([*await one.names("d"), done.conflicts[0].rpartition("/")[2]])
    one.close()
    two.close()


async def test_the_journal_is_written_anew_a_few_times_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large backlog would be pushed ever slower: each batch would write the whole journal again."""
    remote = RecordingRemote()
    world = await World(tmp_path, remote).open()
    for number in range(200):
        await world.write(f"f{number}", b"%d" % number)
    pusher, begun = pusher_of(world, nodes=4), 0
    true_checkpoint = pusher.checkpoints.write

    async def checkpoint() -> None:
        nonlocal begun
        begun += 1
        await true_checkpoint()

    monkeypatch.setattr(pusher.checkpoints, "write", checkpoint)
    await pusher.push()
    assert len(remote.roots) >= 50 and 1 < begun < 10
    figures = world.journal.figures()
    assert figures.drafts == 0 and figures.records < 10
    world.close()


async def test_room_at_the_hub_is_counted_by_batches(tmp_path: Path) -> None:
    """A program would be refused room that is there, or granted room that is not, after a push in batches."""
    remote = RecordingRemote()
    world = await World(tmp_path, remote).open()
    await world.write("old", b"o" * 50)
    await pusher_of(world).push()
    for number in range(6):
        await world.write(f"f{number}", b"x" * 100)
    await world.unlink("old")
    remote.away_after = len(remote.roots) + 2
    with pytest.raises(Unavailable):
        await pusher_of(world, nodes=2).push()
    assert world.volume.push.grown_bytes == 150 or world.volume.push.grown_bytes == 250
    remote.away, remote.away_after = False, None
    await pusher_of(world, nodes=2).push()
    assert world.volume.push.grown_bytes == 0
    world.close()


class Stopped(Exception):
    """The process was killed here."""


class Stopping:
    """Lets the disk work for so many calls, and none after that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        for name in ("_open", "write", "pwrite", "truncate", "rename", "unlink", "fsync", "fsync_folder", "make_folder"):
            self._guard(monkeypatch, name, getattr(Disk, name))

    def _guard(self, monkeypatch: pytest.MonkeyPatch, name: str, true: Callable[..., Any]) -> None:
        def guarded(disk: Disk, *arguments: Any, **named: Any) -> Any:
            if self.left is not None:
                if self.left <= 0:
                    raise Stopped
                self.left -= 1
            return true(disk, *arguments, **named)

        monkeypatch.setattr(Disk, name, guarded)


async def test_a_kill_at_every_disk_call_of_a_push_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill in the middle of a push in batches would lose changes, or make them conflicts with themselves."""
    stopping, ended = Stopping(monkeypatch), False
    for calls in itertools.count():
        remote = RecordingRemote()
        world = await World(tmp_path / f"{calls}", remote).open()
        await world.mkdir("d")
        await world.write("d/old", b"old")
        await pusher_of(world).push()
        for number in range(7):
            await world.write(f"f{number}", b"%d" % number)
        await world.rename("d/old", "moved")
        tree = await world.stat_tree()
        stopping.left = calls
        try:
            await pusher_of(world, nodes=2).push()
            ended = True
        except Stopped:
            pass
        stopping.left = None
        world.close()
        world = await World(tmp_path / f"{calls}", remote).open()
        assert world.quarantined == [] and world.journal.recovered.set_aside == []
        assert await world.stat_tree() == tree
        done = await pusher_of(world, nodes=2).push()
        assert done is None or done.conflicts == []
        assert await world.stat_tree() == tree and not world.volume.root.dirty
        world.close()
        if ended:
            assert calls > 10 and len(remote.roots) > 4
            return
