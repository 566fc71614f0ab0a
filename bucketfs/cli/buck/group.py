"""The group ``bucketfs buck``, and the settings that its commands share: who acts, on the buckets of which thread."""

from __future__ import annotations

import click

from bucketfs.cli.acting import in_session

ACTING = ("-o", "identity", "thread", "hub", "profile")

acting = in_session(*ACTING)
"""Makes ``async def command(session, …)`` a command about buckets."""

acting_in_order = in_session(*ACTING, in_order=True)
"""The same for a command that has something to clean up when a signal ends it."""


@click.group()
def buck() -> None:
    """Buckets and what is in them, without a mount. BUCKET is a name or a key."""
