"""Keys that change under a mount: programs that use the folder notice nothing."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from pathlib import Path

import pytest
from support.home import Home
from support.hubprocess import developer
from support.trees import look

FILES = 150
BIG_BYTES = 12 << 20
PER_SECOND_KIB = 500


def make_tree(top: Path) -> None:
    numbers = random.Random(7)
    for index in range(FILES):
        folder = top / f"d{index % 7}/e{index % 5}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{index}").write_bytes(numbers.randbytes(numbers.randrange(20_000)))
    (top / "big").write_bytes(numbers.randbytes(BIG_BYTES))
    os.symlink("big", top / "link")


def replace_key(home: Home) -> str:
    """Another key for the profile of the mount; returns its name."""
    return str(json.loads(home.cli("hub", "key", "create", "--account", "--json", "--save", "work").stdout)["key"])


@pytest.mark.timeout(240)
def test_rsync_goes_on_while_keys_come_and_go(home: Home) -> None:
    """Replacing an API key would break a running copy, or pushes would not resume with the new key."""
    source = home.root / "source"
    make_tree(source)
    with developer(home):
        key = replace_key(home)
        mount = home.mount("--profile", "work")
        mount.expect("API key not found or is invalid")
        (mount.path / "data").mkdir()
        rsync = subprocess.Popen(
            ["rsync", "-a", f"--bwlimit={PER_SECOND_KIB}", f"{source}/", str(mount.path / "data/")], stderr=subprocess.PIPE
        )
        try:
            # Replaced: the old one ends only after the new one is there.
            old, key = key, replace_key(home)
            home.cli("hub", "key", "invalidate", old)
            mount.sync()
            # Ended: pushes pause and say why, and rsync goes on.
            home.cli("hub", "key", "invalidate", key)
            (mount.path / "data/own").write_text("written while no key works")
            assert "API key not found or is invalid" in home.complaint("sync", mount.path)
            status = mount.status()
            assert [bucket["paused"] for bucket in status["buckets"]] == ["key"]
            assert status["pending_count"] > 0
            # What is here is read on, and what was written stays.
            assert (mount.path / "data/own").read_text() == "written while no key works"
            arrived = sorted(path.relative_to(mount.path / "data") for path in (mount.path / "data").glob("d*/e*/f*"))
            for name in arrived[:5]:
                assert (mount.path / "data" / name).read_bytes() == (source / name).read_bytes()
            assert "the Hub refuses the key" in home.cli("status", mount.path).stdout
            assert rsync.poll() is None, "rsync was done before the story was: it proves nothing"
            # Replaced again: it goes on by itself, at once.
            replace_key(home)
            deadline = time.monotonic() + 10
            while any(bucket["paused"] for bucket in mount.status()["buckets"]):
                assert time.monotonic() < deadline, "a working key does not resume the pushes"
            assert rsync.wait(120) == 0, rsync.stderr.read() if rsync.stderr else ""
        finally:
            rsync.kill()
            rsync.communicate()
        mount.sync()
        home.cli("buck", "pull", "data", home.root / "copy", timeout_s=120)
        assert (home.root / "copy/own").read_text() == "written while no key works"
        (home.root / "copy/own").unlink()
        # The folder itself changed once more, for the file beside.
        seen, wanted = look(home.root / "copy"), look(source)
        del seen["."], wanted["."]
        assert seen == wanted
        mount.umount()
