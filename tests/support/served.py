"""A Hub of its own process, as ``bucketfs hub serve`` serves it, and accounts on it."""

from __future__ import annotations

import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from support import leftovers
from support.home import Home, program
from support.plainclient import PlainClient


def free_address() -> str:
    """A loopback address that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@dataclass(eq=False)
class ServedHub:
    """Serves until ``stop``. What it says goes to ``hub.log`` in the home, where the log check finds it."""

    home: Home
    data: Path
    address: str = field(default_factory=free_address)
    settings: dict[str, str] = field(default_factory=dict)
    """Variables of more settings."""
    _server: subprocess.Popen[bytes] | None = None

    def start(self) -> ServedHub:
        log = self.home.root / "state" / "hub.log"
        with log.open("ab") as out:
            self._server = subprocess.Popen(
                [*program(), "hub", "serve", "--data", str(self.data), "--listen", self.address],
                # Nobody is there to follow the link that a sign-up waits for.
                env=self.home.environment() | {"BUCKETFS_SERVE_AUTO_CONFIRM": "true"} | self.settings,
                cwd=self.home.root,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        with grpc.insecure_channel(self.address) as channel:
            try:
                grpc.channel_ready_future(channel).result(timeout=30)
            except grpc.FutureTimeoutError:
                raise AssertionError(f"the Hub is not there after 30 s: {log.read_text()}") from None
        return self

    def stop(self) -> None:
        """SIGTERM, and hold that it ends by itself and in order."""
        assert self._server is not None
        self._server.terminate()
        try:
            assert self._server.wait(30) == 0, "the Hub ended with an error after SIGTERM"
        finally:
            self._server.kill()
            self._server.wait()

    def kill(self) -> None:
        assert self._server is not None
        self._server.kill()
        self._server.wait()

    def __enter__(self) -> ServedHub:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._server is not None and self._server.poll() is None:
            self.stop()
        leftovers.end(self.home.pids("serve"))

    def account(self, name: str) -> Account:
        """A new developer account with a secure account key, made by the plain client."""
        with PlainClient(self.address) as client:
            client.signup(name, f"{name}@example.com")
            key, secret = client.new_key()
        return Account(self.address, key, secret)


@dataclass(frozen=True)
class Account:
    address: str
    key: str
    secret: str

    def plain(self) -> PlainClient:
        return PlainClient(self.address, api_key=self.key, api_secret=self.secret)

    def variables(self) -> dict[str, str]:
        """What a mount needs to know of it, as environment variables."""
        return {"BUCKETFS_HUB": self.address, "BUCKETFS_API_KEY": self.key, "BUCKETFS_API_SECRET": self.secret}
