"""``bucketfs events``: what changes in a mount, as it happens, for programs that follow it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from bucketfs.cli.find_mounts import UserMounts, with_mounts
from bucketfs.cli.options import LocalPath, json_option
from bucketfs.cli.printing import clock_text, print_json, print_line, quoted_name
from bucketfs.errors import Usage


@click.command(short_help="Show what changes at the Hub, as it happens.")
@click.argument("path", required=False, type=LocalPath())
@json_option
@with_mounts
def events(mounts: UserMounts, path: str | None, as_json: bool) -> None:
    """Show what changes at the Hub in the mount around PATH, or below PATH, until interrupted or unmounted.

    A change made here shows when it has been pushed. docs/events.md says what each line means. With --json each line is an object.
    """
    if path is not None:
        mounted, inside = mounts.around(path)
    else:
        listening = mounts.listening()
        if len(listening) > 1:
            names = ", ".join(str(one.mountpoint) for one in listening)
            raise Usage("there are several mounts", hint=f"name one: {names}")
        mounted, inside = listening[0], ""

    def show(document: Mapping[str, Any]) -> None:
        for event in document["events"]:
            if as_json:
                print_json(event, indent=None)
            else:
                print_line(line_of_event(event))

    try:
        # No limit: nothing may change for days.
        mounts.ask(mounted, "events", {"path": inside}, on_progress=show, timeout_s=None)
    except KeyboardInterrupt:
        return  # the usual end


def line_of_event(event: Mapping[str, Any]) -> str:
    """An event for people: when, who made it, what became of which path."""
    when = clock_text(event["time_s"])
    kind, bucket = event["kind"], quoted_name(event["bucket"])
    if kind == "start":
        return f"{when} start {bucket} at {event['root']}"
    if kind == "end":
        return f"{when} end {bucket}"
    if kind == "lost":
        why = f": {event['reason']}" if event.get("reason") else ""
        return f"{when} {event['origin']} lost {bucket} from {event['old_root']} to {event['root']}{why}"
    was = f"{quoted_name(event['was'])} -> " if kind == "renamed" else ""
    return f"{when} {event['origin']} {kind} {was}{quoted_name(event['file'])}"
