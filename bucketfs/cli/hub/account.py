"""``bucketfs hub init|login|logout|whoami``: an account on a Hub, and the profile that remembers it."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click
import trio

from bucketfs.cli.options import configured, org_option, settings
from bucketfs.cli.printing import say
from bucketfs.client import NO_CREDENTIALS, Channel, Credentials, Endpoint, HubClient, KeyInfo, ThreadsClient, behind_text
from bucketfs.config import DEFAULT_PROFILE, EMBEDDED, Config, CredentialsFile, Profile
from bucketfs.daemon import Session, open_session
from bucketfs.errors import Denied, InvalidArgument, NotFound, Unauthenticated, Unsupported, Usage
from bucketfs.keys import Identity
from bucketfs.quoting import visible

T = TypeVar("T")

EXPLAIN_AFTER_S = 2.0
"""A Hub that sends no mail answers at once, and one that is away is away at once; then there is nothing to wait for."""


@click.command()
@click.argument("username")
@click.argument("email")
@settings("hub", "profile")
def init(username: str, email: str, **options: Any) -> None:
    """Sign up at a Hub. Waits until you open the link in its mail, then saves a session and a key of the new account."""
    config = configured("mount", options)

    async def signup(client: HubClient) -> str:
        return (await client.signup(username, email)).session

    _enter(config, signup, f"Waiting for the link in the mail to {email} to be opened …")


@click.command(short_help="Sign in at a Hub, or save a key for it.")
@click.argument("username", required=False)
@click.option("--key", "with_key", is_flag=True, help="Ask for an API key and its secret in place of a mail.")
@settings("hub", "profile")
def login(username: str | None, with_key: bool, **options: Any) -> None:
    """Sign in with a user name or email address, or with a key you have. Secrets are asked for, never taken as arguments."""
    config = configured("mount", options)
    if with_key:
        _save(config, _asked_for())
        return
    if not username:
        raise Usage("login needs a user name or an email address", hint="or --key, to be asked for an API key")
    name = username

    async def signin(client: HubClient) -> str:
        return (await client.signin(name)).session

    _enter(config, signin, "Waiting for the link in the mail to be opened …")


@click.command(short_help="Sign out at a Hub.")
@click.option("--forget", is_flag=True, help="Without telling the Hub, which may be gone.")
@settings("profile")
def logout(forget: bool, **options: Any) -> None:
    """Sign out: end the session, and the key that signing in made, and forget both. A key of 'login --key' is only
    forgotten."""
    config = configured("mount", options)
    if config.general.profile == EMBEDDED:
        raise Usage("the embedded Hub has no session to end")
    file = CredentialsFile(config.paths.credentials_file)
    name = config.general.profile or DEFAULT_PROFILE
    profile = file.profiles().get(name)
    if profile is None:
        raise NotFound(f"{file.path} has no profile {name!r}")
    held = profile.credentials

    async def end() -> None:
        async with Channel(
            Endpoint.parse(profile.hub, insecure=config.general.insecure_transport),
            lambda: Credentials(session=held.session),
        ) as channel:
            client = HubClient(channel)
            if held.api_key:
                try:
                    await client.invalidate_key(held.api_key)
                except (NotFound, Denied):
                    say(f"the key {held.api_key} is not of this account, and stays", err=True)
            await client.signout()

    if held.session and not forget:
        try:
            trio.run(end)
        except Unauthenticated:
            say("the session had ended already; the key stays as it is", err=True)
    file.remove(name)
    say(f"Signed out at {profile.hub}; profile {name} is gone from {file.path}")


@click.command()
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@settings("hub", "profile")
def destroy(yes: bool, **options: Any) -> None:
    """Destroy your account at a Hub, with its keys and threads. Refused while you, or users of your keys, have buckets, and
    while you are in organizations."""
    config = configured("mount", options)

    async def ask(session: Session) -> tuple[str, str]:
        if session.embedded:
            raise Usage("the account at the embedded Hub is not destroyed", hint="'bucketfs buck destroy' removes a bucket")
        name = (await session.hub.account()).username
        if not yes:
            click.confirm(f"Destroy the account {visible(name)} at {session.endpoint}?", abort=True, err=True)
        await session.hub.destroy_account()
        return name, session.profile.name

    account, name = in_session(config, ask)
    file = CredentialsFile(config.paths.credentials_file)
    file.remove(name)
    say(f"The account {account} is destroyed; profile {name} is gone from {file.path}")


@click.command()
@org_option
@settings("identity", "hub", "profile")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def whoami(as_json: bool, **options: Any) -> None:
    """Show who you are at which Hub. The last line is the public key, by which others name you in roles."""

    async def ask(session: Session) -> dict[str, Any]:
        kind, username, email = await _account(session)
        key, behind = await session.me(), session.channel.behind
        return {
            "kind": kind,
            "username": username,
            "email": email,
            "key": key,
            "hub": str(session.endpoint),
            "profile": session.profile.name,
            "clock": None if behind is None else behind_text(behind) or None,
        }

    answer = in_session(configured("mount", options), ask)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    name = {
        "developer": f"{answer['username']} <{answer['email']}>",
        "organization": f"organization {answer['username']}".rstrip(),
        "user": "a user of an app",
    }
    say(f"{name[answer['kind']]} at {answer['hub']}, profile {answer['profile']}")
    if answer["clock"]:
        say(answer["clock"], err=True)
    say(answer["key"])


async def _account(session: Session) -> tuple[str, str, str]:
    """The kind of the acting account, its name, its email address."""
    try:
        if not session.credentials().org:
            found = await session.hub.account()
            return "developer", found.username, found.email
    except Unsupported:
        return "user", "", ""
    except InvalidArgument:
        pass  # the key of an organization
    try:
        return "organization", (await session.hub.org()).slug, ""
    except InvalidArgument:
        return "organization", "", ""  # not every Hub tells such a key which


def in_session(config: Config, ask: Callable[[Session], Awaitable[T]]) -> T:
    """Ask the Hub of a profile about the account itself."""

    async def run() -> T:
        async with open_session(config, manage=True) as session:
            return await ask(session)

    return trio.run(run)


def _enter(config: Config, get_session: Callable[[HubClient], Awaitable[str]], waiting: str) -> None:
    """Get a session, make a key with it, and save both: the key for mounts, the session for what only a session may do."""
    endpoint = _endpoint(config)

    async def explain() -> None:
        await trio.sleep(EXPLAIN_AFTER_S)
        say(waiting, err=True)

    async def run() -> tuple[KeyInfo, str]:
        async with Channel(endpoint, lambda: NO_CREDENTIALS) as channel, trio.open_nursery() as nursery:
            nursery.start_soon(explain)
            session = await get_session(HubClient(channel))
            nursery.cancel_scope.cancel()
        async with Channel(endpoint, lambda: Credentials(session=session)) as channel:
            return await HubClient(channel).create_key(secure=True), session

    made, session = trio.run(run)
    _save(config, Credentials(api_key=made.key, api_secret=made.secret, session=session))


def _asked_for() -> Credentials:
    """A key and its secret, typed by a person or piped in as two lines."""
    if sys.stdin.isatty():
        key = click.prompt("API key", err=True)
        secret = click.prompt(
            "Secret (empty for a key without one)", hide_input=True, default="", show_default=False, err=True
        )
    else:
        key, secret = (sys.stdin.readline() for _ in range(2))
    return Credentials(api_key=key.strip(), api_secret=secret.strip())


def _save(config: Config, credentials: Credentials) -> None:
    """Save credentials that the Hub accepts; others are refused before they replace anything."""
    endpoint = _endpoint(config)
    name = config.general.profile or DEFAULT_PROFILE
    file = CredentialsFile(config.paths.credentials_file)
    key = replace(credentials, session="")
    try:
        who = trio.run(_owner_of, endpoint, key)
    except Unauthenticated as error:
        raise Unauthenticated(f"{endpoint} does not accept this key: {error}", hint=error.hint) from error
    except NotFound as error:
        raise Unauthenticated(f"{endpoint} does not accept this key", hint="check the key and its secret") from error
    old = file.profiles().get(name)
    profile = Profile(name, config.general.hub or str(endpoint), credentials)
    file.save(replace(profile, thread=old.thread) if old is not None and old.hub == profile.hub else profile)
    say(f"Signed in at {endpoint} {who}; the key is in {file.path}, profile {name}")


async def _owner_of(endpoint: Endpoint, credentials: Credentials) -> str:
    """For whom a key acts, in words. Raises Unauthenticated, NotFound when the Hub does not accept it."""
    async with Channel(endpoint, lambda: credentials) as channel:
        client = HubClient(channel)
        # A challenge is what every kind of key may ask for; who answers it does not matter here.
        await ThreadsClient(channel).token(Identity.generate())
        try:
            return f"as {(await client.account()).username}"
        except InvalidArgument:
            return "for an organization"
        except (Unauthenticated, Unsupported):
            return "for the users of an app"


def _endpoint(config: Config) -> Endpoint:
    """The Hub to sign in at: a given one, or that of the profile. The embedded one needs no signing in."""
    if EMBEDDED in (config.general.hub, config.general.profile):
        raise Usage("the embedded Hub needs no account", hint="'bucketfs mount FOLDER' is all")
    if config.general.hub:
        return Endpoint.parse(config.general.hub, insecure=config.general.insecure_transport)
    known = CredentialsFile(Path(config.paths.credentials_file)).profiles().get(config.general.profile or DEFAULT_PROFILE)
    if known is None or not known.hub:
        raise Usage("no Hub is named", hint="give --hub https://HOST")
    return Endpoint.parse(known.hub, insecure=config.general.insecure_transport)
