"""Where a hub listens: reading an address, refusing the careless ones, binding a gRPC server to it."""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc

from bucketfs.errors import Busy, Unavailable, Usage
from bucketfs.hub.config import HubConfig

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


def bind(server: Any, config: HubConfig) -> str:
    """Binds a grpc server to ``config.listen`` and returns the address with its real port.

    Raises Usage for an address or TLS setting that is refused, Busy when something listens there, Unavailable when the
    system refuses.
    """
    address = Address.parse(config.listen)
    credentials = _credentials(config)
    if credentials is None and not address.local and not config.plaintext:
        raise Usage(
            f"refusing to listen on {address.text()} without TLS: keys and sessions would travel readable",
            hint="give --tls-cert and --tls-key, or --plaintext behind a proxy that ends TLS",
        )
    if config.auto_confirm and not address.local:
        raise Usage(
            f"refusing to confirm by itself on {address.text()}: anyone who reaches it could sign in as anyone",
            hint="leave out --auto-confirm, or listen on 127.0.0.1 or unix:/PATH",
        )
    if address.path is not None:
        if not address.path.parent.is_dir():
            raise Usage(f"cannot listen on {address.text()}: its folder does not exist", hint="make it, open to you alone")
        _clear_socket(address.path)
    try:
        if credentials is None:
            port = server.add_insecure_port(address.target)
        else:
            port = server.add_secure_port(address.target, credentials)
    except RuntimeError as error:
        raise Unavailable(f"cannot listen on {address.text()}", hint="is another program listening there?") from error
    if not port:
        raise Unavailable(f"cannot listen on {address.text()}", hint="is another program listening there?")
    if address.path is not None:
        os.chmod(address.path, 0o600)
    return address.text(port)


def _credentials(config: HubConfig) -> Any:
    if config.tls_cert is None and config.tls_key is None:
        return None
    if config.tls_cert is None or config.tls_key is None:
        raise Usage("TLS needs a certificate and a key", hint="give both --tls-cert and --tls-key")
    try:
        pair = (config.tls_key.read_bytes(), config.tls_cert.read_bytes())
    except OSError as error:
        raise Usage(f"cannot read {error.filename}: {error.strerror}") from error
    return grpc.ssl_server_credentials([pair])


def _clear_socket(path: Path) -> None:
    """Removes a socket that a dead hub left. Raises Busy when a live one answers or the path is something else."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise Busy(f"{path} exists and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise Unavailable(f"cannot use {path}: {error.strerror}") from error
    raise Busy(f"another hub listens on {path}")
