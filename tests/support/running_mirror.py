"""A mirror that runs on while a test does things to both of its sides."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from support.machine import Machine
from watchdog.observers.api import BaseObserver

from bucketfs.client import Backoff
from bucketfs.errors import BucketfsError
from bucketfs.mirror import Mirror, MirrorPace, MirrorRunner, MirrorState, Round

PATIENCE_S = 30.0
QUICK = MirrorPace(quiet_s=0.05, longest_s=0.5, rescan_s=3600)


class Running:
    """A mirror of the folder of ``machine`` that runs on."""

    def __init__(
        self,
        machine: Machine,
        spare: Path,
        pace: MirrorPace,
        backoff: Backoff | None = None,
        observer: BaseObserver | None = None,
    ) -> None:
        self.machine = machine
        self.rounds: list[Round] = []
        self.troubles: list[BucketfsError] = []
        self.said: list[str] = []
        self.state = MirrorState(machine.state_file)
        self.runner = MirrorRunner(
            Mirror(machine.remote, machine.watched(self.state), machine.conflict_name),
            machine.top,
            spare,
            pace=pace,
            on_round=self.rounds.append,
            on_trouble=lambda error, delay_s: self.troubles.append(error),
            on_notice=self.said.append,
            backoff=backoff,
            observer=observer,
        )


async def eventually(what: Callable[[], bool], why: str) -> None:
    deadline = trio.current_time() + PATIENCE_S
    while not what():
        assert trio.current_time() < deadline, why
        await trio.sleep(0.01)


@asynccontextmanager
async def running(
    machine: Machine,
    spare: Path,
    pace: MirrorPace = QUICK,
    backoff: Backoff | None = None,
    observer: BaseObserver | None = None,
) -> AsyncIterator[Running]:
    os.makedirs(spare, exist_ok=True)
    there = Running(machine, spare, pace, backoff, observer)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(there.runner.run)
        await eventually(lambda: bool(there.rounds), "no first round")
        yield there
        nursery.cancel_scope.cancel()
    there.state.close()
