"""The bytes of grpc-web (hub-protocol sections 1.3 and 1.4; grpc-web PROTOCOL-WEB.md). Pure.

::

    frame      flag[1]  length[4, big-endian]  payload        flag 0x00: a message, 0x80: headers or trailers
    headers    name: value CR LF ...
    WebSocket  the client's first message is headers without a frame, each later one 00 + frame, and 01 ends its sending
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from bucketfs.errors import InvalidArgument

MESSAGE = 0x00
HEADERS = 0x80
HEADERS_BYTES_MAX = 64 << 10
_HEAD = struct.Struct(">BI")
_SAFE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
"""What a ``grpc-message`` has as it is (gRPC over HTTP/2, Percent-Encoded)."""


def frame(flag: int, payload: bytes) -> bytes:
    """One frame."""
    return _HEAD.pack(flag, len(payload)) + payload


def header_block(headers: Iterable[tuple[str, str]]) -> bytes:
    """Headers or trailers as one payload."""
    return "".join(f"{name.lower()}: {value}\r\n" for name, value in headers).encode("latin-1", "replace")


def trailers_of(code: int, text: str, more: Iterable[tuple[str, str | bytes]]) -> list[tuple[str, str]]:
    """How a call ended, as headers."""
    found = [("grpc-status", str(code))]
    if text:
        found.append(("grpc-message", quote(text, safe=_SAFE, errors="replace")))
    for name, value in more:
        shown = base64.b64encode(value).decode().rstrip("=") if isinstance(value, bytes) else value
        found.append((name, quote(shown, safe=_SAFE)))
    return found


def parse_headers(data: bytes) -> list[tuple[str, str]]:
    """The metadata of a call. Raises InvalidArgument."""
    if len(data) > HEADERS_BYTES_MAX:
        raise InvalidArgument("the headers are too long")
    try:
        lines = data.decode("ascii").split("\r\n")
    except UnicodeDecodeError as error:
        raise InvalidArgument("the headers are not ASCII") from error
    found: list[tuple[str, str]] = []
    for line in filter(None, lines):
        name, colon, value = line.partition(":")
        if not colon or not name or any(c in "\r\n\0" for c in line):
            raise InvalidArgument("a header without a name and a value")
        found.append((name.strip().lower(), value.strip()))
    return found


class FrameReader:
    """Messages out of the bytes of a stream, as they come."""

    def __init__(self, message_bytes_max: int) -> None:
        self._max = message_bytes_max
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete now. Raises InvalidArgument for a frame that is none, or too long."""
        self._rest += data
        while len(self._rest) >= _HEAD.size:
            flag, length = _HEAD.unpack_from(self._rest)
            if flag not in (MESSAGE, HEADERS):
                raise InvalidArgument("not a frame of grpc-web, or a compressed one")
            if length > self._max:
                raise InvalidArgument(f"a message of {length} bytes; at most {self._max} are taken")
            if len(self._rest) < _HEAD.size + length:
                return
            payload = bytes(self._rest[_HEAD.size : _HEAD.size + length])
            del self._rest[: _HEAD.size + length]
            if flag == MESSAGE:
                yield payload

    @property
    def is_between(self) -> bool:
        """Whether no message is half there."""
        return not self._rest


class Base64Reader:
    """Bytes out of base64 that comes in pieces, of which each may end with padding of its own."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """Raises InvalidArgument."""
        text = self._rest + data
        whole = len(text) - len(text) % 4
        self._rest = text[whole:]
        try:
            return b"".join(base64.b64decode(text[at : at + 4], validate=True) for at in range(0, whole, 4))
        except binascii.Error as error:
            raise InvalidArgument("not base64") from error
