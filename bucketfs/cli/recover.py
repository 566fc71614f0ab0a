"""``bucketfs recover``: changes that can never be applied, because blocks that they were made on are lost."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from bucketfs.cli.find_mounts import ask_mount, listening_mounts, mount_around, paths_of_user
from bucketfs.cli.options import LocalPath
from bucketfs.cli.outcome import raise_all
from bucketfs.cli.printing import named, say
from bucketfs.errors import BucketfsError

LIST_TIMEOUT_S = 60.0


@click.command(short_help="Changes that can never be applied; save them elsewhere.")
@click.argument("path", required=False, type=LocalPath())
@click.option(
    "--to", "target", metavar="FOLDER", type=LocalPath(), help="Save them in this folder, and take them off the list."
)
@click.option("--json", "as_json", is_flag=True, help="For programs: a document.")
def recover(path: str | None, target: str | None, as_json: bool) -> None:
    """List the changes that can never be applied to their buckets, or save them in a folder.

    PATH is a mount or something in it (default: all mounts). Such changes were made on blocks that the Hub has lost and that are
    not on this machine either. They are kept until they are saved: for each bucket a folder with the files that were written, and
    changes.txt, which says in their order what was done.
    """
    paths = paths_of_user()
    chosen = [(mounted, "") for mounted in listening_mounts(paths)] if path is None else [mount_around(paths, path)]
    key = "quarantined" if target is None else "exported"
    found: dict[str, list[dict[str, Any]]] = {key: []}
    failures: list[BucketfsError] = []
    for mounted, inside in chosen:
        # One mount in trouble must not hide what the others have.
        try:
            if target is None:
                answer = ask_mount(paths, mounted, "quarantined", {"path": inside}, timeout_s=LIST_TIMEOUT_S)
            else:
                arguments = {"path": inside, "to": os.path.abspath(target)}
                answer = ask_mount(paths, mounted, "recover", arguments, timeout_s=None)
        except BucketfsError as error:
            failures.append(error)
            continue
        found[key] += answer[key]
        failures += [
            BucketfsError(f"bucket {one['bucket']!r}: {one['error']}", hint=one["hint"]) for one in answer.get("failed", ())
        ]
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif found[key] or not failures:
        _show(found[key])
    raise_all(failures)


def _show(found: list[dict[str, Any]]) -> None:
    if not found:
        say("All changes could be applied; there is nothing to recover.")
        return
    for one in found:
        if "folder" in one:
            say(f"bucket {named(one['bucket'])}: {one['files']} files and changes.txt are in {named(one['folder'])}")
        else:
            say(
                f"bucket {named(one['bucket'])}: {named(one['path']) if one['path'] else '(the bucket itself)'}: {one['change']}"
            )
    if "path" in found[0]:
        say("These changes can never be applied; 'bucketfs recover --to FOLDER' saves them.")
