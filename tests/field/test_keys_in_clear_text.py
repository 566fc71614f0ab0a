"""A user names a Hub on another machine without TLS: no key is sent before they say that this is what they want."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest
import trio
from support.home import Home

from bucketfs.client import NO_CREDENTIALS, Channel, Endpoint, HubClient
from bucketfs.errors import Usage
from bucketfs.hub import HubConfig, HubServer

ELSEWHERE = "192.0.2.1:3006"
"""An address that is routed nowhere (RFC 5737)."""


@pytest.mark.parametrize(
    "command",
    [
        ("mount", "Buckets"),
        ("buck", "ls"),
        ("buck", "push", ".", "home"),
        ("hub", "whoami"),
        ("hub", "key", "ls"),
        ("hub", "org", "ls"),
    ],
    ids=" ".join,
)
def test_every_command_refuses(home: Home, command: tuple[str, ...]) -> None:
    """The keys of a user would be sent unencrypted over the network because a URL lacks its "https"."""
    os.mkdir(home.root / "Buckets")
    home.extra.update(BUCKETFS_HUB=ELSEWHERE, BUCKETFS_API_KEY="bkey", BUCKETFS_API_SECRET="bsecret")
    said = home.complaint(*command)
    assert "not encrypted" in said and f"https://{ELSEWHERE}" in said and "--insecure-transport" in said


def test_signing_up_and_in_refuse(home: Home) -> None:
    """A sign-in, or the secret of a key, would be sent unencrypted over the network."""
    for command in (("init", "me", "me@example.org"), ("login", "me"), ("login", "--key")):
        done = home.cli("hub", *command, "--hub", ELSEWHERE, check=False, stdin="key\nsecret\n")
        assert done.returncode == 2 and "not encrypted" in done.stderr, done.stderr


def test_what_is_meant_for_this_machine_goes_through_no_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC hands calls to loopback addresses to the web proxy of the environment, too, in clear text."""
    asked: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                asked.append(connection.recv(200))

    async def sign_up(address: str) -> str:
        async with Channel(Endpoint.parse(address), lambda: NO_CREDENTIALS) as channel:
            return await HubClient(channel).signup("me", "me@example.org")

    config = HubConfig(data=tmp_path / "hub", listen="127.0.0.1:0", auto_confirm=True, gateway_listen="")
    with socket.create_server(("127.0.0.1", 0)) as proxy, HubServer(config) as hub:
        threading.Thread(target=serve, args=(proxy,), daemon=True).start()
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        assert trio.run(sign_up, hub.address)
        assert not asked
        proxy.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "place", ["192.0.2.1/hub", "192.0.2.1/hub?sslmode=prefer", "/hub?host=/run,192.0.2.1", "/hub?hostaddr=192.0.2.1"]
)
def test_a_hub_sends_its_secrets_to_no_database_elsewhere_in_clear_text(tmp_path: Path, place: str) -> None:
    """The accounts of a Hub would be sent unencrypted to a database on another machine."""
    config = HubConfig(data=tmp_path / "hub", database_url=f"postgresql+psycopg://hub:password@{place}")
    with pytest.raises(Usage, match="may not be encrypted") as caught:
        HubServer(config).start()
    assert "sslmode=verify-full" in caught.value.hint and "password" not in str(caught.value)
