"""``bucketfs hub org``: organizations. Acting for one takes a session, which ``hub init`` and ``hub login`` leave."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import click

from bucketfs.cli.acting import run_in_session
from bucketfs.cli.hub.group import hub, managing
from bucketfs.cli.options import Command, asks_first, json_option, settings, yes_option
from bucketfs.cli.printing import print_json, print_line, print_table, quoted_name
from bucketfs.client import OrgInfo
from bucketfs.config import Config
from bucketfs.daemon import Session
from bucketfs.errors import Exists, Usage


def in_org(command: Command) -> Command:
    """Make ``async def command(session, slug, …)`` a command with the argument ORG, whose session acts for that organization."""

    @click.argument("slug", metavar="ORG")
    @settings("hub", "profile")
    @functools.wraps(command)
    def run(config: Config, slug: str, **options: Any) -> None:
        if not slug:
            raise Usage("no organization is named", hint="'bucketfs hub org ls' lists yours")
        acting = replace(config, general=replace(config.general, org=slug))
        run_in_session(acting, lambda session: command(session, slug, **options), manage=True)

    return run


@hub.group()
def org() -> None:
    """Organizations: accounts that several developers act for. ORG is the short name that 'org ls' shows."""


@org.command()
@click.argument("name")
@json_option
@managing("hub", "profile")
async def create(session: Session, name: str, as_json: bool) -> None:
    """Make an organization; you are its owner."""
    try:
        made = await session.hub.create_org(name)
    except Exists as error:
        raise Exists(f"there is an account or organization named {name!r} already", hint="choose another name") from error
    _print_orgs([made], as_json)


@org.command("ls")
@json_option
@managing("hub", "profile")
async def list_orgs(session: Session, as_json: bool) -> None:
    """List the organizations you are in."""
    _print_orgs(list(await session.hub.orgs()), as_json)


@org.command()
@in_org
@json_option
async def members(session: Session, slug: str, as_json: bool) -> None:
    """List who is in an organization."""
    found = [
        {"username": member.username, "role": member.role, "key": member.public_key}
        for member in (await session.hub.org()).members
    ]
    if as_json:
        print_json(found)
    else:
        print_table([(member["username"], member["role"]) for member in found])


@org.command()
@in_org
@click.argument("email")
@json_option
async def invite(session: Session, slug: str, email: str, as_json: bool) -> None:
    """Invite someone by email address. Prints the link that accepts."""
    info = await session.hub.org()
    token = await session.hub.invite(email)
    link = f"{info.host}/consent/{token}"
    if as_json:
        print_json({"token": token, "link": link})
    else:
        print_line(f"{email} joins {slug} by opening {link}")


@org.command()
@in_org
async def leave(session: Session, slug: str) -> None:
    """Leave an organization. Its last owner cannot."""
    await session.hub.leave_org()
    print_line("Keys of the organization stay valid: its members replace those you know with 'bucketfs hub key'", err=True)


def _confirm_remove(options: dict[str, Any]) -> None:
    if options["slug"] and not options["yes"]:
        click.confirm(f"Remove {quoted_name(options['slug'])} with its keys and threads?", abort=True, err=True)


@org.command()
@yes_option
@asks_first(_confirm_remove)
@in_org
async def remove(session: Session, slug: str, yes: bool) -> None:
    """Remove an organization with its keys and threads. For owners."""
    await session.hub.remove_org()


def _print_orgs(found: list[OrgInfo], as_json: bool) -> None:
    if as_json:
        print_json([{"name": info.name, "slug": info.slug, "key": info.public_key} for info in found])
    else:
        print_table([(info.slug, info.name) for info in found])
