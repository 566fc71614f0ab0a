"""The same API for programs without an event loop: a thread runs trio, and each method waits for it."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager, suppress
from typing import ParamSpec, TypeVar

import trio

from bucketfs.api.bucket import DEFAULT_MODE, AsyncBucket
from bucketfs.api.hub import AsyncHub, open_hub_async
from bucketfs.api.values import BucketEntry, BucketRecord, BucketUpdate, TransferReport
from bucketfs.errors import BucketfsError, Stale

T = TypeVar("T")
P = ParamSpec("P")


class OpenHub:
    """An open Hub whose methods block. Use it from any thread, but not inside of an event loop: there `AsyncHub` is the
    one."""

    def __init__(self, hub: AsyncHub, loop: LoopThread) -> None:
        self._hub = hub
        self._loop = loop

    def buckets(self) -> list[BucketRecord]:
        """As `AsyncHub.buckets`."""
        return self._loop.call(self._hub.buckets)

    def bucket(self, name: str) -> OpenBucket:
        """As `AsyncHub.bucket`."""
        return OpenBucket(self._loop.call(self._hub.bucket, name), self._loop)

    def create_bucket(self, name: str, *, private: bool = False) -> OpenBucket:
        """As `AsyncHub.create_bucket`."""
        return OpenBucket(self._loop.call(self._hub.create_bucket, name, private=private), self._loop)

    def destroy_bucket(self, name: str) -> None:
        """As `AsyncHub.destroy_bucket`."""
        self._loop.call(self._hub.destroy_bucket, name)

    def whoami(self) -> str:
        """As `AsyncHub.whoami`."""
        return self._loop.call(self._hub.whoami)


class OpenBucket:
    """A bucket of an `OpenHub`. Each method sees the bucket as it is at the Hub when it is called."""

    def __init__(self, bucket: AsyncBucket, loop: LoopThread) -> None:
        self._bucket = bucket
        self._loop = loop

    @property
    def key(self) -> str:
        """The name that never changes."""
        return self._bucket.key

    @property
    def name(self) -> str:
        """The name when the bucket was opened."""
        return self._bucket.name

    def record(self) -> BucketRecord:
        """As `AsyncBucket.record`."""
        return self._loop.call(self._bucket.record)

    def entry(self, path: str) -> BucketEntry:
        """As `AsyncBucket.entry`."""
        return self._loop.call(self._bucket.entry, path)

    def list(self, path: str = "") -> list[BucketEntry]:
        """As `AsyncBucket.list`."""
        return self._loop.call(self._bucket.list, path)

    def read(self, path: str) -> bytes:
        """As `AsyncBucket.read`."""
        return self._loop.call(self._bucket.read, path)

    def read_chunks(self, path: str) -> Generator[bytes, None, None]:
        """As `AsyncBucket.read_chunks`. Here leaving the iteration is enough."""

        @asynccontextmanager
        async def chunks() -> AsyncGenerator[AsyncIterator[bytes], None]:
            async with aclosing(self._bucket.read_chunks(path)) as found:
                yield found

        return self._loop.iterate(chunks)

    def write(self, path: str, data: bytes, *, mode: int = DEFAULT_MODE, mtime_ns: int | None = None) -> TransferReport:
        """As `AsyncBucket.write`."""
        return self._loop.call(self._bucket.write, path, data, mode=mode, mtime_ns=mtime_ns)

    def remove(self, path: str) -> None:
        """As `AsyncBucket.remove`."""
        self._loop.call(self._bucket.remove, path)

    def move(self, old: str, new: str) -> None:
        """As `AsyncBucket.move`."""
        self._loop.call(self._bucket.move, old, new)

    def push(
        self,
        local: str | os.PathLike[str],
        path: str = "",
        *,
        delete: bool = False,
        reread: bool = False,
        attributes: bool = True,
    ) -> TransferReport:
        """As `AsyncBucket.push`."""
        return self._loop.call(self._bucket.push, local, path, delete=delete, reread=reread, attributes=attributes)

    def pull(
        self, path: str, local: str | os.PathLike[str], *, delete: bool = False, reread: bool = False
    ) -> TransferReport:
        """As `AsyncBucket.pull`."""
        return self._loop.call(self._bucket.pull, path, local, delete=delete, reread=reread)

    def watch(self, since: str = "") -> Generator[BucketUpdate, None, None]:
        """As `AsyncBucket.watch`. Here it is an iterator at once, which waits for the next change without end and stops
        when it is left or closed."""
        known = since or self.record().root
        return self._loop.iterate(lambda: self._bucket.watch(known))


@contextmanager
def open_hub(
    hub: str = "",
    *,
    profile: str = "",
    org: str = "",
    identity: str | os.PathLike[str] | None = None,
    thread: str = "",
    timeout_s: float = 30.0,
) -> Iterator[OpenHub]:
    """An `OpenHub` for as long as the block lasts. Arguments and errors are those of `open_hub_async`."""
    loop = LoopThread(
        lambda: open_hub_async(hub, profile=profile, org=org, identity=identity, thread=thread, timeout_s=timeout_s)
    )
    opened = loop.start()
    try:
        yield OpenHub(opened, loop)
    finally:
        loop.stop()


class LoopThread:
    """A thread with a trio loop in it, for as long as a Hub is open. Waiting threads do not hold it up."""

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[AsyncHub]]) -> None:
        self._opening = opening
        self._thread = threading.Thread(target=self._run, name="bucketfs-api", daemon=True)
        self._begun = threading.Event()
        self._over: trio.Event
        self._nursery: trio.Nursery
        self._token: trio.lowlevel.TrioToken | None = None
        self._hub: AsyncHub | None = None
        self._failure: BaseException | None = None

    def start(self) -> AsyncHub:
        """The Hub, once it is open. Raises what opening raises."""
        self._thread.start()
        self._begun.wait()
        if self._hub is None:
            self._thread.join()
            raise self._failure or Stale("the Hub was closed before it was open")
        return self._hub

    def stop(self) -> None:
        """Close the Hub and wait for that. Raises what closing raises."""
        with suppress(trio.RunFinishedError):
            trio.from_thread.run_sync(self._over.set, trio_token=self._token)
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def call(self, work: Callable[P, Awaitable[T]], *arguments: P.args, **options: P.kwargs) -> T:
        """Run ``work`` in the loop and return what it returns. Raises what it raises, and Stale when the Hub was closed."""

        async def run() -> T:
            return await work(*arguments, **options)

        try:
            return trio.from_thread.run(run, trio_token=self._token)
        except (trio.RunFinishedError, trio.Cancelled) as error:
            raise Stale("this Hub was closed", hint="open it again") from error

    def iterate(self, opening: Callable[[], AbstractAsyncContextManager[AsyncIterator[T]]]) -> Generator[T, None, None]:
        """What an asynchronous iterator gives out, one by one; it is not asked for the next one before this one was
        taken."""
        send, receive = trio.open_memory_channel[T | Exception](0)
        scope = trio.CancelScope()

        async def pump() -> None:
            async with send:
                with scope:
                    try:
                        async with opening() as items:
                            async for item in items:
                                await send.send(item)
                    except (BucketfsError, OSError) as error:
                        await send.send(error)

        async def begin() -> None:
            self._nursery.start_soon(pump)

        self.call(begin)
        try:
            while True:
                try:
                    item = self.call(receive.receive)
                except trio.EndOfChannel:
                    return
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            with suppress(trio.RunFinishedError):
                trio.from_thread.run_sync(scope.cancel, trio_token=self._token)

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:
            self._failure = error
        finally:
            self._begun.set()

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._over = trio.Event()
        async with self._opening() as hub, trio.open_nursery() as nursery:
            self._nursery = nursery
            self._hub = hub
            self._begun.set()
            await self._over.wait()
            nursery.cancel_scope.cancel()
