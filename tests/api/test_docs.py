"""The page and the programs of the documentation: what a reader copies works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import api_page

import bucketfs
from bucketfs import api
from bucketfs.hub import HubServer

CHECKOUT = Path(__file__).resolve().parents[2]
EXAMPLES = CHECKOUT / "docs/examples"


def test_the_page_is_that_of_the_docstrings() -> None:
    """docs/api.md says what the code says; ``make docs`` writes it."""
    assert api_page.PAGE.read_text() == api_page.page()
    shown = {getattr(member, "__name__", "") for _, members in api_page.PARTS for member in members}
    assert shown == set(api.__all__)


def run(example: str, *arguments: str | Path) -> str:
    """Standard output of an example, which must succeed."""
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "PYTHONWARNINGS": "default"}
    command = [sys.executable, str(EXAMPLES / example), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    return done.stdout


@pytest.mark.usefixtures("hub")
def test_example_backup(tmp_path: Path) -> None:
    """A second backup of the same folder sends no content again."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/f").write_bytes(bytes(300_000))
    assert "1 files" in run("backup.py", tmp_path / "folder", "copies")
    run("backup.py", tmp_path / "folder", "copies")
    with bucketfs.open_hub() as hub:
        assert {entry.kind for entry in hub.bucket("copies").list()} == {"directory"}


@pytest.mark.usefixtures("hub")
def test_example_follow(tmp_path: Path) -> None:
    """It goes on from the root in its state file."""
    with bucketfs.open_hub() as hub:
        bucket = hub.create_bucket("followed")
        (tmp_path / "state").write_text(bucket.record().root)
        bucket.write("f", b"1")
        assert "added f" in run("follow.py", "followed", tmp_path / "state", "1")
        assert (tmp_path / "state").read_text() == bucket.record().root


def test_example_many(hub: HubServer) -> None:
    """Several files are read at once."""
    with bucketfs.open_hub(hub.address) as opened:
        bucket = opened.create_bucket("many")
        for size in (1, 22):
            bucket.write(f"f{size}", bytes(size))
    assert sorted(run("many.py", "many", "f1", "f22").splitlines()) == ["f1: 1 bytes", "f22: 22 bytes"]
