"""Addresses of Hubs."""

from __future__ import annotations

import pytest

from bucketfs.client import Channel, Credentials, Endpoint
from bucketfs.errors import Usage


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("127.0.0.1:3006", Endpoint("127.0.0.1:3006")),
        (" hub.example:443 ", Endpoint("hub.example:443")),
        ("http://hub.example", Endpoint("hub.example:80")),
        ("http://127.0.0.1:14430/", Endpoint("127.0.0.1:14430")),
        ("https://hub.example", Endpoint("hub.example:443", tls=True)),
        ("https://hub.example:8443", Endpoint("hub.example:8443", tls=True)),
        ("[::1]:3006", Endpoint("[::1]:3006")),
        ("unix:/run/hub.sock", Endpoint("unix:/run/hub.sock", local=True)),
        ("unix:///run/hub.sock", Endpoint("unix:/run/hub.sock", local=True)),
    ],
)
def test_forms(text: str, endpoint: Endpoint) -> None:
    """Each way to write an address dials what the user means."""
    assert Endpoint.parse(text) == endpoint
    assert Endpoint.parse(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    "text",
    ["", "hub", "hub:", ":3006", "hub:0", "hub:65536", "hub:x", "ftp://hub:1", "http://", "a b:1", "http://u@hub:1",
     "http://hub:1/path", "::1:3006", "unix:", "unix:relative", "unix:/"],
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    """A mistyped address is refused with the forms that work."""
    with pytest.raises(Usage):
        Endpoint.parse(text)


@pytest.mark.parametrize(
    "text",
    ["https://hub.example", "unix:/run/hub.sock", "127.0.0.1:3006", "http://127.8.9.1:80", "[::1]:3006", "localhost:3006",
     "LOCALHOST:1", "[::ffff:127.0.0.1]:3006"],
)  # fmt: skip
def test_where_keys_may_go(text: str) -> None:
    """Loopback addresses and sockets need no encryption; every other address does."""
    Endpoint.parse(text).check_transport()


@pytest.mark.parametrize(
    "text",
    ["hub.example:3006", "http://hub.example", "hub.example:443", "10.0.0.1:3006", "[fe80::1]:3006", "localhost.example:1",
     "127.0.0.1.example:3006", "0.0.0.0:3006", "[::]:3006", "[::ffff:10.0.0.1]:1", "ip6-localhost:1"],
)  # fmt: skip
def test_keys_do_not_cross_a_network_in_clear_text(text: str) -> None:
    """Keys leave this machine in clear text only when the user says so."""
    with pytest.raises(Usage, match="not encrypted") as caught:
        Channel(Endpoint.parse(text), Credentials)
    assert "https://" in caught.value.hint and "--insecure-transport" in caught.value.hint
    Endpoint.parse(text, insecure=True).check_transport()
    assert Endpoint.parse(text, insecure=True) == Endpoint.parse(text)
