"""What runs write aside into users' folders: known by its exact form and the list of runs, and by nothing else."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from support.machine import Machine, hub_names, settle
from support.memory_remote import MemoryRemote

from bucketfs.transfer import ONE_PATH, AsideFile, LocalFs, Temporaries, listed_temporaries, pull_folder, push_folder
from bucketfs.transfer.options import PullOptions
from bucketfs.transfer.temporaries import AsideLink
from bucketfs.types import NO_ATTRIBUTES


@pytest.fixture
def place(tmp_path: Path) -> Path:
    found = tmp_path / "state"
    found.mkdir()
    return found


def listed(place: Path) -> list[str]:
    return sorted(os.listdir(place))


def killed_run(place: Path, local: Path, *below: str) -> list[Path]:
    """What a run over ``local`` leaves that was killed while it wrote files at the paths ``below`` (the empty one: itself)."""
    before = set(local.parent.rglob("*"))
    child = os.fork()
    if child == 0:
        try:
            with listed_temporaries(place, local) as temporaries:
                for path in below:
                    AsideFile(
                        LocalFs(), os.path.join(os.fsencode(local), os.fsencode(path)).rstrip(b"/"), 1 << 40, temporaries
                    )
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    left = [path for path in set(local.parent.rglob("*")) - before if place not in path.parents]
    assert len(left) == len(below)
    return left


async def test_only_what_a_run_made_is_left_out_and_removed(tmp_path: Path, place: Path) -> None:
    """A user's file whose name looks like ours is neither skipped nor deleted."""
    remote = MemoryRemote()
    one = Machine(tmp_path, "one", remote)
    one.aside_place = place
    (one.top / "dir").mkdir()
    left = killed_run(place, one.top, "file", "dir/file")
    users = (
        ".bucketfs-aside-notes",
        f".bucketfs-aside-{'0' * 32}-0",
        f"{left[0].name}x",
        "x" + left[0].name,
        ".bucketfs-aside-",
    )
    for name in users:
        one.write(name, "a user's")
        one.write(f"dir/{name}", "a user's")
        os.utime(one.top / name, (0, 0))
    await settle(one)
    wanted = sorted([*users, *(f"dir/{name}" for name in users), "dir"])
    assert sorted(set(hub_names(remote))) == wanted
    assert not any(path.exists() for path in left)
    assert sorted(one.tree()) == wanted
    assert listed(place) == []


async def test_what_a_living_run_writes_is_neither_sent_nor_removed(tmp_path: Path, place: Path) -> None:
    """Two commands at a time in one folder do not destroy each other's work."""
    remote = MemoryRemote()
    one = Machine(tmp_path, "one", remote)
    one.aside_place = place
    one.write("file", "x")
    with listed_temporaries(place, one.top) as other:
        aside = AsideFile(LocalFs(), os.fsencode(one.top / "large"), 1 << 40, other)
        await settle(one)
        await push_folder(remote, one.top, temporaries=Temporaries(place))
        await pull_folder(remote, one.top, options=PullOptions(delete=True), temporaries=Temporaries(place))
        assert set(hub_names(remote)) == {"file"}
        (standing,) = other.standing
        assert LocalFs().look(standing) is not None
        aside.abandon()
    assert sorted(one.tree()) == ["file"]
    assert listed(place) == []


def test_a_dead_run_in_a_folder_that_is_not_there_stays_listed(tmp_path: Path, place: Path) -> None:
    """What a killed run left on an unplugged disk is removed when that is back."""
    top = tmp_path / "top"
    top.mkdir()
    (left,) = killed_run(place, top, "file")
    unplugged = top.rename(tmp_path / "unplugged")
    temporaries = Temporaries(place)
    assert temporaries.clear_dead(os.fsencode(top)) == 0
    top.mkdir()
    assert temporaries.clear_dead(os.fsencode(top)) == 0
    assert temporaries.is_temporary(os.fsencode(left.name))
    top.rmdir()
    unplugged.rename(top)
    assert temporaries.clear_dead(os.fsencode(tmp_path / "elsewhere")) == 0
    assert temporaries.clear_dead(os.fsencode(tmp_path)) == 1
    assert not temporaries.is_temporary(os.fsencode(left.name))
    assert list(top.iterdir()) == []


def test_what_a_dead_pull_of_one_file_left_beside_it_is_removed(tmp_path: Path, place: Path) -> None:
    """What a killed pull left must not fill the user's folder."""
    (left,) = killed_run(place, tmp_path / "file", "")
    assert left.parent == tmp_path
    with listed_temporaries(place, tmp_path / "file"):
        assert not left.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda top: os.path.join(top, b"x" * 256),
        lambda top: os.path.join(top, *[b"d" * 200] * 25, b"x"),
        lambda top: os.path.join(top, b"file", b"x"),
        lambda top: os.path.join(top, b"missing", b"x"),
        lambda top: os.path.join(top, b"folder"),
    ],
)
def test_a_path_that_cannot_be_written_leaves_nothing_aside(tmp_path: Path, wrong: Callable[[bytes], bytes]) -> None:
    """A failed write leaves no temporary behind."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    path = wrong(os.fsencode(tmp_path))
    temporaries = Temporaries()

    def write() -> None:
        aside = AsideFile(LocalFs(), path, 1, temporaries)
        try:
            aside.complete(NO_ATTRIBUTES, 0o644)
            aside.place()
        finally:
            aside.abandon()

    def write_link() -> None:
        link = AsideLink(LocalFs(), path, b"target", NO_ATTRIBUTES, temporaries)
        try:
            link.place()
        finally:
            link.abandon()

    for act in (write, write_link):
        with pytest.raises(ONE_PATH) as told:
            act()
        assert len(str(told.value)) < 600
        assert temporaries.standing == set()
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


async def test_the_hubs_own_name_is_said_to_be_taken(tmp_path: Path) -> None:
    """The user hears that a file of this name is not saved."""
    remote = MemoryRemote()
    one = Machine(tmp_path, "one", remote)
    one.write("file", "x")
    await settle(one)
    (one.top / ".textileseed").write_bytes(b"s" * 32)
    assert (await one.round()).skipped == (await push_folder(remote, one.top)).skipped == []
    (one.top / ".textileseed").write_text("a user's")
    for skipped in ((await one.round()).skipped, (await push_folder(remote, one.top)).skipped):
        assert [item.path for item in skipped] == [".textileseed"]
    await pull_folder(remote, one.top, options=PullOptions(delete=True))
    assert one.read(".textileseed") == "a user's"
