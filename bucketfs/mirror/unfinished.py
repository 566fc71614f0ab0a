"""What a round does to single paths, written into the state before it is done, and finished by the next round if this one ended.

A round changes a path in more than one step: a new folder is made 0700, filled, and given its mode and time at the end; one
that is read-only is opened meanwhile; a file is renamed into its place before the state says what it is. A scan that saw a path
between two steps would take what it sees for the user's change, and send it to all others. So each path is noted here before
the first step, and before the next scan, and also when a round fails, `finish_all` takes the last one. What the user changed
meanwhile is told from our own steps by the values that these would have left, and stays.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from bucketfs.mirror.state import MirrorState, SeenEntry
from bucketfs.mirror.watched_folder import WatchedFolder
from bucketfs.transfer import ONE_PATH, SPECIAL_BITS, LocalEntry, Names
from bucketfs.types import Cid, Kind, Link, NodeAttributes


@dataclass(frozen=True, slots=True)
class Filling:
    """A folder that is made, or opened and changed inside. ``mode`` and the mtime of ``attributes`` are what it has in the end.
    ``before`` is the inode and mode of the one that was there."""

    attributes: NodeAttributes
    mode: int
    before: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Placing:
    """A file or symlink with this status is renamed to the path, where it stands for ``link``."""

    inode: int
    size_bytes: int
    mode: int
    mtime_ns: int
    link: Link


@dataclass(frozen=True, slots=True)
class AttributeChange:
    """A file whose bytes stay gets mode, mtime and owner; ``modes`` and ``mtimes_ns`` are those before and after."""

    inode: int
    size_bytes: int
    modes: tuple[int, int]
    mtimes_ns: tuple[int, int]
    attributes: NodeAttributes
    link: Link


@dataclass(frozen=True, slots=True)
class Removing:
    """The folder at the path is removed with all below it; folders are opened for that. One that stays gets back what it had."""


Unfinished = Filling | Placing | AttributeChange | Removing


def encode(what: Unfinished) -> str:
    """As text."""
    if isinstance(what, Filling):
        return json.dumps({"filling": [_fields(what.attributes), what.mode, what.before]})
    if isinstance(what, Placing):
        return json.dumps({"placing": [what.inode, what.size_bytes, what.mode, what.mtime_ns, *_link(what.link)]})
    if isinstance(what, AttributeChange):
        facts = [what.inode, what.size_bytes, what.modes, what.mtimes_ns, _fields(what.attributes), *_link(what.link)]
        return json.dumps({"setting": facts})
    return json.dumps({"removing": []})


def decode(text: str) -> Unfinished:
    """The inverse of `encode`."""
    ((kind, facts),) = json.loads(text).items()
    if kind == "filling":
        fields, mode, before = facts
        return Filling(NodeAttributes(*fields), mode, None if before is None else (before[0], before[1]))
    if kind == "placing":
        inode, size_bytes, mode, mtime_ns, cid, tsize = facts
        return Placing(inode, size_bytes, mode, mtime_ns, Link(Cid(bytes.fromhex(cid)), tsize))
    if kind == "setting":
        inode, size_bytes, (mode, new_mode), (mtime_ns, new_mtime_ns), fields, cid, tsize = facts
        link = Link(Cid(bytes.fromhex(cid)), tsize)
        modes, mtimes_ns = (mode, new_mode), (mtime_ns, new_mtime_ns)
        return AttributeChange(inode, size_bytes, modes, mtimes_ns, NodeAttributes(*fields), link)
    return Removing()


def _fields(attributes: NodeAttributes) -> list[int | None]:
    return [attributes.mode, attributes.mtime_ns, attributes.uid, attributes.gid]


def _link(link: Link) -> tuple[str, int]:
    return link.cid.hex(), link.tsize


def note_all(state: MirrorState, found: list[tuple[Names, Unfinished]]) -> None:
    """Blocks. On the disk when it returns: before the first step of any of these."""
    if found:
        with state.together():
            for path, what in found:
                state.note_unfinished(path, encode(what))


def finish_all(folder: WatchedFolder) -> None:
    """Blocks. Takes the last step at every path that is noted. One that cannot be reached now stays noted."""
    found = [(path, decode(text)) for path, text in folder.state.unfinished()]
    # The lowest first: a folder may be closed to us by its own last step.
    found.sort(key=lambda each: len(each[0]), reverse=True)
    done: list[tuple[Names, SeenEntry | None]] = []
    for path, what in found:
        try:
            done.append((path, _finish(folder, path, what)))
        except ONE_PATH:
            continue
    if done:
        with folder.state.together():
            for path, seen in done:
                folder.state.forget_unfinished(path)
                if seen is not None:
                    folder.state.note(path, seen)


def _finish(folder: WatchedFolder, path: Names, what: Unfinished) -> SeenEntry | None:
    """The last step; what the path stands for then, if it is what we made."""
    here = folder.look(path)
    if here is None or not folder.is_inside(path):
        return None
    match what:
        case Filling():
            return _close(folder, path, here, what)
        case Placing():
            found = Placing(here.inode, here.size_bytes, here.mode, here.mtime_ns, what.link)
            return SeenEntry(here, what.link) if found == what else None
        case AttributeChange():
            return _change(folder, path, here, what)
        case Removing():
            _restore(folder, path)
            return None


def _close(folder: WatchedFolder, path: Names, here: LocalEntry, what: Filling) -> SeenEntry | None:
    if not here.is_directory or (what.before is not None and what.before[0] != here.inode):
        return None
    ours = {what.mode, 0o700} if what.before is None else {what.mode, what.before[1], what.before[1] | 0o700}
    made_by_us = here.mode & ~SPECIAL_BITS in {mode & ~SPECIAL_BITS for mode in ours}
    wanted = NodeAttributes(what.mode, what.attributes.mtime_ns, what.attributes.uid, what.attributes.gid)
    if not made_by_us:
        # The user gave it a mode; its time is still that of our work in it.
        wanted = NodeAttributes(here.mode, what.attributes.mtime_ns)
    folder.fs.set_attributes(folder.where(path), wanted, here.mode, folder.preserve)
    after = folder.look(path)
    if after is None or not made_by_us:
        return None
    seen = folder.state.seen_at(path)
    return SeenEntry(after, attributes=what.attributes, crossed=seen is not None and seen.crossed)


def _change(folder: WatchedFolder, path: Names, here: LocalEntry, what: AttributeChange) -> SeenEntry | None:
    if (here.kind, here.inode, here.size_bytes) != (Kind.FILE, what.inode, what.size_bytes):
        return None
    if here.mode not in what.modes or here.mtime_ns not in what.mtimes_ns:
        return None
    folder.fs.set_attributes(folder.where(path), what.attributes, here.mode, folder.preserve)
    after = folder.look(path)
    return None if after is None or after.inode != here.inode else SeenEntry(after, what.link)


def _restore(folder: WatchedFolder, path: Names) -> None:
    """Folders that were opened to be emptied, and stay, get back the mode and time that they had."""
    waiting = [path]
    found: list[tuple[Names, SeenEntry]] = []
    while waiting:
        at = waiting.pop()
        here, seen = folder.look(at), folder.state.seen_at(at)
        if here is None or not here.is_directory:
            continue
        if seen is not None and here.inode == seen.entry.inode and here.mode in (seen.entry.mode, seen.entry.mode | 0o700):
            found.append((at, seen))
        waiting += [(*at, entry.name) for entry in folder.fs.scan(folder.where(at)) if entry.is_directory]
    for at, seen in reversed(found):
        folder.fs.restore(folder.where(at), seen.entry)
