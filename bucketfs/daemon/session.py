"""From settings to a Hub ready for use: which Hub, which keys, the connection, the thread of the buckets."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from bucketfs.client import (
    BlocksClient,
    BucketsClient,
    Channel,
    Connection,
    Credentials,
    Endpoint,
    HubClient,
    ThreadsClient,
    UsersClient,
    connect,
)
from bucketfs.daemon.allocator import keep_freed_memory
from bucketfs.daemon.config import DEFAULT_PROFILE, EMBEDDED, Config
from bucketfs.daemon.credentials import CredentialsFile, Profile
from bucketfs.daemon.embedded import address_of, embedded_hub
from bucketfs.errors import NotFound, Usage
from bucketfs.types import ThreadId


@dataclass(frozen=True, slots=True)
class Session:
    """An open connection to the Hub of a profile. ``hub_text`` names the Hub for people."""

    profile: Profile
    endpoint: Endpoint
    connection: Connection
    credentials: Callable[[], Credentials]
    embedded: bool

    @property
    def channel(self) -> Channel:
        """The channel under all clients."""
        return self.connection.channel

    @property
    def thread(self) -> ThreadId:
        """The thread of the buckets."""
        return self.connection.thread

    @property
    def blocks(self) -> BlocksClient:
        """Blocks by CID."""
        return self.connection.blocks

    @property
    def buckets(self) -> BucketsClient:
        """The bucket service, in ``thread``."""
        return self.connection.buckets

    @property
    def users(self) -> UsersClient:
        """Threads and mail of the account."""
        return self.connection.users

    @property
    def threads(self) -> ThreadsClient:
        """Databases."""
        return self.connection.threads

    @property
    def hub(self) -> HubClient:
        """The account itself."""
        return self.connection.hub

    @property
    def hub_text(self) -> str:
        """The Hub as people call it."""
        return "the embedded Hub" if self.embedded else f"the Hub {self.endpoint}"


@asynccontextmanager
async def open_session(
    profile: str,
    hub: str,
    config: Config,
    *,
    timeout_s: float = 30.0,
    recall: Callable[[Endpoint, str], ThreadId | None] = lambda endpoint, profile: None,
) -> AsyncGenerator[Session, None]:
    """Connect as ``profile`` to ``hub``; empty texts stand for what ``config`` says. The embedded Hub is started when it is
    the one. ``recall`` may know the thread that a profile's name at an endpoint was found to have before; the Hub is not asked
    then. Raises Usage, NotFound (no such profile) and what the Hub answers."""
    keep_freed_memory()
    file = CredentialsFile(config.places.credentials_file)
    chosen = choose(profile or config.profile, hub or config.hub, file)
    async with AsyncExitStack() as stack:
        embedded = chosen.name == EMBEDDED
        if embedded:
            chosen = await stack.enter_async_context(embedded_hub(config, file))
        endpoint = Endpoint.parse(address_of(config) if embedded else chosen.hub)
        credentials = file.current(chosen.name)
        connection = await stack.enter_async_context(
            connect(
                endpoint,
                credentials,
                timeout_s=timeout_s,
                thread=chosen.thread,
                # A token has to be asked for anyway.
                recalled=None if chosen.credentials.identity else recall(endpoint, chosen.name),
            )
        )
        yield Session(chosen, endpoint, connection, credentials, embedded)


def choose(profile: str, hub: str, file: CredentialsFile) -> Profile:
    """Which profile to use, with its Hub filled in; for the embedded Hub one named so, whose keys are found later.

    Without any wish: the profile ``default`` when there is one, else the embedded Hub. Keys are never sent to another Hub
    than the one they were saved for. Raises Usage, NotFound.
    """
    if EMBEDDED in (profile, hub):
        if profile not in ("", EMBEDDED) or hub not in ("", EMBEDDED):
            raise Usage("the embedded Hub has a profile of its own", hint="leave out --profile, or --hub")
        return Profile(EMBEDDED, EMBEDDED, Credentials())
    try:
        found = file.profile(profile or DEFAULT_PROFILE)
    except NotFound as error:
        if hub:
            raise NotFound(f"there are no keys for the Hub {hub}", hint=f"bucketfs hub login --hub {hub} NAME") from error
        if profile:
            raise
        return Profile(EMBEDDED, EMBEDDED, Credentials())
    if hub and found.hub and Endpoint.parse(hub) != Endpoint.parse(found.hub):
        raise Usage(
            f"the keys of profile {found.name!r} are for {found.hub}, not for {hub}",
            hint="choose another --profile, or make one with 'bucketfs hub login'",
        )
    address = hub or found.hub
    if not address:
        raise Usage(f"profile {found.name!r} names no Hub", hint="give --hub HOST:PORT")
    return replace(found, hub=address)
