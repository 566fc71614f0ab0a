"""``bucketfs hub`` against a real Hub in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.home import Home, program


@pytest.fixture
def home(stage: Path, tmp_path: Path) -> Iterator[Home]:
    made = Home(stage / tmp_path.name)
    yield made
    made.end()


@pytest.fixture
def hub(home: Home) -> Iterator[str]:
    """The address of a Hub that confirms sign-ups by itself."""
    arguments = ["hub", "serve", "--data", str(home.root / "hub"), "--listen", "127.0.0.1:0", "--auto-confirm"]
    server = subprocess.Popen([*program(), *arguments], env=home.environment(), stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    with server:
        line = server.stdout.readline()
        assert line.startswith("Hub serves on ")
        yield line.split()[3].rstrip(",")
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0


def test_an_account_from_sign_up_to_a_second_key(home: Home, hub: str) -> None:
    said = home.cli("hub", "init", "ann", "ann@example.org", "--hub", hub).stdout
    credentials = home.config / "credentials.toml"
    assert f"as ann; the key is in {credentials}, profile default" in said
    assert credentials.stat().st_mode & 0o777 == 0o600
    who = json.loads(home.cli("hub", "whoami", "--json").stdout)
    assert (who["username"], who["email"], who["hub"], who["profile"]) == ("ann", "ann@example.org", hub, "default")

    made = json.loads(home.cli("hub", "key", "create", "--user", "--insecure", "--json").stdout)
    assert (made["type"], made["secure"], made["valid"]) == ("user", False, True)
    home.cli("hub", "key", "invalidate", made["key"])
    listed = home.cli("hub", "key", "ls").stdout
    assert made["secret"] not in listed
    states = {info["key"]: info["valid"] for info in json.loads(home.cli("hub", "key", "ls", "--json").stdout)}
    assert states.pop(made["key"]) is False and list(states.values()) == [True]

    # A second machine signs in, with a mail or with a key.
    home.cli("hub", "login", "ann", "--hub", hub, "--profile", "laptop")
    key = json.loads(home.cli("hub", "key", "create", "--json").stdout)
    given = f"{key['key']}\n{key['secret']}\n"
    said = home.cli("hub", "login", "--key", "--hub", hub, "--profile", "desk", stdin=given).stdout
    assert key["secret"] not in said and "as ann" in said
    assert json.loads(home.cli("hub", "whoami", "--json", "--profile", "desk").stdout)["key"] == who["key"]


def test_refusals_are_one_line(home: Home, hub: str) -> None:
    home.cli("hub", "init", "ann", "ann@example.org", "--hub", hub)
    saved = (home.config / "credentials.toml").read_text()
    assert "Account exists" in home.complaint("hub", "init", "ann", "other@example.org", "--hub", hub)
    for secret, expected in (("bmzxw6ytb", "does not accept this key"), ("not-multibase", "not a multibase text")):
        done = home.cli("hub", "login", "--key", "--hub", hub, stdin=f"bnokey\n{secret}\n", check=False)
        assert done.returncode == 1 and expected in done.stderr and secret not in done.stderr + done.stdout
        assert len(done.stderr.splitlines()) == 1
    assert (home.config / "credentials.toml").read_text() == saved
    assert "keys of profile 'default' are for" in home.complaint("hub", "whoami", "--hub", "127.0.0.1:1")
    assert "give --hub" in home.complaint("hub", "login", "ann", "--profile", "new")
    assert "needs no account" in home.complaint("hub", "login", "ann", "--hub", "embedded")
    (home.config / "credentials.toml").chmod(0o644)
    assert "chmod 600" in home.complaint("hub", "whoami")


def test_a_hub_that_is_away_is_named(home: Home) -> None:
    said = home.complaint("hub", "init", "ann", "ann@example.org", "--hub", "127.0.0.1:1")
    assert "127.0.0.1:1" in said


def test_careless_listening_is_refused(home: Home) -> None:
    assert "without TLS" in home.complaint("hub", "serve", "--listen", "0.0.0.0:0")


def test_collecting(home: Home, hub: str) -> None:
    home.cli("hub", "init", "ann", "ann@example.org", "--hub", hub)
    assert home.cli("hub", "gc", "--data", home.root / "hub").stdout.startswith("Deleted 0 blocks")
    assert "holds no Hub" in home.complaint("hub", "gc", "--data", "/nowhere")
    assert "--grace is 'x'" in home.complaint("hub", "gc", "--data", home.root / "hub", "--grace", "x")
