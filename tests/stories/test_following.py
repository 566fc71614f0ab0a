"""What ``bucketfs events`` tells while a mount is at work, and that it ends quietly in every way that it can end."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.home import Home, Mounted, Watchdog, program

PATIENCE_S = 60.0


class Follower:
    """A process that follows events, line by line."""

    def __init__(self, home: Home, *arguments: str | Path) -> None:
        command = [*program(), "events", *map(str, arguments)]
        self.process = subprocess.Popen(
            command, env=home.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._rest = b""

    def line(self) -> str:
        """The next line, as soon as it is there."""
        assert self.process.stdout is not None
        while b"\n" not in self._rest:
            ready = select.select([self.process.stdout], [], [], PATIENCE_S)[0]
            assert ready, f"nothing within {PATIENCE_S} s"
            got = os.read(self.process.stdout.fileno(), 65536)
            assert got, f"it ended: {self.process.stderr.read() if self.process.stderr else ''!r}"
            self._rest += got
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.line())
        return found

    def events(self, *wanted: str) -> dict[str, dict[str, Any]]:
        """Events by path, until all ``wanted`` were told of; those of folders' own attributes are left out."""
        found: dict[str, dict[str, Any]] = {}
        while not found.keys() >= set(wanted):
            event = self.event()
            if event["kind"] != "attributes":
                found[event["path"]] = event
        return found

    def ended(self) -> tuple[int, str]:
        """Its exit status and what it had to say on stderr."""
        _, said = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, said.decode()


@contextmanager
def following(mounted: Mounted, *arguments: str | Path) -> Iterator[Follower]:
    follower = Follower(mounted.home, *arguments)
    try:
        yield follower
    finally:
        follower.process.kill()
        follower.process.communicate()


@pytest.fixture(scope="module")
def mounted(new_home: Callable[..., Home]) -> Iterator[Mounted]:
    mounted = new_home().mount()
    with Watchdog(mounted.home, 200):
        yield mounted
    mounted.umount()


@pytest.mark.timeout(240)
def test_what_is_told(mounted: Mounted) -> None:
    """A program that follows the events would miss a change, or take a rename for a removal."""
    top = mounted.path / "home"
    with following(mounted, "--json") as follower:
        start = follower.event()
        assert (start["kind"], start["bucket"]) == ("start", "home") and start["root"].startswith("bafy")
        (top / "d").mkdir()
        (top / "d/f").write_text("one")
        (top / "g").write_text("g")
        mounted.sync()
        told = follower.events("d", "g")
        assert {event["kind"] for event in told.values()} == {"added"}, "what is in a new folder is told with the folder"
        assert told["d"]["origin"] == "local" and told["d"]["old"] is None and told["d"]["file"] == str(top / "d")

        (top / "d/f").write_text("two")
        (top / "g").rename(top / "d/h")
        mounted.sync()
        told = follower.events("d/f", "d/h")
        assert told["d/f"]["kind"] == "changed" and told["d/f"]["old"] != told["d/f"]["new"]
        assert (told["d/h"]["kind"], told["d/h"]["was"], told["d/h"]["old"]) == ("renamed", "g", told["d/h"]["new"])

        mounted.home.cli("buck", "rm", "home/d/f")
        told = follower.events("d/f")
        assert (told["d/f"]["kind"], told["d/f"]["origin"], told["d/f"]["new"]) == ("removed", "remote", None)
        assert not (top / "d/f").exists()

        (mounted.path / "second").mkdir()
        start = follower.event()
        assert (start["kind"], start["bucket"]) == ("start", "second")
        (mounted.path / "second").rmdir()
        assert follower.event()["kind"] == "end"


@pytest.mark.timeout(240)
def test_a_path_and_the_text(mounted: Mounted) -> None:
    """`bucketfs events PATH` would show changes beside the path, or miss a rename of a folder above it."""
    folder = mounted.path / "home/part"
    (folder / "in").mkdir(parents=True)
    mounted.sync()
    with following(mounted, folder / "in") as follower:
        assert " start home at bafy" in follower.line()
        (folder / "beside").write_text("x")
        mounted.sync()
        (folder / "in/side").write_text("x")
        mounted.sync()
        lines = [follower.line(), follower.line()]
        assert lines[0].endswith(f" local attributes {folder}/in") and lines[1].endswith(f" local added {folder}/in/side")
        # What holds the path concerns it as well.
        folder.rename(mounted.path / "home/part of it")
        mounted.sync()
        assert follower.line().endswith(f" local renamed part -> '{mounted.path}/home/part of it'")


@pytest.mark.timeout(240)
def test_it_ends_quietly(mounted: Mounted) -> None:
    """Ctrl-C, a closed pipe or an unmount would end `bucketfs events` with a traceback, or before the last change."""
    with following(mounted, mounted.path) as follower:
        follower.line()
        follower.process.send_signal(signal.SIGINT)
        assert follower.ended() == (0, "")
    with following(mounted, mounted.path) as follower:
        follower.line()
        assert follower.process.stdout is not None
        follower.process.stdout.close()
        (mounted.path / "home/more").write_text("x")
        mounted.sync()
        assert follower.process.wait(PATIENCE_S) == 141, "as ls in a pipe that is closed"
        assert follower.process.stderr is not None and follower.process.stderr.read() == b""
    other = mounted.home.root / "other"
    second = mounted.home.mount("--state", f"{other}-state", "--cache", f"{other}-cache", "home", where=other)
    complaint = mounted.home.complaint("events")
    assert "several mounts: name one" in complaint and str(other) in complaint
    with following(second, "--json", other) as follower:
        assert follower.event()["kind"] == "start"
        (other / "last").write_text("pushed while it is unmounted")
        second.home.cli("umount", other)
        assert follower.events("last")["last"]["file"] == str(other / "last")
        assert follower.ended() == (0, "")
