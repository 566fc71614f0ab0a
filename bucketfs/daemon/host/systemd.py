"""Reports to a service manager: sd_notify(3), which is one datagram to ``$NOTIFY_SOCKET``.

Without that variable every function here does nothing and returns False.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

import trio

from bucketfs.errors import BucketfsError


def notify(state: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send ``state``, lines of ``NAME=value``. False when the manager cannot be reached."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    # "@" spells the zero byte that begins an abstract socket's name.
    target = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        try:
            # A path in the text may hold any bytes.
            out.sendto(os.fsencode(state), target)
        except OSError:
            return False
    return True


def notify_ready(status: str) -> bool:
    """The service is ready; ``systemctl status`` shows ``status``."""
    return notify(f"READY=1\nSTATUS={_line(status)}")


def notify_stopping(status: str) -> bool:
    """The service is stopping."""
    return notify(f"STOPPING=1\nSTATUS={_line(status)}")


def notify_status(text: str) -> bool:
    """A new text for ``systemctl status``."""
    return notify(f"STATUS={_line(text)}")


def notify_failed(error: BucketfsError) -> bool:
    """The service did not come up."""
    return notify(f"STATUS={_line(str(error))}")


def more_time(seconds: float) -> bool:
    """Starting or stopping takes up to so many seconds more, counted from now."""
    return notify(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")


async def watchdog(environ: Mapping[str, str] = os.environ) -> None:
    """Report that the event loop is alive, twice in each period that the manager asked for; return at once when it did not
    ask."""
    period_us = environ.get("WATCHDOG_USEC", "")
    if not period_us.isdigit() or environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return
    while True:
        if not notify("WATCHDOG=1", environ):
            return
        await trio.sleep(int(period_us) / 2_000_000)


def _line(text: str) -> str:
    return " ".join(text.split())
