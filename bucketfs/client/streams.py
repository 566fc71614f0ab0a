"""The two ends of a stream of messages: replies read on worker threads, requests handed to gRPC's own.

Knows of gRPC only what a call object can do (``next``, ``cancel``, ``add_done_callback``); channel.py makes the calls.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

import trio

from bucketfs.errors import TimedOut

T = TypeVar("T")

_END = object()

BUNDLE_S = 0.05
"""A bundle is handed over after this time at the latest, if it is not empty: a slow stream is given out message by message."""


class Encodable(Protocol):
    """What can be sent: every protobuf message, and what is put together without protobuf."""

    def SerializeToString(self) -> bytes:
        """The message as it travels."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """How a stream's call is begun, and what holds for it: ``prepare`` is awaited before, ``ours`` makes gRPC's errors ours,
    ``limit_s`` is for each message, ``in_thread`` runs what waits for one. ``places`` is for how many such calls there may be.
    """

    prepare: Callable[[], Awaitable[None]]
    begin: Callable[[object], Any]
    ours: Callable[[], AbstractContextManager[None]]
    attempted: str
    limit_s: float | None
    in_thread: Callable[[Callable[[], Any]], Awaitable[Any]]
    places: trio.CapacityLimiter


class Replies(Generic[T]):
    """The replies of one call: entered with ``async with``, iterated with ``async for`` or asked by ``receive``.

    A wait that failed or was cancelled ends the call.
    """

    def __init__(self, call: Call, convert: Callable[[Any], T], request: Encodable | None = None, bundle: int = 1) -> None:
        self._about = call
        self._convert = convert
        self._request = request
        self._bundle = bundle
        self._ready: list[T] = []
        self._over = False
        self._call: Any = None

    async def __aenter__(self) -> Replies[T]:
        await self._enter(self._request)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    async def _enter(self, request: object) -> None:
        """Begins the call once there is a place for it. What has to be prepared may need a call of its own, so that comes
        before."""
        await self._about.prepare()
        with limit(self._about.limit_s, self._about.attempted):
            await self._about.places.acquire_on_behalf_of(self)
        try:
            with self._about.ours():
                self._call = self._about.begin(request)
        except BaseException:
            self._about.places.release_on_behalf_of(self)
            raise

    def _leave(self) -> None:
        self._call.cancel()
        self._about.places.release_on_behalf_of(self)

    def __aiter__(self) -> Replies[T]:
        return self

    async def __anext__(self) -> T:
        if not self._ready and not self._over:
            try:
                with self._about.ours(), limit(self._about.limit_s, self._about.attempted):
                    self._ready, self._over = await self._about.in_thread(self._take)
            except BaseException:
                # The abandoned thread may have taken replies that nobody will see: the stream is of no more use.
                self._call.cancel()
                raise
            self._ready.reverse()
        if not self._ready:
            raise StopAsyncIteration
        return self._ready.pop()

    async def begun(self) -> bool:
        """Wait until the Hub has taken up the call, which it tells with its headers, before the first reply if it likes. False
        when the call has ended instead; iterating says why."""
        with self._about.ours():
            await self._about.in_thread(self._call.initial_metadata)
        return bool(self._call.is_active())

    async def receive(self) -> T | None:
        """The next reply, or None at the end of the stream."""
        return await anext(self, None)

    def _take(self) -> tuple[list[T], bool]:
        """On a worker thread: the next replies, at most ``bundle`` of them, and whether the stream is over.

        A message that is slow to come ends the bundle, so that a limit for each message is not one for many of them.
        """
        taken: list[T] = []
        begun_s = time.monotonic()
        while not taken or (len(taken) < self._bundle and time.monotonic() - begun_s < BUNDLE_S):
            reply = next(self._call, _END)
            if reply is _END:
                return taken, True
            taken.append(self._convert(reply))
        return taken, False


class Dialogue(Replies[T]):
    """A call with requests and replies in turn."""

    async def __aenter__(self) -> Dialogue[T]:
        self._outbox = Outbox()
        await self._enter(self._outbox)
        self._call.add_done_callback(self._outbox.call_ended)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()
        self._outbox.close()

    async def send(self, request: Encodable) -> bool:
        """Waits until gRPC takes ``request``. False when the call is over: the replies say why."""
        return await self._outbox.put(request, self._about.limit_s, self._about.attempted)

    def finish(self) -> None:
        """No more requests."""
        self._outbox.finish()


class Outbox(Iterator[Encodable]):
    """Requests on their way from a trio task to the gRPC thread that iterates over this."""

    def __init__(self) -> None:
        self._trio = trio.lowlevel.current_trio_token()
        self._send, self._receive = trio.open_memory_channel[Encodable](0)
        self.ended = trio.Event()

    async def put(self, request: Encodable, limit_s: float | None, attempted: str) -> bool:
        """Hands ``request`` over; False when nobody will take it any more. Raises TimedOut."""
        try:
            with limit(limit_s, attempted):
                await self._send.send(request)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        return True

    def finish(self) -> None:
        """The iteration ends after what was put."""
        self._send.close()

    def close(self) -> None:
        """The iteration ends now, and ``put`` refuses."""
        self._send.close()
        self._receive.close()

    def call_ended(self, _call: object) -> None:
        """For gRPC's threads: the call is over."""
        # The loop may be gone when a call outlives it; then nobody waits.
        with contextlib.suppress(trio.RunFinishedError):
            self._trio.run_sync_soon(self._note_end)

    def _note_end(self) -> None:
        self.ended.set()
        self._receive.close()

    def __next__(self) -> Encodable:
        try:
            return trio.from_thread.run(self._receive.receive, trio_token=self._trio)
        except (trio.EndOfChannel, trio.ClosedResourceError, trio.RunFinishedError, trio.Cancelled):
            raise StopIteration from None


@contextlib.asynccontextmanager
async def closing(items: AsyncIterable[T]) -> AsyncIterator[AsyncIterable[T]]:
    """Ends an async generator that is left early; other iterables need no ending."""
    try:
        yield items
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()


@contextlib.contextmanager
def limit(seconds: float | None, attempted: str) -> Iterator[None]:
    """Raises TimedOut when what is inside takes longer."""
    with trio.move_on_after(float("inf") if seconds is None else seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise TimedOut(f"{attempted}: no answer within {seconds:g} s", hint="the Hub or the way to it is slow; try again")
