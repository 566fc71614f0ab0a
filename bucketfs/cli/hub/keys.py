"""``bucketfs hub key …``: API keys of an account or an organization."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from bucketfs.cli.hub.account import in_session
from bucketfs.cli.options import configured, org_option, settings
from bucketfs.cli.printing import say
from bucketfs.client import Credentials, KeyInfo
from bucketfs.config import EMBEDDED, CredentialsFile, Profile
from bucketfs.daemon import Session
from bucketfs.errors import NotFound, Usage
from bucketfs.keys import KeyType

_TYPES = {KeyType.ACCOUNT: "account", KeyType.USER: "user"}


@click.group(short_help="Keys of your account, and for users of your app.")
def key() -> None:
    """API keys: account keys act for their owner, user group keys for the users of an app."""


@key.command()
@click.option(
    "--user/--account",
    "user",
    default=None,
    help="A key for users who each bring an identity, or one for the account itself (asked for on a terminal).",
)
@click.option("--insecure", is_flag=True, help="A key that works without its secret. For development only.")
@click.option(
    "--save", "name", metavar="NAME", help="Put the key into this profile of credentials.toml, in place of its old one."
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@org_option
@settings("hub", "profile")
def create(user: bool | None, insecure: bool, name: str | None, as_json: bool, **options: Any) -> None:
    """Make an API key and show it, with its secret, this once."""
    config = configured("mount", options)
    file = CredentialsFile(Path(config.paths.credentials_file))
    if name in (EMBEDDED, ""):
        raise Usage(f"{name!r} is no profile to save a key in", hint="choose another name")
    if user is None:
        user = sys.stdin.isatty() and not as_json and _asked_for_users()

    async def ask(session: Session) -> tuple[KeyInfo, str, bool]:
        if name:
            _check_profile(file, name, session)
        kind = KeyType.USER if user else KeyType.ACCOUNT
        made = await session.hub.create_key(kind, secure=not insecure)
        return made, session.profile.hub, bool(session.channel.warnings)

    made, address, warned = in_session(config, ask)
    if name:
        old = file.profiles().get(name, Profile(name, address, Credentials()))
        secret = "" if insecure else made.secret
        file.save(replace(old, credentials=replace(old.credentials, api_key=made.key, api_secret=secret)))
    if as_json:
        click.echo(json.dumps({**_described(made), "secret": made.secret}, indent=2))
    else:
        _show_table(made)
    if insecure and not warned:
        say("This key works without its secret: whoever sees it can use it. For development only.", err=True)
    if name:
        say(f"Saved in {file.path}, profile {name}", err=as_json)


@key.command("ls")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@org_option
@settings("hub", "profile")
def list_keys(as_json: bool, **options: Any) -> None:
    """List the API keys, without their secrets."""

    async def ask(session: Session) -> list[dict[str, Any]]:
        return [_described(info) for info in await session.hub.keys()]

    keys = in_session(configured("mount", options), ask)
    if as_json:
        click.echo(json.dumps(keys, indent=2))
        return
    for info in keys:
        state = "valid" if info["valid"] else "invalid"
        say(f"{info['key']}  {info['type']:7}  {'secure' if info['secure'] else 'insecure':8}  {state}")


@key.command()
@click.argument("api_key", metavar="KEY")
@org_option
@settings("hub", "profile")
def invalidate(api_key: str, **options: Any) -> None:
    """End an API key for good."""

    async def ask(session: Session) -> None:
        try:
            await session.hub.invalidate_key(api_key)
        except NotFound as error:
            raise NotFound(f"there is no key {api_key!r}", hint="'bucketfs hub key ls' lists yours") from error

    in_session(configured("mount", options), ask)


def _asked_for_users() -> bool:
    say("An account key acts for you, a user group key for the users of an app.", err=True)
    kind = click.prompt("Which", type=click.Choice(["account", "user"]), default="account", err=True)
    return bool(kind == "user")


def _check_profile(file: CredentialsFile, name: str, session: Session) -> None:
    """Raises Usage before a key is made that could not be saved there."""
    old = file.profiles().get(name)
    if old is not None and old.hub != session.profile.hub:
        raise Usage(f"the keys of profile {name!r} are for {old.hub}", hint="choose another name")


def _show_table(made: KeyInfo) -> None:
    rows = (("KEY", "SECRET", "TYPE"), (made.key, made.secret, _TYPES[made.type]))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        say("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _described(info: KeyInfo) -> dict[str, Any]:
    return {
        "key": info.key,
        "type": _TYPES[info.type],
        "secure": info.secure,
        "valid": info.valid,
        "threads": info.threads,
    }
