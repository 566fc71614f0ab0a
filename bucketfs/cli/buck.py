"""``bucketfs buck``: buckets and what is in them, without a mount."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

import click
import trio

from bucketfs.cli.buck_output import Shown, add_attributes, conclude, row_of, show_bucket, show_buckets, show_rows
from bucketfs.cli.options import configured, org_option, settings
from bucketfs.client import BucketInfo, PathItem, Role, find_bucket, public_raw_of_text, thread_text
from bucketfs.daemon import Session, open_session
from bucketfs.errors import CrossDevice, InvalidArgument, IsADirectory, NotFound, Unsupported, Usage
from bucketfs.sync import NativeRemote, NodeSource, PullOptions, PushOptions, pull_folder, push_folder, read_content
from bucketfs.types import BucketKey, Link

EVERYBODY = "*"

F = TypeVar("F", bound=Callable[..., Any])

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_settings = settings("identity", "thread", "hub", "profile")


def _acting(command: F) -> F:
    """Who acts on which buckets: the options of every command here."""
    return org_option(_settings(command))


_reread = click.option("--reread", is_flag=True, help="Compare large files by content even if size and mtime agree.")


@click.group()
def buck() -> None:
    """Buckets and what is in them, without a mount. BUCKET is a name or a key."""


@buck.command()
@click.argument("name")
@click.option("--private", is_flag=True, help="Encrypted at the Hub; such a bucket cannot be mounted yet.")
@_as_json
@_acting
def create(name: str, private: bool, as_json: bool, **options: Any) -> None:
    """Create a bucket."""

    async def act(session: Session) -> None:
        if await find_bucket(session.buckets, name) is not None:
            raise Usage(f"there is a bucket {name!r} already", hint="choose another name")
        show_bucket((await session.buckets.create(name, private=private)).info, as_json)

    _with_session(options, act)


@buck.command()
@click.argument("bucket")
@_as_json
@_acting
def get(bucket: str, as_json: bool, **options: Any) -> None:
    """Show what a bucket is: key, root, owner, times."""

    async def act(session: Session) -> None:
        show_bucket(await _bucket(session, bucket), as_json)

    _with_session(options, act)


@buck.command()
@click.argument("place", default="", metavar="[BUCKET[/PATH]]")
@click.option("-l", "--long", is_flag=True, help="With mode, length and mtime of each entry.")
@_as_json
@_acting
def ls(place: str, long: bool, as_json: bool, **options: Any) -> None:
    """List the buckets, or what is in one."""

    async def act(session: Session) -> None:
        if not place:
            show_buckets(await session.buckets.list(), as_json)
            return
        info, path = await _place(session, place)
        item, _ = await session.buckets.list_path(info.key, path)
        items = [child for child in item.items if child.name != ".textileseed"] if item.is_directory else [item]
        rows = [row_of(child) for child in items]
        if long and await _is_native(session, info):
            await add_attributes(_source(session, info), items, rows)
        show_rows(rows, long, as_json)

    _with_session(options, act)


@buck.command()
@click.argument("place", metavar="BUCKET/PATH")
@_acting
def cat(place: str, **options: Any) -> None:
    """Print a file."""

    async def act(session: Session) -> None:
        info, path = await _place(session, place)
        out = sys.stdout.buffer
        if await _is_native(session, info):
            item, _ = await session.buckets.list_path(info.key, path)
            if item.is_directory:
                raise IsADirectory(f"{place} is a folder")
            content = read_content(_source(session, info), _link(item))
        else:
            content = session.buckets.pull_path(info.key, path)
        async with aclosing(content) as pieces:
            async for data in pieces:
                # A slow reader may hold us up: nothing else happens in this process.
                out.write(data)
        out.flush()

    _with_session(options, act)


@buck.command()
@click.argument("local", type=click.Path(path_type=Path, exists=True))
@click.argument("place", metavar="BUCKET[/PATH]")
@click.option("--delete", is_flag=True, help="Remove from the bucket what is not in LOCAL.")
@click.option("--no-attributes", is_flag=True, help="Leave mode and mtime out: CIDs are those of other clients.")
@_reread
@_as_json
@_acting
def push(local: Path, place: str, delete: bool, no_attributes: bool, reread: bool, as_json: bool, **options: Any) -> None:
    """Make a folder or file LOCAL appear in a bucket, at one moment. Sends only what the Hub lacks."""

    async def act(session: Session) -> None:
        info, path = await _place(session, place)
        await _need_native(session, info)
        wanted = PushOptions(attributes=not no_attributes, delete=delete, reread=reread)
        with Shown("Pushing", as_json) as shown:
            figures = await push_folder(_remote(session, info), local, _names(path), wanted, shown.update)
        conclude(figures, as_json)

    _with_session(options, act)


@buck.command()
@click.argument("place", metavar="BUCKET[/PATH]")
@click.argument("local", type=click.Path(path_type=Path))
@click.option("--delete", is_flag=True, help="Remove from LOCAL what is not in the bucket.")
@_reread
@_as_json
@_acting
def pull(place: str, local: Path, delete: bool, reread: bool, as_json: bool, **options: Any) -> None:
    """Make LOCAL what is in a bucket. Fetches and writes only what is not there."""

    async def act(session: Session) -> None:
        info, path = await _place(session, place)
        await _need_native(session, info)
        with Shown("Pulling", as_json) as shown:
            figures = await pull_folder(
                _remote(session, info), local, _names(path), PullOptions(delete=delete, reread=reread), shown.update
            )
        conclude(figures, as_json)

    _with_session(options, act)


@buck.command()
@click.argument("place", metavar="BUCKET/PATH")
@click.option("-r", "--recursive", is_flag=True, help="Also a folder, with all that is in it.")
@_acting
def rm(place: str, recursive: bool, **options: Any) -> None:
    """Remove a file or folder from a bucket."""

    async def act(session: Session) -> None:
        info, path = await _place(session, place)
        if not path:
            raise Usage(f"{place} is a whole bucket", hint="'bucketfs buck destroy' removes it")
        item, _ = await session.buckets.list_path(info.key, path)
        if item.is_directory and not recursive:
            raise IsADirectory(f"{place} is a folder", hint="-r removes it with all that is in it")
        await session.buckets.remove_path(info.key, path)

    _with_session(options, act)


@buck.command()
@click.argument("old", metavar="BUCKET/OLD")
@click.argument("new", metavar="BUCKET/NEW")
@_acting
def mv(old: str, new: str, **options: Any) -> None:
    """Rename within a bucket, or move into a folder of it."""

    async def act(session: Session) -> None:
        info, old_path = await _place(session, old)
        other, new_path = await _place(session, new)
        if info.key != other.key:
            raise CrossDevice("nothing moves from one bucket into another", hint="pull it, push it, and remove it")
        if not old_path:
            raise Usage(f"{old} is a whole bucket", hint="name something in it")
        await session.buckets.move_path(info.key, old_path, new_path)

    _with_session(options, act)


@buck.command()
@click.argument("place", metavar="BUCKET[/PATH]")
@_as_json
@_acting
def links(place: str, as_json: bool, **options: Any) -> None:
    """Show where browsers find a bucket or what is in it. For a private one the links hold a token."""

    async def act(session: Session) -> None:
        info, path = await _place(session, place)
        found = await session.buckets.links(info.key, path)
        shown = {"url": found.url, "www": found.www, "ipns": found.ipns}
        if as_json:
            click.echo(json.dumps(shown))
        else:
            for name, link in shown.items():
                if link:
                    click.echo(f"{name}\t{link}")

    _with_session(options, act)


@buck.group()
def roles() -> None:
    """Who may do what to which path of a bucket, besides its owner.

    A role holds for a path and everything below it: readers see it, writers replace what is there, admins also remove it and
    grant roles on it. Only the owner adds names.
    """


@roles.command()
@click.argument("place", metavar="BUCKET[/PATH]")
@click.argument("grantee", metavar="KEY|everyone")
@click.option(
    "-r",
    "--role",
    "name",
    type=click.Choice([role.name.lower() for role in Role]),
    required=True,
    help="none takes one away.",
)
@_acting
def grant(place: str, grantee: str, name: str, **options: Any) -> None:
    """Give someone a role. KEY is the public key that 'bucketfs hub whoami' shows them."""
    who = EVERYBODY if grantee in ("everyone", EVERYBODY) else grantee
    if who != EVERYBODY:
        try:
            public_raw_of_text(who)
        except InvalidArgument as error:
            raise Usage(
                f"{grantee!r} is no public key", hint="'bucketfs hub whoami' shows one, or write everyone"
            ) from error

    async def act(session: Session) -> None:
        info, path = await _place(session, place)
        await session.buckets.set_roles(info.key, path, {who: Role[name.upper()]})
        if who != EVERYBODY and name != "none":
            click.echo(f"They mount it with: bucketfs mount --thread {thread_text(info.thread)} {info.key} FOLDER")

    _with_session(options, act)


@roles.command("ls")
@click.argument("place", metavar="BUCKET[/PATH]")
@_as_json
@_acting
def list_roles(place: str, as_json: bool, **options: Any) -> None:
    """Show the roles that hold at a path: its own, and those of what is above it."""

    async def act(session: Session) -> None:
        info, path = await _place(session, place)
        paths = (await session.buckets.details(info.key)).paths
        above = ["", *("/".join(_parts(path)[: count + 1]) for count in range(len(_parts(path))))]
        found = [
            {"path": at, "key": who, "role": role.name.lower()}
            for at in above
            if at in paths
            for who, role in sorted(paths[at].roles.items())
            if role is not Role.NONE
        ]
        if as_json:
            click.echo(json.dumps(found, indent=2))
            return
        for row in found:
            shown = "everyone" if row["key"] == EVERYBODY else row["key"]
            click.echo(f"{row['role']:6}  {shown}  on {row['path'] or 'the whole bucket'}")

    _with_session(options, act)


@buck.command()
@click.argument("bucket")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@_acting
def destroy(bucket: str, yes: bool, **options: Any) -> None:
    """Destroy a bucket with all that is in it."""
    if not yes:
        click.confirm(f"Destroy {bucket} with all that is in it?", abort=True, err=True)

    async def act(session: Session) -> None:
        info = await _bucket(session, bucket)
        await session.buckets.remove(info.key)

    _with_session(options, act)


# What the commands share


def _with_session(options: dict[str, Any], act: Callable[[Session], Coroutine[Any, Any, None]]) -> None:
    config = configured("", options)

    async def run() -> None:
        async with open_session("", "", config) as session:
            await act(session)

    trio.run(run)


async def _bucket(session: Session, name: str) -> BucketInfo:
    if session.guest:
        # Someone else's thread cannot be listed; a bucket in it is named by its key.
        return await session.buckets.root(BucketKey(name))
    found = await find_bucket(session.buckets, name)
    if found is None:
        raise NotFound(f"no bucket {name!r} at {session.hub_text}", hint="'bucketfs buck ls' lists them")
    return found


async def _place(session: Session, text: str) -> tuple[BucketInfo, str]:
    """A bucket and a path in it, out of ``BUCKET/PATH``."""
    name, _, path = text.strip("/").partition("/")
    if not name:
        raise Usage(f"{text!r} names no bucket", hint="write BUCKET or BUCKET/PATH")
    parts = _parts(path)
    if {".", ".."} & set(parts):
        raise Usage(f"{text!r} is no path of a bucket", hint="leave out '.' and '..'")
    return await _bucket(session, name), "/".join(parts)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _names(path: str) -> tuple[bytes, ...]:
    return tuple(part.encode() for part in _parts(path))


async def _is_native(session: Session, info: BucketInfo) -> bool:
    """Whether what is in a bucket travels by CID; else only the Hub's calls by path see it as it is."""
    return not info.private and await session.blocks.offered()


async def _need_native(session: Session, info: BucketInfo) -> None:
    if info.private:
        raise Unsupported(f"{info.name or info.key} is private: whole folders of such a bucket cannot be carried yet")
    if not await session.blocks.offered():
        raise Unsupported(f"{session.hub_text} does not offer blocks by CID, which carrying whole folders needs")


def _remote(session: Session, info: BucketInfo) -> NativeRemote:
    return NativeRemote(session.blocks, session.buckets, session.thread, info.key)


def _source(session: Session, info: BucketInfo) -> NodeSource:
    return NodeSource(_remote(session, info))


def _link(item: PathItem) -> Link:
    return Link(item.cid, item.tsize)
