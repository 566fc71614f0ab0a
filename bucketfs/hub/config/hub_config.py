"""The configuration of a Hub process: where it keeps its data, where it listens, whom it lets in, and its limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bucketfs.hub.config.address import Address

MESSAGE_BYTES_MAX = 8 * 1024 * 1024
GATEWAY_URL = "http://127.0.0.1:8006"


@dataclass(frozen=True, slots=True)
class AccountLimits:
    """The most that one account may have, its users together with itself. 0 is no limit."""

    threads: int = 0
    buckets: int = 0
    bytes: int = 0


NO_LIMITS = AccountLimits()


@dataclass(frozen=True, slots=True)
class HubConfig:
    """One Hub process. Sizes are in bytes; 0 means no limit where a limit is meant."""

    data: Path
    """Folder of the hub's own stores; made with mode 0700 when missing."""
    listen: str = "127.0.0.1:3006"
    """``HOST:PORT`` (port 0: any free one), ``[V6]:PORT`` or ``unix:/path``."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    """PEM files; both or none."""
    plaintext: bool = False
    """Allows a non-loopback address without TLS, e.g. behind a proxy that ends TLS."""
    database_url: str = field(default="", repr=False)
    """A SQLAlchemy URL, which may hold a password. Empty: SQLite in ``data``."""
    workers: int = 32
    """Single calls that are at work at a time."""
    singles_max: int = 512
    """Single calls whose message has not come yet, or that wait for their turn to be at work."""
    streams_max: int = 256
    """Streams of blocks and files, in and out; each has a thread."""
    waiters_max: int = 1024
    """Calls that mostly wait: listeners, token challenges, sign-ups. Each has a thread."""
    message_bytes_max: int = MESSAGE_BYTES_MAX

    gateway_url: str = ""
    """Base of the links that this Hub hands out, without a trailing slash. Empty: where the gateway listens."""
    gateway_listen: str | None = None
    """Where the gateway answers over HTTP: ``HOST:PORT``, ``""`` for nowhere. ``None``: where ``gateway_url`` leads, if that is
    this machine and confirmations are asked for."""
    bucket_domain: str = ""
    web_listen: str = ""
    """Where web clients call (grpc-web): ``HOST:PORT``, ``""`` for nowhere."""

    signups: bool = True
    """Whether strangers may make accounts."""
    auto_confirm: bool = False
    """Sign-ups and sign-ins need no confirmation: for a hub that only its owner can reach."""
    confirm_secret: str | None = field(default=None, repr=False)
    """A fixed confirmation secret in place of random ones: for tests."""
    confirm_timeout_s: float = 10 * 60
    announce: Callable[[str], None] | None = field(default=None, repr=False)
    """Where confirmation and invitation links go, one line each. ``None``: standard error. They are secrets: never the
    log."""

    single_user: bool = False
    """All clients are the user of this machine, as of the embedded hub: nodes that they send, which a removal needs, may take all
    the room that there is."""

    refuse_insecure_keys: bool = False
    """Keys that need no signature are neither made nor accepted."""

    threads_per_owner_max: int = 10_000
    """Users of an app count against the owner of its keys. (The original allows 100 to each user by itself.)"""
    buckets_per_owner_max: int = 0
    account_bytes_max: int = 0
    bucket_bytes_max: int = 0

    @property
    def gateway_address(self) -> str:
        """Where the gateway listens: ``HOST:PORT``, ``""`` for nowhere."""
        if self.gateway_listen is not None:
            return self.gateway_listen
        url = urlsplit(self.gateway_url or GATEWAY_URL)
        if self.auto_confirm or url.scheme != "http" or not url.hostname or url.port is None:
            return ""
        host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
        return f"{host}:{url.port}" if Address.parse(f"{host}:{url.port}").local else ""

    @property
    def links_base(self) -> str:
        """What links begin with; ``""`` when no gateway is known that would answer them."""
        return self.gateway_url or (f"http://{self.gateway_address}" if self.gateway_address else "")

    @property
    def limits(self) -> AccountLimits:
        """What one account may have."""
        return AccountLimits(self.threads_per_owner_max, self.buckets_per_owner_max, self.account_bytes_max)
