"""Addresses of Hubs."""

from __future__ import annotations

import pytest

from bucketfs.client import Endpoint
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
    assert Endpoint.parse(text) == endpoint
    assert Endpoint.parse(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    "text",
    ["", "hub", "hub:", ":3006", "hub:0", "hub:65536", "hub:x", "ftp://hub:1", "http://", "a b:1", "http://u@hub:1",
     "http://hub:1/path", "::1:3006", "unix:", "unix:relative", "unix:/"],
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    with pytest.raises(Usage):
        Endpoint.parse(text)
