"""A Hub in a process of its own, as ``bucketfs hub serve`` runs it, with an account on it."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from support.home import Home, program


@contextmanager
def serving(home: Home, *options: str, listen: str = "127.0.0.1:0") -> Iterator[str]:
    """The address of a Hub that confirms sign-ups by itself; its data is ``hub`` in ``home``."""
    arguments = ["hub", "serve", "--data", str(home.root / "hub"), "--listen", listen, "--auto-confirm", *options]
    server = subprocess.Popen([*program(), *arguments], env=home.environment(), stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    with server:
        line = server.stdout.readline()
        assert line.startswith("Hub serves on "), line
        try:
            yield line.split()[3].rstrip(",")
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0


@contextmanager
def developer(home: Home, *options: str) -> Iterator[str]:
    """The same, with the developer ``ann`` signed in as the default profile."""
    with serving(home, *options) as address:
        home.cli("hub", "init", "ann", "ann@example.org", "--hub", address)
        yield address
