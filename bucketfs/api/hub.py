"""A Hub, open for use by trio programs."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from bucketfs.api.bucket import AsyncBucket
from bucketfs.api.values import BucketRecord, record_of
from bucketfs.client import find_bucket
from bucketfs.config import load_config
from bucketfs.daemon import Session, open_session
from bucketfs.errors import Exists, InvalidArgument
from bucketfs.names import bucket_name_fault


class AsyncHub:
    """An open Hub. Methods await, and raise Unavailable or TimedOut when the Hub cannot be asked, Unauthenticated when it
    does not accept the key."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def buckets(self) -> list[BucketRecord]:
        """The buckets of the acting account, by name."""
        found = await self._session.buckets.list()
        return [record_of(info) for info in sorted(found, key=lambda info: (info.name, info.created_at_ns))]

    async def bucket(self, name: str) -> AsyncBucket:
        """A bucket by its name or key; of several of one name the oldest. In another account's thread only by its key.
        Raises NotFound."""
        return AsyncBucket(self._session, await self._session.find_bucket(name))

    async def create_bucket(self, name: str, *, private: bool = False) -> AsyncBucket:
        """Make a bucket. A private one is encrypted by the Hub. Raises Exists, InvalidArgument for a name that no bucket
        can have, OverQuota."""
        fault = bucket_name_fault(name) if name else "it is empty"
        if fault:
            raise InvalidArgument(f"no bucket can be called {name!r}: {fault}")
        if await find_bucket(self._session.buckets, name) is not None:
            raise Exists(f"there is a bucket {name!r} already")
        made = await self._session.buckets.create(name, private=private)
        return AsyncBucket(self._session, made)

    async def destroy_bucket(self, name: str) -> None:
        """Destroy a bucket with all that is in it, by its name or key. Raises NotFound, Denied."""
        await self._session.buckets.remove((await self._session.find_bucket(name)).key)

    async def whoami(self) -> str:
        """The public key of the acting account or user: the name by which others share with it."""
        return await self._session.me()


@asynccontextmanager
async def open_hub_async(
    hub: str = "",
    *,
    profile: str = "",
    org: str = "",
    identity: str | os.PathLike[str] | None = None,
    thread: str = "",
    timeout_s: float = 30.0,
) -> AsyncGenerator[AsyncHub, None]:
    """An `AsyncHub` for as long as the block lasts.

    ``hub`` is an address (``https://HOST:PORT``, ``HOST:PORT``, ``unix:/PATH``) or ``"embedded"``; ``profile`` a table of
    ``credentials.toml``; ``org`` the short name of an organization to act for; ``identity`` the file of a user's identity,
    made when it is missing; ``thread`` that of another account, whose shared buckets are then opened by key. What is not
    given comes from the environment (``BUCKETFS_HUB``, ``BUCKETFS_API_KEY``, …) and ``config.toml``, as for every command;
    without any Hub the embedded one is started. ``timeout_s`` holds for each call to the Hub. Raises Usage for settings that
    cannot be used, NotFound for a profile that is missing, Unavailable.
    """
    options = {
        "hub": hub or None,
        "profile": profile or None,
        "org": org or None,
        "identity": None if identity is None else str(Path(identity)),
        "thread": thread or None,
    }
    config = load_config(options)
    async with open_session(config, timeout_s=timeout_s) as session:
        yield AsyncHub(session)
