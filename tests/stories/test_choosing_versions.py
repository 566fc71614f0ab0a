"""Two mounts change the same files: what ``bucketfs conflicts`` lists, over kills and restarts, and how one is settled."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.home import Home, Mounted, Watchdog

NAMES = ("d/one.txt", "d/deep/two.txt", "three.txt", "four.txt")


@dataclass
class Pair:
    """Two mounts of the embedded Hub's bucket ``home``, with state of their own. ``mine`` is the one that has the conflicts."""

    home: Home
    mine: Mounted
    theirs: Mounted

    def listed(self, *arguments: str | Path) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(
            self.home.cli("conflicts", "--json", *(arguments or (self.mine.path,))).stdout
        )
        return found

    def settle(self) -> None:
        for mounted in (self.mine, self.theirs, self.mine):
            mounted.sync()


def mount(home: Home, name: str) -> Mounted:
    options = ("--state", home.root / f"{name}-state", "--cache", home.root / f"{name}-cache")
    return home.mount(*options, where=home.root / name)


@pytest.fixture(scope="module")
def pair(new_home: Callable[..., Home]) -> Iterator[Pair]:
    home = new_home()
    with Watchdog(home, 200):
        mounts = [mount(home, "a"), mount(home, "b")]
        for name in NAMES:
            file = mounts[0].path / "home" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("base")
        for mounted in mounts:
            mounted.sync()
        for mounted in mounts:
            for name in NAMES:
                (mounted.path / "home" / name).write_text(f"written in {mounted.path.name}")
        # Whoever pushes second has the conflicts; on a busy machine that may be either.
        for mounted in (*mounts, mounts[0]):
            mounted.sync()
        mine = mounts[0] if json.loads(home.cli("conflicts", "--json", mounts[0].path).stdout) else mounts[1]
        (theirs,) = set(mounts) - {mine}
        yield Pair(home, mine, theirs)
        home.cli("umount", mounts[0].path)
        mounts[1].expect("had lost its process and is cleared")
        mounts[1].umount()


@pytest.mark.timeout(240)
def test_what_is_listed_and_that_it_stays(pair: Pair) -> None:
    """A conflict would not be listed, or be forgotten after a kill, so that its second version is never looked at."""
    mine = pair.mine
    listed = pair.listed()
    assert {Path(item["original"]) for item in listed} == {mine.path / "home" / name for name in NAMES}
    for item in listed:
        assert Path(item["copy"]).read_text() == f"written in {mine.path.name}"
        assert Path(item["original"]).read_text() == f"written in {pair.theirs.path.name}"
        assert item["bucket"] == "home" and item["copy_is"] == "mine" and item["root"].startswith("bafybei")
    assert pair.listed(mine.path / "home/d") == [item for item in listed if "/home/d/" in item["original"]]
    assert pair.listed(pair.theirs.path) == []
    assert pair.home.cli("conflicts", pair.theirs.path).stdout == "No conflicts.\n"
    said = pair.home.cli("conflicts", mine.path / "home/d/one.txt").stdout
    assert f"{mine.path}/home/d/one.txt is the Hub's version; since 20" in said and "d/one (conflict " in said
    assert mine.status()["conflicts"] == listed
    assert (
        "  conflicts: 4, both versions are kept; 'bucketfs conflicts' lists them\n"
        in pair.home.cli("status", mine.path).stdout
    )

    (daemon,) = pair.home.pids("mount", str(mine.path))
    os.kill(daemon, signal.SIGKILL)
    pair.mine = mount(pair.home, mine.path.name)
    assert pair.listed() == listed


@pytest.mark.timeout(240)
def test_settling_them(pair: Pair) -> None:
    """Resolving a conflict would keep the wrong version, drop both, or touch a conflict that was not named."""
    home, top = pair.home, pair.mine.path / "home"
    mine, theirs = f"written in {pair.mine.path.name}", f"written in {pair.theirs.path.name}"
    copies = {item["original"]: item["copy"] for item in pair.listed()}

    # What is not meant is refused, and nothing happens.
    assert "4 conflicts could be meant: name one, or give --all" in home.complaint("conflicts", "--resolve", "keep-mine")
    assert "2 conflicts are below" in home.complaint("conflicts", "--resolve", "keep-mine", top / "d")
    assert "no conflict at" in home.complaint("conflicts", "--resolve", "keep-mine", top / "nowhere")
    assert len(pair.listed()) == 4

    # A folder above has another name now, and the Hub is away.
    (hub,) = home.pids("hub", "serve")
    os.kill(hub, signal.SIGSTOP)
    try:
        (top / "d/deep").rename(top / "deeper")
        (two,) = [item for item in pair.listed() if item["original"].endswith("two.txt")]
        assert two["original"] == str(top / "deeper/two.txt") and Path(two["copy"]).read_text() == mine
        with (top / "three.txt").open() as held:
            home.cli("conflicts", "--resolve", "keep-mine", copies[str(top / "three.txt")])
            assert held.read() == theirs, "what is open stays what it was"
        assert (top / "three.txt").read_text() == mine and not Path(copies[str(top / "three.txt")]).exists()
        home.cli("conflicts", "--resolve", "keep-theirs", top / "four.txt")
        assert (top / "four.txt").read_text() == theirs and not Path(copies[str(top / "four.txt")]).exists()
        assert sorted(os.listdir(top)) == ["d", "deeper", "four.txt", "three.txt"]
    finally:
        os.kill(hub, signal.SIGCONT)
    done = json.loads(home.cli("conflicts", "--resolve", "keep-both", "--all", "--json", pair.mine.path).stdout)
    assert len(done["resolved"]) == 2 and done["failed"] == []
    assert pair.listed() == [] and home.cli("conflicts", "--resolve", "keep-mine", "--all").stdout == "No conflicts.\n"

    pair.settle()
    for mounted in (pair.mine, pair.theirs):
        there = mounted.path / "home"
        assert (there / "three.txt").read_text() == mine and (there / "four.txt").read_text() == theirs
        assert len(list((there / "d").iterdir())) == len(list((there / "deeper").iterdir())) == 2
        assert mounted.status()["conflicts"] == []


@pytest.mark.whole
@pytest.mark.timeout(240)
def test_a_copy_that_another_client_removes_is_off_the_list(pair: Pair) -> None:
    """Its short cut is in tests/vfs/test_conflicts.py."""
    for mounted in (pair.mine, pair.theirs):
        (mounted.path / "home/again.txt").write_text(mounted.path.name)
    pair.settle()

    def again(mounted: Mounted) -> list[str]:
        # The tests before this one have conflicts of their own.
        return [
            item["copy"] for item in pair.listed(mounted.path) if re.search(r"again \(conflict .*\)\.txt$", item["copy"])
        ]

    (loser, other) = (pair.mine, pair.theirs) if again(pair.mine) else (pair.theirs, pair.mine)
    (copy,) = again(loser)
    Path(copy.replace(str(loser.path), str(other.path))).unlink()
    pair.settle()
    assert again(loser) == []
