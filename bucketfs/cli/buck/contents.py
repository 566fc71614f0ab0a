"""Commands about buckets and what is in them: ``create get ls cat rm mv links destroy``."""

from __future__ import annotations

import sys
from contextlib import aclosing
from typing import Any

import click

from bucketfs.cli.buck.group import acting, buck
from bucketfs.cli.buck.output import add_attributes, entry_document, print_bucket, print_buckets, print_entries
from bucketfs.cli.buck.target import Target, find_bucket_of, find_target, names_folder
from bucketfs.cli.options import asks_first, json_option, yes_option
from bucketfs.cli.printing import print_json, print_line, quoted_name
from bucketfs.client import PathItem, find_bucket
from bucketfs.daemon import Session
from bucketfs.dag import RAW, codec_of, node_info
from bucketfs.errors import CrossDevice, InvalidArgument, IsADirectory, Unsupported, Usage
from bucketfs.names import SEED_NAME, bucket_name_fault
from bucketfs.remote import read_content
from bucketfs.transfer import move_by_path, move_path, remove_path
from bucketfs.types import Link


def _checked_name(_context: click.Context, _parameter: click.Parameter, name: str) -> str:
    fault = bucket_name_fault(name) if name else "it is empty"
    if fault:
        raise Usage(f"no bucket can be called {quoted_name(name)}: {fault}", hint="choose another name")
    return name


@buck.command()
@click.argument("name", callback=_checked_name)
@click.option(
    "--private", is_flag=True, help="Encrypted at the Hub. Such a bucket cannot be mounted, or filled by 'buck push', yet."
)
@json_option
@acting
async def create(session: Session, name: str, private: bool, as_json: bool) -> None:
    """Create a bucket."""
    if await find_bucket(session.buckets, name) is not None:
        raise Usage(f"there is a bucket {name!r} already", hint="choose another name")
    print_bucket(await session.buckets.create(name, private=private), as_json)


@buck.command()
@click.argument("bucket")
@json_option
@acting
async def get(session: Session, bucket: str, as_json: bool) -> None:
    """Show what a bucket is: key, root, owner, times."""
    print_bucket(await find_bucket_of(session, bucket), as_json)


@buck.command()
@click.argument("place", default="", metavar="[BUCKET[/PATH]]")
@click.option("-l", "--long", is_flag=True, help="With mode, size and mtime of each entry.")
@json_option
@acting
async def ls(session: Session, place: str, long: bool, as_json: bool) -> None:
    """List the buckets, or what is in one."""
    if not place:
        print_buckets(await session.buckets.list(), as_json)
        return
    target = await find_target(session, place)
    item = await target.item()
    # At the top of a bucket this name is the Hub's own; below it is a user's.
    items = [child for child in item.items if target.path or child.name != SEED_NAME] if item.is_directory else [item]
    documents = [entry_document(child) for child in items]
    if long and await target.is_native():
        await add_attributes(target.source, items, documents)
    print_entries(documents, long, as_json)


@buck.command()
@click.argument("place", metavar="BUCKET/PATH")
@acting
async def cat(session: Session, place: str) -> None:
    """Print a file."""
    target = await find_target(session, place)
    item = await target.item()
    if item.is_directory:
        raise IsADirectory(f"{target.shown} is a folder")
    if await target.is_native():
        await _refuse_symlink(target, item)
        content = read_content(target.source, Link(item.cid, item.tsize))
    else:
        content = session.buckets.pull_path(target.bucket.key, target.path)
    async with aclosing(content) as pieces:
        async for data in pieces:
            # This blocks the event loop when the reader is slow, and nothing else runs in this process.
            sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


async def _refuse_symlink(target: Target, item: PathItem) -> None:
    if codec_of(item.cid) == RAW:
        return
    leads_to = node_info(item.cid, await target.source.get(item.cid)).target
    if leads_to is not None:
        name = quoted_name(leads_to.decode(errors="surrogateescape"))
        raise InvalidArgument(f"{target.shown} is a symlink to {name}", hint="name what it leads to")


@buck.command()
@click.argument("place", metavar="BUCKET/PATH")
@click.option("-r", "--recursive", is_flag=True, help="Also a folder, with all that is in it.")
@acting
async def rm(session: Session, place: str, recursive: bool) -> None:
    """Remove a file or folder from a bucket."""
    target = await find_target(session, place)
    if not target.path:
        raise Usage(f"{target.shown} is a whole bucket", hint="'bucketfs buck destroy' removes it")
    if (await target.item()).is_directory and not recursive:
        raise IsADirectory(f"{target.shown} is a folder", hint="-r removes it with all that is in it")
    if SEED_NAME in target.path and await target.is_native():
        # A Hub takes every path that contains this name for its own and would refuse to remove it.
        await remove_path(target.remote, target.names)
    else:
        await session.buckets.remove_path(target.bucket.key, target.path)


@buck.command()
@click.argument("old", metavar="BUCKET/OLD")
@click.argument("new", metavar="BUCKET/NEW")
@acting
async def mv(session: Session, old: str, new: str) -> None:
    """Rename within a bucket, or move into a folder of it. Only a file can be replaced, by a file."""
    source, goal = await find_target(session, old), await find_target(session, new)
    if source.bucket.key != goal.bucket.key:
        raise CrossDevice("cannot move from one bucket into another", hint="pull it, push it, and remove it")
    if not source.path:
        raise Usage(f"{source.shown} is a whole bucket", hint="name something in it")
    await source.item()
    if await source.is_native():
        await move_path(source.remote, source.names, goal.names, into=names_folder(new))
    else:
        # A Hub that offers blocks is not Textile's and renames by names.
        by_names = await session.blocks.offered()
        await move_by_path(
            session.buckets, source.bucket.key, source.names, goal.names, into=names_folder(new), by_names=by_names
        )


@buck.command()
@click.argument("place", metavar="BUCKET[/PATH]")
@json_option
@acting
async def links(session: Session, place: str, as_json: bool) -> None:
    """Show the web addresses of a bucket or of what is in it. Those of a private bucket contain a token.

    They lead to the gateway of the Hub. The embedded Hub has none, unless it is told to.
    """
    target = await find_target(session, place)
    await target.item()
    found = await session.buckets.links(target.bucket.key, target.path)
    addresses = {"url": found.url, "www": found.www, "ipns": found.ipns}
    if not any(addresses.values()):
        raise Unsupported(
            "this Hub serves no web pages", hint="its operator can give 'hub serve' --gateway-listen HOST:PORT"
        )
    if as_json:
        print_json(addresses, indent=None)
        return
    for name, address in addresses.items():
        if address:
            print_line(name, address)


def _confirm_destroy(options: dict[str, Any]) -> None:
    if not options["yes"]:
        click.confirm(f"Destroy {quoted_name(options['bucket'])} with all that is in it?", abort=True, err=True)


@buck.command()
@click.argument("bucket")
@yes_option
@asks_first(_confirm_destroy)
@acting
async def destroy(session: Session, bucket: str, yes: bool) -> None:
    """Destroy a bucket with all that is in it."""
    info = await find_bucket_of(session, bucket)
    await session.buckets.remove(info.key)
