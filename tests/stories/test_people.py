"""People sign up by the link that a Hub prints, meet in an organization, and mount what is its.

The cuts of the long one for every day are tests/hub/test_server_gateway.py (links) and tests/cli/test_hub.py (organizations).
"""

from __future__ import annotations

import errno
import http.client
import os
import pty
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.home import Home, program
from support.hubprocess import developer
from support.waiting import eventually


class Hub:
    """A Hub as its operator runs it: what it prints is read here."""

    def __init__(self, home: Home, gateway: str) -> None:
        arguments = [
            "hub",
            "serve",
            "--data",
            home.root / "hub",
            "--listen",
            "127.0.0.1:0",
            "--gateway-url",
            f"http://{gateway}",
        ]
        self.gateway = gateway
        self.printed: list[str] = []
        self.process = subprocess.Popen(
            [*program(), *map(str, arguments)],
            env=home.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().split()[3].rstrip(",")
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def follow(self, kind: str) -> None:
        """Opens the newest link of a kind."""
        eventually(lambda: any(f"/{kind}/" in line for line in self.printed), "no link was printed")
        link = [line for line in self.printed if f"/{kind}/" in line][-1].strip().rpartition(self.gateway)[2]
        connection = http.client.HTTPConnection(self.gateway, timeout=20)
        connection.request("GET", link)
        assert connection.getresponse().status == 200
        connection.close()
        self.printed.clear()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0
        self._reader.join()
        assert self.process.stdout is not None and self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.printed.extend(iter(self.process.stderr.readline, ""))


@contextmanager
def operated(home: Home) -> Iterator[Hub]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        gateway = f"127.0.0.1:{probe.getsockname()[1]}"
    hub = Hub(home, gateway)
    try:
        yield hub
    finally:
        hub.stop()


def enter(home: Home, hub: Hub, *arguments: str) -> str:
    """A command that waits for its link."""
    waiting = subprocess.Popen(
        [*program(), "hub", *arguments, "--hub", hub.address],
        env=home.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    hub.follow("confirm")
    said, complained = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, complained
    return said


@pytest.mark.whole
@pytest.mark.timeout(240)
def test_from_links_to_an_organizations_mount(home: Home) -> None:
    """Members could not work together in the buckets of their organization, or who left it still could."""
    with operated(home) as hub:
        assert "as ann" in enter(home, hub, "init", "ann", "ann@example.org")
        assert "as bob" in enter(home, hub, "init", "bob", "bob@example.org", "--profile", "bob")
        home.cli("hub", "org", "create", "Sea Labs")
        home.cli("hub", "org", "invite", "Sea-Labs", "bob@example.org")
        hub.follow("consent")
        assert home.cli("hub", "org", "members", "Sea-Labs").stdout == "ann  owner\nbob  member\n"

        # Once with a key of the organization, once as a member of it: the same buckets.
        home.cli("hub", "key", "create", "--account", "--org", "Sea-Labs", "--save", "sea")
        by_key = home.mount("--profile", "sea", where=home.root / "key")
        (by_key.path / "charts").mkdir()
        (by_key.path / "charts/north").write_text("north")
        by_key.sync()
        as_member = home.mount("--profile", "bob", "--org", "Sea-Labs", where=home.root / "member")
        assert (as_member.path / "charts/north").read_text() == "north"
        (as_member.path / "charts/north").write_text("south")
        as_member.sync()
        eventually(lambda: (by_key.path / "charts/north").read_text() == "south", "a member's change does not show")
        assert "charts" not in home.cli("buck", "ls", "--profile", "bob").stdout

        # Who left acts for it no more.
        home.cli("hub", "org", "leave", "Sea-Labs", "--profile", "bob")
        assert "not an org member" in home.complaint("buck", "ls", "--org", "Sea-Labs", "--profile", "bob")
        by_key.expect("not an org member")
        for mount in (as_member, by_key):
            home.cli("umount", mount.path)


def on_a_terminal(home: Home, *arguments: str, typed: str) -> str:
    """What a command shows on a terminal, where somebody types."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*program(), *arguments], env=home.environment() | {"TERM": "dumb"}, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        shown, sent = b"", False
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError as error:
                assert error.errno == errno.EIO  # the other end is closed
                break
            if not piece:
                break
            shown += piece
            if not sent and b": " in shown[-200:]:
                os.write(ours, typed.encode() + b"\n")
                sent = True
    os.close(ours)
    assert process.returncode == 0, shown
    return shown.decode()


@pytest.mark.timeout(120)
def test_a_terminal_asks_which_kind_of_key(home: Home) -> None:
    """Who makes a key in a terminal would get one with other rights than meant, without being asked."""
    with developer(home):
        shown = on_a_terminal(home, "hub", "key", "create", typed="user")
        assert "An account key acts for you, a user group key for the users of an app." in shown
        assert re.search(r"KEY +SECRET +TYPE\s+b\w+ +b\w+ +user\s", shown), shown
        # Elsewhere nobody is asked (tests/cli/test_hub.py).
        # One line for a person, and nothing more, when a key needs no secret.
        done = home.cli("hub", "key", "create", "--user", "--insecure")
        assert len(done.stderr.splitlines()) == 1 and "anyone who sees it can use it" in done.stderr
