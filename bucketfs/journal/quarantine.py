"""Changes that can never be applied again, because a block that they were made on is lost. Pure.

A replay moves such a change here, with every later one that builds on it; the changes that do not are applied. What is here is kept
in the journal (see `Quarantined` in `ops`), with its drafts and their checksums, until the user exports it. It is never applied and
never compared with what a program or another client does later, so it cannot be mixed up with anything and holds up nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter

from bucketfs.journal.extents import Extents, Interval
from bucketfs.journal.ops import (
    Create,
    MakeDirectory,
    MakeSymlink,
    Op,
    Place,
    Quarantined,
    Remove,
    Rename,
    SetAttributes,
    SetContent,
)
from bucketfs.types import Cid, DraftId

Change = Create | MakeDirectory | MakeSymlink | Place | SetAttributes | SetContent | Rename | Remove
"""The ops that are changes of the user. The others say something about a change, or about the Hub, and may be lost."""

_VERBS: dict[type[Op], str] = {
    Create: "created",
    MakeDirectory: "folder created",
    MakeSymlink: "link created",
    Place: "moved here",
    SetAttributes: "attributes changed",
    SetContent: "written",
    Remove: "removed",
}


@dataclass(frozen=True, slots=True)
class QuarantineBatch:
    """The changes that one start quarantined, oldest first, and the root that they were made on. A later start may quarantine
    changes of the same paths, which were made without these: the two are never put together."""

    root: Cid
    changes: list[Change] = field(default_factory=list)


class Quarantine:
    """The quarantined changes of one journal, oldest first."""

    def __init__(self, batches: Iterable[QuarantineBatch] = ()) -> None:
        self._earlier = [batch for batch in batches if batch.changes]
        self._now: QuarantineBatch | None = None
        self._drafts = {change.draft for change in self if isinstance(change, SetContent)}

    def __len__(self) -> int:
        return sum(len(batch.changes) for batch in self.batches)

    def __iter__(self) -> Iterator[Change]:
        return (change for batch in self.batches for change in batch.changes)

    @property
    def batches(self) -> list[QuarantineBatch]:
        """The batch of each start that quarantined anything."""
        return self._earlier if self._now is None else [*self._earlier, self._now]

    def add(self, change: Change, root: Cid) -> None:
        """Keep ``change``, which was made on ``root`` or later, in the batch of this start."""
        if self._now is None:
            self._now = QuarantineBatch(root)
        self._now.changes.append(change)
        if isinstance(change, SetContent):
            self._drafts.add(change.draft)

    def records(self) -> Iterator[Op]:
        """What the head of a segment says of it."""
        for batch in self.batches:
            yield Quarantined(batch.root, len(batch.changes), time_of(batch.changes[-1]))
            yield from batch.changes

    def drafts(self) -> set[DraftId]:
        """The drafts that it needs."""
        return set(self._drafts)

    def needs(self, draft: DraftId) -> bool:
        """Whether a quarantined change names ``draft``, whose bytes must then stay as they are. A file that goes on may have the
        same draft: what was quarantined is its rename and what was written after that."""
        return draft in self._drafts

    def by_path(self) -> dict[str, str]:
        """The paths, oldest first, with what was done to each: ``{"d/f": "created, written"}``."""
        found: dict[str, dict[str, None]] = {}
        for change in self:
            verb = f"renamed from {change.old!r}" if isinstance(change, Rename) else _VERBS.get(type(change), "changed")
            found.setdefault(paths_of(change)[-1], {})[verb] = None
        return {path: ", ".join(verbs) for path, verbs in found.items()}


def builds_on(change: Change, earlier: Iterable[Change]) -> bool:
    """Whether ``change`` means something else, or nothing, when the ``earlier`` ones are not applied: one of its paths is the same
    as one of theirs, below it, or, unless it only changes what is at its own path, above it."""
    carries = not isinstance(change, SetAttributes | SetContent)
    return any(
        _is_under(path, was) or (carries and _is_under(was, path))
        for before in earlier
        for was in paths_of(before)
        for path in paths_of(change)
    )


def take_quarantined(ops: Iterable[Op]) -> tuple[list[Op], Quarantine]:
    """The ops of a segment that are to be replayed, and those that its head says are quarantined."""
    replayed: list[Op] = []
    batches: list[QuarantineBatch] = []
    count = 0
    for op in ops:
        if isinstance(op, Quarantined):
            count = op.count
            batches.append(QuarantineBatch(op.root))
        elif count:
            count -= 1
            # An older bucketfs kept records here that are no changes, and say nothing without those that they were about.
            if isinstance(op, Change):
                batches[-1].changes.append(op)
        else:
            replayed.append(op)
    return replayed, Quarantine(batches)


def paths_of(op: Op) -> tuple[str, ...]:
    """The paths that a change is about; none for an op that is no change."""
    if isinstance(op, Rename):
        return (op.old, op.new)
    return (op.path,) if isinstance(op, Change) else ()


def _is_under(path: str, above: str) -> bool:
    return path == above or not above or path.startswith(f"{above}/")


# What the user gets


@dataclass(slots=True)
class _Layer:
    extents: Extents
    lower_limit_bytes: int


@dataclass(slots=True)
class QuarantinedFile:
    """What is left of one file: the bytes that were written to it here. ``carried`` is the path that it was renamed from; what it
    had there is in no quarantined change."""

    size_bytes: int = 0
    carried: str | None = None
    _layers: dict[DraftId, _Layer] = field(default_factory=dict)

    def write(self, op: SetContent) -> None:
        """As the replay of ``op`` does."""
        layer = self._layers.setdefault(op.draft, _Layer(Extents(), 0))
        layer.extents.truncate(op.size_bytes)
        for start, stop in op.extents:
            layer.extents.add(start, stop)
        layer.lower_limit_bytes = op.lower_limit_bytes
        self.size_bytes = op.size_bytes

    def parts(self) -> Iterator[tuple[DraftId, Interval]]:
        """Where its bytes are, in the order in which to write them: later parts go over earlier ones."""
        layers = list(self._layers.items())
        for at, (draft, layer) in enumerate(layers):
            shown = layer.extents.copy()
            shown.truncate(min([self.size_bytes, *(above.lower_limit_bytes for _, above in layers[at + 1 :])]))
            for interval in shown:
                yield draft, interval

    def lost(self) -> list[Interval]:
        """The bytes that it had besides: of the base, where they are lost, or of the file that it was renamed from."""
        held = Extents(interval for _, interval in self.parts())
        if self.carried is not None:
            return held.holes(0, self.size_bytes)
        lower = min((layer.lower_limit_bytes for layer in self._layers.values()), default=0)
        return held.holes(0, min(lower, self.size_bytes))


def files_of(changes: Iterable[Op]) -> dict[str, QuarantinedFile]:
    """The files that quarantined changes wrote to, by the paths that they have at the end. What was removed again is left out."""
    files: dict[str, QuarantinedFile] = {}
    came_from: dict[str, str] = {}
    for change in changes:
        if isinstance(change, Create):
            files[change.path] = QuarantinedFile()
        elif isinstance(change, SetContent):
            if change.path not in files:
                files[change.path] = QuarantinedFile(carried=_origin(came_from, change.path))
            files[change.path].write(change)
        elif isinstance(change, Remove | Place | MakeDirectory | MakeSymlink):
            _take(files, change.path)
        elif isinstance(change, Rename):
            moved, replaced = _take(files, change.old), _take(files, change.new)
            files |= {change.new + rest: file for rest, file in moved.items()}
            came_from[change.new] = change.old
            if change.exchange:
                files |= {change.old + rest: file for rest, file in replaced.items()}
                came_from[change.old] = change.new
    return files


def _origin(came_from: dict[str, str], path: str) -> str | None:
    """Where what is at ``path`` stood before it, or a folder above it, was renamed; None when it was not."""
    for new in reversed(came_from):
        if _is_under(path, new):
            return came_from[new] + path[len(new) :]
    return None


def _take(files: dict[str, QuarantinedFile], path: str) -> dict[str, QuarantinedFile]:
    """Take out what is at and below ``path``; by the rest of the path."""
    return {found[len(path) :]: files.pop(found) for found in list(files) if _is_under(found, path)}


def in_words(change: Op) -> str:
    """One line about a change."""
    if isinstance(change, Rename):
        return f"{'exchanged' if change.exchange else 'renamed'} {change.old!r} {'and' if change.exchange else 'to'} {change.new!r}"
    text = f"{_VERBS.get(type(change), 'changed')} {paths_of(change)[0]!r}"
    if isinstance(change, MakeSymlink):
        return f"{text} to {change.target!r}"
    if isinstance(change, SetAttributes):
        named = {name: getattr(change, name) for name in ("uid", "gid", "mtime_ns")} | {
            "mode": None if change.mode is None else oct(change.mode)
        }
        text += "".join(f" {name}={value}" for name, value in sorted(named.items()) if value is not None)
    return text


time_of = attrgetter("time_ns")
