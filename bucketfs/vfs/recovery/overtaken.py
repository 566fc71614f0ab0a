"""Edits that wait for lost blocks (see `stuck`) when the Hub's side changes or removes the file that they are of.

They belong to the bytes that the file had. Done on what it is now they would be two versions mixed up; dropped they would be lost.
So they go, still waiting, to what the file was: beside what is there now, or to the old name when that is free again.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

from bucketfs.errors import Corrupt, NotADirectory, NotFound
from bucketfs.ops import Conflict, Op, Place, SetAttributes, SetContent
from bucketfs.types import Cid, DraftId, Kind, Link
from bucketfs.vfs.tree.conflict_name import conflict_name
from bucketfs.vfs.tree.node import DirectoryNode, Node
from bucketfs.vfs.tree.volume import Volume


async def links_of_stuck(volume: Volume, root: Cid) -> dict[DraftId, Link]:
    """What the files have at the Hub whose other bytes wait, by the first draft of each. Before the base becomes ``root``, of which
    it looks at what `move_aside` will ask for. Raises Unavailable, TimedOut."""
    found: dict[DraftId, Link] = {}
    for path, draft in _files(volume).items():
        for look in (partial(_link_at, volume, path), partial(_look_along, volume, root, path)):
            # Where folders are lost, too, nobody knows what the file was, or is.
            with suppress(Corrupt, NotFound, NotADirectory):
                link = await volume.base_tree.load(look)
                if link is not None:
                    found[draft] = link
    return found


async def move_aside(volume: Volume, links: Mapping[DraftId, Link], *, host: str, when: str) -> None:
    """The base is another one: what waits goes with the files that it is of. Awaits only if what was looked at is forgotten again.
    Raises Unavailable, TimedOut then."""
    for path, draft in _files(volume).items():
        if draft in links:
            with suppress(Corrupt, NotFound, NotADirectory):
                await volume.base_tree.load(partial(_move_aside, volume, path, links[draft], host, when))


def _files(volume: Volume) -> dict[str, DraftId]:
    found: dict[str, DraftId] = {}
    for op in volume.stuck:
        if isinstance(op, SetContent):
            found.setdefault(op.path, op.draft)
    return found


def _look_along(volume: Volume, root: Cid, path: str) -> None:
    """See the folders of a path in another tree."""
    cid = root
    for name in path.encode().split(b"/"):
        link = volume.base_tree.directory(cid).entries.get(name)
        if link is None or _kind(volume, link) is not Kind.DIRECTORY:
            return
        cid = link.cid


def _link_at(volume: Volume, path: str) -> Link | None:
    """What the base has of what is shown at a path; None for nothing, and for what was made here."""
    found = _found(volume, path)
    return found.link if isinstance(found, Node) else found


def _move_aside(volume: Volume, path: str, was: Link, host: str, when: str) -> None:
    """The edits of ``path`` go to ``was``, of which they are, unless that is still there. An attempt."""
    now = _found(volume, path)
    link = now.link if isinstance(now, Node) else now
    if link is not None and link.cid == was.cid:
        return
    there = free_place(volume, path, host, when)
    time_ns = volume.owner.now_ns()
    rest: list[Op] = [Place(there, volume.numbers.fresh(), was.cid, was.tsize, time_ns)]
    for op in volume.stuck:
        edit = isinstance(op, SetContent | SetAttributes) and op.path == path
        rest.append(replace(op, path=there) if edit and isinstance(op, SetContent | SetAttributes) else op)
    volume.stuck = rest
    if now is not None and there.rpartition("/")[0] == path.rpartition("/")[0]:
        volume.conflicts.add(Conflict(there, path, True, volume.base, time_ns))


def free_place(volume: Volume, path: str, host: str, when: str) -> str:
    """``path`` when that is free, else a conflict name beside it; in the nearest folder above where its own is gone. An attempt."""
    folder, _, text = path.rpartition("/")
    while folder and not _is_directory(volume, folder):
        folder = folder.rpartition("/")[0]
    name = text.encode()
    if _taken(volume, folder, name):
        name = conflict_name(name, host, when, lambda candidate: _taken(volume, folder, candidate))
    return _join(folder, name)


def _found(volume: Volume, path: str) -> Node | Link | None:
    at: Node | Link = volume.root
    for name in path.encode().split(b"/"):
        found: Node | Link | None = None
        if isinstance(at, DirectoryNode):
            found = at.children.get(name)
            if found is None and name not in at.overrides:
                found = volume.base_entry(at, name)
        elif isinstance(at, Link) and _kind(volume, at) is Kind.DIRECTORY:
            found = volume.base_tree.directory(at.cid).entries.get(name)
        if found is None:
            return None
        at = found
    return at


def _kind(volume: Volume, at: Node | Link) -> Kind | None:
    if isinstance(at, Node):
        return at.kind
    info = volume.base_tree.shown(at)
    return None if info is None else info.kind


def _is_directory(volume: Volume, path: str) -> bool:
    found = _found(volume, path)
    return found is not None and _kind(volume, found) is Kind.DIRECTORY


def _taken(volume: Volume, folder: str, name: bytes) -> bool:
    path = _join(folder, name)
    waits = any(isinstance(op, Place) and op.path == path for op in volume.stuck)
    return waits or _found(volume, path) is not None


def _join(folder: str, name: bytes) -> str:
    return f"{folder}/{name.decode()}" if folder else name.decode()


__all__ = ["free_place", "links_of_stuck", "move_aside"]
