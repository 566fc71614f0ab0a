"""``bucketfs buck roles``: who besides the owner may do what in a bucket."""

from __future__ import annotations

import click

from bucketfs.cli.buck.group import acting, buck
from bucketfs.cli.buck.target import find_target
from bucketfs.cli.options import json_option
from bucketfs.cli.printing import print_json, print_line, print_table, quoted_name
from bucketfs.daemon import Session
from bucketfs.errors import InvalidArgument, Usage
from bucketfs.keys import parse_public_key, thread_text
from bucketfs.roles import EVERYBODY, Role


@buck.group()
def roles() -> None:
    """Who may do what to which path of a bucket, besides its owner.

    A role holds for a path and everything below it: readers see it, writers replace what is there, admins also remove it and
    grant roles on it. Only the owner adds names.
    """


def _checked_grantee(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    if text in ("everyone", EVERYBODY):
        return EVERYBODY
    try:
        parse_public_key(text)
    except InvalidArgument as error:
        raise Usage(f"{text!r} is not a public key", hint="'bucketfs hub whoami' shows one, or write everyone") from error
    return text


@roles.command()
@click.argument("place", metavar="BUCKET[/PATH]")
@click.argument("grantee", metavar="KEY|everyone", callback=_checked_grantee)
@click.option(
    "-r",
    "--role",
    "name",
    type=click.Choice([role.name.lower() for role in Role]),
    required=True,
    help="The role; none takes a role away.",
)
@acting
async def grant(session: Session, place: str, grantee: str, name: str) -> None:
    """Give someone a role. KEY is the public key that 'bucketfs hub whoami' shows them."""
    target = await find_target(session, place)
    await target.item()
    role = Role[name.upper()]
    await session.buckets.set_roles(target.bucket.key, target.path, {grantee: role})
    if grantee != EVERYBODY and role is not Role.NONE:
        thread = thread_text(target.bucket.thread)
        print_line(f"They mount it with: bucketfs mount --thread {thread} {target.bucket.key} FOLDER")


@roles.command("ls", short_help="Show the roles that hold at a path.")
@click.argument("place", metavar="BUCKET[/PATH]")
@json_option
@acting
async def list_roles(session: Session, place: str, as_json: bool) -> None:
    """Show the roles that hold at a path: those granted on it, and those granted on the folders above it."""
    target = await find_target(session, place)
    paths = (await session.buckets.details(target.bucket.key)).paths
    found = [
        {"path": path, "key": key, "role": role.name.lower()}
        for path in target.lineage()
        if path in paths
        for key, role in sorted(paths[path].roles.items())
        if role is not Role.NONE
    ]
    if as_json:
        print_json(found)
        return
    rows = [
        (
            row["role"],
            "everyone" if row["key"] == EVERYBODY else row["key"],
            f"on {quoted_name(row['path']) if row['path'] else 'the whole bucket'}",
        )
        for row in found
    ]
    print_table(rows, formats={0: "6"})
