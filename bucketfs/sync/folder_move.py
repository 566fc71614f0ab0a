"""Moving a file or folder inside a bucket by its tree: one new root, swapped in if the bucket is still as it was looked at.

The rules are those of mv(1): a file takes the place of a file, and goes into a folder; a folder takes the place of an empty folder
only; nothing takes the place of something of another kind.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from bucketfs.dag import check_name, edit_tree, list_directory, resolve
from bucketfs.errors import (
    Denied,
    InvalidArgument,
    IsADirectory,
    NotADirectory,
    NotEmpty,
    NotFound,
    RootMoved,
    TimedOut,
    Unavailable,
)
from bucketfs.sync.remote import Remote
from bucketfs.sync.send import Sent, send_all
from bucketfs.sync.transfer import SEED, Names, NodeSource, path_text
from bucketfs.types import Cid, Link, UploadId
from bucketfs.vfs import run_steps

ATTEMPTS_MAX = 6


async def move_path(remote: Remote, old: Names, new: Names, *, into: bool = False) -> None:
    """Moves what stands at ``old`` to ``new``, or into ``new`` where that is a folder or ``into`` is set; missing parents are made.

    Raises NotFound, InvalidArgument for a move of a folder into itself, NotADirectory, IsADirectory or NotEmpty for what it would
    replace, RootMoved when others change the bucket all the time, and what the Remote raises.
    """
    for name in (*old, *new):
        check_name(name)
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            await _move_once(remote, old, new, into)
            return
        except RootMoved:
            if attempt == ATTEMPTS_MAX:
                raise


async def _move_once(remote: Remote, old: Names, new: Names, into: bool) -> None:
    source = NodeSource(remote)
    base = await remote.root()
    changes = await _changes(source, base, old, new, into)
    if not changes:
        return
    built = await run_steps(edit_tree(base, changes), source)
    upload = UploadId(secrets.token_bytes(16))
    await send_all(remote, upload, lambda emit: emit(list(built.blocks.items())), Sent())
    try:
        await remote.swap(base, built.link.cid, upload)
    except (Unavailable, TimedOut):
        # It may have happened all the same.
        if await remote.root() != built.link.cid:
            raise


async def _changes(source: NodeSource, base: Cid, old: Names, new: Names, into: bool) -> Mapping[Names, Link | None]:
    """What to set and to remove in the tree; nothing when it stands there already."""
    link = await _find(source, base, old)
    if link is None:
        raise NotFound(f"no such file or folder in the bucket: {path_text(old)}")
    there = Link(base, 0) if not new else await _find(source, base, new)
    if into or (there is not None and await _entries(source, there) is not None):
        place = (*new, old[-1])
        there = await _find(source, base, place)
    else:
        place = new
    if place == old:
        return {}
    if old[0] == SEED or place[0] == SEED:
        raise Denied(f"{SEED.decode()} is the Hub's own")
    if place[: len(old)] == old:
        raise InvalidArgument(f"{path_text(old)} cannot be moved into itself")
    if there is not None:
        await _check_replacing(source, link, there, path_text(place))
    return {old: None, place: link}


async def _check_replacing(source: NodeSource, link: Link, there: Link, where: str) -> None:
    mine, theirs = await _entries(source, link), await _entries(source, there)
    hint = "remove it first with 'bucketfs buck rm'"
    if mine is None and theirs is not None:
        raise IsADirectory(f"{where} is a folder, and a file would replace it", hint=f"{hint} -r")
    if mine is not None and theirs is None:
        raise NotADirectory(f"{where} is a file, and a folder would replace it", hint=hint)
    if mine is not None and theirs:
        raise NotEmpty(f"{where} is a folder that is not empty, and another would replace it", hint=f"{hint} -r")


async def _find(source: NodeSource, base: Cid, path: Names) -> Link | None:
    try:
        return await run_steps(resolve(base, path), source)
    except NotADirectory:
        return None


async def _entries(source: NodeSource, link: Link) -> Mapping[bytes, Link] | None:
    """What is in a folder; None for a file or symlink."""
    try:
        return (await run_steps(list_directory(link.cid), source)).entries
    except NotADirectory:
        return None
