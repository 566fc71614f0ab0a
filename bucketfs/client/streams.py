"""The two ends of a stream of messages: replies read on worker threads, requests handed to gRPC's own.

Knows of gRPC only what a call object can do (``next``, ``cancel``, ``add_done_callback``); channel.py makes the calls.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Generic, Protocol, TypeVar

import trio

T = TypeVar("T")

_END = object()

BUNDLE_S = 0.05
"""A bundle that is not empty is handed over after this time at the latest: a slow stream is given out message by message."""


class Encodable(Protocol):
    """What can be sent: every protobuf message, and what is put together without protobuf."""

    def SerializeToString(self) -> bytes:
        """The message as it travels."""
        ...


class StreamCall(Protocol):
    """One streaming call, as channel.py makes it."""

    async def begin(self, request: object) -> Any:
        """Waits for a place among the open streams, begins the call and returns gRPC's object for it."""
        ...

    def end(self) -> None:
        """Gives the place back."""
        ...

    async def wait(self, get: Callable[[], T]) -> T:
        """What ``get`` returns on a worker thread. Raises gRPC's errors as ours."""
        ...

    def limited(self) -> AbstractContextManager[None]:
        """Raises TimedOut when what is inside takes longer than a message may."""
        ...


class Replies(Generic[T]):
    """The replies of one call: entered with ``async with``, iterated with ``async for`` or asked by ``receive``.

    A wait that failed or was cancelled ends the call.
    """

    def __init__(
        self, stream: StreamCall, convert: Callable[[Any], T], request: Encodable | None = None, bundle: int = 1
    ) -> None:
        self._stream = stream
        self._convert = convert
        self._request = request
        self._bundle = bundle
        self._ready: list[T] = []
        self._over = False
        self._call: Any = None

    async def __aenter__(self) -> Replies[T]:
        self._call = await self._stream.begin(self._request)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._call.cancel()
        self._stream.end()

    def __aiter__(self) -> Replies[T]:
        return self

    async def __anext__(self) -> T:
        if not self._ready and not self._over:
            try:
                with self._stream.limited():
                    self._ready, self._over = await self._stream.wait(self._take)
            except BaseException:
                # The abandoned thread may have taken replies that are lost with it: the stream is of no more use.
                self._call.cancel()
                raise
            self._ready.reverse()
        if not self._ready:
            raise StopAsyncIteration
        return self._ready.pop()

    async def begun(self) -> bool:
        """Wait until the Hub has taken up the call, which it tells with its headers, before the first reply if it likes. False
        when the call has ended instead; iterating says why."""
        await self._stream.wait(self._call.initial_metadata)
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
        self._call = await self._stream.begin(self._outbox)
        self._call.add_done_callback(self._outbox.call_ended)
        return self

    async def __aexit__(self, *error: object) -> None:
        await super().__aexit__(*error)
        self._outbox.close()

    async def send(self, request: Encodable) -> bool:
        """Waits until gRPC takes ``request``. False when the call is over: the replies say why."""
        with self._stream.limited():
            return await self._outbox.put(request)

    def finish(self) -> None:
        """No more requests."""
        self._outbox.finish()


class Outbox(Iterator[Encodable]):
    """Requests on their way from a trio task to the gRPC thread that iterates over this."""

    def __init__(self) -> None:
        self._trio = trio.lowlevel.current_trio_token()
        self._send, self._receive = trio.open_memory_channel[Encodable](0)
        self.ended = trio.Event()

    async def put(self, request: Encodable) -> bool:
        """Waits until gRPC takes ``request``; False when the call is over."""
        try:
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
        # A call may outlive the loop; then no task waits for it.
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
