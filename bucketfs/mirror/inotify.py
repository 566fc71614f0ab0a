"""Hearing that something changed in a folder: inotify through watchdog, and what to do when there is no more of it.

What was heard, how often and in which order does not matter: it wakes a round, which looks for itself. So three things must be
noticed that watchdog only logs, or does not report: a queue that overflowed, a thread that failed, and folders that were not
watched because the kernel's limit was reached. The first two wake a round. For the third a watch is asked for on a folder of
ours now and then: when the kernel has none left for it, the mirror looks at the whole folder now and then from then on.
"""

from __future__ import annotations

import errno
import logging
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import trio
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

STOP_S = 5.0

LIMITS = {errno.ENOSPC: "max_user_watches", errno.EMFILE: "max_user_instances"}
"""Which limit of fs.inotify an errno of inotify(7) is about."""

IGNORED = ("opened", "closed_no_write")
"""To read a file changes nothing, and a round reads."""


class LocalChanges:
    """``touched`` is called on the trio loop whenever something below ``top`` may have changed, while this is open (``async
    with``). ``spare`` is a folder that is not below it, ``is_temporary`` tells names of what we write aside, ``polling`` hears
    why changes are not heard any more."""

    def __init__(
        self,
        top: Path,
        spare: Path,
        *,
        touched: Callable[[], None],
        polling: Callable[[str], None],
        is_temporary: Callable[[bytes], bool] = lambda name: False,
        observer: BaseObserver | None = None,
    ) -> None:
        self._top = top
        self._spare = spare
        self._say_polling = polling
        self._observer = observer or Observer()
        self._observer.daemon = True
        token = trio.lowlevel.current_trio_token()

        def wake() -> None:
            # The loop may be gone already.
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(touched, idempotent=True)

        self._handler = _WakeOnEvent(wake, is_temporary)
        self._complaints = _WakeOnWarning(wake)
        self.polling = False

    async def __aenter__(self) -> LocalChanges:
        try:
            await trio.to_thread.run_sync(self._start)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_error: object) -> None:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._stop)

    def _start(self) -> None:
        """In a thread: from when it returns on, changes are heard."""
        logging.getLogger("watchdog").addHandler(self._complaints)
        # It warns when it watches a folder twice, as it does now and then when folders are made one in the other. It does no harm.
        warnings.filterwarnings("ignore", "Callback with id .* already exists", RuntimeWarning)
        self._try(self._watch)

    def check(self) -> None:
        """In a thread: falls back to looking now and then when the kernel has no watches left."""
        if not self.polling:
            self._try(self._probe)

    def _stop(self) -> None:
        logging.getLogger("watchdog").removeHandler(self._complaints)
        if self._observer.is_alive():
            self._observer.stop()
            self._observer.join(timeout=STOP_S)

    def _watch(self) -> None:
        self._observer.start()
        self._observer.schedule(self._handler, str(self._top), recursive=True)
        self._probe()

    def _probe(self) -> None:
        # That a folder below could not be watched is not told by watchdog; that this one cannot be, is.
        watch = self._observer.schedule(FileSystemEventHandler(), str(self._spare))
        self._observer.unschedule(watch)

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except OSError as error:
            self.polling = True
            limit = LIMITS.get(error.errno or 0)
            reason = f"fs.inotify.{limit} is used up" if limit else f"inotify: {os.strerror(error.errno or 0)}"
            self._say_polling(reason)


class _WakeOnEvent(FileSystemEventHandler):
    """On watchdog's thread."""

    def __init__(self, wake: Callable[[], None], is_temporary: Callable[[bytes], bool]) -> None:
        self._wake = wake
        self._is_temporary = is_temporary

    def on_any_event(self, event: FileSystemEvent) -> None:
        name = os.path.basename(os.fsencode(event.src_path))
        # A large file that is written aside changes all the time; that it takes its name is an event of another type.
        if event.event_type not in IGNORED and not (event.event_type == "modified" and self._is_temporary(name)):
            self._wake()


class _WakeOnWarning(logging.Handler):
    """What watchdog warns of: events were lost, or are not heard any more."""

    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._wake = wake

    def emit(self, record: logging.LogRecord) -> None:
        self._wake()
