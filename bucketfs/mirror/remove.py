"""Removing from a watched folder what was removed at the Hub, as far as it is what the scan saw."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field

from bucketfs.errors import Denied
from bucketfs.mirror.state import MirrorState
from bucketfs.transfer import LocalEntry, Names
from bucketfs.transfer import local_fs as folder
from bucketfs.types import Kind

CHANGED = "it was changed here meanwhile"
HELD = "what stands here cannot be carried"


@dataclass(slots=True)
class Removed:
    """How many names are gone, which paths are to be forgotten, and what was left and why."""

    count: int = 0
    gone: list[Names] = field(default_factory=list)
    left: list[tuple[Names, str]] = field(default_factory=list)


def remove_seen(top: bytes, path: Names, state: MirrorState, held: Collection[Names]) -> Removed:
    """In a thread: removes the file, or the folder with all below it, at ``path`` under ``top``. What is not as it was seen, or is
    held, stays, and so do the folders above it."""
    removed = Removed()
    here = folder.look(os.path.join(top, *path), path[-1])
    if here is None:
        removed.gone.append(path)
    elif here.kind is Kind.DIRECTORY:
        _remove_folder(top, path, state, held, removed)
    else:
        _remove_file(top, path, here, state, held, removed)
    return removed


def _remove_file(
    top: bytes, path: Names, here: LocalEntry, state: MirrorState, held: Collection[Names], removed: Removed
) -> None:
    where = os.path.join(top, *path)
    if here.kind is None or path in held:
        removed.left.append((path, HELD))
        return
    seen = state.seen_at(path)
    if seen is None or seen.fresh or not seen.is_still(here):
        removed.left.append((path, CHANGED))
        return
    try:
        if not folder.is_below(top, path):
            raise Denied(CHANGED)
        folder.remove_file(where)
    except folder.ONE_PATH as error:
        removed.left.append((path, str(error)))
        return
    removed.gone.append(path)
    removed.count += 1


def _remove_folder(top: bytes, above: Names, state: MirrorState, held: Collection[Names], removed: Removed) -> None:
    waiting, emptied = [above], []
    while waiting:
        path = waiting.pop()
        if path in held:
            removed.left.append((path, HELD))
            continue
        try:
            here = folder.look(os.path.join(top, *path))
            if here is None or here.kind is not Kind.DIRECTORY or not folder.is_below(top, path):
                raise Denied(CHANGED)
            # One that is read-only could not be emptied.
            folder.make_folder(os.path.join(top, *path), replace=False)
            entries = folder.scan(os.path.join(top, *path))
        except folder.ONE_PATH as error:
            removed.left.append((path, str(error)))
            continue
        emptied.append(path)
        for entry in entries:
            below = (*path, entry.name)
            if entry.kind is Kind.DIRECTORY:
                waiting.append(below)
            else:
                _remove_file(top, below, entry, state, held, removed)
    for path in reversed(emptied):
        try:
            folder.remove_empty(os.path.join(top, *path))
        except folder.ONE_PATH as error:
            removed.left.append((path, str(error)))
        else:
            removed.gone.append(path)
            removed.count += 1
