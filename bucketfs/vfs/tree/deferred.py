"""Changes that wait because the Hub has lost, or damaged, the blocks that they stand on. Pure.

They come out of a journal at a start and cannot be done on what the Hub has. They are kept, in their order, and done when it has
the blocks again. Until then nothing is done that they would be mixed up with: what builds on one of them waits too when it comes
out of the journal, and is refused when a program asks for it. What a program takes away or writes anew takes along what
waited for the old bytes; what it renames takes along what waits for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bucketfs.errors import Corrupt
from bucketfs.ops import Create, MakeDirectory, MakeSymlink, Op, Place, Remove, Rename, SetAttributes, SetContent, Stamp

Making = Create | MakeDirectory | MakeSymlink | Place


def paths_of(op: Op) -> tuple[str, ...]:
    """The paths that an op is about; none for what is no change."""
    if isinstance(op, Rename):
        return (op.old, op.new)
    path = getattr(op, "path", None)
    # A stamp may be lost, and so asks for nothing.
    return () if path is None or isinstance(op, Stamp) else (path,)


def builds_on(op: Op, before: Op) -> bool:
    """Whether ``op`` means something else, or nothing, when the earlier op ``before`` was not done."""
    carries = not isinstance(op, SetAttributes | SetContent)  # along with a folder goes what is in it
    return any(
        _is_under(path, earlier) or (carries and _is_under(earlier, path))
        for path in paths_of(op)
        for earlier in paths_of(before)
    )


def waits(stuck: Iterable[Op], path: str) -> bool:
    """Whether what waits has to do with a path, or with something above or below it."""
    return any(_is_under(path, other) or _is_under(other, path) for op in stuck for other in paths_of(op))


def beside(stuck: Iterable[Op], op: Op) -> list[Op]:
    """What waits still once ``op`` is done. Raises Corrupt when that cannot be done before what waits."""
    rest: list[Op] = []
    for before in stuck:
        after = _after(before, op)
        if after is before and builds_on(op, before):
            path = next(path for path in paths_of(before))
            raise Corrupt(f"changes of {path!r} wait for blocks that the Hub has lost", hint="remove it or write it anew")
        if after is not None:
            rest.append(after)
    return rest


def _after(before: Op, op: Op) -> Op | None:
    """What ``op`` makes of an edit that waits: nothing when it takes the file away, or makes another where that was taken away
    elsewhere; another path when it moves it."""
    if not isinstance(before, SetContent | SetAttributes):
        return before
    gone = (isinstance(op, Remove | Making) and op.path == before.path) or (
        isinstance(op, Rename) and op.new == before.path and not op.exchange
    )
    if gone:
        return None
    if isinstance(op, SetContent) and op.path == before.path:
        if isinstance(before, SetAttributes):
            return replace(before, mtime_ns=None)  # for the bytes have a newer one
        return before if op.lower_limit_bytes else None
    if isinstance(op, Rename) and not op.exchange and before.path and _is_under(before.path, op.old):
        return replace(before, path=op.new + before.path[len(op.old) :])
    return before


def moved(op: Op, old: str, new: str) -> Op:
    """The op when what is at ``old``, or was to be, is at ``new``."""

    def there(path: str) -> str:
        return new + path[len(old) :] if _is_under(path, old) else path

    if isinstance(op, Rename):
        return replace(op, old=there(op.old), new=there(op.new))
    return replace(op, path=there(op.path)) if isinstance(op, Remove | SetContent | SetAttributes | Making) else op


def _is_under(path: str, above: str) -> bool:
    return path == above or not above or path.startswith(f"{above}/")
