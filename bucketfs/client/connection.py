"""From an address and credentials to a Hub ready for use: the channel, the token, the thread of the buckets, the bucket.

How a client finds its thread and bucket follows js-hub ``packages/buckets`` (``getOrCreate``), so that both find the same
ones.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from bucketfs.client.accounts import HubClient
from bucketfs.client.blocks import BlocksClient
from bucketfs.client.bucket_info import BucketInfo
from bucketfs.client.buckets import BucketsClient
from bucketfs.client.channel import TIMEOUT_S, Channel
from bucketfs.client.endpoint import Endpoint
from bucketfs.client.headers import Credentials
from bucketfs.client.threads import ThreadsClient
from bucketfs.client.token import TokenBearer
from bucketfs.client.users import UsersClient
from bucketfs.errors import Exists, NotFound
from bucketfs.keys import fresh_thread
from bucketfs.types import ThreadId

BUCKETS_THREAD = "buckets"
"""The name that every known client gives the thread of its buckets."""


@dataclass(frozen=True, slots=True)
class Connection:
    """An open channel with the clients over it; ``thread`` is that of the buckets."""

    channel: Channel
    thread: ThreadId
    blocks: BlocksClient
    buckets: BucketsClient
    users: UsersClient
    threads: ThreadsClient
    hub: HubClient


@asynccontextmanager
async def connect(
    endpoint: Endpoint,
    credentials: Callable[[], Credentials],
    *,
    timeout_s: float = TIMEOUT_S,
    root_certificates: bytes | None = None,
    thread: ThreadId | None = None,
    thread_name: str = BUCKETS_THREAD,
    recalled: ThreadId | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> AsyncGenerator[Connection, None]:
    """A connection, for as long as the block lasts. The thread is found, or made, as ``buckets_thread`` says; with ``recalled`` (an
    earlier answer, or another account's thread) without asking a Hub, which may be away. Credentials with an identity get their
    token by themselves. ``now`` is the clock that signatures are dated by."""
    bearer = TokenBearer(credentials)

    async def prepare() -> None:
        await bearer.prepare(threads.token)

    channel = Channel(
        endpoint, bearer, timeout_s, root_certificates=root_certificates, now=now, prepare=prepare, refused=bearer.refused
    )
    async with channel:
        threads = ThreadsClient(channel)
        users = UsersClient(channel)
        if recalled is None:
            found = await buckets_thread(users, threads, thread=thread, name=thread_name)
        else:
            found = recalled
        buckets = BucketsClient(channel, found)
        yield Connection(channel, found, BlocksClient(channel), buckets, users, threads, HubClient(channel))


async def buckets_thread(
    users: UsersClient, threads: ThreadsClient, *, thread: ThreadId | None = None, name: str = BUCKETS_THREAD
) -> ThreadId:
    """The acting account's thread of that name, or the given ``thread``; made when the account has none such."""
    if thread is not None:
        if all(entry.id != thread for entry in await users.threads()):
            await threads.create(thread, name)
        return thread
    try:
        return (await users.thread(name)).id
    except NotFound:
        made = fresh_thread()
    try:
        await threads.create(made, name)
    except Exists:
        # Another client of this account was as quick; its thread is the one.
        return (await users.thread(name)).id
    return made


async def find_bucket(buckets: BucketsClient, name: str) -> BucketInfo | None:
    """The oldest bucket of that name or key, or None. Names need not be unique; all clients choose the same bucket."""
    found = [bucket for bucket in await buckets.list() if name in (bucket.name, bucket.key)]
    return min(found, key=lambda bucket: (bucket.created_at_ns, bucket.key), default=None)


async def find_or_create_bucket(buckets: BucketsClient, name: str, *, private: bool = False) -> BucketInfo:
    """The bucket ``find_bucket`` finds, or a new one of that name."""
    return await find_bucket(buckets, name) or await buckets.create(name, private=private)
