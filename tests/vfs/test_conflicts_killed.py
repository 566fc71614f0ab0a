"""A kill at any moment while a conflict is made: there are as many conflicts on the list as there are copies in the tree."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import world
from support.memory_remote import MemoryRemote
from support.world import World

from bucketfs.disk import Disk
from bucketfs.sync import Pace, Scheduler


class Killed(BaseException):
    """The process is gone in the middle of a disk call. No code under test may catch it."""


class Killing(Disk):
    """The real disk, up to the ``left``-th call from now. What was called before stays, as after a kill of the process."""

    left = 1 << 30
    dead = False

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or name in ("left", "dead"):
            return found

        def call(*arguments: Any, **more: Any) -> Any:
            if self.dead or self.left <= 0:
                self.dead = True
                raise Killed
            self.left -= 1
            return found(*arguments, **more)

        return call


async def one_round(one: World) -> None:
    pusher = one.pusher()
    scheduler = Scheduler(one.volume, one.remote, pusher, Pace(0, 0))
    scheduler.root_moved()
    await scheduler._round()


async def prepared(folder: Path) -> MemoryRemote:
    """Somebody pushed, and the state in ``folder`` has changes of the same files that wait."""
    remote = MemoryRemote()
    first = await World(folder.with_name("first"), remote).open()
    for name in ("a", "b", "c"):
        await first.write(name, b"base")
    await one_round(first)
    second = await World(folder, remote).open()
    for name in ("a", "b"):
        await second.write(name, b"second")
        await first.write(name, b"first")
    await first.write("c", b"first")
    await one_round(first)
    second.close()
    first.close()
    return remote


def copies_in(tree: dict[str, object]) -> list[str]:
    return sorted(path for path in tree if "(conflict " in path)


async def test_a_kill_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever a mount is killed, both versions are still there."""
    folder = tmp_path / "second"
    remote = await prepared(folder)
    number, done = 0, False
    seen = set[int]()
    while not done:
        place, there = tmp_path / f"killed{number}", copy.deepcopy(remote)
        shutil.copytree(folder, place)
        disk = Killing()
        monkeypatch.setattr(world, "Disk", lambda disk=disk: disk)
        one = await World(place, there).open()
        disk.left = number
        done = await survived(lambda one=one: one_round(one))  # type: ignore[misc]
        monkeypatch.setattr(world, "Disk", Disk)
        forget(one)
        again = await World(place, there).open()
        listed = sorted(conflict.copy for conflict in again.volume.pending.conflicts)
        assert listed == copies_in(await again.tree()), f"killed at call {number}"
        seen.add(len(listed))
        await one_round(again)
        tree = await again.tree()
        assert sorted(conflict.copy for conflict in again.volume.pending.conflicts) == copies_in(tree)
        assert sorted(tree.values()) == [b"first", b"first", b"first", b"second", b"second"], f"killed at call {number}"  # type: ignore[type-var]
        again.close()
        number += 1
    assert seen == {0, 2} and number > 3


async def survived(act: Callable[[], Any]) -> bool:
    try:
        await act()
    except Killed:
        return False
    return True


def forget(one: World) -> None:
    """The process is gone; its files are as they are."""
    for segment in one.journal._segments:
        if segment.file is not None:
            Disk().close(segment.file)
    one.numbers.close()
