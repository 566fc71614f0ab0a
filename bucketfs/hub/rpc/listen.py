"""Binding a gRPC server to an address. Addresses that would expose keys are refused."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import grpc

from bucketfs.errors import Busy, Unavailable, Usage
from bucketfs.hub.config import Address, HubConfig


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
