"""The control socket, both ends."""

from __future__ import annotations

import json
import logging
import os
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from bucketfs.daemon.host import Command, ControlServer, Progress, answers, ask
from bucketfs.errors import BucketfsError, Busy, NotFound, OverQuota, TimedOut, Unavailable, Unsupported


async def double(arguments: dict[str, Any], progress: Progress) -> dict[str, Any]:
    await progress({"text": "thinking"})
    await progress({"text": "still"})
    return {"answer": 2 * arguments["number"]}


async def fail(arguments: dict[str, Any], progress: Progress) -> dict[str, Any]:
    raise OverQuota("the account is full", hint="remove something")


async def bug(arguments: dict[str, Any], progress: Progress) -> dict[str, Any]:
    raise ZeroDivisionError("oh")


class Waiting:
    """A command that ends only when it is cancelled."""

    def __init__(self) -> None:
        self.begun, self.cancelled = trio.Event(), trio.Event()

    async def __call__(self, arguments: dict[str, Any], progress: Progress) -> dict[str, Any]:
        self.begun.set()
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled.set()
        return {}


@pytest.fixture
async def waiting() -> Waiting:
    return Waiting()


@pytest.fixture
async def server(tmp_path: Path, nursery: trio.Nursery, waiting: Waiting) -> Path:
    commands: dict[str, Command] = {"double": double, "fail": fail, "bug": bug, "wait": waiting}
    path: Path = await nursery.start(ControlServer(tmp_path / "run/c.sock", commands).run)
    return path


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def call(path: Path, command: str, arguments: dict[str, Any] | None = None, **more: Any) -> Any:
    return await trio.to_thread.run_sync(partial(ask, path, command, arguments, **more), abandon_on_cancel=True)


async def test_answers_with_progress(server: Path) -> None:
    """Commands would show no progress, or other users of the machine could command the mount."""
    said: list[Any] = []
    assert await call(server, "double", {"number": 21}, on_progress=said.append) == {"answer": 42}
    assert said == [{"text": "thinking"}, {"text": "still"}]
    assert mode_of(server) == 0o600
    assert mode_of(server.parent) == 0o700


async def test_errors_arrive_as_what_they_were(server: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`bucketfs sync` would report that something failed, but neither what nor what to do."""
    with pytest.raises(OverQuota, match="the account is full") as caught:
        await call(server, "fail")
    assert caught.value.hint == "remove something"
    with pytest.raises(Unsupported, match="no command 'dance'"):
        await call(server, "dance")
    assert not caplog.records
    with pytest.raises(BucketfsError, match="the daemon failed: oh"):
        await call(server, "bug")
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


async def test_a_client_that_goes_cancels_its_command(server: Path, waiting: Waiting) -> None:
    """After Ctrl-C the daemon would go on with a command whose answer has no reader."""
    with trio.fail_after(5):
        stream = await trio.open_unix_socket(str(server))
        await stream.send_all(json.dumps({"command": "wait"}).encode() + b"\n")
        await waiting.begun.wait()
        await stream.aclose()
        await waiting.cancelled.wait()


async def test_silence_is_bounded(server: Path) -> None:
    """A command would hang for ever when the daemon does not answer."""
    with pytest.raises(TimedOut, match="within 0 s"):
        await call(server, "wait", timeout_s=0.2)


async def test_nonsense_is_answered(server: Path) -> None:
    """One malformed request would close the connection without an answer, or break the daemon."""
    for nonsense in (b"hello\n", b"[1]\n", b'{"command": 3}\n'):
        stream = await trio.open_unix_socket(str(server))
        await stream.send_all(nonsense)
        assert json.loads(await stream.receive_some(4096))["error"]["type"] == "InvalidArgument"
        await stream.aclose()


async def test_nobody_listens(tmp_path: Path) -> None:
    """`bucketfs status` without a daemon would fail with a traceback, or report a mount that is not there."""
    with pytest.raises(NotFound):
        await call(tmp_path / "none.sock", "status")
    assert not answers(tmp_path / "none.sock")


async def test_a_dead_socket_is_taken_over_and_a_living_one_is_not(
    server: Path, tmp_path: Path, nursery: trio.Nursery
) -> None:
    """After a kill no mount could start; or a second one would take the socket of the first, which could not be commanded
    any more."""
    dead = tmp_path / "run/dead.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(dead))
    path: Path = await nursery.start(ControlServer(dead, {"double": double}).run)
    assert await call(path, "double", {"number": 1}) == {"answer": 2}
    with pytest.raises(Busy):
        await ControlServer(server, {}).run()
    assert answers(server)


async def test_the_socket_goes_with_the_server(tmp_path: Path) -> None:
    """`bucketfs status` would list mounts that have ended."""
    async with trio.open_nursery() as nursery:
        path = await nursery.start(ControlServer(tmp_path / "c.sock", {"double": double}).run)
        assert answers(path)
        nursery.cancel_scope.cancel()
    assert not answers(path)
    assert os.listdir(tmp_path) == []


async def test_a_daemon_that_dies_is_unavailable(tmp_path: Path, nursery: trio.Nursery, waiting: Waiting) -> None:
    """A command would wait for ever for a daemon that died."""
    async with trio.open_nursery() as inner:
        path = await inner.start(ControlServer(tmp_path / "c.sock", {"wait": waiting}).run)

        async def caller() -> None:
            with pytest.raises(Unavailable, match="went away"):
                await call(path, "wait")

        nursery.start_soon(caller)
        await waiting.begun.wait()
        inner.cancel_scope.cancel()
