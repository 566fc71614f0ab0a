"""A path that cannot be here, or cannot be read here, is left out and said; all others are carried."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from support.machine import Machine, hub_names, hub_tree, put, settle
from support.memory_remote import MemoryRemote

HIGH = "/".join(["d" * 200] * 10)
DEEP = "/".join(["d" * 200] * 24)


def make_deep(top: Path) -> None:
    """Folders down to a path of more than 4,096 bytes, with a file at each level: step by step, as a shell does it."""
    at = os.open(top, os.O_RDONLY)
    for name in DEEP.split("/"):
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
        os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=at))
    os.close(at)


async def test_what_is_too_deep_to_be_written_stays_at_the_hub(one: Machine, remote: MemoryRemote) -> None:
    """A path that is too long here is neither lost nor deleted at the Hub."""
    put(remote, f"{DEEP}/file", b"deep")
    put(remote, f"{HIGH}/high", b"high")
    put(remote, "zzz", b"after it")
    before = remote.at
    done = await one.round()
    assert len(done.applied.left) == 1
    assert "too long" in done.applied.left[0].reason
    assert one.read("zzz") == "after it"
    assert one.read(f"{HIGH}/high") == "high"
    one.write("here", "x")
    for _ in range(2):
        assert len((await one.round()).applied.left) == 1
    assert set(hub_names(remote)) > {"zzz", "here", f"{DEEP}/file"}
    one.remove("here")
    await one.round()
    assert hub_tree(remote).keys() == {"zzz", f"{DEEP}/file", f"{HIGH}/high"}
    assert remote.at != before


async def test_what_is_too_deep_to_be_read_is_left_out(one: Machine, two: Machine, remote: MemoryRemote) -> None:
    """A path that is too long to be read must not stop the other files."""
    make_deep(one.top)
    one.write("zzz", "after it")
    done = await one.round()
    assert [item.reason.count("too long") for item in done.skipped] == [1] * len(done.skipped)
    assert done.skipped
    await settle(one, two)
    assert two.read("zzz") == "after it"
    assert two.read(f"{HIGH}/file") == ""
    assert DEEP not in hub_names(remote)
    assert HIGH in hub_names(remote)
    shutil.rmtree(one.top / DEEP[:200])
    await settle(one, two)
    assert set(hub_names(remote)) == {"zzz"}
