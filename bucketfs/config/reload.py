"""Noticing that files changed: settings and secrets, while a mount uses them.

Another key is in use from the next call on (the channel asks for it); what is left to do is to wake whoever waits because the
old one was refused. Another setting takes effect with the next mount; the log and ``status`` say so.

watchdog's thread watches the folders, because editors and `Disk.replace_file` put a new file in the place of the old one. It only
wakes a trio task, which looks at what the files say by itself; so what the thread heard, how often and in which order does not
matter. The task also looks now and then unasked: a file that is a link into another folder changes without a word here, and
inotify may have no watches left.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

import trio
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from bucketfs.client import Credentials
from bucketfs.config.paths import Places
from bucketfs.config.settings import load_config
from bucketfs.errors import BucketfsError

log = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_EVERY_S = 30.0
STOP_S = 5.0
SETTLE_S = 0.1
"""Whoever writes a file in several steps is given this long to finish."""


async def follow_settings(
    places: Places,
    given: Mapping[str, object],
    credentials: Callable[[], Credentials],
    hurry: Callable[[], None],
    tell: Callable[[list[str]], None] = lambda lines: None,
) -> None:
    """Call ``hurry`` when ``credentials()`` are others than before. Log what else changed, and ``tell`` all that the files say
    and the mount does not do. Never returns."""
    config_file = Path(os.environ.get("BUCKETFS_CONFIG") or places.config_file)
    troubled = ""
    in_effect: Mapping[str, object] | None = None
    waiting: list[str] = []

    def settings(old: Mapping[str, object] | None) -> Mapping[str, object] | None:
        nonlocal troubled
        try:
            found = load_config(given).values
        except BucketfsError as error:
            if str(error) != troubled:
                troubled = str(error)
                log.warning("keeping the settings read before: %s", error)
            return old
        troubled = ""
        return found

    read: Mapping[str, object] | None = None

    def look() -> tuple[Credentials, Mapping[str, object] | None]:
        nonlocal read, in_effect, waiting
        read = settings(read)
        in_effect = in_effect or read
        late = [key for key in read or {} if (in_effect or {}).get(key) != (read or {})[key]]
        lines = [f"{key} of {config_file} takes effect with the next mount" for key in late]
        for line in lines:
            if line not in waiting:
                log.warning("%s", line)
        waiting = lines
        tell([*lines, *([f"keeping the settings read before: {troubled}"] if troubled else [])])
        return credentials(), read

    def changed(
        old: tuple[Credentials, Mapping[str, object] | None], new: tuple[Credentials, Mapping[str, object] | None]
    ) -> None:
        if new[0] != old[0]:
            log.info("another key is in use from now on")
            hurry()

    await follow([places.credentials_file, config_file], look, changed)


async def follow(files: Collection[Path], look: Callable[[], T], changed: Callable[[T, T], None]) -> None:
    """Call ``changed(old, new)`` whenever ``look()`` returns something else than before, soon after one of ``files`` was
    touched. Never returns. ``look`` and ``changed`` raise nothing and do not wait."""
    known = look()
    async with _touches(files) as touched:
        while True:
            # What changed while the watch was set up, or while `changed` was at work, is seen here.
            found = look()
            if found != known:
                old, known = known, found
                changed(old, found)
            with trio.move_on_after(LOOK_EVERY_S):
                await touched.receive()
                await trio.sleep(SETTLE_S)


@asynccontextmanager
async def _touches(files: Collection[Path]) -> AsyncGenerator[trio.MemoryReceiveChannel[None], None]:
    """A channel that says that something happened to one of the files; what is not taken from it is not said twice."""
    send, receive = trio.open_memory_channel[None](1)
    token = trio.lowlevel.current_trio_token()

    def touched() -> None:
        with suppress(trio.WouldBlock, trio.BrokenResourceError):
            send.send_nowait(None)

    observer = Observer()
    observer.daemon = True
    handler = _Handler([file.name for file in files], lambda: token.run_sync_soon(touched, idempotent=True))
    try:
        await trio.to_thread.run_sync(_start, observer, {file.absolute().parent for file in files}, handler)
        yield receive
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_stop, observer)
        send.close()


class _Handler(FileSystemEventHandler):
    """On watchdog's thread. Reading a file is an event, too: it costs one look at most."""

    def __init__(self, names: Collection[str], touched: Callable[[], None]) -> None:
        self._names = names
        self._touched = touched

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in ("opened", "closed_no_write"):
            return
        places = (event.src_path, event.dest_path)
        if any(os.path.basename(os.fsdecode(place)) in self._names for place in places if place):
            # The loop may be gone already.
            with suppress(trio.RunFinishedError):
                self._touched()


def _start(observer: BaseObserver, folders: Iterable[Path], handler: FileSystemEventHandler) -> None:
    observer.start()
    for folder in folders:
        try:
            observer.schedule(handler, str(folder))
        except OSError as error:
            log.info("%s is looked at every %.0f s: it cannot be watched: %s", folder, LOOK_EVERY_S, error)


def _stop(observer: BaseObserver) -> None:
    if observer.is_alive():
        observer.stop()
        observer.join(timeout=STOP_S)
