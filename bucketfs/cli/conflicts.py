"""``bucketfs conflicts``: what both sides had changed, and which version the user wants."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from bucketfs.cli.find_mounts import ask_mount, listening_mounts, mount_around, paths_of_user
from bucketfs.cli.options import LocalPath
from bucketfs.cli.outcome import raise_all
from bucketfs.cli.printing import named, say
from bucketfs.config import Paths
from bucketfs.errors import BucketfsError, Usage
from bucketfs.mount import Mounted

CHOICES = ("keep-mine", "keep-theirs", "keep-both")
TIMEOUT_S = 60.0


@click.command(short_help="What was changed here and elsewhere; choose a version.")
@click.argument("path", required=False, type=LocalPath())
@click.option(
    "--resolve",
    "keep",
    type=click.Choice(CHOICES),
    help="keep-mine: what was written here takes the name. keep-theirs: what the Hub had keeps it. The other version is removed. "
    "keep-both: the files stay, the conflict is off the list.",
)
@click.option("--all", "everything", is_flag=True, help="Resolve all that are listed, not one.")
@click.option("--json", "as_json", is_flag=True, help="For programs: a document.")
def conflicts(path: str | None, keep: str | None, everything: bool, as_json: bool) -> None:
    """List the files that were changed here and elsewhere, or choose one version of them.

    PATH is such a file, its copy, or a folder (default: all mounts). Both versions are kept until you choose.
    """
    if everything and keep is None:
        raise Usage("--all says what to resolve", hint="add --resolve, or leave it out")
    paths = paths_of_user()
    if path is not None:
        chosen = [mount_around(paths, path)]
    else:
        chosen = [(mounted, "") for mounted in listening_mounts(paths)]
    if keep is None:
        _list(paths, chosen, as_json)
        return
    if path is None and not everything:
        count = sum(len(_listed(paths, mounted, inside)) for mounted, inside in chosen)
        raise Usage(f"{count} conflicts could be meant", hint="name one, or give --all")
    _resolve(paths, chosen, keep, everything, as_json)


def _listed(paths: Paths, mounted: Mounted, inside: str) -> list[dict[str, Any]]:
    return list(ask_mount(paths, mounted, "conflicts", {"path": inside}, timeout_s=TIMEOUT_S)["conflicts"])


def _list(paths: Paths, chosen: list[tuple[Mounted, str]], as_json: bool) -> None:
    found: list[dict[str, Any]] = []
    failures: list[BucketfsError] = []
    for mounted, inside in chosen:
        # One mount in trouble must not hide what the others have.
        try:
            found += _listed(paths, mounted, inside)
        except BucketfsError as error:
            failures.append(error)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif found or not failures:
        _show(found)
    raise_all(failures)


def _show(found: list[dict[str, Any]]) -> None:
    if not found:
        say("No conflicts.")
        return
    for document in found:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(document["time_s"]))
        whose, other = ("yours", "the Hub's") if document["copy_is"] == "mine" else ("the Hub's", "yours")
        say(f"{named(document['original'])}: {other} has the name; since {when} {whose} is beside it:")
        say(f"  {named(document['copy'])}")
    say("Both versions are kept. 'bucketfs conflicts --resolve keep-mine|keep-theirs|keep-both PATH' settles one.")


def _resolve(paths: Paths, chosen: list[tuple[Mounted, str]], keep: str, everything: bool, as_json: bool) -> None:
    resolved: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    failures: list[BucketfsError] = []
    for mounted, inside in chosen:
        arguments = {"path": inside, "keep": keep, "all": everything}
        # What was done in one mount is told, whatever is the matter with the others.
        try:
            answer = ask_mount(paths, mounted, "resolve", arguments, timeout_s=TIMEOUT_S)
        except BucketfsError as error:
            failures.append(error)
            continue
        resolved += answer["resolved"]
        failed += answer["failed"]
    failures += [BucketfsError(f"{one['original']}: {one['error']}", hint=one["hint"]) for one in failed]
    if as_json:
        click.echo(json.dumps({"resolved": resolved, "failed": failed}, indent=2))
    elif not resolved and not failures:
        say("No conflicts.")
    for document in resolved if not as_json else ():
        say(f"{named(document['original'])}: {_DONE[keep]}")
    raise_all(failures)


_DONE = {"keep-mine": "yours is kept", "keep-theirs": "the Hub's is kept", "keep-both": "both are kept"}
