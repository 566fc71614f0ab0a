"""``bucketfs hub org …``: organizations. Acting for one takes a session, which ``hub init`` and ``hub login`` leave."""

from __future__ import annotations

import json
from typing import Any

import click

from bucketfs.cli.hub.account import in_session
from bucketfs.cli.options import configured, settings
from bucketfs.cli.printing import named, say
from bucketfs.client import OrgInfo
from bucketfs.config import Config
from bucketfs.daemon import Session
from bucketfs.errors import Exists, Usage
from bucketfs.keys import public_key_text

_as_json = click.option("--json", "as_json", is_flag=True, help="For programs.")


@click.group()
def org() -> None:
    """Organizations: accounts that several developers act for. ORG is the short name that 'org ls' shows."""


@org.command()
@click.argument("name")
@_as_json
@settings("hub", "profile")
def create(name: str, as_json: bool, **options: Any) -> None:
    """Make an organization; you are its owner."""

    async def ask(session: Session) -> OrgInfo:
        try:
            return await session.hub.create_org(name)
        except Exists as error:
            raise Exists(f"there is an account or organization of the name {name!r}", hint="choose another name") from error

    made = in_session(configured("mount", options), ask)
    _show([made], as_json)


@org.command("ls")
@_as_json
@settings("hub", "profile")
def list_orgs(as_json: bool, **options: Any) -> None:
    """List the organizations you are in."""

    async def ask(session: Session) -> list[OrgInfo]:
        return list(await session.hub.orgs())

    _show(in_session(configured("mount", options), ask), as_json)


@org.command()
@click.argument("slug", metavar="ORG")
@_as_json
@settings("hub", "profile")
def members(slug: str, as_json: bool, **options: Any) -> None:
    """List who is in an organization."""

    async def ask(session: Session) -> OrgInfo:
        return await session.hub.org()

    found = [
        {"username": member.username, "role": member.role, "key": public_key_text(member.key[4:])}
        for member in in_session(_for(slug, options), ask).members
    ]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for member in found:
        say(f"{member['username']}  {member['role']}")


@org.command()
@click.argument("slug", metavar="ORG")
@click.argument("email")
@_as_json
@settings("hub", "profile")
def invite(slug: str, email: str, as_json: bool, **options: Any) -> None:
    """Invite someone by email address. Prints the link that accepts."""

    async def ask(session: Session) -> tuple[str, str]:
        info = await session.hub.org()
        return await session.hub.invite(email), info.host

    token, host = in_session(_for(slug, options), ask)
    link = f"{host}/consent/{token}"
    if as_json:
        click.echo(json.dumps({"token": token, "link": link}, indent=2))
    else:
        say(f"{email} joins {slug} by opening {link}")


@org.command()
@click.argument("slug", metavar="ORG")
@settings("hub", "profile")
def leave(slug: str, **options: Any) -> None:
    """Leave an organization. Its last owner cannot."""

    async def ask(session: Session) -> None:
        await session.hub.leave_org()

    in_session(_for(slug, options), ask)
    say("Keys of the organization go on: its members replace those that you know with 'bucketfs hub key'", err=True)


@org.command()
@click.argument("slug", metavar="ORG")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@settings("hub", "profile")
def remove(slug: str, yes: bool, **options: Any) -> None:
    """Remove an organization with its keys and threads. For owners."""
    if not yes:
        click.confirm(f"Remove {named(slug)} with its keys and threads?", abort=True, err=True)

    async def ask(session: Session) -> None:
        await session.hub.remove_org()

    in_session(_for(slug, options), ask)


def _for(slug: str, options: dict[str, Any]) -> Config:
    """The configuration, acting for an organization."""
    if not slug:
        raise Usage("no organization is named", hint="'bucketfs hub org ls' lists yours")
    return configured("mount", {**options, "org": slug})


def _show(found: list[OrgInfo], as_json: bool) -> None:
    if as_json:
        described = [{"name": info.name, "slug": info.slug, "key": public_key_text(info.key[4:])} for info in found]
        click.echo(json.dumps(described, indent=2))
        return
    for info in found:
        say(f"{info.slug}  {info.name}")
