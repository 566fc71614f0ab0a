"""``bucketfs recover``: changes that can never be applied, because blocks that they were made on are lost."""

from __future__ import annotations

import os

import click

from bucketfs.cli.find_mounts import Document, UserMounts, with_mounts
from bucketfs.cli.options import LocalPath, json_option
from bucketfs.cli.outcome import raise_all
from bucketfs.cli.printing import print_json, print_line, quoted_name
from bucketfs.errors import BucketfsError

LIST_TIMEOUT_S = 60.0


@click.command(short_help="List changes that can never be applied; save them elsewhere.")
@click.argument("path", required=False, type=LocalPath())
@click.option(
    "--to", "target", metavar="FOLDER", type=LocalPath(), help="Save them in this folder, and take them off the list."
)
@json_option
@with_mounts
def recover(mounts: UserMounts, path: str | None, target: str | None, as_json: bool) -> None:
    """List the changes that can never be applied to their buckets, or save them in a folder.

    PATH is a mount or something in it (default: all mounts). Such changes were made on blocks that the Hub has lost and that are
    not on this machine either. They are kept until they are saved: for each bucket a folder with the files that were written, and
    changes.txt, which lists the changes in their order.
    """
    if target is None:
        key, asked = "quarantined", mounts.ask_each(mounts.meant(path), "quarantined", {}, timeout_s=LIST_TIMEOUT_S)
    else:
        arguments = {"to": os.path.abspath(target)}
        key, asked = "exported", mounts.ask_each(mounts.meant(path), "recover", arguments, timeout_s=None)
    answers, failures = asked
    found = [document for answer in answers for document in answer[key]]
    failed = [document for answer in answers for document in answer.get("failed", ())]
    failures += [BucketfsError(f"bucket {one['bucket']!r}: {one['error']}", hint=one["hint"]) for one in failed]
    if as_json:
        print_json({key: found})
    elif found or not failures:
        _print_found(found)
    raise_all(failures)


def _print_found(found: list[Document]) -> None:
    if not found:
        print_line("All changes could be applied; there is nothing to recover.")
        return
    for one in found:
        bucket = f"bucket {quoted_name(one['bucket'])}"
        if "folder" in one:
            print_line(f"{bucket}: {one['files']} files and changes.txt are in {quoted_name(one['folder'])}")
        else:
            path = quoted_name(one["path"]) if one["path"] else "(the bucket itself)"
            print_line(f"{bucket}: {path}: {one['change']}")
    if "path" in found[0]:
        print_line("These changes can never be applied; 'bucketfs recover --to FOLDER' saves them.")
