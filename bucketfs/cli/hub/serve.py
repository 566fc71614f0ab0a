"""``bucketfs hub serve`` and ``gc``: running a Hub, and freeing what its buckets no longer need."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import fields
from typing import TYPE_CHECKING

import click

from bucketfs.cli.hub.group import hub
from bucketfs.cli.options import section, settings
from bucketfs.cli.outcome import daemon_command
from bucketfs.cli.printing import print_line, size_text
from bucketfs.config import OWNER_ONLY, Config, parse_seconds
from bucketfs.daemon import (
    keep_freed_memory,
    notify_ready,
    notify_stopping,
    raise_descriptor_limit,
    return_free_memory_regularly,
    serve_embedded,
)
from bucketfs.errors import NotFound, Usage

if TYPE_CHECKING:
    from bucketfs.hub import HubConfig

GRACE_LEAST_S = 3600.0
"""Mounts rely on younger blocks being there."""


@hub.command()
@click.option("--embedded", is_flag=True, hidden=True)
@daemon_command
@settings(*section("serve"))
def serve(config: Config, embedded: bool, ready_fd: int | None) -> None:
    """Run a Hub in the foreground until it is interrupted.

    The URL of another database than SQLite may hold a password, so it is read from the configuration (serve.database) or
    BUCKETFS_SERVE_DATABASE only.
    """
    os.umask(OWNER_ONLY)
    raise_descriptor_limit()
    keep_freed_memory()
    return_free_memory_regularly()
    if embedded:
        serve_embedded(config, ready_fd)
    else:
        _serve(config)


@hub.command(short_help="Free what no bucket needs any more.")
@settings("serve.data")
@click.option("--grace", metavar="TIME", default="1h", show_default=True, help="Keep blocks that are younger.")
def gc(config: Config, grace: str) -> None:
    """Delete blocks that no bucket needs from a Hub's stores on this machine. The Hub may be running.

    With a --grace of less than an hour, a mount may take such blocks for lost and restore what another user has just removed.
    """
    from bucketfs.hub import collect

    if not config.hub_data.is_dir():
        raise NotFound(f"{config.hub_data} holds no Hub", hint="give --data")
    try:
        grace_s = parse_seconds(grace)
    except ValueError as error:
        raise Usage(f"--grace is {grace!r}", hint=f"write {error}") from None
    if grace_s < GRACE_LEAST_S:
        print_line("Mounts may restore what was removed within the last hour, because they take it for lost", err=True)
    done = collect(_hub_config(config), grace_s)
    freed = size_text(done.bytes_deleted)
    print_line(
        f"Deleted {done.blocks_deleted} blocks ({freed}), kept {done.blocks_kept}; removed {done.packs_removed} packs"
    )


def _serve(config: Config) -> None:
    from bucketfs.hub import HubServer, end_process

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server = HubServer(_hub_config(config))
    address = server.start()
    try:
        print_line(f"Hub serves on {address}, data in {config.hub_data}")
        for what, at in (("web clients", server.config.web_listen), ("web pages", server.config.gateway_listen)):
            if at:
                print_line(f"Hub serves {what} on http://{at}")
        if config.serve.auto_confirm and not address.startswith("unix:"):
            print_line("Sign-ins are not confirmed: any user of this machine can sign in as any account", err=True)
        notify_ready(f"serves on {address}")
        stop.wait()
        notify_stopping("finishes calls")
    finally:
        ended = server.stop()
    if not ended:
        print_line("Some calls did not finish in time and were aborted", err=True)
        end_process()


def _hub_config(config: Config) -> HubConfig:
    from bucketfs.hub import HubConfig

    # The settings of [serve] have the names that HubConfig gives them.
    serve = {one.name: getattr(config.serve, one.name) for one in fields(config.serve)}
    serve["gateway_url"] = config.serve.gateway_url.rstrip("/")
    serve["confirm_secret"] = config.serve.confirm_secret or None
    serve["gateway_listen"] = {"": None, "off": ""}.get(config.serve.gateway_listen, config.serve.gateway_listen)
    return HubConfig(**{**serve, "data": config.hub_data})
