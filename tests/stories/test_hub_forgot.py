"""A Hub that comes back with its data of some seconds ago: what was pushed since is not taken for deleted by somebody."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import acknowledged
from support.foreground import Foreground
from support.home import Home
from support.served import Account, ServedHub
from support.writing import at_the_hub

from bucketfs.dag import cid_from_text
from bucketfs.errors import TimedOut, Unavailable
from bucketfs.wire import blocks_pb2

BUCKET = "memory"


@dataclass(eq=False)
class Scene:
    home: Home
    hub: ServedHub
    account: Account
    daemon: Foreground

    @property
    def folder(self) -> Path:
        return self.daemon.place

    def sync(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                self.daemon.ask("sync")
                return
            except (Unavailable, TimedOut):  # the Hub was stopped and started, and is asked again after a pause
                assert time.monotonic() < deadline

    def save_hub(self) -> None:
        """Copied while it runs and nobody asks anything of it: what it answered is on its disk."""
        shutil.copytree(self.hub.data, self.home.root / "saved")

    def put_hub_back(self) -> None:
        """What a restored backup, or a power cut before the last writes were safe, makes of it. Leaves the Hub stopped."""
        self.hub.kill()
        shutil.rmtree(self.hub.data)
        shutil.copytree(self.home.root / "saved", self.hub.data)

    def assert_both_have(self, wanted: acknowledged.Tree) -> None:
        assert acknowledged.look(self.folder) == wanted
        with self.account.plain() as plain:
            assert at_the_hub(plain, BUCKET) == wanted
        assert self.daemon.ask("status")["conflicts"] == []


@contextmanager
def scene(home: Home) -> Iterator[Scene]:
    with ServedHub(home, home.root / "hub") as hub:
        account = hub.account("writer")
        home.extra.update(account.variables())
        home.cli("buck", "create", BUCKET)
        (home.root / "Buckets").mkdir()
        one = Scene(home, hub, account, Foreground.start(home, BUCKET))
        yield one
        assert one.daemon.stop() == 0


def grow(at: Scene) -> acknowledged.Tree:
    """Two pushes that the saved Hub knows nothing of: new files, changes, a removal, a folder."""
    for number in range(2):
        (at.folder / f"new {number}").write_text(f"new {number}")
        (at.folder / "changed").write_text(f"changed {number}")
        (at.folder / "gone").unlink(missing_ok=True)
        (at.folder / f"folder {number}").mkdir()
        (at.folder / f"folder {number}/big").write_bytes(bytes([number]) * 700_000)
        at.sync()
    return acknowledged.look(at.folder)


def begin(at: Scene) -> None:
    (at.folder / "old").write_text("old")
    (at.folder / "changed").write_text("first")
    (at.folder / "gone").write_text("to be deleted")
    at.sync()
    at.save_hub()


@pytest.mark.parametrize("waiting", [False, True])
def test_a_hub_that_lost_its_last_seconds(home: Home, waiting: bool) -> None:
    """The files of those seconds are neither deleted here nor missing there."""
    with scene(home) as at:
        begin(at)
        wanted = grow(at)
        at.assert_both_have(wanted)
        at.put_hub_back()
        if waiting:
            (at.folder / "while it was away").write_text("too")
            wanted["while it was away"] = b"too"
        at.hub.start()
        at.sync()
        at.assert_both_have(wanted)
        # And it goes on from there.
        (at.folder / "afterwards").write_text("1")
        at.sync()
        at.assert_both_have(wanted | {"afterwards": b"1"})


def test_mount_and_hub_come_up_from_a_power_cut_that_took_the_last_pushes_from_the_hub(home: Home) -> None:
    """The same, when mount and Hub were one machine."""
    with scene(home) as at:
        begin(at)
        wanted = grow(at)
        at.daemon.kill()
        at.put_hub_back()
        at.hub.start()
        at.daemon = Foreground.start(home, BUCKET)
        at.sync()
        at.assert_both_have(wanted)


def test_somebody_who_puts_things_back_is_not_a_hub_that_forgot(home: Home) -> None:
    """The same old root again, but by somebody's will: the mount follows."""
    with scene(home) as at:
        begin(at)
        with at.account.plain() as plain:
            key = plain.enter(BUCKET)
            before = at_the_hub(plain, BUCKET)
            root = plain.buckets()[BUCKET].path
            grow(at)
            now = plain.buckets()[BUCKET].path
            old, new = (cid_from_text(path.removeprefix("/ipfs/")) for path in (root, now))
            swap = blocks_pb2.SwapRootRequest(key=key, expected=new, new=old)
            plain.call(blocks_pb2, "Blocks", "SwapRoot", swap)
        at.sync()
        at.assert_both_have(before)
