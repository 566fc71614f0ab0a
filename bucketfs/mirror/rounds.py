"""When a mirror's rounds are due: soon after something changed on either side, and now and then unasked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trio
from watchdog.observers.api import BaseObserver

from bucketfs.client import Backoff
from bucketfs.errors import (
    BlocksMissing,
    BucketfsError,
    Corrupt,
    DiskFailed,
    NoSpace,
    OverQuota,
    RootMoved,
    TimedOut,
    Unauthenticated,
    Unavailable,
)
from bucketfs.mirror.engine import Mirror, Round
from bucketfs.mirror.inotify import LocalChanges
from bucketfs.remote import first_error

PASSING = (
    Unavailable,
    TimedOut,
    Unauthenticated,
    RootMoved,
    BlocksMissing,
    OverQuota,
    Corrupt,
    NoSpace,
    DiskFailed,
)
"""What may be another way the next time: the Hub is back, has another key, more room or its block again; so for the disk."""


@dataclass(frozen=True, slots=True)
class MirrorPace:
    """A round is due when nothing changed for ``quiet_s``, at the latest ``longest_s`` after the first change, and every
    ``rescan_s`` in any case: inotify does not hear what a network's other machines do. Without inotify it is ``poll_s``."""

    quiet_s: float = 2.0
    longest_s: float = 30.0
    rescan_s: float = 600.0
    poll_s: float = 30.0


@dataclass(eq=False)
class MirrorRunner:
    """Runs the rounds of a mirror. ``on_round`` hears of each, ``on_trouble`` of an error and how long it is waited for (seconds),
    ``on_notice`` of what a user should know besides."""

    mirror: Mirror
    local: Path
    spare: Path
    pace: MirrorPace
    on_round: Callable[[Round], None]
    on_trouble: Callable[[BucketfsError, float], None]
    on_notice: Callable[[str], None]
    backoff: Backoff | None = None
    observer: BaseObserver | None = None

    def __post_init__(self) -> None:
        self._backoff = self.backoff or Backoff()
        self._soon_s = self.pace.quiet_s
        self._changed = trio.Event()
        self._again = trio.Event()

    def changed(self) -> None:
        """Something changed, here or at the Hub."""
        self._changed.set()

    def hurry(self) -> None:
        """What stood in the way may be gone."""
        self._backoff.reset()
        self._again.set()
        self._changed.set()

    async def run(self) -> None:
        """Rounds until cancelled. Raises what does not pass: the folder is another one, the bucket is gone, a right is missing."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.mirror.carry, self.changed)
                await self._rounds()
        except BaseExceptionGroup as group:
            raise first_error(group) from group

    async def _rounds(self) -> None:
        local_changes = LocalChanges(
            self.local,
            self.spare,
            touched=self.changed,
            polling=self._polls,
            is_temporary=self.mirror.folder.temporaries.is_temporary,
            observer=self.observer,
        )
        async with local_changes as changes:
            while True:
                # Renewed before the round: what changes while it runs is for the next one.
                self._changed, self._again = trio.Event(), trio.Event()
                try:
                    done = await self.mirror.round()
                except PASSING as error:
                    delay_s = self._backoff.next_s()
                    self.on_trouble(error, delay_s)
                    with trio.move_on_after(delay_s):
                        await self._again.wait()
                    continue
                self._backoff.reset()
                self.on_round(done)
                await trio.to_thread.run_sync(changes.check)
                await self._until_due(changes, self._next_s(done))

    def _polls(self, reason: str) -> None:
        self.on_notice(f"{self.local} is looked at every {self.pace.poll_s:.0f} s from now on: {reason}")

    def _next_s(self, done: Round) -> float:
        """When to look again for what was changing, unasked: later and later while nothing comes of it."""
        if not done.soon:
            self._soon_s = self.pace.quiet_s
            return math.inf
        wait_s = self._soon_s
        self._soon_s = self.pace.quiet_s if done.did_something else min(self._soon_s * 2, self.pace.rescan_s)
        return wait_s

    async def _until_due(self, changes: LocalChanges, wait_s: float) -> None:
        with trio.move_on_after(min(wait_s, self.pace.poll_s if changes.polling else self.pace.rescan_s)):
            await self._changed.wait()
        latest = trio.current_time() + self.pace.longest_s
        while True:
            self._changed = trio.Event()
            with trio.move_on_after(min(self.pace.quiet_s, latest - trio.current_time())) as quiet:
                await self._changed.wait()
            if quiet.cancelled_caught:
                return
