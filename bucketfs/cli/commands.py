"""The group ``bucketfs``, and where its commands are: a module is imported when one of its commands is used or shows help."""

from __future__ import annotations

import importlib
import logging
import sys

import click

from bucketfs import __version__
from bucketfs.cli.interrupts import importing
from bucketfs.daemon import JournalFormatter, LineFormatter, journal_listens

_COMMANDS = {
    "mount": "bucketfs.cli.mount:mount",
    "umount": "bucketfs.cli.running:umount",
    "status": "bucketfs.cli.running:status",
    "sync": "bucketfs.cli.running:sync",
    "conflicts": "bucketfs.cli.conflicts:conflicts",
    "recover": "bucketfs.cli.recover:recover",
    "events": "bucketfs.cli.events:events",
    "hub": "bucketfs.cli.hub:hub",
    "buck": "bucketfs.cli.buck:buck",
}


class LateGroup(click.Group):
    """A group whose commands are imported late: gRPC alone takes longer to load than most commands to run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = _COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        with importing():
            command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=LateGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bucketfs", message="%(prog)s %(version)s")
@click.option("-v", "--verbose", is_flag=True, help="Show more: the causes of an error, and what is done.")
def bucketfs(verbose: bool) -> None:
    """Mounts content-addressed Hub buckets as a folder.

    \b
    bucketfs mount ~/Buckets        all buckets as folders
    bucketfs mount home ~/Home      one bucket
    """
    log_to_standard_error(verbose)


def log_to_standard_error(verbose: bool) -> None:
    """Log in the form that a person, or the journal of systemd, reads."""
    handler = logging.StreamHandler(sys.stderr)
    if journal_listens():
        handler.setFormatter(JournalFormatter())
    else:
        handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])
