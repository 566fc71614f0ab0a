"""``bucketfs conflicts``: files that were changed on both sides, and choosing a version of them."""

from __future__ import annotations

import click

from bucketfs.cli.find_mounts import Document, UserMounts, with_mounts
from bucketfs.cli.options import LocalPath, json_option
from bucketfs.cli.outcome import raise_all
from bucketfs.cli.printing import clock_text, print_json, print_line, quoted_name
from bucketfs.errors import BucketfsError, Usage
from bucketfs.mount import Mounted

_DONE = {"keep-mine": "your version is kept", "keep-theirs": "the Hub's version is kept", "keep-both": "both are kept"}
TIMEOUT_S = 60.0


@click.command(short_help="List files changed here and elsewhere; choose a version.")
@click.argument("path", required=False, type=LocalPath())
@click.option(
    "--resolve",
    "keep",
    type=click.Choice(list(_DONE)),
    help="keep-mine: your version takes the name. keep-theirs: the Hub's version keeps it. The other version is removed. "
    "keep-both: both files stay; the conflict leaves the list.",
)
@click.option("--all", "everything", is_flag=True, help="Resolve all that are listed, not one.")
@json_option
@with_mounts
def conflicts(mounts: UserMounts, path: str | None, keep: str | None, everything: bool, as_json: bool) -> None:
    """List the files that were changed here and elsewhere, or choose one version of them.

    PATH is such a file, its copy, or a folder (default: all mounts). Both versions are kept until you choose.
    """
    if everything and keep is None:
        raise Usage("--all is for --resolve", hint="add --resolve, or leave it out")
    meant = mounts.meant(path)
    if keep is not None and (path is not None or everything):
        _resolve(mounts, meant, keep, everything, as_json)
        return
    answers, failures = mounts.ask_each(meant, "conflicts", {}, timeout_s=TIMEOUT_S)
    found = [document for answer in answers for document in answer["conflicts"]]
    if keep is not None:
        raise_all(failures)
        raise Usage(f"{len(found)} conflicts could be meant", hint="name one, or give --all")
    if as_json:
        print_json(found)
    elif found or not failures:
        _print_list(found)
    raise_all(failures)


def _print_list(found: list[Document]) -> None:
    if not found:
        print_line("No conflicts.")
        return
    for document in found:
        mine, theirs = "your version", "the Hub's version"
        copy, original = (mine, theirs) if document["copy_is"] == "mine" else (theirs, mine)
        print_line(
            f"{quoted_name(document['original'])} is {original}; since {clock_text(document['time_s'])} {copy} is beside it:"
        )
        print_line(f"  {quoted_name(document['copy'])}")
    print_line("Both versions are kept. 'bucketfs conflicts --resolve keep-mine|keep-theirs|keep-both PATH' resolves one.")


def _resolve(mounts: UserMounts, meant: list[tuple[Mounted, str]], keep: str, everything: bool, as_json: bool) -> None:
    arguments = {"keep": keep, "all": everything}
    answers, failures = mounts.ask_each(meant, "resolve", arguments, timeout_s=TIMEOUT_S)
    resolved = [document for answer in answers for document in answer["resolved"]]
    failed = [document for answer in answers for document in answer["failed"]]
    failures += [BucketfsError(f"{one['original']}: {one['error']}", hint=one["hint"]) for one in failed]
    if as_json:
        print_json({"resolved": resolved, "failed": failed})
    elif not resolved and not failures:
        print_line("No conflicts.")
    else:
        for document in resolved:
            print_line(f"{quoted_name(document['original'])}: {_DONE[keep]}")
    raise_all(failures)
