"""Where the gateway listens, and its start and stop.

Plain HTTP, so it obeys the rule of the gRPC side: beyond this machine only with ``plaintext``, behind a proxy that ends TLS.
"""

from __future__ import annotations

import socket
import threading

import uvicorn

from bucketfs.errors import Unavailable, Usage
from bucketfs.hub.config import Address, HubConfig
from bucketfs.hub.context import Hub
from bucketfs.hub.gateway.app import GatewayApp
from bucketfs.hub.gateway.asgi import GatewayAsgi

CONNECTIONS_MAX = 512
IDLE_S = 20


class Gateway:
    """The HTTP server, in a thread of its own. ``bind``, ``start`` and ``stop`` once each."""

    def __init__(self, config: HubConfig) -> None:
        self._config = config
        self._listening: socket.socket | None = None
        self._asgi: GatewayAsgi | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def bind(self) -> str:
        """Takes the address that the configuration wants; returns it with its real port, ``""`` for none.

        Raises Usage (address refused) and Unavailable (address taken).
        """
        wanted = self._config.gateway_address
        if not wanted:
            return ""
        address = Address.parse(wanted)
        if address.path is not None:
            raise Usage(f"the gateway needs HOST:PORT, not {wanted}")
        if not address.local and not self._config.plaintext:
            raise Usage(
                f"refusing to serve the gateway on {wanted} without TLS: its links are secrets",
                hint="use a loopback address, or --plaintext behind a proxy that ends TLS",
            )
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        try:
            self._listening = socket.create_server((address.host, address.port), family=family)
        except OSError as error:
            raise Unavailable(
                f"cannot serve the gateway on {wanted}: {error.strerror}", hint="is another program listening there?"
            ) from error
        return address.text(self._listening.getsockname()[1])

    def start(self, hub: Hub) -> None:
        """Serves where it was bound."""
        if self._listening is None:
            return
        self._asgi = GatewayAsgi(GatewayApp(hub))
        config = uvicorn.Config(
            self._asgi,
            access_log=False,
            http="h11",
            lifespan="off",
            limit_concurrency=CONNECTIONS_MAX,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=IDLE_S,
            ws="none",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._listening],), name="hub-gateway", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Takes no more requests; those that run have a second."""
        if self._server is not None and self._thread is not None and self._asgi is not None:
            self._server.should_exit = True
            self._thread.join()
            self._asgi.close()
            self._server = None
        if self._listening is not None:
            self._listening.close()
