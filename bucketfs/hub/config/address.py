"""Addresses that a Hub listens on: ``HOST:PORT`` or the path of a Unix socket."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from bucketfs.errors import Usage

_UNIX_PATH_BYTES_MAX = 107


@dataclass(frozen=True, slots=True)
class Address:
    """``HOST:PORT`` or a socket file; exactly one of the two."""

    host: str = ""
    port: int = 0
    path: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Reads ``HOST:PORT``, ``[V6]:PORT``, ``:PORT`` (loopback) or ``unix:/path``. Raises Usage."""
        if text.startswith("unix:"):
            path = Path(text.removeprefix("unix:"))
            if not path.is_absolute():
                raise Usage(f"{text!r}: a socket path must be absolute")
            if len(os.fsencode(path)) > _UNIX_PATH_BYTES_MAX:
                raise Usage(f"{text!r}: a socket path has at most {_UNIX_PATH_BYTES_MAX} bytes", hint="use a shorter folder")
            return cls(path=path)
        host, colon, port = text.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise Usage(f"{text!r} is no address", hint="write HOST:PORT or unix:/path")
        return cls(host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port))

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        if self.path is not None or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def text(self, port: int | None = None) -> str:
        """As clients write it."""
        if self.path is not None:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port if port is None else port}"

    @property
    def target(self) -> str:
        """As gRPC binds it. It takes a socket's path out of a URL, so whatever means something there, or is no text, is escaped."""
        return self.text() if self.path is None else f"unix:{quote(os.fsencode(self.path))}"
