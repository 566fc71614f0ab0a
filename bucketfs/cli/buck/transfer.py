"""``bucketfs buck push`` and ``pull``: a local folder or file into a bucket, and back."""

from __future__ import annotations

import functools
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from bucketfs.cli.buck.group import acting_in_order, buck
from bucketfs.cli.buck.output import TransferProgress, print_outcome
from bucketfs.cli.buck.pipe import spool, spooled
from bucketfs.cli.buck.target import find_target, names_folder
from bucketfs.cli.options import Command, LocalPath, asks_first, json_option
from bucketfs.config import Config, make_private
from bucketfs.daemon import Session
from bucketfs.errors import IsADirectory, NotFound, Usage
from bucketfs.transfer import Preserve, PullOptions, PushOptions, Temporaries, listed_temporaries, pull_folder, push_folder

NAME_WANTED = "write BUCKET/PATH with the name that the file gets"

_reread = click.option("--reread", is_flag=True, help="Compare large files by content even if size and mtime agree.")


def preserve_options(command: Command) -> Command:
    """Options for what the process of root may take over from a bucket; the command receives them as ``preserve``. Raises Usage for
    another user."""

    @click.option("--owner", is_flag=True, help="Root only: give files the uid and gid that the bucket says.")
    @click.option("--special-modes", is_flag=True, help="Root only: also set-user-id and set-group-id.")
    @functools.wraps(command)
    def with_preserve(*arguments: Any, owner: bool, special_modes: bool, **options: Any) -> Any:
        if (owner or special_modes) and os.geteuid() != 0:
            raise Usage("--owner and --special-modes are for root only", hint="leave them out, or run it as root")
        return command(*arguments, preserve=Preserve(owner=owner, special_modes=special_modes), **options)

    return with_preserve


def temporaries_folder(config: Config) -> Path:
    """The folder where the user's runs list the files that they write aside."""
    return config.paths.state / "aside"


def _check_pipe(options: dict[str, Any]) -> None:
    if options["local"] == "-" and names_folder(options["place"]):
        raise Usage("the standard input has no name", hint=NAME_WANTED)


@buck.command()
@click.argument("local", type=click.Path(exists=True, allow_dash=True))
@click.argument("place", metavar="BUCKET[/PATH]")
@click.option("--delete", is_flag=True, help="Remove from the bucket what is not in LOCAL, or of another kind there.")
@click.option("--no-attributes", is_flag=True, help="Leave out mode and mtime: other clients then make the same CIDs.")
@_reread
@json_option
@asks_first(_check_pipe)
@acting_in_order
async def push(
    session: Session, local: str, place: str, delete: bool, no_attributes: bool, reread: bool, as_json: bool
) -> None:
    """Put a folder or file LOCAL into a bucket.

    All of it appears at one moment, and only what the Hub lacks is sent. A file goes into PATH when that is a folder, or ends in a
    slash. LOCAL may be -, the standard input, which is kept in the cache folder until it is pushed.
    """
    # Compared as text: a Path of ./-, which is a file, would be equal.
    piped, into = local == "-", names_folder(place)
    target = await find_target(session, place)
    await target.need_native()
    options = PushOptions(attributes=not no_attributes, delete=delete, reread=reread, into=into, exact=piped)
    with ExitStack() as stack:
        source = Path(local)
        if piped:
            try:
                if (await target.item()).is_directory:
                    raise IsADirectory(f"{target.shown} is a folder, and the standard input has no name", hint=NAME_WANTED)
            except NotFound:
                pass  # a new file
            source = stack.enter_context(spooled(session.config.paths.cache))
            await spool(source)
        progress = stack.enter_context(TransferProgress("Pushing", as_json))
        temporaries = Temporaries(temporaries_folder(session.config))
        figures = await push_folder(target.remote, source, target.names, options, progress.update, temporaries=temporaries)
    print_outcome(figures, as_json)


@buck.command()
@click.argument("place", metavar="BUCKET[/PATH]")
@click.argument("local", type=LocalPath())
@click.option("--delete", is_flag=True, help="Remove from LOCAL what is not in the bucket, or of another kind there.")
@_reread
@preserve_options
@json_option
@acting_in_order
async def pull(
    session: Session, place: str, local: str, delete: bool, reread: bool, preserve: Preserve, as_json: bool
) -> None:
    """Make LOCAL what is in a bucket. Fetches and writes only what is not there.

    A file goes into LOCAL when that is a folder, or ends in a slash.
    """
    into = os.path.basename(local) in ("", ".", "..")
    options = PullOptions(delete=delete, reread=reread, into=into, preserve=preserve)
    target = await find_target(session, place)
    await target.need_native()
    if names_folder(place):
        await target.item()  # refuses a slash at the end of a file
    top = Path(local)
    with (
        listed_temporaries(make_private(temporaries_folder(session.config)), top) as temporaries,
        TransferProgress("Pulling", as_json) as progress,
    ):
        figures = await pull_folder(target.remote, top, target.names, options, progress.update, temporaries=temporaries)
    print_outcome(figures, as_json)
