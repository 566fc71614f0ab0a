"""Commands whose standard streams are closed, full, or no files at all, as cron jobs, daemons and odd shells start them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.home import Completed, Home, program


def run(home: Home, streams: str, *words: str | Path, check: bool = True) -> Completed:
    return home.run(["sh", "-c", f'exec "$@" {streams}', "sh", *program(), *words], check=check)


@pytest.mark.parametrize("streams", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_closed(home: Home, streams: str) -> None:
    """A cron job with closed streams would fail, or its message would be written into another open file."""
    done = run(home, streams, "status")
    assert (done.returncode, done.stderr) == (0, "")
    wrong = run(home, streams, "status", home.root, check=False)
    assert wrong.returncode == 1
    assert wrong.stderr == (
        "" if "2>" in streams else f"bucketfs: nothing is mounted at {home.root}: 'bucketfs status' lists what is\n"
    )


def test_a_mount_has_its_log_and_writes_nowhere_else(home: Home) -> None:
    """A mount that is started with closed streams would write its log into files that it opens later."""
    place = home.root / "M"
    place.mkdir()
    run(home, "<&- >&- 2>&-", "mount", "home", place)
    (place / "a").write_text("x")
    (daemon,) = home.pids("mount", "--foreground")
    (hub,) = home.pids("serve", "--embedded")
    for pid in (daemon, hub):
        standard = [os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)]
        assert standard[0] == os.devnull and standard[1] == standard[2] and standard[1].endswith(".log"), standard
    run(home, "<&- >&- 2>&-", "sync", place)
    assert run(home, "<&- 2>&-", "buck", "cat", "home/a").stdout == "x"
    run(home, ">&-", "umount", place)


@pytest.mark.parametrize("streams", ["2>/dev/full", "2</dev/null", "0>/dev/null"])
def test_odd(home: Home, streams: str) -> None:
    """An error message that cannot be written would become a traceback, or change the exit code."""
    assert run(home, streams, "status").returncode == 0
    for words in (("status", home.root), ("-v", "status", home.root)):
        assert run(home, streams, *words, check=False).returncode == 1


def test_an_output_that_takes_nothing_is_told(home: Home) -> None:
    """A script would take a list that was cut off by a full disk for the whole list."""
    for streams in (">/dev/full", "1</dev/null"):
        done = run(home, streams, "status", check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("bucketfs: the output cannot be written: ")
