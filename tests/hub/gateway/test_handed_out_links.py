"""The links a hub hands out, followed over HTTP."""

from __future__ import annotations

import http.client
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bucketfs import errors
from bucketfs.hub import HubConfig, HubServer
from bucketfs.wire import hub_pb2 as pb

HUB = "api.hubd.pb.APIService"


def get(address: str, path: str, method: str = "GET") -> tuple[int, str]:
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=20)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_links_are_followed(
    start_hub: Callable[..., HubServer], dial: Callable[[str], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """People could not confirm their sign-up or join an organization, or links would stand in the log."""
    links: list[str] = []
    came = threading.Semaphore(0)

    def announce(line: str) -> None:
        links.append(line.rpartition("://")[2].partition("/")[2])
        came.release()

    caplog.set_level(logging.DEBUG)
    server = start_hub(auto_confirm=False, gateway_listen="127.0.0.1:0", announce=announce)
    gateway, caller = server.config.gateway_address, dial(server.address)

    def sign_up(name: str) -> Any:
        waiting = caller.start(HUB, "Signup", pb.SignupRequest(username=name, email=f"{name}@example.org"))
        assert came.acquire(timeout=20)
        assert get(gateway, f"/{links[-1]}") == get(gateway, "/confirm/another")
        return caller.using(x_textile_session=waiting.result().session)

    alice, bob = sign_up("alice"), sign_up("bob")
    alice.call(HUB, "CreateOrg", pb.CreateOrgRequest(name="club"))
    alice.using(x_textile_org="club").call(HUB, "InviteToOrg", pb.InviteToOrgRequest(email="bob@example.org"))
    assert links[-1].startswith("consent/")
    assert get(gateway, f"/{links[-1]}")[0] == 200
    assert get(gateway, f"/{links[-1]}")[0] == 404
    assert [org.slug for org in bob.call(HUB, "ListOrgs", pb.ListOrgsRequest()).list] == ["club"]
    assert not any(link.rpartition("/")[2] in caplog.text for link in links)


def test_other_paths(start_hub: Callable[..., HubServer], tmp_path: Path) -> None:
    """The gateway would serve files of the machine, or a monitor could not ask for its health."""
    gateway = start_hub(gateway_listen="127.0.0.1:0").config.gateway_address
    assert get(gateway, "/health") == (200, "")
    assert get(start_hub(data=tmp_path / "six", gateway_listen="[::1]:0").config.gateway_address, "/health") == (200, "")
    for path in ("/", "/confirm", "/confirm/", "/consent/", "/consent/x", "/../../etc/passwd", "/%2e%2e"):
        assert get(gateway, path)[0] == 404
    assert get(gateway, "/health", "POST")[0] == 405


def test_where_the_gateway_listens(start_hub: Callable[..., HubServer], tmp_path: Path) -> None:
    """Links would cross the network unencrypted, or lead to a gateway that does not listen."""
    with pytest.raises(errors.Usage, match="without TLS"):
        start_hub(gateway_listen="0.0.0.0:0")
    with pytest.raises(errors.Usage):
        start_hub(gateway_listen="unix:/x")
    taken = start_hub(gateway_listen="127.0.0.1:0").config.gateway_address
    with pytest.raises(errors.Unavailable, match="cannot serve the gateway"):
        start_hub(data=tmp_path / "other", gateway_listen=taken)

    for settings, base in (
        ({"gateway_listen": taken}, f"http://{taken}"),
        ({"gateway_listen": taken, "gateway_url": "https://hub.example.org"}, "https://hub.example.org"),
        ({"auto_confirm": True}, ""),
        ({}, "http://127.0.0.1:8006"),
    ):
        assert HubConfig(tmp_path, **settings).links_base == base

    def listens(**settings: Any) -> str:
        return HubConfig(tmp_path, **settings).gateway_address

    assert listens() == "127.0.0.1:8006"
    assert listens(gateway_url="http://[::1]:80") == "[::1]:80"
    assert listens(auto_confirm=True) == ""
    assert listens(gateway_listen="") == ""
    assert listens(gateway_url="https://hub.example.org") == ""
    assert listens(gateway_url="http://hub.example.org:80") == ""
