"""Secrets stay where they belong: whatever is logged, at the most talkative level, and whatever a command line shows."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest
from support.home import CHECKOUT, Home
from support.hubprocess import developer

LISTENER = """
import logging, os
logging.basicConfig(filename=os.path.join({folder!r}, f"{{os.getpid()}}.debug"), level=logging.DEBUG)
logging.getLogger("sqlalchemy").setLevel(logging.DEBUG)
"""
"""Python runs a module of this name in every process that finds it: the mount, the Hub and each command."""


def listen_to_everything(home: Home) -> Path:
    """Every process of this home logs everything into files of the returned folder."""
    folder, module = home.root / "heard", home.root / "listener"
    folder.mkdir()
    module.mkdir()
    (module / "sitecustomize.py").write_text(LISTENER.format(folder=str(folder)))
    home.extra["PYTHONPATH"] = f"{module}:{CHECKOUT}"
    return folder


def texts_of(secret: str) -> set[str]:
    """A secret, and its beginning as a careless line would cut it."""
    return {secret, secret[:24]}


@pytest.mark.timeout(240)
def test_nothing_secret_is_logged_or_shown(home: Home) -> None:
    """A log that is sent with a bug report, or `ps`, would give away keys to all buckets."""
    heard = listen_to_everything(home)
    secrets: dict[str, str] = {}
    said: list[str] = []

    def cli(*arguments: str | Path, check: bool = True) -> str:
        done = home.cli("-v", *arguments, check=check)
        said.append(done.stderr)
        return done.stdout

    def note() -> None:
        for name, value in re.findall(r'^(\w+) = "([^"]+)"$', (home.config / "credentials.toml").read_text(), re.MULTILINE):
            if name in ("api_secret", "session"):
                secrets.setdefault(f"{name} {value[:6]}", value)

    with developer(home):
        note()
        cli("hub", "key", "create", "--user", "--save", "app")
        note()
        identity = home.root / "alice.key"
        mount = home.mount("--profile", "app", "--identity", identity)
        secrets["identity"] = identity.read_text().strip()
        assert stat.S_IMODE(identity.stat().st_mode) == 0o600
        (mount.path / "notes").mkdir()
        (mount.path / "notes/one").write_text("one")
        mount.sync()
        as_alice = ("--profile", "app", "--identity", identity)
        keys = cli("hub", "key", "ls")
        said.append(cli("hub", "whoami", *as_alice) + keys + cli("status", mount.path))
        for pid in home.pids():
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            assert not [name for name, secret in secrets.items() if secret in command], command

        # And what goes wrong.
        cli("hub", "key", "invalidate", next(line.split()[0] for line in keys.splitlines() if "user" in line))
        mount.expect("API key not found or is invalid")
        (mount.path / "notes/two").write_text("two")
        cli("sync", mount.path, check=False)
        cli("hub", "key", "create", "--user", "--save", "app")
        note()
        mount.sync()
        mount.umount()
    logs = {path: path.read_text(errors="replace") for path in [*home.logs(), *heard.iterdir()]}
    talk = "\n".join(logs.values())
    for proof in ("DEBUG", "SELECT", "bucketfs.hub", "bucketfs.sync"):
        assert proof in talk, f"not listened to: {proof}"
    assert len(secrets) == 5
    for name, secret in secrets.items():
        for text in texts_of(secret):
            where = [str(path) for path, log in logs.items() if text in log]
            assert not where, f"{name} stands in {where}"
            assert not [line for line in said if text in line], f"{name} was shown"
    for path in home.logs():
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600, path
