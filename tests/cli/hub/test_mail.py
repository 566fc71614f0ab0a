"""``bucketfs hub mail`` between two people of one Hub."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.home import Home, program
from support.served import ServedHub


@pytest.fixture
def home(stage: Path, tmp_path: Path) -> Iterator[Home]:
    made = Home(stage / tmp_path.name)
    yield made
    made.end()


@pytest.fixture
def hub(home: Home) -> Iterator[ServedHub]:
    with ServedHub(home, home.root / "hub") as served:
        yield served


def test_two_people_write_to_each_other(home: Home, hub: ServedHub, tmp_path: Path) -> None:
    """A message goes there sealed, is listed, read once, answered and removed; wrong words are one line."""
    for name in ("ann", "bob"):
        home.cli("hub", "init", name, f"{name}@example.org", "--hub", hub.address, "--profile", name)
    assert "mail not found" in home.complaint("hub", "mail", "ls", "--profile", "bob")
    keys = {name: home.cli("hub", "mail", "setup", "--profile", name).stdout.strip() for name in ("ann", "bob")}
    assert keys["bob"] == home.cli("hub", "whoami", "--profile", "bob").stdout.splitlines()[-1]
    text = "hello ☃\nsecond line\n"
    sent = home.cli("hub", "mail", "send", keys["bob"], "--profile", "ann", stdin=text).stdout.strip()
    (listed,) = json.loads(home.cli("hub", "mail", "ls", "--json", "--profile", "bob").stdout)
    assert (listed["id"], listed["from"], listed["read_at_ns"], listed["bytes"]) == (
        sent,
        keys["ann"],
        0,
        len(text.encode()),
    )
    assert home.cli("hub", "mail", "read", sent, "--keep-unread", "--profile", "bob").stdout == text
    assert "new" in home.cli("hub", "mail", "ls", "--unread", "--profile", "bob").stdout
    assert home.cli("hub", "mail", "read", sent, "--profile", "bob").stdout == text
    assert home.cli("hub", "mail", "ls", "--unread", "--profile", "bob").stdout == ""
    assert home.cli("hub", "mail", "read", sent, "--sent", "--profile", "ann").stdout == text
    assert "no message" in home.complaint("hub", "mail", "read", sent, "--profile", "ann")
    letter = tmp_path / "letter"
    letter.write_bytes(bytes(range(256)))
    home.cli("hub", "mail", "send", keys["ann"], letter, "--profile", "bob")
    home.cli("hub", "mail", "rm", sent, "--profile", "bob")
    assert "no message" in home.complaint("hub", "mail", "rm", sent, "--profile", "bob")
    assert "not a public key" in home.complaint("hub", "mail", "send", "bob", letter, "--profile", "ann")
    # The Hub keeps what it cannot read.
    stored = b"".join(path.read_bytes() for path in (home.root / "hub").rglob("*") if path.is_file())
    assert b"second line" not in stored


def test_new_messages_are_printed_as_they_come(home: Home, hub: ServedHub) -> None:
    """A person who waits for news sees it at once."""
    home.cli("hub", "init", "ann", "ann@example.org", "--hub", hub.address)
    key = home.cli("hub", "mail", "setup").stdout.strip()
    waiting = subprocess.Popen(
        [*program(), "hub", "mail", "watch"],
        env=home.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert waiting.stderr is not None and waiting.stdout is not None
        assert "Waiting" in waiting.stderr.readline()
        sent = home.cli("hub", "mail", "send", key, stdin="news\nmore\n").stdout.strip()
        assert waiting.stdout.readline() == f"{sent}\t{key}\tnews\n"
    finally:
        waiting.terminate()
        waiting.communicate(timeout=30)
