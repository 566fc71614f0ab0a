"""``bucketfs buck``: the commands about buckets and what is in them, without a mount.

A command is one ``async def`` in a file named here, with ``@buck.command()`` on top: ``@acting`` opens its session, `target` finds
what BUCKET/PATH names, and `output` prints. Uses `acting`, `options`, `printing` and `progress` of the room above.
"""

from bucketfs.cli.buck import contents, roles, transfer, watch
from bucketfs.cli.buck.group import buck

__all__ = ["buck"]

COMMANDS = (contents, transfer, roles, watch)
"""Importing them has added their commands to the group."""
