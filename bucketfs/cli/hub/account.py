"""``bucketfs hub init|login|logout|destroy|whoami``: an account on a Hub, and the profile that remembers it."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace

import click
import trio

from bucketfs.cli.hub.group import hub, managing
from bucketfs.cli.options import json_option, settings, yes_option
from bucketfs.cli.printing import print_json, print_line
from bucketfs.client import NO_CREDENTIALS, Channel, Credentials, Endpoint, HubClient, KeyInfo, ThreadsClient, behind_text
from bucketfs.config import DEFAULT_PROFILE, EMBEDDED, Config, CredentialsFile, Profile
from bucketfs.daemon import Session
from bucketfs.errors import Denied, InvalidArgument, NotFound, Unauthenticated, Unsupported, Usage
from bucketfs.keys import Identity
from bucketfs.quoting import visible

EXPLAIN_AFTER_S = 2.0
"""A Hub that waits for a link to be opened has not answered by then; one that sends no mail, or is away, has."""


@hub.command()
@click.argument("username")
@click.argument("email")
@settings("hub", "profile")
def init(config: Config, username: str, email: str) -> None:
    """Sign up at a Hub. Waits until you open the link in its mail, then saves a session and a key of the new account."""

    async def signup(client: HubClient) -> str:
        return await client.signup(username, email)

    _enter(config, signup, f"Waiting until you open the link in the mail to {email} …")


@hub.command(short_help="Sign in at a Hub, or save a key for it.")
@click.argument("username", required=False)
@click.option("--key", "with_key", is_flag=True, help="Ask for an API key and its secret instead of sending a mail.")
@settings("hub", "profile")
def login(config: Config, username: str | None, with_key: bool) -> None:
    """Sign in with a user name or email address, or with a key you have. Secrets are asked for, never taken as arguments."""
    if with_key:
        _save(config, _ask_for_key())
        return
    if not username:
        raise Usage("login needs a user name or an email address", hint="or --key, to be asked for an API key")

    async def signin(client: HubClient) -> str:
        return await client.signin(username)

    _enter(config, signin, "Waiting until you open the link in the mail …")


@hub.command(short_help="Sign out at a Hub.")
@click.option("--forget", is_flag=True, help="Only forget the profile: do not call the Hub, which may be gone.")
@settings("profile")
def logout(config: Config, forget: bool) -> None:
    """Sign out: end the session, and the key that signing in made, and forget both. A key of 'login --key' is only
    forgotten."""
    if config.general.profile == EMBEDDED:
        raise Usage("the embedded Hub has no session to end")
    file, name = _credentials_file(config), _profile_name(config)
    profile = file.profiles().get(name)
    if profile is None:
        raise NotFound(f"{file.path} has no profile {name!r}")
    if profile.credentials.session and not forget:
        try:
            trio.run(_end_session, config, profile)
        except Unauthenticated:
            print_line("The session had ended already; the key stays as it is", err=True)
    file.remove(name)
    print_line(f"Signed out at {profile.hub}; profile {name} was removed from {file.path}")


async def _end_session(config: Config, profile: Profile) -> None:
    endpoint = Endpoint.parse(profile.hub, insecure=config.general.insecure_transport)
    key, session = profile.credentials.api_key, Credentials(session=profile.credentials.session)
    async with Channel(endpoint, lambda: session) as channel:
        client = HubClient(channel)
        if key:
            try:
                await client.invalidate_key(key)
            except (NotFound, Denied):
                print_line(f"The key {key} belongs to another account and stays valid", err=True)
        await client.signout()


@hub.command()
@yes_option
@managing("hub", "profile")
async def destroy(session: Session, yes: bool) -> None:
    """Destroy your account at a Hub, with its keys and threads. Refused while you, or users of your keys, have buckets, and
    while you are in organizations."""
    if session.embedded:
        raise Usage("the account at the embedded Hub cannot be destroyed", hint="'bucketfs buck destroy' removes a bucket")
    name = (await session.hub.account()).username
    if not yes:
        click.confirm(f"Destroy the account {visible(name)} at {session.endpoint}?", abort=True, err=True)
    await session.hub.destroy_account()
    file, profile = _credentials_file(session.config), session.profile.name
    file.remove(profile)
    print_line(f"The account {name} is destroyed; profile {profile} was removed from {file.path}")


@hub.command()
@json_option
@managing("-o", "identity", "hub", "profile")
async def whoami(session: Session, as_json: bool) -> None:
    """Show who you are at which Hub. The last line is the public key, by which others name you in roles."""
    kind, username, email = await _account(session)
    key, behind = await session.me(), session.channel.behind
    clock = None if behind is None else behind_text(behind) or None
    hub, profile = str(session.endpoint), session.profile.name
    if as_json:
        document = {"kind": kind, "username": username, "email": email, "key": key}
        print_json({**document, "hub": hub, "profile": profile, "clock": clock})
        return
    name = {
        "developer": f"{username} <{email}>",
        "organization": f"organization {username}".rstrip(),
        "user": "a user of an app",
    }
    print_line(f"{name[kind]} at {hub}, profile {profile}")
    if clock:
        print_line(clock, err=True)
    print_line(key)


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
        return "organization", "", ""  # Textile's Hub does not say which one a key belongs to


def _enter(config: Config, get_session: Callable[[HubClient], Awaitable[str]], waiting: str) -> None:
    """Get a session, make a key with it, and save both: the key for mounts, the session for what only a session may do."""
    endpoint = _endpoint(config)

    async def explain() -> None:
        await trio.sleep(EXPLAIN_AFTER_S)
        print_line(waiting, err=True)

    async def run() -> tuple[KeyInfo, str]:
        async with Channel(endpoint, lambda: NO_CREDENTIALS) as channel, trio.open_nursery() as nursery:
            nursery.start_soon(explain)
            session = await get_session(HubClient(channel))
            nursery.cancel_scope.cancel()
        async with Channel(endpoint, lambda: Credentials(session=session)) as channel:
            return await HubClient(channel).create_key(secure=True), session

    made, session = trio.run(run)
    _save(config, Credentials(api_key=made.key, api_secret=made.secret, session=session))


def _ask_for_key() -> Credentials:
    """A key and its secret, typed on a terminal or piped in as two lines."""
    if sys.stdin.isatty():
        key = click.prompt("API key", err=True)
        secret = click.prompt(
            "Secret (empty for a key without one)", hide_input=True, default="", show_default=False, err=True
        )
    else:
        key, secret = (sys.stdin.readline() for _ in range(2))
    return Credentials(api_key=key.strip(), api_secret=secret.strip())


def _save(config: Config, credentials: Credentials) -> None:
    """Save credentials that the Hub accepts. Others are refused before they replace anything."""
    endpoint = _endpoint(config)
    file, name = _credentials_file(config), _profile_name(config)
    try:
        owner = trio.run(_owner_of, endpoint, replace(credentials, session=""))
    except Unauthenticated as error:
        raise Unauthenticated(f"{endpoint} does not accept this key: {error}", hint=error.hint) from error
    except NotFound as error:
        raise Unauthenticated(f"{endpoint} does not accept this key", hint="check the key and its secret") from error
    old = file.profiles().get(name)
    profile = Profile(name, config.general.hub or str(endpoint), credentials)
    file.save(replace(profile, thread=old.thread) if old is not None and old.hub == profile.hub else profile)
    print_line(f"Signed in at {endpoint} {owner}; the key is in {file.path}, profile {name}")


async def _owner_of(endpoint: Endpoint, credentials: Credentials) -> str:
    """For whom a key acts, in words. Raises Unauthenticated, NotFound when the Hub does not accept it."""
    async with Channel(endpoint, lambda: credentials) as channel:
        client = HubClient(channel)
        # Every kind of key may ask for a challenge, so this call tells whether the key is valid. Any identity will do.
        await ThreadsClient(channel).token(Identity.generate())
        try:
            return f"as {(await client.account()).username}"
        except InvalidArgument:
            return "for an organization"
        except (Unauthenticated, Unsupported):
            return "for the users of an app"


def _endpoint(config: Config) -> Endpoint:
    """The Hub to sign in at: a given one, or that of the profile. Raises Usage for the embedded one."""
    general = config.general
    if EMBEDDED in (general.hub, general.profile):
        raise Usage("the embedded Hub needs no account", hint="'bucketfs mount FOLDER' is all")
    profile = _credentials_file(config).profiles().get(_profile_name(config))
    address = general.hub or (profile.hub if profile is not None else "")
    if not address:
        raise Usage("no Hub is named", hint="give --hub https://HOST")
    return Endpoint.parse(address, insecure=general.insecure_transport)


def _credentials_file(config: Config) -> CredentialsFile:
    return CredentialsFile(config.paths.credentials_file)


def _profile_name(config: Config) -> str:
    return config.general.profile or DEFAULT_PROFILE
