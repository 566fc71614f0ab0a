"""Moving or removing a file or folder of a bucket by its tree: a new root, swapped in if the bucket is as it was looked at.

The rules of moving are those of mv(1): a file takes the place of a file, and goes into a folder; a folder takes the place of an
empty folder only; nothing takes the place of something of another kind.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from bucketfs.cache import run_steps
from bucketfs.client import BucketsClient
from bucketfs.dag import edit_tree, list_directory, resolve
from bucketfs.errors import (
    Denied,
    InvalidArgument,
    IsADirectory,
    NotADirectory,
    NotEmpty,
    NotFound,
    RootMoved,
)
from bucketfs.names import SEED, check_name
from bucketfs.remote import NodeSource, Remote, Sent, send_all
from bucketfs.transfer.options import Names, path_text
from bucketfs.transfer.pushing import swap_root
from bucketfs.types import BucketKey, Cid, Link, UploadId

ATTEMPTS_MAX = 6

Changes = Mapping[Names, Link | None]


async def move_path(remote: Remote, old: Names, new: Names, *, into: bool = False) -> None:
    """Moves what stands at ``old`` to ``new``, or into ``new`` where that is a folder or ``into`` is set; missing parents are made.

    Raises NotFound, InvalidArgument for a move of a folder into itself, NotADirectory, IsADirectory or NotEmpty for what it would
    replace, RootMoved when others change the bucket all the time, and what the Remote raises.
    """
    for name in (*old, *new):
        check_name(name)
    await _edit(remote, lambda source, base: _changes(source, base, old, new, into))


async def remove_path(remote: Remote, path: Names) -> None:
    """Removes a file, or a folder with all that is in it. Raises NotFound, Denied for what is the Hub's own, RootMoved when others
    change the bucket all the time, and what the Remote raises."""
    if path[0] == SEED:
        raise Denied(f"{SEED.decode()} is the Hub's own")

    async def changes(source: NodeSource, base: Cid) -> Changes:
        if await _find(source, base, path) is None:
            raise NotFound(f"no such file or folder in the bucket: {path_text(path)}")
        return {path: None}

    await _edit(remote, changes)


async def _edit(remote: Remote, wanted: Callable[[NodeSource, Cid], Awaitable[Changes]]) -> None:
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            await _edit_once(remote, wanted)
            return
        except RootMoved:
            if attempt == ATTEMPTS_MAX:
                raise


async def _edit_once(remote: Remote, wanted: Callable[[NodeSource, Cid], Awaitable[Changes]]) -> None:
    source = NodeSource(remote)
    base = await remote.root()
    changes = await wanted(source, base)
    if not changes:
        return
    built = await run_steps(edit_tree(base, changes), source)
    upload = UploadId(secrets.token_bytes(16))
    await send_all(remote, upload, lambda emit: emit(list(built.blocks.items())), Sent())
    await swap_root(remote, base, built.link.cid, upload)


async def _changes(source: NodeSource, base: Cid, old: Names, new: Names, into: bool) -> Changes:
    """What to set and to remove in the tree; nothing when it stands there already."""

    async def look(path: Names) -> _Standing | None:
        link = await _find(source, base, path)
        if link is None:
            return None
        try:
            entries = (await run_steps(list_directory(link.cid), source)).entries
        except NotADirectory:
            return _Standing(is_folder=False, is_full=False)
        return _Standing(is_folder=True, is_full=bool(entries))

    place = await _place(look, old, new, into)
    return {} if place is None else {old: None, place: await _find(source, base, old)}


async def move_by_path(
    buckets: BucketsClient, key: BucketKey, old: Names, new: Names, *, into: bool = False, by_names: bool = False
) -> None:
    """The same through the Hub's calls by path, for a bucket whose tree is not to be had. What is checked may change before it is
    done. ``by_names``: the Hub compares paths name by name, so that one step is enough."""

    async def look(path: Names) -> _Standing | None:
        try:
            item, _ = await buckets.list_path(key, path_text(path))
        except NotFound:
            return None
        return _Standing(item.is_directory, bool(item.items))

    place = await _place(look, old, new, into)
    if place is None:
        return
    # A folder, also an empty one, is what the Hub moves into.
    target = place[:-1] if place[-1] == old[-1] and await look(place[:-1]) is not None else place
    await buckets.move_path(key, path_text(old), path_text(target), by_names=by_names)


@dataclass(frozen=True, slots=True)
class _Standing:
    """What stands at a path."""

    is_folder: bool
    is_full: bool


_Look = Callable[[Names], Awaitable[_Standing | None]]


async def _place(look: _Look, old: Names, new: Names, into: bool) -> Names | None:
    """Where it will stand; None when it stands there already. Raises what `move_path` does."""
    mine = await look(old)
    if mine is None:
        raise NotFound(f"no such file or folder in the bucket: {path_text(old)}")
    there = await look(new)
    into |= there is not None and there.is_folder
    place = (*new, old[-1]) if into else new
    if place == old:
        return None
    if old[0] == SEED or place[0] == SEED:
        raise Denied(f"{SEED.decode()} is the Hub's own")
    if place[: len(old)] == old and mine.is_folder:
        raise InvalidArgument(f"{path_text(old)} cannot be moved into itself")
    for depth in range(1, len(place)):
        above = await look(place[:depth])
        if above is None:
            break
        if not above.is_folder:
            raise NotADirectory(f"{path_text(place[:depth])} is no folder")
    _check_replacing(mine, await look(place) if into else there, path_text(place))
    return place


def _check_replacing(mine: _Standing, there: _Standing | None, where: str) -> None:
    hint, folder_hint = "remove it first with 'bucketfs buck rm'", "remove it first with 'bucketfs buck rm -r'"
    if there is None:
        return
    if not mine.is_folder and there.is_folder:
        raise IsADirectory(f"{where} is a folder, and a file would replace it", hint=folder_hint)
    if mine.is_folder and not there.is_folder:
        raise NotADirectory(f"{where} is a file, and a folder would replace it", hint=hint)
    if mine.is_folder and there.is_full:
        raise NotEmpty(f"{where} is a folder that is not empty, and another would replace it", hint=folder_hint)


async def _find(source: NodeSource, base: Cid, path: Names) -> Link | None:
    try:
        return await run_steps(resolve(base, path), source) if path else Link(base, 0)
    except NotADirectory:
        return None
