"""``bucketfs hub …``: run a Hub. What is done to an account on one is in account.py, keys.py and orgs.py."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from bucketfs.cli.hub.account import destroy, init, login, logout, whoami
from bucketfs.cli.hub.keys import key
from bucketfs.cli.hub.orgs import org
from bucketfs.cli.options import configured, settings
from bucketfs.cli.outcome import telling
from bucketfs.cli.printing import say
from bucketfs.cli.status_text import size_text
from bucketfs.config import OWNER_ONLY, Config, parse_seconds
from bucketfs.daemon import (
    give_back_now_and_then,
    keep_freed_memory,
    notify_ready,
    notify_stopping,
    raise_descriptor_limit,
    serve_embedded,
)
from bucketfs.errors import NotFound, Usage

if TYPE_CHECKING:
    from bucketfs.hub import HubConfig

GRACE_LEAST_S = 3600.0
"""What is younger, mounts count on being there (sync/rollback.py)."""


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
    "serve.refuse_insecure_keys",
    "serve.threads_per_owner",
    "serve.buckets_per_owner",
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
    os.umask(OWNER_ONLY)
    raise_descriptor_limit()
    keep_freed_memory()
    give_back_now_and_then()
    if not embedded:
        _serve(config)
        return
    with telling(ready_fd):
        serve_embedded(config, ready_fd)


@hub.command(short_help="Free what no bucket needs any more.")
@settings("serve.data")
@click.option("--grace", metavar="TIME", default="1h", show_default=True, help="Keep blocks that are younger.")
def gc(grace: str, **options: Any) -> None:
    """Delete blocks that no bucket needs from a Hub's stores on this machine. The Hub may be running.

    With less than an hour of --grace a mount may take what was collected for lost, and bring back what somebody has just removed.
    """
    from bucketfs.hub import collect

    config = configured("serve", options)
    if not config.hub_data.is_dir():
        raise NotFound(f"{config.hub_data} holds no Hub", hint="give --data")
    try:
        grace_s = parse_seconds(grace)
    except ValueError as error:
        raise Usage(f"--grace is {grace!r}", hint=f"write {error}") from None
    if grace_s < GRACE_LEAST_S:
        say("Mounts may bring back what somebody has removed within the last hour: they take it for lost", err=True)
    done = collect(_hub_config(config), grace_s)
    freed = size_text(done.bytes_deleted)
    say(f"Deleted {done.blocks_deleted} blocks ({freed}), kept {done.blocks_kept}; removed {done.packs_removed} packs")


def _serve(config: Config) -> None:
    from bucketfs.hub import HubServer, end_process

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server = HubServer(_hub_config(config))
    address = server.start()
    try:
        say(f"Hub serves on {address}, data in {config.hub_data}")
        if config.serve.auto_confirm and not address.startswith("unix:"):
            say("Sign-ins are confirmed without asking: any user of this machine can sign in as any account", err=True)
        notify_ready(f"serves on {address}")
        stop.wait()
        notify_stopping("ends calls")
    finally:
        ended = server.stop()
    if not ended:
        click.echo("Some calls did not end in time and were given up", err=True)
        end_process()


def _hub_config(config: Config) -> HubConfig:
    from bucketfs.hub import HubConfig

    # The settings of [serve] have the names that HubConfig gives them.
    serve = {one.name: getattr(config.serve, one.name) for one in fields(config.serve)}
    return HubConfig(**{**serve, "data": config.hub_data, "gateway_url": config.serve.gateway_url.rstrip("/")})


for _command in (init, login, logout, whoami, destroy, key, org):
    hub.add_command(_command)
