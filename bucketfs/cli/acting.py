"""Commands that act at a Hub: what they share is a session, opened by the settings that say which Hub and who acts."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio

from bucketfs.cli.interrupts import end_by, heeded
from bucketfs.cli.options import Command, Decorator, settings
from bucketfs.config import Config
from bucketfs.daemon import Session, open_session

T = TypeVar("T")
Act = Callable[[Session], Awaitable[T]]


def in_session(*keys: str, manage: bool = False, in_order: bool = False) -> Decorator:
    """Make ``async def command(session, …)`` a command: add options for these settings, open the session that they describe, and
    run the command in it. ``manage`` is for commands about the account itself (see `open_session`). ``in_order``: SIGTERM and
    SIGHUP cancel the command so that it cleans up, and then end the process; not for one that may block for long."""

    def add(command: Command) -> Command:
        @settings(*keys)
        @functools.wraps(command)
        def run(config: Config, *arguments: Any, **options: Any) -> None:
            async def act(session: Session) -> None:
                await command(session, *arguments, **options)

            run_in_session(config, _cancelled_by_signals(act) if in_order else act, manage=manage)

        return run

    return add


def run_in_session(config: Config, act: Act[T], *, manage: bool = False) -> T:
    """Open the session of ``config`` and return what ``act`` returns in it."""

    async def run() -> T:
        async with open_session(config, manage=manage) as session:
            return await act(session)

    return trio.run(run)


def _cancelled_by_signals(act: Act[None]) -> Act[None]:
    async def run(session: Session) -> None:
        ended_by: list[int] = []
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(_wait_for_signal, nursery.cancel_scope, ended_by)
                await act(session)
                nursery.cancel_scope.cancel()
        finally:
            if ended_by:
                end_by(ended_by[0])

    return run


async def _wait_for_signal(
    scope: trio.CancelScope, ended_by: list[int], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(*heeded()) as signals:
        task_status.started()
        async for number in signals:
            ended_by.append(number)
            scope.cancel()
