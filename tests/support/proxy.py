"""A bad connection: a proxy between a mount and its Hub that delays, drops and cuts at random bytes, from a seed.

It knows nothing of what passes. A cut delivers a part of what had arrived, ends both sides with a reset, and forgets the rest,
as a router that goes away does. It counts bytes, so that a test can say what a retry may repeat.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
import time
from dataclasses import dataclass, field, replace

CHUNK = 65536


@dataclass(frozen=True)
class Weather:
    """How the connection is. Ranges are drawn from anew for each connection (cuts) or chunk (delays)."""

    refuse: bool = False
    """Connections are closed as soon as they are made."""
    freeze: bool = False
    """Nothing passes, and nobody is told."""
    cut_after_bytes: tuple[int, int] | None = None
    """A connection lives for so many bytes (both ways together)."""
    delay_s: tuple[float, float] = (0.0, 0.0)
    """Each chunk waits so long."""
    bytes_per_s: float = float("inf")
    """Each way of each connection carries no more."""


@dataclass(eq=False)
class _Link:
    """One connection: both sockets, and how many bytes it has left."""

    near: socket.socket
    far: socket.socket
    left_bytes: float
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: bool = False

    def end(self, *, reset: bool) -> bool:
        """Close both sides; False when they were closed already."""
        with self.lock:
            if self.ended:
                return False
            self.ended = True
        for one in (self.near, self.far):
            with contextlib.suppress(OSError):
                if reset:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.shutdown(socket.SHUT_RDWR)
        for one in (self.near, self.far):
            one.close()
        return True


class Proxy:
    """A context manager. ``target`` (``HOST:PORT`` or ``unix:/PATH``) and ``weather`` may be changed at any time; ``target`` holds
    for new connections."""

    def __init__(self, target: str, seed: int, weather: Weather | None = None) -> None:
        self.target = target
        self.weather = weather or Weather()
        self.up_bytes = 0
        self.down_bytes = 0
        self.cuts = 0
        self.connections = 0
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._links: set[_Link] = set()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.getsockname()[1]}"

    def __enter__(self) -> Proxy:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        # A blocked accept ends by shutdown, not by close.
        self._server.shutdown(socket.SHUT_RDWR)
        self.cut()
        self.weather = Weather()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive(), "a thread of the proxy hangs"
        self._server.close()

    def change(self, **weather: object) -> None:
        """Change some of the weather."""
        self.weather = replace(self.weather, **weather)  # type: ignore[arg-type]

    def cut(self) -> None:
        """Cut every connection now."""
        for link in list(self._links):
            self._cut(link)

    def _spawn(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            if self.weather.refuse:
                near.close()
                continue
            try:
                far = self._connect()
            except OSError:
                near.close()
                continue
            limits = self.weather.cut_after_bytes
            link = _Link(near, far, self._random.uniform(*limits) if limits else float("inf"))
            self._links.add(link)
            self._spawn(self._pump, link, near, far, True)
            self._spawn(self._pump, link, far, near, False)

    def _connect(self) -> socket.socket:
        if self.target.startswith("unix:"):
            far = socket.socket(socket.AF_UNIX)
            far.connect(self.target.removeprefix("unix:"))
            return far
        host, _, port = self.target.rpartition(":")
        return socket.create_connection((host, int(port)), 5)

    def _pump(self, link: _Link, source: socket.socket, sink: socket.socket, up: bool) -> None:
        try:
            source.settimeout(None)
            while data := source.recv(CHUNK):
                self._wait(link, len(data))
                with self._lock:
                    data = data[: max(0, int(min(link.left_bytes, CHUNK)))]
                    link.left_bytes -= len(data)
                    spent = link.left_bytes < 1
                    if up:
                        self.up_bytes += len(data)
                    else:
                        self.down_bytes += len(data)
                sink.sendall(data)
                if spent:
                    self._cut(link)
                    return
        except OSError:
            pass  # the other pump, or a side, ended the connection: so does this one, below
        finally:
            link.end(reset=False)
            self._links.discard(link)

    def _wait(self, link: _Link, size: int) -> None:
        weather = self.weather
        delay_s = self._random.uniform(*weather.delay_s) + size / weather.bytes_per_s
        if delay_s:
            time.sleep(delay_s)
        while self.weather.freeze and not link.ended:
            time.sleep(0.02)

    def _cut(self, link: _Link) -> None:
        if link.end(reset=True):
            self.cuts += 1
