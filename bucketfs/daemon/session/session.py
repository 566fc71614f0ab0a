"""From settings to an open connection: which Hub, which keys, which thread of buckets."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from bucketfs.client import (
    AccountQuota,
    BlocksClient,
    BucketInfo,
    BucketsClient,
    Channel,
    Connection,
    Credentials,
    Endpoint,
    Holdings,
    HubClient,
    ThreadsClient,
    UsersClient,
    connect,
    find_bucket,
)
from bucketfs.config import DEFAULT_PROFILE, EMBEDDED, Config, CredentialsFile, Profile, chosen_for, identity_of
from bucketfs.daemon.host import keep_freed_memory
from bucketfs.daemon.session.embedded_hub import address_of, embedded_hub, place_of_embedded
from bucketfs.errors import InvalidArgument, NotFound, Unsupported, Usage
from bucketfs.keys import Identity, claimed_subject, thread_from_text
from bucketfs.quoting import quoted
from bucketfs.remote import NativeRemote
from bucketfs.types import BucketKey, ThreadId

NO_THREAD = ThreadId(b"")
"""For calls that are about no thread; it is not sent."""


@dataclass(frozen=True, slots=True)
class Session:
    """An open connection to the Hub of a profile. ``hub_text`` names the Hub for people."""

    config: Config
    profile: Profile
    endpoint: Endpoint
    place: str
    """The Hub, as local state is filed under it: its address, or for the embedded one its data folder, wherever it listens."""
    connection: Connection
    credentials: Callable[[], Credentials]
    embedded: bool
    who: str
    """Who acts, as local state is filed under it: the profile's name, with organization, identity and thread. No secret."""
    guest: bool
    """Whether the settings name ``thread``, which then may be someone else's."""

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
        """The Hub, for messages."""
        return "the embedded Hub" if self.embedded else f"the Hub {self.endpoint}"

    async def look(self, bucket: str = "") -> Holdings:
        """The buckets in ``thread``, and the limits of the account. Of someone else's thread only ``bucket`` (its key) can be
        seen, and no limits. Raises NotFound."""
        found = await self.blocks.holdings()
        here = [info for info in found.buckets if info.thread == self.thread]
        if self.guest and bucket and all(bucket not in (info.key, info.name) for info in here):
            return Holdings([await self.buckets.root(BucketKey(bucket))], AccountQuota())
        return Holdings(here, found.limits)

    async def find_bucket(self, name: str) -> BucketInfo:
        """A bucket by its name or key. Raises NotFound."""
        if self.guest:
            # Another account's thread cannot be listed; a bucket in it is named by its key.
            try:
                return await self.buckets.root(BucketKey(name))
            except NotFound as error:
                raise NotFound(
                    f"no bucket {name!r} is shared with you", hint="name it by its key, as its owner sees it"
                ) from error
        found = await find_bucket(self.buckets, name)
        if found is None:
            raise NotFound(f"no bucket {name!r} at {self.hub_text}", hint="'bucketfs buck ls' lists them")
        return found

    async def is_native(self, bucket: BucketInfo) -> bool:
        """Whether the content of a bucket can be read and written as blocks; else only the Hub's calls by path show it."""
        return not bucket.private and await self.blocks.offered()

    async def need_native(self, bucket: BucketInfo) -> None:
        """Raises Unsupported for a bucket that whole folders can be neither pushed to nor pulled from."""
        if bucket.private:
            raise Unsupported(
                f"{quoted(bucket.name or bucket.key)} is private: bucketfs cannot push folders to it or pull them from it yet",
                hint="another client of the Hub can; 'bucketfs buck ls', 'cat', 'mv' and 'rm' work",
            )
        if not await self.blocks.offered():
            raise Unsupported(f"{self.hub_text} does not offer blocks by CID, which push and pull need")

    def remote(self, bucket: BucketInfo) -> NativeRemote:
        """A bucket as a tree of blocks under a root."""
        return NativeRemote(self.blocks, self.buckets, bucket.thread, bucket.key)

    async def me(self) -> str:
        """The public key of the acting account or user, as roles and owners name it."""
        credentials = self.credentials()
        if credentials.identity:
            return Identity.from_text(credentials.identity).public_key
        try:
            return (await self.hub.org() if credentials.org else await self.hub.account()).public_key
        except InvalidArgument:
            return await self._org_of_key()
        except Unsupported:
            # With a user group key, the token says who acts; without one it is the key's owner.
            if not credentials.token:
                raise
            return claimed_subject(credentials.token)

    async def _org_of_key(self) -> str:
        try:
            return (await self.hub.org()).public_key
        except InvalidArgument:
            # Textile's Hub gives the public key of an organization by no other call.
            return (await self.hub.identity()).public_key


@asynccontextmanager
async def open_session(
    config: Config,
    *,
    timeout_s: float = 30.0,
    manage: bool = False,
    recall: Callable[[str, str], ThreadId | None] = lambda place, who: None,
) -> AsyncGenerator[Session, None]:
    """Connect to the Hub that ``config`` names, with the keys of its profile. The embedded Hub is started when it is the one.

    ``recall(place, who)`` (see `Session`) may return the thread that was found there before; the Hub is not asked for it then.
    ``manage`` acts by session where there is one, and has no thread. Raises Usage, NotFound (no such profile) and what the Hub
    answers.
    """
    keep_freed_memory()
    general = config.general
    file = CredentialsFile(config.paths.credentials_file)
    chosen = choose_profile(general.profile, general.hub, file)
    async with AsyncExitStack() as stack:
        embedded = chosen.name == EMBEDDED
        place = (
            place_of_embedded(config) if embedded else str(Endpoint.parse(chosen.hub, insecure=general.insecure_transport))
        )
        identity = identity_of(general.identity) if general.identity is not None else None
        who = _who(chosen.name, config, "" if identity is None else identity.public_key)
        known = None if manage else recall(place, who)
        if embedded:
            # A mount with a cached listing can start while the Hub cannot, as with any Hub that is away.
            chosen = await stack.enter_async_context(embedded_hub(config, file, needed=known is None))
        # Read now: the process that started the embedded Hub decided where it listens.
        endpoint = Endpoint.parse(address_of(config) if embedded else chosen.hub, insecure=general.insecure_transport)
        credentials = file.current(
            chosen.name,
            chosen_for(org=general.org, manage=manage, identity="" if identity is None else identity.private_key),
        )
        thread = thread_from_text(general.thread) if general.thread else None
        connection = await stack.enter_async_context(
            connect(
                endpoint,
                credentials,
                timeout_s=timeout_s,
                # The profile's thread is the one of its key's account.
                thread=None if general.org or identity is not None else chosen.thread,
                recalled=NO_THREAD if manage else thread or known,
            )
        )
        if identity is not None and known is None:
            await _need_user_key(connection.hub)
        yield Session(config, chosen, endpoint, place, connection, credentials, embedded, who, thread is not None)


async def _need_user_key(hub: HubClient) -> None:
    """Raises Usage for an account key: it acts for its owner and ignores an identity."""
    try:
        await hub.account()
    except Unsupported:
        return
    except InvalidArgument:
        pass  # the key of an organization
    raise Usage(
        "an identity needs a user group key, and this is an account key",
        hint="'bucketfs hub key create --user' makes one",
    )


def _who(profile: str, config: Config, identity: str) -> str:
    """Accounts and users with different buckets differ here, so that they get journals of their own."""
    beside = {"org": config.general.org, "identity": identity, "thread": config.general.thread}
    return "\n".join([profile, *(f"{name} {value}" for name, value in beside.items() if value)])


def choose_profile(profile: str, hub: str, file: CredentialsFile) -> Profile:
    """The profile to use, with its Hub filled in; for the embedded Hub one of that name, whose keys come later.

    By default the profile ``default`` when there is one, else the embedded Hub. Keys are never sent to another Hub than the one
    they were saved for. Raises Usage, NotFound.
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
        raise Usage(f"profile {found.name!r} names no Hub", hint="give --hub https://HOST")
    return replace(found, hub=address)
