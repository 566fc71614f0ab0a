"""What the commands about buckets share: who acts, what BUCKET/PATH names, and whether it travels by CID."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import click
import trio

from bucketfs.cli.interrupts import end_by, heeded
from bucketfs.cli.options import configured, org_option, settings
from bucketfs.cli.printing import named
from bucketfs.client import BucketInfo, PathItem, find_bucket
from bucketfs.daemon import Session, open_session
from bucketfs.errors import IsADirectory, NotADirectory, NotFound, Unsupported, Usage
from bucketfs.remote import NativeRemote, NodeSource
from bucketfs.transfer import Preserve
from bucketfs.types import BucketKey

F = TypeVar("F", bound=Callable[..., Any])

NAME_WANTED = "write BUCKET/PATH of the file that it shall be"

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_settings = settings("identity", "thread", "hub", "profile")


def acting(command: F) -> F:
    """Who acts on which buckets: the options of every command here."""
    return org_option(_settings(command))


def asides_place(options: dict[str, Any]) -> Path:
    """The folder where the user's runs list what they write aside."""
    return configured("", options).paths.state / "aside"


def rights_options(command: F) -> F:
    """What of the attributes in a bucket files here are given: ``owner`` and ``special_modes``, for `preserve_of`."""
    owner = click.option("--owner", is_flag=True, help="Root only: give files the uid and gid that the bucket says.")
    special = click.option("--special-modes", is_flag=True, help="Root only: also set-user-id and set-group-id.")
    return owner(special(command))


def preserve_of(owner: bool, special_modes: bool) -> Preserve:
    """Raises Usage for more than the defaults when the process is not root's."""
    if (owner or special_modes) and os.geteuid() != 0:
        raise Usage("--owner and --special-modes are for root only", hint="leave them out, or run it as root")
    return Preserve(owner=owner, special_modes=special_modes)


Act = Callable[[Session], Coroutine[Any, Any, None]]


def with_session(options: dict[str, Any], act: Act) -> None:
    """Run ``act`` with the Hub that settings and options name."""
    config = configured("", options)

    async def run() -> None:
        async with open_session(config) as session:
            await act(session)

    trio.run(run)


def in_order(act: Act) -> Act:
    """The same, but SIGTERM and SIGHUP cancel it, so that it clears up what it began, and end the process then. Not for an ``act``
    that may block for long."""

    async def run(session: Session) -> None:
        ended_by: list[int] = []
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(_cancelled_by_signals, nursery.cancel_scope, ended_by)
                await act(session)
                nursery.cancel_scope.cancel()
        finally:
            if ended_by:
                end_by(ended_by[0])

    return run


async def _cancelled_by_signals(
    scope: trio.CancelScope, ended_by: list[int], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(*heeded()) as signals:
        task_status.started()
        async for number in signals:
            ended_by.append(number)
            scope.cancel()


async def bucket_of(session: Session, name: str) -> BucketInfo:
    """A bucket by its name or key, with or without slashes around it. Raises NotFound, Usage."""
    text, name = name, name.strip("/")
    if not name or "/" in name:
        raise Usage(f"{named(text)} is no bucket", hint="name a bucket alone, without a path")
    if session.guest:
        # Someone else's thread cannot be listed; a bucket in it is named by its key.
        try:
            return await session.buckets.root(BucketKey(name))
        except NotFound as error:
            raise NotFound(
                f"no bucket {name!r} is shared with you", hint="name it by its key, as its owner sees it"
            ) from error
    found = await find_bucket(session.buckets, name)
    if found is None:
        raise NotFound(f"no bucket {name!r} at {session.hub_text}", hint="'bucketfs buck ls' lists them")
    return found


async def place_of(session: Session, text: str) -> tuple[BucketInfo, str]:
    """A bucket and a path in it, out of ``BUCKET/PATH``."""
    name, _, path = text.strip("/").partition("/")
    if not name:
        raise Usage(f"{text!r} names no bucket", hint="write BUCKET or BUCKET/PATH")
    parts = parts_of(path)
    if {".", ".."} & set(parts):
        raise Usage(f"{text!r} is no path of a bucket", hint="leave out '.' and '..'")
    return await bucket_of(session, name), "/".join(parts)


async def item_at(session: Session, info: BucketInfo, path: str, place: str) -> PathItem:
    """What the Hub says of a path that was written as ``place``. Raises NotFound, and NotADirectory where ``place`` ends in a slash
    and is no folder."""
    try:
        item, _ = await session.buckets.list_path(info.key, path)
    except NotFound as error:
        raise NotFound(f"no such file or folder: {named(place)}") from error
    if place.endswith("/") and not item.is_directory:
        raise NotADirectory(f"{named(place)} is no folder", hint="leave out the slash at the end")
    return item


async def need_no_folder(session: Session, info: BucketInfo, path: str, place: str) -> None:
    """Raises IsADirectory where a folder is."""
    with suppress(NotFound):
        if (await item_at(session, info, path, place)).is_directory:
            raise IsADirectory(f"{named(place)} is a folder, and the standard input has no name", hint=NAME_WANTED)


def parts_of(path: str) -> list[str]:
    """The names of a path."""
    return [part for part in path.split("/") if part]


def names_of(path: str) -> tuple[bytes, ...]:
    """The names of a path as they stand in a tree."""
    return tuple(part.encode() for part in parts_of(path))


def is_folder_place(text: str) -> bool:
    """Whether ``BUCKET/PATH`` is written as the place of a folder: a bucket, or a path that ends in a slash."""
    return text.endswith("/") or "/" not in text.strip("/")


async def is_native(session: Session, info: BucketInfo) -> bool:
    """Whether what is in a bucket travels by CID; else only the Hub's calls by path see it as it is."""
    return not info.private and await session.blocks.offered()


async def need_native(session: Session, info: BucketInfo) -> None:
    """Raises Unsupported for a bucket of which whole folders cannot be carried."""
    if info.private:
        raise Unsupported(
            f"{named(info.name or info.key)} is private: bucketfs cannot fill such a bucket, nor pull folders out of it, yet",
            hint="another client of the Hub can; 'bucketfs buck ls', 'cat', 'mv' and 'rm' work",
        )
    if not await session.blocks.offered():
        raise Unsupported(f"{session.hub_text} does not offer blocks by CID, which carrying whole folders needs")


def remote_of(session: Session, info: BucketInfo) -> NativeRemote:
    """A bucket as a DAG under a root."""
    return NativeRemote(session.blocks, session.buckets, session.thread, info.key)


def source_of(session: Session, info: BucketInfo) -> NodeSource:
    """A bucket's blocks."""
    return NodeSource(remote_of(session, info))
