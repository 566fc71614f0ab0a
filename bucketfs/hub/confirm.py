"""Sign-ups and sign-ins wait here until a person has followed a link.

A confirmation releases every call that waits for its secret at that moment and is not remembered. Links are secrets: they
go to ``HubConfig.announce`` (standard error by default), never to the log.
"""

from __future__ import annotations

import sys
import threading

from bucketfs.hub.call import Context
from bucketfs.hub.config import HubConfig
from bucketfs.hub.ids import SESSION_BYTES, random_text
from bucketfs.hub.status import Code, Status

WAITING_MAX = 256
"""Anyone may ask for a sign-up, and each one that waits holds a thread."""


class Confirmations:
    """The calls that wait. Thread-safe."""

    def __init__(self, config: HubConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._waiting: dict[str, list[threading.Event]] = {}
        self._confirmed: set[threading.Event] = set()
        self._closed = False

    def ask(self, purpose: str, context: Context) -> None:
        """Announces a link and blocks until it was followed; returns at once when the hub confirms by itself.

        Raises Status UNAUTHENTICATED when nobody followed it in time, RESOURCE_EXHAUSTED when too many wait, CANCELLED
        when the caller went away, UNAVAILABLE when the hub stops.
        """
        if self._config.auto_confirm:
            return
        secret = self._config.confirm_secret or random_text(SESSION_BYTES)
        released = self._enter(secret)
        try:
            if not context.on_end(released.set):
                context.check_active()
            self.announce(f"{purpose}: {self._config.gateway_url}/confirm/{secret}")
            in_time = released.wait(self._config.confirm_timeout_s)
            with self._lock:
                confirmed = released in self._confirmed
        finally:
            self._leave(secret, released)
        if confirmed:
            return
        if not in_time:
            raise Status(Code.UNAUTHENTICATED, "Could not verify email address")
        context.check_active()
        raise Status(Code.UNAVAILABLE, "the hub is stopping")

    def confirm(self, secret: str) -> int:
        """Releases the calls that wait for ``secret``; how many there were."""
        with self._lock:
            released = self._waiting.pop(secret, [])
            self._confirmed.update(released)
        for event in released:
            event.set()
        return len(released)

    def announce(self, line: str) -> None:
        """Shows a line with a link to whoever runs this hub."""
        if self._config.announce is not None:
            self._config.announce(line)
        else:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Sends everyone home: the hub is stopping."""
        with self._lock:
            self._closed = True
            everyone = [event for group in self._waiting.values() for event in group]
        for event in everyone:
            event.set()

    def _enter(self, secret: str) -> threading.Event:
        with self._lock:
            if self._closed:
                raise Status(Code.UNAVAILABLE, "the hub is stopping")
            if sum(map(len, self._waiting.values())) >= WAITING_MAX:
                raise Status(Code.RESOURCE_EXHAUSTED, "too many confirmations are waiting; try again later")
            released = threading.Event()
            self._waiting.setdefault(secret, []).append(released)
            return released

    def _leave(self, secret: str, released: threading.Event) -> None:
        with self._lock:
            self._confirmed.discard(released)
            group = self._waiting.get(secret, [])
            if released in group:
                group.remove(released)
            if not group:
                self._waiting.pop(secret, None)
