"""Changes that wait while the tree they were made on is lost everywhere else: somebody pushed over it, the Hub collected it, and
the cache was deleted. They are taken in all the same."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import acknowledged
from support.foreground import Foreground
from support.home import Home
from support.served import Account, ServedHub
from support.waiting import eventually
from support.writing import at_the_hub

from bucketfs.errors import TimedOut, Unavailable

BUCKET = "shared"
BIG = 700_000


@dataclass(eq=False)
class Scene:
    """``away`` is the machine that goes offline, ``other`` the one that pushes meanwhile."""

    hub_home: Home
    hub: ServedHub
    account: Account
    away: Home
    other: Home
    options: tuple[str, ...]
    """Of the mount of ``away``."""

    def mount(self, home: Home) -> Foreground:
        options = self.options if home is self.away else ()
        return Foreground.start(home, *options, BUCKET)

    @contextmanager
    def pushing(self, home: Home) -> Iterator[Path]:
        """What is done to the folder is at the Hub afterwards, and ``home`` is off again."""
        daemon = self.mount(home)
        daemon.ask("sync")
        yield daemon.place
        daemon.ask("sync")
        assert daemon.stop() == 0

    @contextmanager
    def offline(self) -> Iterator[Path]:
        """What is done to the folder waits in the journal of ``away`` afterwards, and its daemon is killed."""
        self.hub.stop()
        daemon = self.mount(self.away)
        yield daemon.place
        eventually(lambda: kept(daemon), "what the changes stand on is not kept")
        daemon.kill()
        self.hub.start()

    def collect(self) -> None:
        """The Hub collects what no root needs."""
        said = self.hub_home.cli("hub", "gc", "--data", self.hub.data, "--grace", "0s").stdout
        assert not said.startswith("Deleted 0 "), said

    def lose_the_base(self, *, kept: bool = True) -> None:
        """The Hub collects it, and nothing of the cache is left; of what the journal ``kept`` neither."""
        self.collect()
        self.away.forget("cache")
        if not kept:
            for folder in list(self.away.state.glob("mounts/*/buckets/*/base")):
                shutil.rmtree(folder)

    def assert_all_have(self, wanted: acknowledged.Tree) -> None:
        """Mount and Hub show this, once the one that was away has pushed."""
        with self.pushing(self.away) as folder:
            assert acknowledged.look(folder) == wanted
        with self.account.plain() as plain:
            assert at_the_hub(plain, BUCKET) == wanted


def kept(daemon: Foreground) -> bool:
    (bucket,) = daemon.ask("status")["buckets"]
    return bool(bucket["pending_count"] > 0 and bucket["journal"]["base_waiting"] == 0)


def pushed(daemon: Foreground) -> bool:
    with suppress(Unavailable, TimedOut):  # the Hub was away, and is asked again after a pause
        daemon.ask("sync")
        return True
    return False


@contextmanager
def scene(root: Path, new_home: Callable[[], Home], *options: str) -> Iterator[Scene]:
    hub_home, away, other = new_home(), new_home(), new_home()
    with ServedHub(hub_home, hub_home.root / "store") as hub:
        account = hub.account("writer")
        for home in (hub_home, away, other):
            home.extra.update(account.variables())
            (home.root / "Buckets").mkdir()
        hub_home.cli("buck", "create", BUCKET)
        yield Scene(hub_home, hub, account, away, other, options)


def begin(folder: Path) -> None:
    for name in ("edit", "moved", "gone", "plain"):
        (folder / name / "below").mkdir(parents=True)
        for number in range(4):
            (folder / name / f"f{number}").write_text(f"{name} {number}")
            (folder / name / "below" / f"g{number}").write_text(f"below {name} {number}")
    (folder / "big").write_bytes(b"b" * BIG)


def test_changes_outlive_the_tree_they_were_made_on(stage: Path, new_home: Callable[[], Home]) -> None:
    """A week offline, with `hub gc` and a deleted cache in it, costs no change and undoes none of others."""
    with scene(stage, new_home) as at:
        with at.pushing(at.away) as folder:
            begin(folder)
        with at.offline() as folder:
            (folder / "edit/new").write_text("made")
            (folder / "edit/f0").write_text("edited")
            os.rename(folder / "moved", folder / "moved here")
            for path in sorted((folder / "gone").rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            (folder / "gone").rmdir()
            (folder / "plain/f0").unlink()
            os.rename(folder / "plain/f1", folder / "plain/below/f1")
        with at.pushing(at.other) as folder:
            (folder / "edit/theirs").write_text("theirs")
            (folder / "edit/f1").write_text("their edit")
            (folder / "moved/f2").write_text("changed where it was")
            (folder / "moved/below/g1").write_text("changed below where it was")
            (folder / "gone/f3").write_text("changed in what went")
            (folder / "plain/f2").unlink()
            (folder / "plain/below/theirs").write_text("too")
            (folder / "top").write_text("beside")
            wanted = acknowledged.look(folder)
        at.lose_the_base()

        wanted |= {"edit/new": b"made", "edit/f0": b"edited"}
        wanted = {
            name.replace("moved/", "moved here/") if name.startswith("moved/") else name: data
            for name, data in wanted.items()
        }
        wanted["moved here"] = wanted.pop("moved")
        for name in [name for name in wanted if name.startswith("gone/") and name != "gone/f3"]:
            del wanted[name]
        del wanted["plain/f0"]
        wanted["plain/below/f1"] = wanted.pop("plain/f1")
        at.assert_all_have(wanted)


@pytest.mark.whole
def test_changes_outlive_a_cache_that_is_too_small(stage: Path, new_home: Callable[[], Home]) -> None:
    """Nothing is deleted, and nobody is killed: while it is offline for long the mount reads more than its cache holds. What it
    shows of a folder may then be all that there is of it."""
    with scene(stage, new_home, "--cache-size", "1M", "--memory-size", "1M") as at:
        with at.pushing(at.away) as folder:
            begin(folder)
            for number in range(4):
                (folder / f"filler {number}").write_bytes(bytes([number]) * 1_500_000)
        daemon = at.mount(at.away)
        folder = daemon.place
        acknowledged.look(folder)
        at.hub.stop()
        os.rename(folder / "moved", folder / "moved here")
        for name in ("edit", "plain/below"):
            (folder / name / "new").write_text("made")
        (folder / "edit/f0").write_text("edited")
        (folder / "plain/f0").unlink()
        eventually(lambda: kept(daemon), "what the changes stand on is not kept")
        daemon.process.send_signal(signal.SIGSTOP)
        at.hub.start()
        with at.pushing(at.other) as theirs:
            (theirs / "edit/f1").write_text("their edit")
            (theirs / "moved/f2").write_text("changed where it was")
            (theirs / "plain/below/g0").unlink()
            wanted = acknowledged.look(theirs)
        at.collect()
        daemon.process.send_signal(signal.SIGCONT)
        eventually(lambda: pushed(daemon), "the changes are not pushed")
        wanted |= {"edit/new": b"made", "plain/below/new": b"made", "edit/f0": b"edited"}
        wanted = {re.sub("^moved", "moved here", name): data for name, data in wanted.items() if name != "plain/f0"}
        assert daemon.stop() == 0
        at.assert_all_have(wanted)


def test_what_is_lost_here_too_keeps_nothing_else_from_going_out(stage: Path, new_home: Callable[[], Home]) -> None:
    """As with a disk that was damaged: what was kept is gone as well. What was changed here is quarantined, and exported by one
    command; what is changed from then on goes out."""
    with scene(stage, new_home) as at:
        with at.pushing(at.away) as folder:
            begin(folder)
        with at.offline() as folder:
            (folder / "edit/new").write_text("made")
            (folder / "edit/below/new").write_text("made below")
            (folder / "edit/f0").write_text("edited")
            (folder / "edit/f1").write_text("edited here")
            (folder / "made").mkdir()
            (folder / "made/in").write_text("in a new folder")
            (folder / "plain/f0").unlink()
            with (folder / "big").open("r+b") as file:
                file.seek(300_000)
                file.write(b"part")
        with at.pushing(at.other) as folder:
            (folder / "edit/theirs").write_text("theirs")
            (folder / "edit/f1").write_text("edited there")
            (folder / "big").unlink()
            (folder / "plain/theirs").write_text("theirs")
            wanted = acknowledged.look(folder)
        at.lose_the_base(kept=False)

        with at.pushing(at.away) as folder:
            (folder / "edit/later").write_text("later")
            (bucket,) = json.loads(at.away.cli("status", "--json", str(folder)).stdout)["buckets"]
            assert {item["path"] for item in bucket["quarantined"]} >= {"edit/new", "edit/f0", "made/in", "plain/f0", "big"}
            assert "big: written" in at.away.cli("recover").stdout
            out = at.away.root / "out"
            at.away.cli("recover", "--to", str(out))
            assert "nothing to recover" in at.away.cli("recover").stdout
        at.assert_all_have(wanted | {"edit/later": b"later"})
        (files,) = out.glob("*/files")
        found = {name: data for name, data in acknowledged.look(files).items() if data is not None}
        big = found.pop("big")  # the kernel wrote the whole page
        assert (len(big), big[300_000:300_004], big[:200_000]) == (BIG, b"part", bytes(200_000))
        assert found == {
            "edit/new": b"made",
            "edit/below/new": b"made below",
            "edit/f0": b"edited",
            "edit/f1": b"edited here",
            "made/in": b"in a new folder",
        }
        (changes,) = out.glob("*/changes.txt")
        assert " removed 'plain/f0'\n" in changes.read_text()
