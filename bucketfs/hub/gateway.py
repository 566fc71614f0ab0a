"""The hub's small HTTP side: where confirmation and invitation links lead, and ``/health``.

Plain HTTP, so it obeys the rule of the gRPC side: beyond this machine only with ``plaintext``, behind a proxy that ends TLS.
Paths hold secrets: requests are not logged.
"""

from __future__ import annotations

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import unquote, urlsplit

from bucketfs.errors import NotFound, Stale, Unavailable, Usage
from bucketfs.hub.config import Address, HubConfig
from bucketfs.hub.context import Hub

REQUEST_TIMEOUT_S = 10.0


class Gateway:
    """An HTTP server in threads of its own. ``start`` and ``stop`` once each."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._server: _Server | None = None
        self.address = ""

    def start(self) -> None:
        """Serves, when the configuration wants it. Raises Usage (address refused) and Unavailable (address taken)."""
        wanted = listen_of(self._hub.config)
        if not wanted:
            return
        address = Address.parse(wanted)
        if address.path is not None:
            raise Usage(f"the gateway needs HOST:PORT, not {wanted}")
        if not address.local and not self._hub.config.plaintext:
            raise Usage(
                f"refusing to serve the gateway on {wanted} without TLS: its links are secrets",
                hint="use a loopback address, or --plaintext behind a proxy that ends TLS",
            )
        try:
            self._server = _Server((address.host, address.port), self._hub)
        except OSError as error:
            raise Unavailable(
                f"cannot serve the gateway on {wanted}: {error.strerror}", hint="is another program listening there?"
            ) from error
        self.address = address.text(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, name="hub-gateway", daemon=True).start()

    def stop(self) -> None:
        """Takes no more requests; those that run end by themselves."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


def listen_of(config: HubConfig) -> str:
    """Where the gateway listens; ``""`` for nowhere. Unless told, it serves where its links lead, if that is this
    machine.
    """
    if config.gateway_listen is not None:
        return config.gateway_listen
    url = urlsplit(config.gateway_url)
    if config.auto_confirm or url.scheme != "http" or not url.hostname or url.port is None:
        return ""
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    return f"{host}:{url.port}" if Address.parse(f"{host}:{url.port}").local else ""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], hub: Hub) -> None:
        self.hub = hub
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Page)

    def handle_error(self, request: object, client_address: object) -> None:
        self.hub.log.error("the gateway failed", exc_info=True)


class _Page(BaseHTTPRequestHandler):
    server: _Server
    timeout = REQUEST_TIMEOUT_S
    server_version = "bucketfs"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    _TEXTS: ClassVar[dict[int, str]] = {
        404: "There is nothing here.",
        412: "This invitation has expired. Ask for a new one.",
    }

    def do_GET(self) -> None:
        kind, _, secret = unquote(urlsplit(self.path).path).removeprefix("/").partition("/")
        if kind == "health" and not secret:
            self._answer(200, "")
        elif kind == "confirm" and secret:
            # The answer is the same for every secret: a page that tells right from wrong would help a guesser.
            self.server.hub.confirmations.confirm(secret)
            self._answer(200, "Your email address is confirmed. You can close this page.")
        elif kind == "consent" and secret:
            self._consent(secret)
        else:
            self._answer(404, self._TEXTS[404])

    def _consent(self, token: str) -> None:
        try:
            self.server.hub.database.accept_invite(token, time.time_ns())
        except NotFound:
            self._answer(404, self._TEXTS[404])
        except Stale:
            self._answer(412, self._TEXTS[412])
        else:
            self._answer(200, "You have accepted the invitation. You can close this page.")

    def _answer(self, code: int, text: str) -> None:
        page = f"<!doctype html><meta charset=utf-8><title>Hub</title><p>{text}</p>\n".encode() if text else b""
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the request line holds a secret."""
