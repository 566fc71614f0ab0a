"""``bucketfs events``: what changes in a mount, as it happens, for programs that follow it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import click

from bucketfs.cli.find_mounts import ask_mount, listening_mounts, mount_around, paths_of_user
from bucketfs.cli.options import LocalPath
from bucketfs.cli.printing import named, say
from bucketfs.errors import Usage


@click.command(short_help="Show what changes at the Hub, as it happens.")
@click.argument("path", required=False, type=LocalPath())
@click.option("--json", "as_json", is_flag=True, help="For programs: one object per line.")
def events(path: str | None, as_json: bool) -> None:
    """Show what changes at the Hub in the mount around PATH, or below PATH, until interrupted or unmounted.

    A change made here shows when it has been pushed. docs/events.md says what each line means.
    """
    paths = paths_of_user()
    if path is not None:
        mounted, inside = mount_around(paths, path)
    else:
        mine = listening_mounts(paths)
        if len(mine) > 1:
            raise Usage("there are several mounts", hint=f"name one: {', '.join(str(one.mountpoint) for one in mine)}")
        mounted, inside = mine[0], ""

    def show(document: Mapping[str, Any]) -> None:
        for event in document["events"]:
            if as_json:
                click.echo(json.dumps(event))
            else:
                say(line_of_event(event))

    try:
        # Silence is no failure: nothing may change for days.
        ask_mount(paths, mounted, "events", {"path": inside}, on_progress=show, timeout_s=None)
    except KeyboardInterrupt:
        return  # the usual end


def line_of_event(event: Mapping[str, Any]) -> str:
    """An event for people: when, who made it, what became of which path."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["time_s"]))
    kind, bucket = event["kind"], named(event["bucket"])
    if kind == "start":
        return f"{when} start {bucket} at {event['root']}"
    if kind == "end":
        return f"{when} end {bucket}"
    if kind == "lost":
        why = f": {event['reason']}" if event.get("reason") else ""
        return f"{when} {event['origin']} lost {bucket} from {event['old_root']} to {event['root']}{why}"
    was = f"{named(event['was'])} -> " if kind == "renamed" else ""
    return f"{when} {event['origin']} {kind} {was}{named(event['file'])}"
