"""``bucketfs buck``: buckets and what is in them, without a mount."""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import Any

import click

from bucketfs.cli.buck.output import (
    Shown,
    add_attributes,
    conclude,
    row_of,
    show_bucket,
    show_buckets,
    show_rows,
    symlink_target,
)
from bucketfs.cli.buck.pipe import spool, spooled
from bucketfs.cli.buck.target import (
    NAME_WANTED,
    acting,
    as_json_option,
    asides_place,
    bucket_of,
    in_order,
    is_folder_place,
    is_native,
    item_at,
    names_of,
    need_native,
    need_no_folder,
    parts_of,
    place_of,
    preserve_of,
    remote_of,
    rights_options,
    source_of,
    with_session,
)
from bucketfs.cli.buck.watch import watch
from bucketfs.cli.options import LocalPath, configured
from bucketfs.cli.printing import named, say
from bucketfs.client import find_bucket
from bucketfs.config import make_private
from bucketfs.daemon import Session
from bucketfs.errors import CrossDevice, InvalidArgument, IsADirectory, Usage
from bucketfs.keys import parse_public_key, thread_text
from bucketfs.names import SEED_NAME, bucket_name_fault
from bucketfs.remote import read_content
from bucketfs.roles import EVERYBODY, Role
from bucketfs.transfer import (
    Asides,
    PullOptions,
    PushOptions,
    listed_asides,
    move_by_path,
    move_path,
    pull_folder,
    push_folder,
    remove_path,
)
from bucketfs.types import Link

_reread = click.option("--reread", is_flag=True, help="Compare large files by content even if size and mtime agree.")


@click.group()
def buck() -> None:
    """Buckets and what is in them, without a mount. BUCKET is a name or a key."""


buck.add_command(watch)


@buck.command()
@click.argument("name")
@click.option(
    "--private", is_flag=True, help="Encrypted at the Hub; such a bucket cannot be mounted, or filled by 'buck push', yet."
)
@as_json_option
@acting
def create(name: str, private: bool, as_json: bool, **options: Any) -> None:
    """Create a bucket."""
    fault = bucket_name_fault(name) if name else "it is empty"
    if fault:
        raise Usage(f"no bucket can be called {named(name)}: {fault}", hint="choose another name")

    async def act(session: Session) -> None:
        if await find_bucket(session.buckets, name) is not None:
            raise Usage(f"there is a bucket {name!r} already", hint="choose another name")
        show_bucket((await session.buckets.create(name, private=private)).info, as_json)

    with_session(options, act)


@buck.command()
@click.argument("bucket")
@as_json_option
@acting
def get(bucket: str, as_json: bool, **options: Any) -> None:
    """Show what a bucket is: key, root, owner, times."""

    async def act(session: Session) -> None:
        show_bucket(await bucket_of(session, bucket), as_json)

    with_session(options, act)


@buck.command()
@click.argument("place", default="", metavar="[BUCKET[/PATH]]")
@click.option("-l", "--long", is_flag=True, help="With mode, length and mtime of each entry.")
@as_json_option
@acting
def ls(place: str, long: bool, as_json: bool, **options: Any) -> None:
    """List the buckets, or what is in one."""

    async def act(session: Session) -> None:
        if not place:
            show_buckets(await session.buckets.list(), as_json)
            return
        info, path = await place_of(session, place)
        item = await item_at(session, info, path, place)
        # The Hub's own at the top of a bucket; below it the name is a user's.
        items = [child for child in item.items if path or child.name != SEED_NAME] if item.is_directory else [item]
        rows = [row_of(child) for child in items]
        if long and await is_native(session, info):
            await add_attributes(source_of(session, info), items, rows)
        show_rows(rows, long, as_json)

    with_session(options, act)


@buck.command()
@click.argument("place", metavar="BUCKET/PATH")
@acting
def cat(place: str, **options: Any) -> None:
    """Print a file."""

    async def act(session: Session) -> None:
        info, path = await place_of(session, place)
        out = sys.stdout.buffer
        item = await item_at(session, info, path, place)
        if item.is_directory:
            raise IsADirectory(f"{named(place)} is a folder")
        if await is_native(session, info):
            source = source_of(session, info)
            target = await symlink_target(source, item)
            if target is not None:
                raise InvalidArgument(f"{named(place)} is a symlink to {named(target)}", hint="name what it leads to")
            content = read_content(source, Link(item.cid, item.tsize))
        else:
            content = session.buckets.pull_path(info.key, path)
        async with aclosing(content) as pieces:
            async for data in pieces:
                # A slow reader may hold us up: nothing else happens in this process.
                out.write(data)
        out.flush()

    with_session(options, act)


@buck.command()
@click.argument("local", type=click.Path(exists=True, allow_dash=True))
@click.argument("place", metavar="BUCKET[/PATH]")
@click.option("--delete", is_flag=True, help="Remove from the bucket what is not in LOCAL, or of another kind there.")
@click.option("--no-attributes", is_flag=True, help="Leave mode and mtime out: CIDs are those of other clients.")
@_reread
@as_json_option
@acting
def push(local: str, place: str, delete: bool, no_attributes: bool, reread: bool, as_json: bool, **options: Any) -> None:
    """Make a folder or file LOCAL appear in a bucket, at one moment. Sends only what the Hub lacks.

    A file goes into PATH when that is a folder, or ends in a slash. LOCAL may be -, the standard input, which is kept in the cache
    folder until it is pushed.
    """
    # A path would not tell - from ./-, which is a file.
    piped = local == "-"
    if piped and is_folder_place(place):
        raise Usage("the standard input has no name", hint=NAME_WANTED)

    async def act(session: Session) -> None:
        info, path = await place_of(session, place)
        await need_native(session, info)
        into = is_folder_place(place)
        wanted = PushOptions(attributes=not no_attributes, delete=delete, reread=reread, into=into, exact=piped)
        asides = Asides(asides_place(options))
        with ExitStack() as stack:
            source = Path(local)
            if piped:
                await need_no_folder(session, info, path, place)
                source = stack.enter_context(spooled(configured("", options).paths.cache))
                await spool(source)
            shown = stack.enter_context(Shown("Pushing", as_json))
            figures = await push_folder(
                remote_of(session, info), source, names_of(path), wanted, shown.update, asides=asides
            )
        conclude(figures, as_json)

    with_session(options, in_order(act))


@buck.command()
@click.argument("place", metavar="BUCKET[/PATH]")
@click.argument("local", type=LocalPath())
@click.option("--delete", is_flag=True, help="Remove from LOCAL what is not in the bucket, or of another kind there.")
@_reread
@rights_options
@as_json_option
@acting
def pull(
    place: str,
    local: str,
    delete: bool,
    reread: bool,
    owner: bool,
    special_modes: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Make LOCAL what is in a bucket. Fetches and writes only what is not there.

    A file goes into LOCAL when that is a folder, or ends in a slash.
    """
    into = os.path.basename(local) in ("", ".", "..")
    wanted = PullOptions(delete=delete, reread=reread, into=into, preserve=preserve_of(owner, special_modes))

    async def act(session: Session) -> None:
        info, path = await place_of(session, place)
        await need_native(session, info)
        if is_folder_place(place):
            await item_at(session, info, path, place)
        top = Path(local)
        with listed_asides(make_private(asides_place(options)), top) as asides, Shown("Pulling", as_json) as shown:
            figures = await pull_folder(
                remote_of(session, info),
                top,
                names_of(path),
                wanted,
                shown.update,
                asides=asides,
            )
        conclude(figures, as_json)

    with_session(options, in_order(act))


@buck.command()
@click.argument("place", metavar="BUCKET/PATH")
@click.option("-r", "--recursive", is_flag=True, help="Also a folder, with all that is in it.")
@acting
def rm(place: str, recursive: bool, **options: Any) -> None:
    """Remove a file or folder from a bucket."""

    async def act(session: Session) -> None:
        info, path = await place_of(session, place)
        if not path:
            raise Usage(f"{named(place)} is a whole bucket", hint="'bucketfs buck destroy' removes it")
        item = await item_at(session, info, path, place)
        if item.is_directory and not recursive:
            raise IsADirectory(f"{named(place)} is a folder", hint="-r removes it with all that is in it")
        if SEED_NAME in path and await is_native(session, info):
            # Hubs take any path with this in it for their own.
            await remove_path(remote_of(session, info), names_of(path))
        else:
            await session.buckets.remove_path(info.key, path)

    with_session(options, act)


@buck.command()
@click.argument("old", metavar="BUCKET/OLD")
@click.argument("new", metavar="BUCKET/NEW")
@acting
def mv(old: str, new: str, **options: Any) -> None:
    """Rename within a bucket, or move into a folder of it. Replaces a file by a file, and nothing else."""

    async def act(session: Session) -> None:
        info, old_path = await place_of(session, old)
        other, new_path = await place_of(session, new)
        if info.key != other.key:
            raise CrossDevice("nothing moves from one bucket into another", hint="pull it, push it, and remove it")
        if not old_path:
            raise Usage(f"{named(old)} is a whole bucket", hint="name something in it")
        await item_at(session, info, old_path, old)
        paths, into = (names_of(old_path), names_of(new_path)), is_folder_place(new)
        if await is_native(session, info):
            await move_path(remote_of(session, info), *paths, into=into)
        else:
            # A Hub that offers blocks is not an original one.
            by_names = await session.blocks.offered()
            await move_by_path(session.buckets, info.key, *paths, into=into, by_names=by_names)

    with_session(options, act)


@buck.command()
@click.argument("place", metavar="BUCKET[/PATH]")
@as_json_option
@acting
def links(place: str, as_json: bool, **options: Any) -> None:
    """Show where browsers find a bucket or what is in it. For a private one the links hold a token.

    A Textile Hub answers there; 'bucketfs hub serve' does not serve web pages yet.
    """

    async def act(session: Session) -> None:
        info, path = await place_of(session, place)
        await item_at(session, info, path, place)
        found = await session.buckets.links(info.key, path)
        shown = {"url": found.url, "www": found.www, "ipns": found.ipns}
        if as_json:
            click.echo(json.dumps(shown))
        else:
            for name, link in shown.items():
                if link:
                    say(name, link)

    with_session(options, act)


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
@acting
def grant(place: str, grantee: str, name: str, **options: Any) -> None:
    """Give someone a role. KEY is the public key that 'bucketfs hub whoami' shows them."""
    who = EVERYBODY if grantee in ("everyone", EVERYBODY) else grantee
    if who != EVERYBODY:
        try:
            parse_public_key(who)
        except InvalidArgument as error:
            raise Usage(
                f"{grantee!r} is no public key", hint="'bucketfs hub whoami' shows one, or write everyone"
            ) from error

    async def act(session: Session) -> None:
        info, path = await place_of(session, place)
        await item_at(session, info, path, place)
        await session.buckets.set_roles(info.key, path, {who: Role[name.upper()]})
        if who != EVERYBODY and name != "none":
            say(f"They mount it with: bucketfs mount --thread {thread_text(info.thread)} {info.key} FOLDER")

    with_session(options, act)


@roles.command("ls", short_help="Show the roles that hold at a path.")
@click.argument("place", metavar="BUCKET[/PATH]")
@as_json_option
@acting
def list_roles(place: str, as_json: bool, **options: Any) -> None:
    """Show the roles that hold at a path: its own, and those of what is above it."""

    async def act(session: Session) -> None:
        info, path = await place_of(session, place)
        paths = (await session.buckets.details(info.key)).paths
        above = ["", *("/".join(parts_of(path)[: count + 1]) for count in range(len(parts_of(path))))]
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
            say(f"{row['role']:6}  {shown}  on {named(row['path']) if row['path'] else 'the whole bucket'}")

    with_session(options, act)


@buck.command()
@click.argument("bucket")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@acting
def destroy(bucket: str, yes: bool, **options: Any) -> None:
    """Destroy a bucket with all that is in it."""
    if not yes:
        click.confirm(f"Destroy {named(bucket)} with all that is in it?", abort=True, err=True)

    async def act(session: Session) -> None:
        info = await bucket_of(session, bucket)
        await session.buckets.remove(info.key)

    with_session(options, act)
