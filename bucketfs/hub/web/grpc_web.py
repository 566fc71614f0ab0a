"""The ASGI application that takes gRPC calls from web clients, over WebSockets (as Textile's JavaScript does all of them) and over
HTTP POST."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from bucketfs.errors import InvalidArgument
from bucketfs.hub.rpc import pool_of
from bucketfs.hub.web.frames import (
    HEADERS,
    MESSAGE,
    Base64Reader,
    FrameReader,
    frame,
    header_block,
    parse_headers,
    trailers_of,
)
from bucketfs.hub.web.web_call import WebCall

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

SUBPROTOCOL = "grpc-websockets"
FIRST_S = 15.0
"""How long the headers of a call may take, in seconds."""
LINGER_S = 5.0
"""How long a client that was refused while it sent may go on sending: closing at once would take the refusal from it."""
HALF_CLOSE = b"\x01"
CANCELLED, INVALID_ARGUMENT, UNIMPLEMENTED = 1, 3, 12
_TYPES = ("application/grpc-web", "application/grpc-web-text")
_CONTENT_TYPE = ("content-type", "application/grpc-web+proto")
_DROPPED = frozenset(
    {"host", "content-type", "connection", "upgrade", "content-length", "x-grpc-web", "user-agent", "accept"}
)
"""Headers of the transport, not of the call."""


class GrpcWeb:
    """``methods`` are the handlers of grpcio by their paths, ``/package.Service/Method``."""

    def __init__(self, methods: Mapping[str, Any], message_bytes_max: int) -> None:
        self._methods = methods
        self._message_bytes_max = message_bytes_max

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await _OverWebSocket(self._methods.get(scope["path"]), scope, receive, send).run()
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _http(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        kind = headers.get("content-type", "").partition(";")[0].strip().removesuffix("+proto").removesuffix("+thrift")
        if scope["method"] == "OPTIONS":
            await _answer(send, 204, _cors(headers))
        elif scope["method"] != "POST" or kind not in _TYPES:
            await _answer(send, 405 if scope["method"] != "POST" else 415, _cors(headers))
        else:
            frames = FrameReader(self._message_bytes_max)
            text = Base64Reader() if kind.endswith("-text") else None
            await _OverPost(self._methods.get(scope["path"]), scope, receive, send, headers, frames, text).run()


def _cors(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """Any page may call: who calls is in headers that a page has to know, not in cookies."""
    return [
        ("access-control-allow-origin", headers.get("origin", "*")),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "POST, OPTIONS"),
        ("access-control-allow-headers", headers.get("access-control-request-headers", "x-grpc-web, content-type")),
        ("access-control-expose-headers", "grpc-status, grpc-message, bucketfs-detail, bucketfs-time, bucketfs-warning"),
        ("access-control-max-age", "600"),
        ("vary", "origin"),
    ]


async def _answer(send: Send, status: int, headers: Sequence[tuple[str, str]]) -> None:
    await send(_start(status, [*headers, ("content-length", "0")]))
    await send({"type": "http.response.body"})


def _start(status: int, headers: Sequence[tuple[str, str]]) -> dict[str, Any]:
    encoded = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers]
    return {"type": "http.response.start", "status": status, "headers": encoded}


def _peer(scope: Mapping[str, Any]) -> str:
    """As grpcio names it."""
    host, port = scope.get("client") or ("unknown", 0)
    return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"


def _begin(handler: Any, call: WebCall) -> None:
    pool_of(handler).submit(call.run, handler)


class _OverWebSocket:
    def __init__(self, handler: Any, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        self._handler = handler
        self._scope = scope
        self._receive = receive
        self._send = send
        self._sending = True
        """The client has not finished."""
        self._ended = False

    async def run(self) -> None:
        if (await self._receive())["type"] != "websocket.connect" or SUBPROTOCOL not in self._scope.get("subprotocols", ()):
            await self._send({"type": "websocket.close", "code": 1002})
            return
        await self._send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL})
        try:
            first = await asyncio.wait_for(self._message(), FIRST_S)
            metadata = [] if first is None else [pair for pair in parse_headers(first) if pair[0] not in _DROPPED]
        except (TimeoutError, InvalidArgument) as error:
            await self._refuse(INVALID_ARGUMENT, str(error) or "the headers did not come")
            return
        if first is None:
            return
        if self._handler is None:
            await self._refuse(UNIMPLEMENTED, "unknown method")
            return
        call = WebCall(metadata, _peer(self._scope), self._send_headers, self._send_message, self._send_end)
        _begin(self._handler, call)
        reading = asyncio.create_task(self._read(call))
        await call.done.wait()
        if self._sending and not reading.done():
            await asyncio.wait((reading,), timeout=LINGER_S)
        reading.cancel()
        try:
            # Who does not read is not waited for.
            async with asyncio.timeout(LINGER_S):
                if not self._ended:
                    await self._send_end(CANCELLED, "cancelled", ())
                await self._close()
        except TimeoutError:
            return

    async def _read(self, call: WebCall) -> None:
        """Takes what the client sends, to its end; after the end of the call only to throw it away."""
        while True:
            message = await self._message()
            if message is None:
                self._sending, self._ended = False, True
                call.client_left()
                return
            if message == HALF_CLOSE:
                self._sending = False
                call.client_finished()
            elif call.done.is_set():
                continue
            else:
                try:
                    await call.client_sent(_payload(message))
                except InvalidArgument as error:
                    # A stream with a hole in it must not be taken for a whole one. The handler says no more after `cancel`.
                    call.cancel()
                    if not self._ended:
                        await self._send_end(INVALID_ARGUMENT, str(error), ())
                    return

    async def _message(self) -> bytes | None:
        """``None`` at the end of the connection."""
        event = await self._receive()
        if event["type"] != "websocket.receive":
            return None
        data: bytes = event.get("bytes") or (event.get("text") or "").encode()
        return data

    async def _refuse(self, code: int, text: str) -> None:
        await self._send_end(code, text, ())
        await self._close()

    async def _send_headers(self) -> None:
        await self._send({"type": "websocket.send", "bytes": frame(HEADERS, header_block([_CONTENT_TYPE]))})

    async def _send_message(self, data: bytes) -> None:
        # One frame in a message: the JavaScript client reads no further behind a frame of headers.
        await self._send({"type": "websocket.send", "bytes": frame(MESSAGE, data)})

    async def _send_end(self, code: int, text: str, trailers: Sequence[tuple[str, str | bytes]]) -> None:
        self._ended = True
        block = header_block(trailers_of(code, text, trailers))
        await self._send({"type": "websocket.send", "bytes": frame(HEADERS, block)})

    async def _close(self) -> None:
        try:
            await self._send({"type": "websocket.close", "code": 1000, "reason": "request body closed"})
        except (RuntimeError, OSError):
            return  # the client was quicker


def _payload(message: bytes) -> bytes:
    """The protobuf in a WebSocket message of a client. Raises InvalidArgument."""
    if message[:1] != b"\x00":
        raise InvalidArgument("not a message of grpc-web")
    reader = FrameReader(len(message))
    found = list(reader.feed(message[1:]))
    if len(found) != 1 or not reader.is_between:
        raise InvalidArgument("not a message of grpc-web")
    return found[0]


class _OverPost:
    def __init__(
        self,
        handler: Any,
        scope: dict[str, Any],
        receive: Receive,
        send: Send,
        headers: dict[str, str],
        frames: FrameReader,
        text: Base64Reader | None,
    ) -> None:
        self._handler = handler
        self._scope = scope
        self._receive = receive
        self._send = send
        self._headers = headers
        self._frames = frames
        self._text = text
        self._started = self._ended = False
        self._fault = ""

    async def run(self) -> None:
        if self._handler is None:
            await self._send_end(UNIMPLEMENTED, "unknown method", ())
            return
        metadata = [(name, value) for name, value in self._headers.items() if name not in _DROPPED]
        call = WebCall(metadata, _peer(self._scope), self._send_headers, self._send_message, self._send_end)
        _begin(self._handler, call)
        reading = asyncio.create_task(self._read(call))
        await call.done.wait()
        reading.cancel()
        try:
            async with asyncio.timeout(LINGER_S):
                if not self._ended:
                    await self._send_end(INVALID_ARGUMENT if self._fault else CANCELLED, self._fault or "cancelled", ())
        except TimeoutError:
            return  # who does not read is not waited for

    async def _read(self, call: WebCall) -> None:
        more = True
        try:
            while more:
                event = await self._receive()
                if event["type"] != "http.request":
                    self._ended = True
                    call.client_left()
                    return
                data, more = event.get("body", b""), event.get("more_body", False)
                for message in self._frames.feed(data if self._text is None else self._text.feed(data)):
                    await call.client_sent(message)
            if not self._frames.is_between:
                raise InvalidArgument("the last message is cut off")
        except InvalidArgument as error:
            self._fault = str(error)
            call.cancel()
            return
        call.client_finished()
        while (await self._receive())["type"] == "http.request":
            continue
        self._ended = True
        call.client_left()

    async def _send_headers(self) -> None:
        if not self._started:
            self._started = True
            kind = "application/grpc-web-text+proto" if self._text is not None else _CONTENT_TYPE[1]
            await self._send(_start(200, [("content-type", kind), *_cors(self._headers)]))

    async def _send_message(self, data: bytes) -> None:
        await self._body(frame(MESSAGE, data), more=True)

    async def _send_end(self, code: int, text: str, trailers: Sequence[tuple[str, str | bytes]]) -> None:
        self._ended = True
        await self._send_headers()
        await self._body(frame(HEADERS, header_block(trailers_of(code, text, trailers))), more=False)

    async def _body(self, data: bytes, *, more: bool) -> None:
        body = data if self._text is None else base64.b64encode(data)
        await self._send({"type": "http.response.body", "body": body, "more_body": more})
