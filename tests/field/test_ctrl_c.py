"""Ctrl-C at any moment of a command: exit code 130 and at most one line, never a traceback.

The moments are counted, not timed: an audit hook of Python (PEP 578) in the command's process sends it the signal at the n-th time
that it imports, opens or connects to something, from the first import that is ours on.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from support import leftovers
from support.home import Home, program
from support.waiting import eventually

HOOK = """
import os, signal, sys
at, out = int(os.environ["INTERRUPT_AT"]), os.environ["COUNT_IN"]
count, begun = 0, False
def hook(event, arguments):
    global count, begun
    begun = begun or (event == "import" and arguments[0] == "bucketfs.cli.outcome")
    if begun and event in ("import", "open", "socket.connect", "subprocess.Popen"):
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(hook)
if not at:
    import atexit
    atexit.register(lambda: open(out, "w").write(str(count)))
"""


def interrupted(home: Home, moment: int, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command that gets SIGINT at that moment; at 0 it is left alone, and the moments are counted."""
    place = home.root / "hook"
    place.mkdir(exist_ok=True)
    (place / "sitecustomize.py").write_text(HOOK)
    environment = home.environment()
    environment |= {"PYTHONPATH": f"{place}:{environment['PYTHONPATH']}", "INTERRUPT_AT": str(moment)}
    return subprocess.run(
        [*program(), *map(str, words)],
        env=environment | {"COUNT_IN": str(home.root / "count")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def check(home: Home, shares: Sequence[float], *words: str | Path) -> None:
    assert interrupted(home, 0, *words).returncode == 0
    count = int((home.root / "count").read_text())
    assert count > 100, "the moments are not counted"
    for moment in sorted({max(1, int(count * share)) for share in shares}):
        done = interrupted(home, moment, *words)
        where = f"at {moment} of {count}: {done.returncode}\n{done.stderr}"
        assert done.returncode == 130, where
        assert done.stderr in ("", "bucketfs: interrupted\n"), where


def make_folder(home: Home) -> Path:
    folder = home.root / "folder"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number}").write_bytes(os.urandom(1000))
    return folder


@pytest.fixture
def used(home: Home) -> Home:
    """A home whose embedded Hub runs on: a mount uses it."""
    home.mount("home")
    return home


def test_push(used: Home) -> None:
    """Ctrl-C during a push would end in a traceback, or with an exit code that means success."""
    check(used, (0.0, 0.5, 0.9, 0.99), "buck", "push", make_folder(used), "home/to")


def test_status(used: Home) -> None:
    """Ctrl-C during `status` would end in a traceback."""
    check(used, (0.5, 0.98), "status")


@pytest.mark.whole
@pytest.mark.timeout(900)
def test_push_at_many_moments(used: Home) -> None:
    """The same at sixty moments of a push: at a rare one, Ctrl-C would be ignored or end in a traceback."""
    check(used, [number / 60 for number in range(60)], "buck", "push", make_folder(used), "home/to")


@pytest.mark.whole
@pytest.mark.timeout(900)
@pytest.mark.parametrize("words", [("sync",), ("buck", "ls"), ("conflicts",), ("buck", "pull", "home", "copy")])
def test_others_at_many_moments(used: Home, words: tuple[str, ...]) -> None:
    """Ctrl-C during other commands would be ignored, or end in a traceback."""
    check(used, [number / 20 for number in range(20)], *words[:3], *(used.root / word for word in words[3:]))


def test_a_mount_that_is_interrupted_leaves_no_daemon(home: Home) -> None:
    """After Ctrl-C on `bucketfs mount` a daemon that the user does not know of would stay, or a dead mount point."""
    place = home.root / "M"
    place.mkdir()
    command = [*program(), "mount", str(place)]
    with subprocess.Popen(
        command, env=home.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as started:
        eventually(lambda: bool(home.pids("mount", "--foreground")), "the daemon is not started")
        started.send_signal(signal.SIGINT)
        said, _ = started.communicate(timeout=60)
    assert (started.returncode, said) == (130, "bucketfs: interrupted\n")
    eventually(lambda: not home.pids("mount"), "a daemon is left")
    assert not leftovers.mounts_below(home.root)
