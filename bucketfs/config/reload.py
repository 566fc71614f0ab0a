"""Noticing that settings or secrets changed while a mount uses them.

A new key is used from the next call on (the channel asks for it); calls that wait because the old one was refused must be told to
try again. A new setting takes effect with the next mount; the log and ``status`` say so.

watchdog's thread watches the folders, because editors and `Disk.replace_file` put a new file in the place of the old one. It only
wakes a trio task, which reads the files itself, so lost, repeated or reordered events do no harm. The task also reads without an
event now and then: a change behind a symlink into another folder causes none here, and inotify may have run out of watches.
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
from bucketfs.config.settings import Config, config_file, load_config
from bucketfs.errors import BucketfsError

log = logging.getLogger(__name__)

T = TypeVar("T")

LOOK_EVERY_S = 30.0
STOP_S = 5.0
WRITER_PAUSE_S = 0.1
"""A program that writes a file in several steps gets this long to finish."""


async def follow_settings(
    config: Config,
    credentials: Callable[[], Credentials],
    keys_changed: Callable[[], None],
    report: Callable[[list[str]], None],
    environ: Mapping[str, str] | None = None,
) -> None:
    """Call ``keys_changed`` when ``credentials()`` returns others than before. Log each setting that the files say and that the
    mount, which runs with ``config``, does not follow yet, and give ``report`` all these lines. Never returns."""
    environ = os.environ if environ is None else environ
    file = config_file(config.paths, environ)
    late = _LateSettings(config, file, environ)

    def look() -> Credentials:
        report(late.lines())
        return credentials()

    def changed(_old: Credentials, _new: Credentials) -> None:
        log.info("the keys changed, and the new ones are used from now on")
        keys_changed()

    await follow([config.paths.credentials_file, file], look, changed)


class _LateSettings:
    """The settings that the files say now, compared with those in effect."""

    def __init__(self, config: Config, file: Path, environ: Mapping[str, str]) -> None:
        self._config = config
        self._file = file
        self._environ = environ
        self._in_effect = self._read = config.values()
        self._lines: list[str] = []

    def lines(self) -> list[str]:
        """Read the files; a line for each setting that waits for the next mount, and one when the files cannot be read. Each is
        logged once."""
        errors = []
        try:
            self._read = load_config(self._config.given, self._environ).values()
        except BucketfsError as error:
            errors = [f"keeping the settings read before: {error}"]
        late = [key for key, value in self._read.items() if value != self._in_effect[key]]
        lines = [*(f"{key} of {self._file} takes effect with the next mount" for key in late), *errors]
        for line in lines:
            if line not in self._lines:
                log.warning("%s", line)
        self._lines = lines
        return lines


async def follow(
    files: Collection[Path], look: Callable[[], T], changed: Callable[[T, T], None], *, look_every_s: float = LOOK_EVERY_S
) -> None:
    """Call ``changed(old, new)`` whenever ``look()`` returns another value than before, soon after one of ``files`` was
    touched. Never returns. ``look`` and ``changed`` raise nothing and do not wait."""
    known = look()
    async with _touches(files) as touched:
        while True:
            # What changed while the watch was set up, or while `changed` was at work, is seen here.
            found = look()
            if found != known:
                old, known = known, found
                changed(old, found)
            with trio.move_on_after(look_every_s):
                await touched.receive()
                await trio.sleep(WRITER_PAUSE_S)


@asynccontextmanager
async def _touches(files: Collection[Path]) -> AsyncGenerator[trio.MemoryReceiveChannel[None], None]:
    """A channel with an item when something happened to one of the files; events in between add no second one."""
    send, receive = trio.open_memory_channel[None](1)
    token = trio.lowlevel.current_trio_token()

    def touched() -> None:
        with suppress(trio.WouldBlock, trio.BrokenResourceError):
            send.send_nowait(None)

    observer = Observer()
    observer.daemon = True
    handler = _TouchHandler([file.name for file in files], lambda: token.run_sync_soon(touched, idempotent=True))
    try:
        await trio.to_thread.run_sync(_start, observer, {file.absolute().parent for file in files}, handler)
        yield receive
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_stop, observer)
        send.close()


class _TouchHandler(FileSystemEventHandler):
    """Runs on watchdog's thread. Reads of a file are ignored: the task itself reads."""

    def __init__(self, names: Collection[str], touched: Callable[[], None]) -> None:
        self._names = names
        self._touched = touched

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.event_type in ("opened", "closed_no_write"):
            return
        paths = (event.src_path, event.dest_path)
        if any(os.path.basename(os.fsdecode(path)) in self._names for path in paths if path):
            # The trio loop may have ended already.
            with suppress(trio.RunFinishedError):
                self._touched()


def _start(observer: BaseObserver, folders: Iterable[Path], handler: FileSystemEventHandler) -> None:
    observer.start()
    for folder in folders:
        try:
            observer.schedule(handler, str(folder))
        except OSError as error:
            log.info("%s cannot be watched, so it is read every %.0f s: %s", folder, LOOK_EVERY_S, error)


def _stop(observer: BaseObserver) -> None:
    if observer.is_alive():
        observer.stop()
        observer.join(timeout=STOP_S)
