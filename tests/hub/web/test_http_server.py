"""The HTTP server under clients that send nothing, or half of a request: they keep no one else out."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bucketfs.hub import HubConfig
from bucketfs.hub.web import HttpServer

WHOLE, HALF = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\nHost:"


async def hello(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Of a server whose patience is one second."""
    server = HttpServer("a test", "127.0.0.1:0", HubConfig(tmp_path), head_s=1.0)
    at = server.bind()
    server.start(hello)
    yield at
    server.stop()


def dial(address: str) -> socket.socket:
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=20)


def is_closed(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_sockets_that_send_nothing_are_closed(address: str) -> None:
    """A client that opens sockets and sends nothing must not use them up."""
    silent = [dial(address) for _ in range(20)]
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.request("GET", "/")
    assert connection.getresponse().read() == b"hello"
    connection.close()
    assert all(is_closed(one) for one in silent)
    for one in silent:
        one.close()


def test_headers_that_never_end_are_closed(address: str) -> None:
    """Also those of a second request, behind one that was answered."""
    with dial(address) as first, dial(address) as second:
        first.sendall(HALF)
        second.sendall(WHOLE)
        answer = b""
        while not answer.endswith(b"hello"):
            answer += second.recv(4096)
        second.sendall(HALF)
        assert is_closed(first)
        assert is_closed(second)
