"""When rounds happen: after changes on either side, after trouble, and unasked where nothing is heard."""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from support.machine import Machine, settle
from support.memory_remote import MemoryRemote
from support.running_mirror import QUICK, Running, eventually, running
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers.api import ObservedWatch
from watchdog.observers.inotify import InotifyObserver

from bucketfs.client import Backoff
from bucketfs.errors import NotFound
from bucketfs.mirror import MirrorPace, Round


async def test_changes_of_both_sides_are_carried(one: Machine, two: Machine, remote: MemoryRemote, tmp_path: Path) -> None:
    """What is saved in the folder, also in new folders, is at the Hub soon, and the other way."""
    async with running(one, tmp_path / "spare") as there:
        one.write("new folder/deep/file", "x")
        await eventually(lambda: remote.swaps == 1, "a change here was not heard")
        # Below a folder that was not there when the watch began.
        one.write("new folder/deep/another", "y")
        await eventually(lambda: remote.swaps == 2, "a change in a new folder was not heard")
        two.write("theirs", "z")
        await settle(two)
        there.runner.changed()
        await eventually(lambda: (one.top / "theirs").exists(), "a change of the Hub was not taken")
        await eventually(lambda: two.tree() == one.tree(), "not the same")
        assert not there.troubles and not there.said


async def test_its_own_writes_keep_it_busy_for_one_round_only(
    one: Machine, two: Machine, remote: MemoryRemote, tmp_path: Path
) -> None:
    """Else the mirror would wake itself for ever."""
    for number in range(20):
        two.write(f"dir {number % 3}/{number}", "x" * number)
    await settle(two)
    async with running(one, tmp_path / "spare") as there:
        await eventually(lambda: there.rounds[-1].did_something is False, "it does not come to rest")
        await trio.testing.wait_all_tasks_blocked(0.5)
        count = len(there.rounds)
        await trio.testing.wait_all_tasks_blocked(0.5)
        assert len(there.rounds) == count


class SlowBackoff(Backoff):
    def next_s(self) -> float:
        return 3600.0


async def test_an_outage_is_waited_out_and_hurried(one: Machine, remote: MemoryRemote, tmp_path: Path) -> None:
    """After an outage the user does not wait for a long pause to end."""
    async with running(one, tmp_path / "spare", backoff=SlowBackoff()) as there:
        remote.away = True
        one.write("file", "x")
        await eventually(lambda: bool(there.troubles), "nothing was said of the Hub being away")
        remote.away = False
        there.runner.hurry()
        await eventually(lambda: remote.swaps == 1, "it waits though the Hub is back")


async def test_what_does_not_pass_ends_it(one: Machine, tmp_path: Path) -> None:
    """The user hears that the folder is gone, instead of a mirror that does nothing."""
    with pytest.RaisesGroup(NotFound):
        async with running(one, tmp_path / "spare") as there:
            one.top.rename(tmp_path / "elsewhere")
            there.runner.changed()
            await trio.sleep_forever()


class ExhaustedObserver(InotifyObserver):
    """A kernel that has no watch left for a folder called spare."""

    def schedule(
        self,
        event_handler: FileSystemEventHandler,
        path: str | Path,
        *,
        recursive: bool = False,
        event_filter: list[type[FileSystemEvent]] | None = None,
        follow_symlink: bool = False,
    ) -> ObservedWatch:
        if str(path).endswith("spare"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().schedule(
            event_handler, path, recursive=recursive, event_filter=event_filter, follow_symlink=follow_symlink
        )


async def test_without_watches_it_looks_now_and_then(one: Machine, tmp_path: Path) -> None:
    """Where the kernel has no watches left, changes are still found, and the user is told."""
    pace = replace(QUICK, poll_s=0.05)
    async with running(one, tmp_path / "spare", pace, observer=ExhaustedObserver()) as there:
        assert len(there.said) == 1
        assert "fs.inotify.max_user_watches is used up" in there.said[0]
        count = len(there.rounds)
        await eventually(lambda: len(there.rounds) > count + 2, "the folder is not looked at")


async def test_a_queue_that_overflowed_is_followed_by_a_look(one: Machine, tmp_path: Path) -> None:
    """Events that the kernel dropped must not leave changes unsaved."""
    async with running(one, tmp_path / "spare") as there:
        await trio.testing.wait_all_tasks_blocked(0.2)
        count = len(there.rounds)
        # As watchdog says it: in its log.
        logging.getLogger("watchdog.observers.inotify_c").warning("Inotify queue overflowed; filesystem events were lost")
        await eventually(lambda: len(there.rounds) > count, "lost events are not looked for")


async def test_now_and_then_it_looks_unasked(one: Machine, tmp_path: Path) -> None:
    """Changes that no event tells of, as on network disks, are found."""
    async with running(one, tmp_path / "spare", MirrorPace(quiet_s=0.01, longest_s=0.1, rescan_s=0.05)) as there:
        await eventually(lambda: len(there.rounds) > 3, "no look unasked")


async def test_what_comes_to_nothing_is_looked_for_less_and_less(one: Machine, tmp_path: Path) -> None:
    """A file that changes all the time must not keep the machine busy."""
    there = Running(one, tmp_path / "spare", MirrorPace(quiet_s=2.0, longest_s=30.0, rescan_s=600.0))
    stuck, moving = Round(soon=True), Round(soon=True, pushed=1)
    assert [there.runner._next_s(stuck) for _ in range(4)] == [2.0, 4.0, 8.0, 16.0]
    assert [there.runner._next_s(done) for done in (moving, stuck, stuck)] == [32.0, 2.0, 4.0]
    for _ in range(20):
        assert there.runner._next_s(stuck) <= 600.0
    assert there.runner._next_s(Round()) == float("inf")
    assert there.runner._next_s(stuck) == 2.0
    there.state.close()
