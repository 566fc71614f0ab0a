"""An HTTP server for an ASGI application, in a thread of the Hub: uvicorn, with bounds on what strangers may hold open.

Plain HTTP, so it obeys the rule of the gRPC side: beyond this machine only with ``plaintext``, behind a proxy that ends TLS.
Requests are not logged: paths and headers hold secrets.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from functools import partial
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from bucketfs.errors import Unavailable, Usage
from bucketfs.hub.config import Address, HubConfig

CONNECTIONS_MAX = 2048
IDLE_S = 20
HEAD_S = 15.0
STOP_S = 2


class _BoundedHttp(H11Protocol):
    """One connection. It is closed when the headers of a request take too long: uvicorn itself would wait for ever."""

    def __init__(self, head_s: float, **given: Any) -> None:
        super().__init__(**given)
        self._head_s = head_s
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        if not self._in_request():
            self._await_head()
        super().data_received(data)
        # A WebSocket has another protocol from here on, and is no longer in the set under this one.
        if self._in_request() or self not in self.connections:
            self._stop_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _in_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self._head_s, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class HttpServer:
    """``bind``, ``start`` and ``stop`` once each."""

    def __init__(self, what: str, wanted: str, config: HubConfig, head_s: float = HEAD_S) -> None:
        """``what`` names the server in errors, ``wanted`` is HOST:PORT, or empty for none. ``head_s`` is how long the headers of a
        request may take."""
        self._head_s = head_s
        self._what = what
        self._wanted = wanted
        self._config = config
        self._listening: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def bind(self) -> str:
        """Takes the address; returns it with its real port, ``""`` for none.

        Raises Usage (address refused) and Unavailable (address taken).
        """
        if not self._wanted:
            return ""
        address = Address.parse(self._wanted)
        if address.path is not None:
            raise Usage(f"{self._what} needs HOST:PORT, not {self._wanted}")
        if not address.local and not self._config.plaintext:
            raise Usage(
                f"refusing to serve {self._what} on {self._wanted} without TLS: what it carries is secret",
                hint="use a loopback address, or --plaintext behind a proxy that ends TLS",
            )
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        try:
            self._listening = socket.create_server((address.host, address.port), family=family)
        except OSError as error:
            raise Unavailable(
                f"cannot serve {self._what} on {self._wanted}: {error.strerror}", hint="is another program listening there?"
            ) from error
        return address.text(self._listening.getsockname()[1])

    def start(self, app: Any) -> None:
        """Serves ``app`` where it was bound."""
        if self._listening is None:
            return
        config = uvicorn.Config(
            app,
            access_log=False,
            http=partial(_BoundedHttp, self._head_s),  # type: ignore[arg-type]  # called as a class is
            lifespan="off",
            limit_concurrency=CONNECTIONS_MAX,
            log_config=None,
            # At "info" uvicorn writes the path of each WebSocket.
            log_level="warning",
            # Whoever stands before the Hub is the peer: anyone can write a header that names another one.
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=STOP_S,
            timeout_keep_alive=IDLE_S,
            ws="wsproto",
            # A frame of grpc-web is a message and six bytes.
            ws_max_size=self._config.message_bytes_max + 64,
        )
        self._server = uvicorn.Server(config)
        name = f"hub-{self._what.split()[-1]}"
        self._thread = threading.Thread(target=self._server.run, args=([self._listening],), name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Takes no more requests; those that run have a moment."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
            self._server = None
        if self._listening is not None:
            self._listening.close()
