"""A bucket is destroyed at the Hub while changes of it wait here: they stay in sight, and readable, until they are given up."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from support.home import Home, Mounted

WARNED = (
    "changes wait here for bucket 'w'",
    "the Hub has this bucket no more",
    "had lost its process and is cleared",
)


def destroy_while_changes_wait(home: Home, mounted: Mounted, folder: Path) -> None:
    """The daemon is stopped between the change and its push, the bucket destroyed, and the daemon killed."""
    (folder / "pushed").write_text("pushed")
    mounted.sync()
    pid = mounted.status()["pid"]
    (folder / "d").mkdir()
    (folder / "d/new").write_text("not pushed")
    os.kill(pid, signal.SIGSTOP)
    home.cli("buck", "destroy", "--yes", "w")
    os.kill(pid, signal.SIGKILL)


@pytest.mark.timeout(180)
def test_changes_for_a_bucket_that_was_destroyed(home: Home) -> None:
    """Changes that were not pushed yet would vanish when someone else destroys the bucket."""
    mounted = home.mount()
    top = mounted.path
    (top / "w").mkdir()
    destroy_while_changes_wait(home, mounted, top / "w")

    again = home.mount()
    for line in WARNED:
        again.expect(line)
    assert sorted(os.listdir(top)) == ["home", "w"]
    assert (top / "w/d/new").read_text() == "not pushed" and (top / "w/pushed").read_text() == "pushed"
    assert again.status()["pending_count"] >= 2
    assert "copy what you want to keep to another bucket" in home.complaint("sync", top)

    # What the line says to do.
    (top / "kept").mkdir()
    shutil.copytree(top / "w", top / "kept", dirs_exist_ok=True)
    shutil.rmtree(top / "w")
    again.sync()
    assert again.status()["pending_count"] == 0
    again.umount()

    last = home.mount()
    assert sorted(os.listdir(top)) == ["home", "kept"] and (top / "kept/d/new").read_text() == "not pushed"
    assert last.status()["pending_count"] == 0
    last.umount()


@pytest.mark.whole
@pytest.mark.timeout(180)
def test_another_bucket_has_the_name_by_now(home: Home) -> None:
    """A mount of one bucket shows the one that the Hub has; of what waits for the other it tells."""
    home.cli("buck", "create", "w")
    mounted = home.mount("w")
    destroy_while_changes_wait(home, mounted, mounted.path)
    home.cli("buck", "create", "w")

    again = home.mount("w")
    for line in WARNED:
        again.expect(line)
    assert os.listdir(again.path) == []
    status = again.status()
    (unopened,) = status["unopened"]
    assert unopened["pending_count"] == status["pending_count"] >= 2
    said = home.complaint("sync", again.path)
    kept = Path(said.partition("is kept in ")[2])
    assert b"not pushed" in {path.read_bytes() for path in kept.rglob("*") if path.is_file()}, said
    assert "all are at the Hub" not in home.cli("status", again.path).stdout
    again.umount()
