"""``bucketfs hub key``: API keys of an account or an organization."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import click

from bucketfs.cli.hub.group import hub, managing
from bucketfs.cli.options import asks_first, json_option
from bucketfs.cli.printing import print_json, print_line, print_table
from bucketfs.client import Credentials, KeyInfo
from bucketfs.config import EMBEDDED, CredentialsFile, Profile
from bucketfs.daemon import Session
from bucketfs.errors import NotFound, Usage
from bucketfs.keys import KeyType

_TYPES = {KeyType.ACCOUNT: "account", KeyType.USER: "user"}

_managing = managing("-o", "hub", "profile")


@hub.group(short_help="Keys of your account, and for users of your app.")
def key() -> None:
    """API keys: account keys act for their owner, user group keys for the users of an app."""


def _checked_profile_name(_context: click.Context, _parameter: click.Parameter, name: str | None) -> str | None:
    if name in (EMBEDDED, ""):
        raise Usage(f"a key cannot be saved in profile {name!r}", hint="choose another name")
    return name


def _ask_for_type(options: dict[str, Any]) -> None:
    if options["user"] is None:
        options["user"] = sys.stdin.isatty() and not options["as_json"] and _ask_whether_for_users()


def _ask_whether_for_users() -> bool:
    print_line("An account key acts for you, a user group key for the users of an app.", err=True)
    kind = click.prompt("Which", type=click.Choice(["account", "user"]), default="account", err=True)
    return bool(kind == "user")


@key.command()
@click.option(
    "--user/--account",
    "user",
    default=None,
    help="A key for users who each bring an identity, or one for the account itself (asked for on a terminal).",
)
@click.option("--insecure", is_flag=True, help="A key that works without its secret. For development only.")
@click.option(
    "--save",
    "name",
    metavar="NAME",
    callback=_checked_profile_name,
    help="Put the key into this profile of credentials.toml, in place of its old one.",
)
@json_option
@asks_first(_ask_for_type)
@_managing
async def create(session: Session, user: bool | None, insecure: bool, name: str | None, as_json: bool) -> None:
    """Make an API key and show it, with its secret, this once."""
    file = CredentialsFile(session.config.paths.credentials_file)
    old = file.profiles().get(name, Profile(name, session.profile.hub, Credentials())) if name else None
    if old is not None and old.hub != session.profile.hub:
        raise Usage(f"the keys of profile {name!r} are for {old.hub}", hint="choose another name")
    made = await session.hub.create_key(KeyType.USER if user else KeyType.ACCOUNT, secure=not insecure)
    if old is not None:
        credentials = replace(old.credentials, api_key=made.key, api_secret="" if insecure else made.secret)
        file.save(replace(old, credentials=credentials))
    if as_json:
        print_json({**_document(made), "secret": made.secret})
    else:
        _print_new_key(made)
    if insecure and not session.channel.warnings:
        print_line("This key works without its secret: whoever sees it can use it. For development only.", err=True)
    if old is not None:
        print_line(f"Saved in {file.path}, profile {name}", err=as_json)


@key.command("ls")
@json_option
@_managing
async def list_keys(session: Session, as_json: bool) -> None:
    """List the API keys, without their secrets."""
    keys = [_document(info) for info in await session.hub.keys()]
    if as_json:
        print_json(keys)
        return
    rows = [
        (info["key"], info["type"], "secure" if info["secure"] else "insecure", "valid" if info["valid"] else "invalid")
        for info in keys
    ]
    print_table(rows, formats={1: "7", 2: "8"})


@key.command()
@click.argument("api_key", metavar="KEY")
@_managing
async def invalidate(session: Session, api_key: str) -> None:
    """End an API key for good."""
    try:
        await session.hub.invalidate_key(api_key)
    except NotFound as error:
        raise NotFound(f"there is no key {api_key!r}", hint="'bucketfs hub key ls' lists yours") from error


def _print_new_key(made: KeyInfo) -> None:
    formats = {0: str(len(made.key)), 1: str(max(len(made.secret), len("SECRET")))}
    print_table([("KEY", "SECRET", "TYPE"), (made.key, made.secret, _TYPES[made.type])], formats=formats)


def _document(info: KeyInfo) -> dict[str, Any]:
    return {
        "key": info.key,
        "type": _TYPES[info.type],
        "secure": info.secure,
        "valid": info.valid,
        "threads": info.threads,
    }
