"""Two folders that are watched and a mount of the same bucket: with a Hub that goes and comes back, and a watch that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.foreground import Foreground
from support.home import Home, program
from support.served import ServedHub

PATIENCE_S = 60.0


@dataclass(eq=False)
class Watching:
    """``bucketfs buck watch --json`` over ``top``."""

    top: Path
    log: Path
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, home: Home, top: Path) -> Watching:
        top.mkdir(exist_ok=True)
        log = home.root / f"{top.name}.json"
        with log.open("ab") as out:
            process = subprocess.Popen(
                [*program(), "buck", "watch", "--json", "--quiet", "0.2", str(top), "home"],
                env=home.environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        return cls(top, log, process)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0, self.log.read_text()


def eventually(what: Callable[[], bool], why: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, why
        time.sleep(0.1)


def tree(top: Path) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for parent, folders, files in os.walk(top):
        for name in [*folders, *files]:
            path = Path(parent, name)
            try:
                found[str(path.relative_to(top))] = path.read_text() if path.is_file() else None
            except FileNotFoundError:
                continue  # it was replaced or renamed just now
    return found


def one_tree(tops: Sequence[Path]) -> bool:
    return all(tree(top) == tree(tops[0]) for top in tops)


def test_a_watched_folder_and_a_hub_that_comes_back(home: Home) -> None:
    """The cut of the story below."""
    with ServedHub(home, home.root / "hub") as hub:
        home.extra.update(hub.account("ann").variables())
        home.cli("buck", "create", "home")
        watched, other = home.root / "watched", home.root / "other"
        (other / "inside").mkdir(parents=True)
        (other / "there").write_text("x")
        home.cli("buck", "watch", "--once", other, "home")
        watching = Watching.start(home, watched)
        eventually(lambda: tree(watched) == {"inside": None, "there": "x"}, "what the bucket has does not arrive")
        assert "which is being watched too" in home.complaint("buck", "watch", "--once", watched / "inside", "home")
        hub.kill()
        (watched / "here").write_text("while the Hub was away")
        eventually(lambda: watching.events()[-1]["event"] == "waiting", "nothing is said of the Hub")
        watching.kill()
        (watched / "there").write_text("while nobody watched")
        hub.start()
        watching = Watching.start(home, watched)
        eventually(lambda: any(event.get("pushed") == 2 for event in watching.events()), "changes do not go out")
        watching.stop()
        home.cli("buck", "watch", "--once", other, "home")
        assert tree(other) == {"inside": None, "there": "while nobody watched", "here": "while the Hub was away"}


@pytest.mark.whole
@pytest.mark.timeout(300)
def test_two_folders_and_a_mount(home: Home) -> None:
    """Watched folders and a mount of one bucket would stay different, or lose a change, after the Hub was away and a watch
    was killed."""
    with ServedHub(home, home.root / "hub") as hub:
        home.extra.update(hub.account("ann").variables())
        home.cli("buck", "create", "home")
        (home.root / "one").mkdir()
        (home.root / "one/from one").write_text("1")
        one, two = Watching.start(home, home.root / "one"), Watching.start(home, home.root / "two")
        place = home.root / "mount"
        place.mkdir()
        daemon = Foreground.start(home, "home", place=place)
        everywhere = (one.top, two.top, place)

        def same(wanted: dict[str, str | None], why: str) -> None:
            eventually(lambda: all(tree(top) == wanted for top in everywhere), why)

        same({"from one": "1"}, "what was there at first does not arrive")
        assert "is being watched already" in home.complaint("buck", "watch", one.top, "home")
        (place / "dir").mkdir()
        (place / "dir/from the mount").write_text("m")
        (two.top / "both").write_text("agreed")
        wanted: dict[str, str | None] = {
            "from one": "1",
            "dir": None,
            "dir/from the mount": "m",
            "both": "agreed",
        }
        same(wanted, "changes do not arrive")

        # The Hub goes, one watch is killed; everybody goes on working.
        hub.kill()
        two.kill()
        (one.top / "both").write_text("one's")
        (two.top / "both").write_text("two's")
        (one.top / "dir").rename(one.top / "renamed")
        (two.top / "dir/beside").write_text("made while nobody watched")
        (two.top / "from one").unlink()
        (place / "from the mount").write_text("while the Hub was away")
        eventually(lambda: any(event["event"] == "waiting" for event in one.events()), "nothing is said of the Hub")
        two = Watching.start(home, two.top)
        eventually(
            lambda: [event["event"] for event in two.events()][-2:] == ["begun", "waiting"], "no start without the Hub"
        )
        hub.start()
        eventually(lambda: all(len(tree(top)) == 6 for top in everywhere) and one_tree(everywhere), "they do not become one")
        found = tree(place)
        (copy,) = [name for name in found if name.startswith("both (conflict ")]
        assert sorted([found.pop("both") or "", found.pop(copy) or ""]) == ["one's", "two's"]
        assert found == {
            "renamed": None,
            "renamed/from the mount": "m",
            "renamed/beside": "made while nobody watched",
            "from the mount": "while the Hub was away",
        }
        one.stop()
        two.stop()
        assert daemon.stop() == 0
