"""A client of grpc-web that knows the protocol and nothing of bucketfs: one WebSocket, or one POST, for each call."""

from __future__ import annotations

import base64
import http.client
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

import wsproto
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, RejectConnection, Request

HEAD = struct.Struct(">BI")


def framed(message: bytes, flag: int = 0) -> bytes:
    """One frame."""
    return HEAD.pack(flag, len(message)) + message


def frames_in(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The frames of a body."""
    while data:
        flag, length = HEAD.unpack_from(data)
        yield flag, data[HEAD.size : HEAD.size + length]
        data = data[HEAD.size + length :]


def parsed(block: bytes) -> dict[str, str]:
    """Headers or trailers."""
    lines = block.decode().split("\r\n")
    return {name: unquote(value.strip()) for name, _, value in (line.partition(":") for line in lines if line)}


class WebSocketCall:
    """One call over a WebSocket, message by message."""

    def __init__(self, address: str, path: str, headers: Mapping[str, str], subprotocol: str = "grpc-websockets") -> None:
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        self._connection = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self._events: list[Any] = []
        self.close_reason = ""
        self._write(Request(host=address, target=path, subprotocols=[subprotocol]))
        self.accepted = isinstance(self._next(), AcceptConnection)
        if self.accepted and headers is not None:
            self.send_raw("".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send_raw(self, data: bytes) -> None:
        self._write(BytesMessage(data=data))

    def send(self, message: Any) -> None:
        self.send_raw(b"\0" + framed(message.SerializeToString()))

    def finish(self) -> None:
        self.send_raw(b"\1")

    def leave(self) -> None:
        """Close without having finished."""
        self._write(CloseConnection(code=1000))
        self._socket.close()

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Frames as they come, each of which must be one WebSocket message, to the end of the connection."""
        while True:
            event = self._next()
            if isinstance(event, CloseConnection):
                self.close_reason = event.reason or ""
                return
            if isinstance(event, BytesMessage):
                (one,) = frames_in(bytes(event.data))
                yield one

    def answer(self, kind: Any) -> tuple[list[Any], dict[str, str]]:
        """All messages, and the trailers."""
        messages: list[Any] = []
        blocks: list[dict[str, str]] = []
        for flag, payload in self.frames():
            if flag:
                blocks.append(parsed(payload))
            else:
                messages.append(kind.FromString(payload))
        return messages, blocks[-1]

    def _write(self, event: Any) -> None:
        self._socket.sendall(self._connection.send(event))

    def _next(self) -> Any:
        whole = b""
        while True:
            while self._events:
                event = self._events.pop(0)
                if isinstance(event, BytesMessage):
                    whole += event.data
                    if not event.message_finished:
                        continue
                    return BytesMessage(data=whole)
                if isinstance(event, (AcceptConnection, RejectConnection, CloseConnection)):
                    return event
            data = self._socket.recv(65536)
            self._connection.receive_data(data or None)
            self._events += list(self._connection.events())
            if not data and not self._events:
                return CloseConnection(code=1006)


def call(address: str, path: str, message: Any, kind: Any, **headers: str) -> tuple[list[Any], dict[str, str]]:
    """A call with one message over a WebSocket: the messages that came, and the trailers."""
    named = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    with WebSocketCall(address, path, named) as one:
        one.send(message)
        one.finish()
        return one.answer(kind)


def post(
    address: str, path: str, messages: Iterable[bytes], kind: str = "application/grpc-web+proto", **headers: str
) -> tuple[int, http.client.HTTPMessage, list[tuple[int, bytes]]]:
    """Status, headers and frames of a POST."""
    body = b"".join(framed(message) for message in messages)
    text = "text" in kind
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        named = {"content-type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection.request("POST", path, base64.b64encode(body) if text else body, named)
        answer = connection.getresponse()
        data = answer.read()
        return answer.status, answer.headers, list(frames_in(_from_base64(data) if text else data))
    finally:
        connection.close()


def _from_base64(data: bytes) -> bytes:
    return b"".join(base64.b64decode(data[at : at + 4]) for at in range(0, len(data), 4))
