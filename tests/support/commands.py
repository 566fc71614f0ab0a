"""A Hub in this process for commands that are run in it, too."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from bucketfs.cli import main
from bucketfs.client import Channel, Credentials, Endpoint, HubClient
from bucketfs.config import CredentialsFile, Profile, find_paths
from bucketfs.hub import HubConfig, HubServer
from bucketfs.keys import KeyType


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub, and a default profile with a key for it."""
    for name in ("CONFIG", "STATE", "DATA", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    for name in [name for name in os.environ if name.startswith("BUCKETFS_")]:
        monkeypatch.delenv(name)
    config = HubConfig(tmp_path / "hub", f"unix:{tmp_path}/hub.sock", auto_confirm=True, gateway_listen="127.0.0.1:0")
    server = HubServer(config)
    server.start()

    async def new_key() -> Credentials:
        endpoint = Endpoint.parse(server.address)
        async with Channel(endpoint, Credentials) as channel:
            session = await HubClient(channel).signup("alice", "alice@example.org")
        async with Channel(endpoint, lambda: Credentials(session=session)) as channel:
            key = await HubClient(channel).create_key(KeyType.ACCOUNT, secure=True)
        return Credentials(api_key=key.key, api_secret=key.secret)

    profile = Profile("default", server.address, trio.run(new_key))
    CredentialsFile(find_paths(os.environ).credentials_file).save(profile)
    yield server
    server.stop(0)


@pytest.fixture
def buck(hub: HubServer, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs ``bucketfs buck …`` in this process; returns what it printed, or, if it must end with another ``code`` than 0, what it
    said on standard error. There is a bucket ``home``."""
    assert main(["buck", "create", "home"]) == 0

    def run(*arguments: str | Path, code: int = 0) -> str:
        capfd.readouterr()
        ended = main(["buck", *map(str, arguments)])
        out, err = capfd.readouterr()
        assert ended == code, out + err
        assert "Traceback" not in err
        return err if code else out

    return run
