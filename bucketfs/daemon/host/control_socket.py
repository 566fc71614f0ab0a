"""The control socket of a running mount, by which commands like ``status`` and ``sync`` talk to its daemon.

One request per connection. The client sends a JSON object and a newline, ``{"command": "sync", "arguments": {…}}``; the
daemon answers with any number of lines ``{"progress": {…}}`` and one last ``{"result": {…}}`` or
``{"error": {"type": …, "message": …, "hint": …}}``. A client that goes away cancels its command.

The socket has mode 0600 in a folder of mode 0700, and only processes of the same user, or of root, are served. What the
commands do is handed in; nothing here knows a mount.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio

from bucketfs import errors
from bucketfs.config import make_private
from bucketfs.daemon.host.error_document import error_document, error_from_document
from bucketfs.errors import BucketfsError, Busy, DiskFailed, NotFound, TimedOut, Unavailable

log = logging.getLogger(__name__)

Arguments = dict[str, Any]
Document = dict[str, Any]
Progress = Callable[[Document], Awaitable[None]]
Command = Callable[[Arguments, Progress], Awaitable[Document]]

REQUEST_BYTES_MAX = 64 * 1024
REQUEST_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5.0
_PEER = struct.Struct("3i")


class ControlServer:
    """Serves commands by name on one socket."""

    def __init__(self, path: Path, commands: Mapping[str, Command]) -> None:
        self.path = path
        self._commands = commands

    async def run(self, *, task_status: trio.TaskStatus[Path] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; the socket file is gone afterwards. Raises Busy when a living daemon has it, DiskFailed."""
        listener = self._listen()
        try:
            async with listener:
                task_status.started(self.path)
                # Where accept(2) finds no free descriptor, this waits and goes on.
                await trio.serve_listeners(self._serve, [listener])
        finally:
            with suppress(FileNotFoundError):
                self.path.unlink()

    def _listen(self) -> trio.SocketListener:
        make_private(self.path.parent)
        if answers(self.path):
            raise Busy(f"another daemon answers at {self.path}", hint="'bucketfs status' names it")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with suppress(FileNotFoundError):
                self.path.unlink()
            listener.bind(str(self.path))
            self.path.chmod(0o600)
            listener.listen(16)
            return trio.SocketListener(trio.socket.from_stdlib_socket(listener))
        except OSError as error:
            listener.close()
            raise DiskFailed(f"cannot listen at {self.path}: {error.strerror}") from error

    async def _serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            # A client may go away at any time.
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                if _peer(stream.socket) not in (0, os.geteuid()):
                    await _send(stream, {"error": error_document(errors.NotPermitted("this mount belongs to another user"))})
                    return
                await self._answer(stream)

    async def _answer(self, stream: trio.SocketStream) -> None:
        try:
            request = await _request(stream)
            command = self._commands.get(request["command"])
            if command is None:
                name = request["command"]
                raise errors.Unsupported(f"this daemon knows no command {name!r}", hint="is it of another version?")
            await _send(stream, {"result": await _while_there(stream, command, request.get("arguments") or {})})
        except BucketfsError as error:
            await _send(stream, {"error": error_document(error)})
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise
        except Exception as error:
            log.exception("a control command failed unexpectedly")
            failure = BucketfsError(f"the daemon failed: {error}", hint="see its log")
            await _send(stream, {"error": error_document(failure)})


async def _while_there(stream: trio.SocketStream, command: Command, arguments: Arguments) -> Document:
    """Run ``command`` as long as the client stays connected."""
    result: Document | None = None

    async def progress(document: Document) -> None:
        await _send(stream, {"progress": document})

    failure: Exception | None = None
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while await stream.receive_some(1024):
                    pass
            nursery.cancel_scope.cancel()

        nursery.start_soon(watch)
        # Kept out of the nursery, which would wrap it in a group.
        try:
            result = await command(arguments, progress)
        except Exception as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    if result is None:
        raise trio.BrokenResourceError("the client went away")
    return result


async def _request(stream: trio.SocketStream) -> dict[str, Any]:
    data = b""
    with trio.move_on_after(REQUEST_TIMEOUT_S):
        while not data.endswith(b"\n"):
            chunk = await stream.receive_some(4096)
            if not chunk:
                raise trio.BrokenResourceError("the client went away")
            data += chunk
            if len(data) > REQUEST_BYTES_MAX:
                raise errors.TooLarge("a control request may have 64 KiB")
    try:
        request = json.loads(data)
        if isinstance(request, dict) and isinstance(request.get("command"), str):
            return request
    except ValueError:
        pass
    raise errors.InvalidArgument("not a control request")


async def _send(stream: trio.SocketStream, document: Document) -> None:
    await stream.send_all(json.dumps(document, separators=(",", ":")).encode() + b"\n")


def _peer(connection: trio.socket.SocketType) -> int:
    _, uid, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return int(uid)


# The client, for the command line: plain blocking calls.


def answers(path: Path) -> bool:
    """Whether a daemon listens at ``path``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def ask(
    path: Path,
    command: str,
    arguments: Arguments | None = None,
    *,
    on_progress: Callable[[Document], None] = lambda document: None,
    timeout_s: float | None = 30.0,
) -> Document:
    """Send one command and return its result. Blocks; ``timeout_s`` is the longest silence, ``None`` waits for ever.

    Raises NotFound when no daemon listens, TimedOut, Unavailable when the daemon goes away, and what the daemon raised.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(CONNECT_TIMEOUT_S)
        try:
            connection.connect(str(path))
        except TimeoutError:
            raise TimedOut(f"the daemon at {path} does not accept connections", hint="its log may say why") from None
        except OSError as error:
            raise NotFound(f"no daemon listens at {path}") from error
        connection.settimeout(timeout_s)
        for line in _lines(connection, command, arguments or {}, timeout_s):
            answer = json.loads(line)
            if "result" in answer:
                return dict(answer["result"])
            if "error" in answer:
                raise error_from_document(answer["error"])
            on_progress(answer["progress"])
    raise Unavailable(f"the daemon went away during {command!r}", hint="its log may say why")


def _lines(connection: socket.socket, command: str, arguments: Arguments, timeout_s: float | None) -> Iterator[bytes]:
    """Send a command and yield the lines of the answer. An error raised while a line is used is not the daemon's."""
    try:
        connection.sendall(json.dumps({"command": command, "arguments": arguments}).encode() + b"\n")
        with connection.makefile("rb") as lines:
            while line := lines.readline():
                yield line
    except TimeoutError:
        raise TimedOut(
            f"the daemon did not answer {command!r} within {timeout_s:.0f} s", hint="its log may say why"
        ) from None
    except OSError as error:
        raise Unavailable(
            f"the daemon went away during {command!r}: {error.strerror}", hint="its log may say why"
        ) from error
