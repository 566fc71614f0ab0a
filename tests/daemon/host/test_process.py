"""Starting processes, hearing of them, and telling a service manager."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import trio
import trio.testing

from bucketfs.daemon.host import await_ready, report_failed, report_ready, systemd
from bucketfs.errors import Exists, TimedOut, Unavailable


def test_ready_is_told_once_through_a_pipe() -> None:
    """`bucketfs mount` would return before the mount is there; or a late report would be written into a file of the user."""
    ours, theirs = os.pipe()
    report_ready(theirs, {"hub": "h"})
    assert await_ready(ours, 5) == {"hub": "h"}
    # The number now belongs to another file, which a late word must not reach.
    other = os.open("/dev/null", os.O_RDWR)
    assert other == theirs
    report_failed(theirs, Exists("late"))
    os.fstat(other)
    os.close(other)
    os.close(ours)
    report_ready(None, {})


def test_failure_death_and_silence() -> None:
    """`bucketfs mount` would report success, or wait for ever, when the daemon does not come up."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, True)
    with pytest.raises(TimedOut):
        await_ready(ours, 0.05)
    duplicate = os.dup(theirs)
    report_failed(duplicate, Exists("taken", hint="take another"))
    with pytest.raises(Exists, match="taken") as caught:
        await_ready(ours, 5)
    assert caught.value.hint == "take another"
    os.close(theirs)
    with pytest.raises(Unavailable, match="ended before"):
        await_ready(ours, 5)
    os.close(ours)


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[socket.socket, dict[str, str]]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@bucketfs-test-{os.getpid()}"
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(name.replace("@", "\0", 1))
    receiver.settimeout(5)
    request.addfinalizer(receiver.close)
    return receiver, {"NOTIFY_SOCKET": name}


def test_a_service_manager_is_told(manager: tuple[socket.socket, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd would take the mount for one that never starts; or a daemon outside of systemd would not start."""
    receiver, environ = manager
    assert systemd.notify("READY=1", environ)
    assert receiver.recv(100) == b"READY=1"
    assert not systemd.notify("READY=1", {})
    assert not systemd.notify("READY=1", {"NOTIFY_SOCKET": "/nowhere/at/all"})


async def test_the_watchdog_is_fed_at_half_its_period(
    manager: tuple[socket.socket, dict[str, str]], autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """systemd would kill a healthy mount again and again."""
    receiver, environ = manager
    nursery.start_soon(systemd.watchdog, environ | {"WATCHDOG_USEC": "10000000"})
    await trio.sleep(11)
    nursery.cancel_scope.cancel()
    receiver.setblocking(False)
    assert [receiver.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    with pytest.raises(BlockingIOError):
        receiver.recv(100)


async def test_no_watchdog_without_a_wish() -> None:
    """A daemon for which systemd has no watchdog would end at once, or send to a socket that is not there."""
    await systemd.watchdog({})
