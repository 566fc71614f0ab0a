"""One call that came over the web, as the handlers of gRPC see it.

Messages of the client wait in a short queue: when it is full, no more is read from the connection. An answer is sent when the
connection takes it: a thread that sends waits for that. So neither side fills the memory of the Hub.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, NoReturn

import grpc

log = logging.getLogger("bucketfs.hub")

WAITING_MAX = 8
"""Messages that may wait for the handler."""

SendMessage = Callable[[bytes], Awaitable[None]]
SendHeaders = Callable[[], Awaitable[None]]
SendEnd = Callable[[int, str, Sequence[tuple[str, str | bytes]]], Awaitable[None]]


class ClientGone(grpc.RpcError):  # type: ignore[misc]  # grpc has no types
    """The client went away, or the call was cancelled: what grpcio raises then from a request stream."""


class _Aborted(Exception):
    """The handler ended the call with a status."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class WebCall:
    """Looks to a handler like grpcio's ``ServicerContext``, and is the iterator of its requests. The methods named ``client_…``
    belong to the event loop; the others to the thread of the handler."""

    def __init__(
        self,
        metadata: Iterable[tuple[str, str]],
        peer: str,
        send_headers: SendHeaders,
        send_message: SendMessage,
        send_end: SendEnd,
    ) -> None:
        self._metadata = tuple(metadata)
        self._peer = peer
        self._loop = asyncio.get_running_loop()
        self._send_headers, self._send_message, self._send_end = send_headers, send_message, send_end
        self._news = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._half_closed = False
        self._gone = False
        self._ended = False
        self._callbacks: list[Callable[[], None]] = []
        self._trailers: Sequence[tuple[str, str | bytes]] = ()
        self._headers_sent = False
        self._sending: Future[None] | None = None
        """What the handler's thread waits for."""
        self._read: Callable[[bytes], Any] = bytes
        self._space = asyncio.Event()
        self._space.set()
        self.done = asyncio.Event()
        """The end of the call was sent, or there is no one to send it to."""

    # The client's side

    async def client_sent(self, message: bytes) -> None:
        """The next message. Waits while there is no room for it."""
        while not self._space.is_set() and not self.done.is_set() and not self._gone:
            await self._space.wait()
        with self._news:
            if not self._gone and not self._ended:
                self._waiting.append(message)
                if len(self._waiting) >= WAITING_MAX:
                    self._space.clear()
            self._news.notify_all()

    def client_finished(self) -> None:
        """The client sends no more."""
        with self._news:
            self._half_closed = True
            self._news.notify_all()

    def client_left(self) -> None:
        """The connection is gone. Before `client_finished` that is a call that was cut off."""
        self._end_for_client()
        self._space.set()
        self.done.set()

    # The handler's side

    def run(self, handler: Any) -> None:
        """Runs a method of the Hub to its end. In a thread of its pool."""
        self._read = handler.request_deserializer
        code, text = grpc.StatusCode.OK, ""
        try:
            if handler.response_streaming:
                self._answer_all(handler)
            else:
                self._answer(handler.response_serializer(handler.stream_unary(self, self)))
        except _Aborted as error:
            code, text = error.code, str(error)
        except ClientGone:
            code, text = grpc.StatusCode.CANCELLED, "the client went away"
        except Exception:
            log.exception("a call over the web failed")
            code, text = grpc.StatusCode.INTERNAL, "internal error"
        self._finish(code, text)

    def _answer_all(self, handler: Any) -> None:
        replies = handler.stream_stream(self, self)
        try:
            for reply in replies:
                self._answer(handler.response_serializer(reply))
        finally:
            replies.close()

    def _answer(self, data: bytes) -> None:
        self.send_initial_metadata(())
        self._in_loop(self._send_message(data))

    def _finish(self, code: grpc.StatusCode, text: str) -> None:
        try:
            self._in_loop(self._send_end(code.value[0], text, self._trailers))
        except ClientGone:
            log.debug("a client over the web left before the end of its call")
        self._end_for_client()
        self._loop.call_soon_threadsafe(self._set_done)

    def _set_done(self) -> None:
        self._space.set()
        self.done.set()

    def _end_for_client(self) -> None:
        with self._news:
            self._gone = self._gone or not self._ended
            self._ended = True
            callbacks, self._callbacks = self._callbacks, []
            # A client that stopped reading would hold the thread that sends to it.
            if self._gone and self._sending is not None:
                self._sending.cancel()
            self._news.notify_all()
        for callback in callbacks:
            callback()

    def _in_loop(self, work: Any) -> None:
        """Have something sent, and wait until the connection has taken it. Raises ClientGone."""
        with self._news:
            if self._gone:
                work.close()
                raise ClientGone
            sending = self._sending = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            sending.result()
        except (OSError, RuntimeError, CancelledError) as error:
            raise ClientGone from error

    # The requests

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        with self._news:
            self._news.wait_for(lambda: self._waiting or self._half_closed or self._gone)
            if self._gone:
                raise ClientGone
            if not self._waiting:
                raise StopIteration
            message = self._waiting.popleft()
        self._loop.call_soon_threadsafe(self._space.set)
        return self._read(message)

    # What handlers use of grpcio's ServicerContext

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        return self._metadata

    def peer(self) -> str:
        return self._peer

    def is_active(self) -> bool:
        return not self._gone and not self._ended

    def add_callback(self, callback: Callable[[], None]) -> bool:
        with self._news:
            if self._ended:
                return False
            self._callbacks.append(callback)
            return True

    def send_initial_metadata(self, _metadata: Sequence[tuple[str, str]]) -> None:
        if not self._headers_sent:
            self._headers_sent = True
            self._in_loop(self._send_headers())

    def set_trailing_metadata(self, trailers: Sequence[tuple[str, str | bytes]]) -> None:
        self._trailers = trailers

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        raise _Aborted(code, details)

    def cancel(self) -> None:
        """The Hub ends the call: its handler hears that the client is gone."""
        self._end_for_client()
        self._loop.call_soon_threadsafe(self._set_done)
