"""Between the HTTP server and ``GatewayApp``: requests of ASGI in, answers piece by piece out.

The stores block, so an answer is made, and each piece of it read, in a thread of a pool of its own: slow readers hold none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs

from bucketfs.hub.gateway.app import GatewayApp
from bucketfs.hub.gateway.content import Answer, Asked

log = logging.getLogger("bucketfs.hub")

THREADS = 16
_ALWAYS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Content-Length, Content-Range, ETag",
    # The path of a link is a secret: it must not travel to where a page's own links lead.
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class GatewayAsgi:
    """The ASGI application. Requests are not logged: paths hold secrets."""

    def __init__(self, app: GatewayApp) -> None:
        self._app = app
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="hub-gateway")

    def close(self) -> None:
        """No more threads; answers that run end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            method = scope["method"]
            answer = await self._in_thread(self._answer, scope, method) if method in ("GET", "HEAD") else _refusal(method)
            await self._send_answer(send, answer, head_only=method == "HEAD")

    def _answer(self, scope: dict[str, Any], method: str) -> Answer:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        query = parse_qs(scope["query_string"].decode("latin-1"))
        asked = Asked(
            headers,
            head_only=method == "HEAD",
            token=query.get("token", [""])[0],
            as_json=query.get("json", [""])[0] == "true",
            download=query.get("download", [""])[0] == "true",
        )
        host = headers.get("host", "").rpartition("]")[2].partition(":")[0].lower()
        return self._app.answer(scope["raw_path"].decode("latin-1"), asked, host)

    async def _send_answer(self, send: Send, answer: Answer, *, head_only: bool) -> None:
        await send(_start(answer))
        if not head_only:
            while piece := await self._in_thread(_next_piece, answer.body):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)


def _next_piece(body: Iterator[bytes]) -> bytes:
    """The next piece that has any bytes, ``b""`` at the end. An error ends the connection before the announced length: the client
    sees that the file is cut."""
    return next((piece for piece in body if piece), b"")


def _refusal(method: str) -> Answer:
    """To a method that changes nothing here, or to a browser's question which ones there are."""
    return Answer(204 if method == "OPTIONS" else 405, {"Allow": "GET, HEAD", "Access-Control-Allow-Methods": "GET, HEAD"})


def _start(answer: Answer) -> dict[str, Any]:
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in {**_ALWAYS, **answer.headers}.items()]
    return {"type": "http.response.start", "status": answer.status, "headers": headers}
