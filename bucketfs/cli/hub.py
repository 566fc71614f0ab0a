"""``bucketfs hub …``: run a Hub, and the account on one."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import trio

from bucketfs.cli.options import configured, settings
from bucketfs.cli.outcome import telling
from bucketfs.cli.report import size_text
from bucketfs.client import NO_CREDENTIALS, Channel, Credentials, Endpoint, HubClient, KeyInfo, KeyType, public_key_text
from bucketfs.daemon import (
    DEFAULT_PROFILE,
    EMBEDDED,
    Config,
    CredentialsFile,
    Profile,
    Session,
    keep_freed_memory,
    notify_ready,
    notify_stopping,
    open_session,
    parse_seconds,
    serve_embedded,
)
from bucketfs.errors import NotFound, Unauthenticated, Usage

if TYPE_CHECKING:
    from bucketfs.hub import HubConfig

T = TypeVar("T")

EXPLAIN_AFTER_S = 2.0
"""A Hub that sends no mail answers at once, and one that is away is away at once; then there is nothing to wait for."""


@click.group()
def hub() -> None:
    """Run a Hub, or manage the account on one."""


# Running one


@hub.command()
@settings(
    "serve.data",
    "serve.listen",
    "serve.tls_cert",
    "serve.tls_key",
    "serve.plaintext",
    "serve.gateway_url",
    "serve.bucket_domain",
    "serve.auto_confirm",
    "serve.threads_per_owner",
    "serve.account_size",
    "serve.bucket_size",
)
@click.option("--embedded", is_flag=True, hidden=True)
@click.option("--ready-fd", type=int, default=None, hidden=True)
def serve(embedded: bool, ready_fd: int | None, **options: Any) -> None:
    """Run a Hub in the foreground until it is interrupted.

    The URL of another database than SQLite may hold a password, so it is read from the configuration (serve.database) or
    BUCKETFS_SERVE_DATABASE only.
    """
    config = configured("serve", options)
    keep_freed_memory()
    if not embedded:
        _serve(config)
        return
    with telling(ready_fd):
        serve_embedded(config, ready_fd)


@hub.command()
@settings("serve.data")
@click.option("--grace", metavar="TIME", default="1h", show_default=True, help="Keep blocks that are younger.")
def gc(grace: str, **options: Any) -> None:
    """Delete blocks that no bucket needs from a Hub's stores on this machine. The Hub may be running."""
    from bucketfs.hub import collect

    config = configured("serve", options)
    if not config.hub_data.is_dir():
        raise NotFound(f"{config.hub_data} holds no Hub", hint="give --data")
    try:
        grace_s = parse_seconds(grace)
    except ValueError as error:
        raise Usage(f"--grace is {grace!r}", hint=f"write {error}") from None
    done = collect(_hub_config(config), grace_s)
    freed = size_text(done.bytes_deleted)
    click.echo(
        f"Deleted {done.blocks_deleted} blocks ({freed}), kept {done.blocks_kept}; removed {done.packs_removed} packs"
    )


def _serve(config: Config) -> None:
    from bucketfs.hub import HubServer

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server = HubServer(_hub_config(config))
    address = server.start()
    try:
        click.echo(f"Hub serves on {address}, data in {config.hub_data}")
        notify_ready(f"serves on {address}")
        stop.wait()
        notify_stopping("ends calls")
    finally:
        server.stop()


def _hub_config(config: Config) -> HubConfig:
    from bucketfs.hub import HubConfig

    return HubConfig(
        data=config.hub_data,
        listen=config["serve.listen"],
        tls_cert=config["serve.tls_cert"],
        tls_key=config["serve.tls_key"],
        plaintext=config["serve.plaintext"],
        metadata_url=config["serve.database"],
        gateway_url=config["serve.gateway_url"].rstrip("/"),
        bucket_domain=config["serve.bucket_domain"],
        auto_confirm=config["serve.auto_confirm"],
        threads_per_owner_max=config["serve.threads_per_owner"],
        account_bytes_max=config["serve.account_size"],
        bucket_bytes_max=config["serve.bucket_size"],
    )


# The account


@hub.command()
@click.argument("username")
@click.argument("email")
@settings("hub", "profile")
def init(username: str, email: str, **options: Any) -> None:
    """Sign up at a Hub. Waits until you open the link in its mail, then saves a key of the new account."""
    config = configured("mount", options)

    async def signup(client: HubClient) -> str:
        return (await client.signup(username, email)).session

    _enter(config, signup, f"Waiting for the link in the mail to {email} to be opened …")


@hub.command()
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


@hub.command()
@settings("hub", "profile")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def whoami(as_json: bool, **options: Any) -> None:
    """Show who you are at which Hub."""

    async def ask(session: Session) -> dict[str, str]:
        account = await session.hub.account()
        return {
            "username": account.username,
            "email": account.email,
            "key": public_key_text(account.key[4:]),
            "hub": str(session.endpoint),
            "profile": session.profile.name,
        }

    answer = _in_session(configured("mount", options), ask)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    else:
        click.echo(f"{answer['username']} <{answer['email']}> at {answer['hub']}, profile {answer['profile']}")
        click.echo(answer["key"])


@hub.group()
def key() -> None:
    """API keys of the account."""


@key.command()
@click.option("--user", is_flag=True, help="A key for users who bring tokens of their own, in place of one for the account.")
@click.option("--insecure", is_flag=True, help="A key that works without its secret, as browsers need it.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@settings("hub", "profile")
def create(user: bool, insecure: bool, as_json: bool, **options: Any) -> None:
    """Make an API key and show it, with its secret, this once."""

    async def ask(session: Session) -> KeyInfo:
        return await session.hub.create_key(KeyType.USER if user else KeyType.ACCOUNT, secure=not insecure)

    made = _in_session(configured("mount", options), ask)
    if as_json:
        click.echo(json.dumps({**_described(made), "secret": made.secret}, indent=2))
    else:
        click.echo(f"key    {made.key}\nsecret {made.secret}")


@key.command("ls")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@settings("hub", "profile")
def list_keys(as_json: bool, **options: Any) -> None:
    """List the account's API keys, without their secrets."""

    async def ask(session: Session) -> list[dict[str, Any]]:
        return [_described(info) for info in await session.hub.keys()]

    keys = _in_session(configured("mount", options), ask)
    if as_json:
        click.echo(json.dumps(keys, indent=2))
        return
    for info in keys:
        state = "valid" if info["valid"] else "invalid"
        click.echo(f"{info['key']}  {info['type']:7}  {'secure' if info['secure'] else 'insecure':8}  {state}")


@key.command()
@click.argument("api_key", metavar="KEY")
@settings("hub", "profile")
def invalidate(api_key: str, **options: Any) -> None:
    """End an API key for good."""

    async def ask(session: Session) -> None:
        await session.hub.invalidate_key(api_key)

    _in_session(configured("mount", options), ask)


def _described(info: KeyInfo) -> dict[str, Any]:
    return {
        "key": info.key,
        "type": info.type.name.lower(),
        "secure": info.secure,
        "valid": info.valid,
        "threads": info.threads,
    }


def _in_session(config: Config, ask: Callable[[Session], Awaitable[T]]) -> T:
    async def run() -> T:
        async with open_session("", "", config) as session:
            return await ask(session)

    return trio.run(run)


def _enter(config: Config, get_session: Callable[[HubClient], Awaitable[str]], waiting: str) -> None:
    """Get a session, make a key with it, end the session, save the key."""
    endpoint = _endpoint(config)

    async def explain() -> None:
        await trio.sleep(EXPLAIN_AFTER_S)
        click.echo(waiting, err=True)

    async def run() -> KeyInfo:
        async with Channel(endpoint, lambda: NO_CREDENTIALS) as channel, trio.open_nursery() as nursery:
            nursery.start_soon(explain)
            session = await get_session(HubClient(channel))
            nursery.cancel_scope.cancel()
        async with Channel(endpoint, lambda: Credentials(session=session)) as channel:
            client = HubClient(channel)
            made = await client.create_key(secure=True)
            await client.signout()
        return made

    made = trio.run(run)
    _save(config, Credentials(api_key=made.key, api_secret=made.secret))


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
    name = config.profile or DEFAULT_PROFILE
    file = CredentialsFile(config.places.credentials_file)

    async def check() -> str:
        async with Channel(endpoint, lambda: credentials) as channel:
            return (await HubClient(channel).account()).username

    try:
        username = trio.run(check)
    except (Unauthenticated, NotFound) as error:
        raise Unauthenticated(f"{endpoint} does not accept this key", hint="check the key and its secret") from error
    old = file.profiles().get(name)
    profile = Profile(name, config.hub or str(endpoint), credentials)
    file.save(replace(profile, thread=old.thread) if old is not None and old.hub == profile.hub else profile)
    click.echo(f"Signed in at {endpoint} as {username}; the key is in {file.path}, profile {name}")


def _endpoint(config: Config) -> Endpoint:
    """The Hub to sign in at: a given one, or that of the profile. The embedded one needs no signing in."""
    if EMBEDDED in (config.hub, config.profile):
        raise Usage("the embedded Hub needs no account", hint="'bucketfs mount FOLDER' is all")
    if config.hub:
        return Endpoint.parse(config.hub)
    known = CredentialsFile(Path(config.places.credentials_file)).profiles().get(config.profile or DEFAULT_PROFILE)
    if known is None or not known.hub:
        raise Usage("no Hub is named", hint="give --hub HOST:PORT")
    return Endpoint.parse(known.hub)
