"""The group ``bucketfs hub``, and how its commands about an account act: by session, when there is one."""

from __future__ import annotations

from functools import partial

import click

from bucketfs.cli.acting import in_session

managing = partial(in_session, manage=True)
"""Makes ``async def command(session, …)`` a command about the account: ``@managing("hub", "profile")``."""


@click.group()
def hub() -> None:
    """Run a Hub, or manage the account on one."""
