"""``bucketfs hub``: the commands that run a Hub, and those about the account on one.

A command is a function in a file named here, with ``@hub.command()`` on top; ``@managing`` opens the session of one about the
account. Uses `acting`, `options` and `printing` of the room above.
"""

from bucketfs.cli.hub import account, keys, mail, orgs, serve
from bucketfs.cli.hub.group import hub

__all__ = ["hub"]

COMMANDS = (serve, account, keys, mail, orgs)
"""Importing them has added their commands to the group."""
