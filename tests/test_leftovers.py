"""The sweep that every other mount test relies on, shown a run that died with a mount and a server in its hands."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import leftovers

PASSTHROUGH = Path(__file__).with_name("bench") / "passthrough.py"
DEAD_RUN = f"{2**22 + 1}-0"
"""No process has this number: pid_max is at most 2²² on 64-bit Linux."""


@pytest.fixture(autouse=True)
def _own_temporary_folder(stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stale runs made here are seen by no other process's sweep, and theirs by none here."""
    folder = stage / "leftovers"
    folder.mkdir(exist_ok=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


@pytest.fixture
def dead_stage() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=f"{leftovers.PREFIX}{DEAD_RUN}-"))
    yield folder
    leftovers.sweep(DEAD_RUN)


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[subprocess.Popen[str]]:
    (folder / "below").mkdir()
    (folder / "mount").mkdir()
    with subprocess.Popen(
        [sys.executable, str(PASSTHROUGH), str(folder / "below"), str(folder / "mount")],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {leftovers.HOME_VARIABLE: str(folder)},
    ) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            yield server
        finally:
            server.kill()


def test_a_dead_runs_server_and_mount_are_cleared(dead_stage: Path) -> None:
    """A run that was killed leaves no mount or process on a developer's machine."""
    with serve(dead_stage) as server:
        (dead_stage / "mount/f").write_text("x")
        assert [mount.where for mount in leftovers.mounts_below(dead_stage)] == [dead_stage / "mount"]
        assert leftovers.processes(dead_stage) == [server.pid]
        said = leftovers.sweep_stale()
        assert any(str(server.pid) in line for line in said)
        assert any("fuse" in line and str(dead_stage / "mount") in line for line in said)
        assert server.wait(10) == -signal.SIGKILL
    assert leftovers.mounts_below(dead_stage) == []
    assert not dead_stage.exists()
    assert leftovers.sweep_stale() == []


def test_a_dead_mount_without_its_server_is_cleared(dead_stage: Path) -> None:
    """A mount whose server died is cleared, though it answers nothing."""
    with serve(dead_stage) as server:
        server.kill()
        server.wait()
        with pytest.raises(OSError, match="not connected"):
            os.stat(dead_stage / "mount")
        leftovers.sweep(DEAD_RUN)
    assert leftovers.mounts_below(dead_stage) == []


def test_a_living_run_is_left_alone() -> None:
    """Two runs at a time do not end each other."""
    folder = leftovers.new_stage("leftovers")
    try:
        leftovers.sweep_stale()
        assert folder.exists()
    finally:
        shutil.rmtree(folder)
