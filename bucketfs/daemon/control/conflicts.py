"""The conflicts of a mount, as documents, and settling them: what ``bucketfs conflicts`` asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bucketfs.daemon.buckets.opening import OpenVolume
from bucketfs.daemon.buckets.volumes import Volumes
from bucketfs.daemon.mount_paths import Where, is_under
from bucketfs.dag import cid_text
from bucketfs.errors import BucketfsError, NotFound, Usage
from bucketfs.ops import Conflict
from bucketfs.vfs import Keep

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Listed:
    """A conflict, and where its two files stand inside the mount."""

    one: OpenVolume
    conflict: Conflict
    copy: str
    original: str


def conflict_documents(volumes: Volumes, where: Where, asked: str = "") -> list[Document]:
    """Every conflict at or below ``asked``, a path inside the mount, oldest first in each bucket. ``copy`` and ``original`` are
    whole paths; ``copy_is`` says whose version the copy is, ``mine`` or ``theirs``; ``root`` is the root that came from the Hub
    then; times are seconds since 1970."""
    return [_document(listed, where) for listed in _listed(volumes, where, asked)]


def _listed(volumes: Volumes, where: Where, asked: str) -> Iterator[_Listed]:
    for one in volumes.open.values():
        for conflict in one.volume.pending.conflicts:
            copy, original = where.inside(one.name, conflict.copy), where.inside(one.name, conflict.original)
            if copy is not None and original is not None and (is_under(copy, asked) or is_under(original, asked)):
                yield _Listed(one, conflict, copy, original)


def _document(listed: _Listed, where: Where) -> Document:
    conflict = listed.conflict
    return {
        "bucket": listed.one.info.name,
        "key": str(listed.one.info.key),
        "original": where.absolute(listed.original),
        "copy": where.absolute(listed.copy),
        "copy_is": "mine" if conflict.ours else "theirs",
        "root": cid_text(conflict.root),
        "time_s": conflict.time_ns / 1e9,
    }


async def settle_conflicts(volumes: Volumes, where: Where, asked: str, keep: Keep, *, everything: bool) -> Document:
    """Settle the conflict whose file or copy is ``asked``, a path inside the mount, or, with ``everything``, all at and below it.

    The answer has what was ``resolved`` and what ``failed``, with why. Raises NotFound when nothing is listed there, Usage when
    several are meant without ``everything``, and what stands in the way when there is one only.
    """
    chosen = list(_listed(volumes, where, asked))
    exact = [listed for listed in chosen if asked in (listed.copy, listed.original)]
    chosen = exact or chosen
    place = where.absolute(asked)
    if not chosen and everything:
        return {"resolved": [], "failed": []}
    if not chosen:
        raise NotFound(f"there is no conflict at {place}", hint="'bucketfs conflicts' lists them")
    if not everything and not exact:
        raise Usage(f"{len(chosen)} conflicts are below {place}", hint="name one, or give --all")
    if not everything and len(exact) > 1:
        raise Usage(f"{len(exact)} copies are beside {place}", hint="name one of them, or give --all")
    resolved: list[Document] = []
    failed: list[Document] = []
    rivals = Counter((listed.one.info.key, listed.original) for listed in chosen if _takes_the_name(listed, keep))
    for listed in chosen:
        document = _document(listed, where)
        try:
            if rivals[listed.one.info.key, listed.original] > 1 and _takes_the_name(listed, keep):
                raise Usage("several copies would take this name", hint="name the one to keep")
            await volumes.vfs.resolve(listed.one.volume, listed.conflict, keep)
        except BucketfsError as error:
            if not everything:
                raise
            failed.append({**document, "error": str(error), "hint": error.hint})
        else:
            resolved.append(document)
    return {"resolved": resolved, "failed": failed}


def _takes_the_name(listed: _Listed, keep: Keep) -> bool:
    return keep is not Keep.BOTH and (keep is Keep.MINE) == listed.conflict.ours
