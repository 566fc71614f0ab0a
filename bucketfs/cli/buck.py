"""``bucketfs buck``: buckets and what is in them, without a mount."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import trio
from rich.console import Console
from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TransferSpeedColumn

from bucketfs.cli.options import configured, settings
from bucketfs.client import BucketInfo, PathItem, find_bucket, thread_text
from bucketfs.daemon import Session, open_session
from bucketfs.dag import RAW, cid_text, codec_of, node_info
from bucketfs.errors import CrossDevice, IsADirectory, NotFound, Refused, Unsupported, Usage
from bucketfs.sync import NativeRemote
from bucketfs.sync.folder_pull import pull_folder
from bucketfs.sync.folder_push import push_folder
from bucketfs.sync.transfer import Figures, NodeSource, PullOptions, PushOptions, read_content
from bucketfs.types import Kind

NODES_PER_ASK = 32
"""Root blocks asked for at once by ``ls -l``: that of a small file is all of it."""

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_reread = click.option("--reread", is_flag=True, help="Compare large files by content even if size and mtime agree.")


@click.group()
def buck() -> None:
    """Buckets and what is in them, without a mount. BUCKET is a name or a key."""


@buck.command()
@click.argument("name")
@click.option("--private", is_flag=True, help="Encrypted at the Hub; such a bucket cannot be mounted yet.")
@_as_json
@settings("hub", "profile")
def create(name: str, private: bool, as_json: bool, **options: Any) -> None:
    """Create a bucket."""

    async def act(session: Session) -> None:
        if await find_bucket(session.buckets, name) is not None:
            raise Usage(f"there is a bucket {name!r} already", hint="choose another name")
        _show_bucket((await session.buckets.create(name, private=private)).info, as_json)

    _with_session(options, act)


@buck.command()
@click.argument("bucket")
@_as_json
@settings("hub", "profile")
def get(bucket: str, as_json: bool, **options: Any) -> None:
    """Show what a bucket is: key, root, owner, times."""

    async def act(session: Session) -> None:
        _show_bucket(await _bucket(session, bucket), as_json)

    _with_session(options, act)


@buck.command()
@click.argument("place", default="", metavar="[BUCKET[/PATH]]")
@click.option("-l", "--long", is_flag=True, help="With mode, length and mtime of each entry.")
@_as_json
@settings("hub", "profile")
def ls(place: str, long: bool, as_json: bool, **options: Any) -> None:
    """List the buckets, or what is in one."""

    async def act(session: Session) -> None:
        if not place:
            _show_buckets(await session.buckets.list(), as_json)
            return
        info, path = await _place(session, place)
        item, _ = await session.buckets.list_path(info.key, path)
        items = [child for child in item.items if child.name != ".textileseed"] if item.is_directory else [item]
        rows = [_row(child) for child in items]
        if long and await _is_native(session, info):
            await _add_attributes(_source(session, info), items, rows)
        _show_rows(rows, long, as_json)

    _with_session(options, act)


@buck.command()
@click.argument("place", metavar="BUCKET/PATH")
@settings("hub", "profile")
def cat(place: str, **options: Any) -> None:
    """Print a file."""

    async def act(session: Session) -> None:
        info, path = await _place(session, place)
        out = click.get_binary_stream("stdout")
        if await _is_native(session, info):
            item, _ = await session.buckets.list_path(info.key, path)
            if item.is_directory:
                raise IsADirectory(f"{place} is a folder")
            content = read_content(_source(session, info), _link(item))
        else:
            content = session.buckets.pull_path(info.key, path)
        async with aclosing(content) as pieces:
            async for data in pieces:
                await trio.to_thread.run_sync(out.write, data)
        await trio.to_thread.run_sync(out.flush)

    _with_session(options, act)
