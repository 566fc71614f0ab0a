"""What a file holds: layers of drafts over a base. Pure: offsets in, pieces out.

A file's bytes are a stack. At the bottom lies the base, a file of the bucket's base tree, immutable. Above it lie layers, each
a draft file with the extents that were written to it; the topmost unsealed layer takes new writes. Below its own extents a
layer shows what lies under it, up to its ``lower_limit_bytes`` (what a truncation cut off does not come back when the file grows
again). Ranges that nothing covers read as zeros.

A push seals the layers: a sealed layer's draft is never written again, so the pushed snapshot is one moment of the file however
long the upload takes, and later writes begin a new layer. So do writes over bytes that the journal has sealed with checksums, for
those never change again either (see `bucketfs.journal`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bucketfs.journal import Draft, Extents
from bucketfs.types import Cid

COUNTED_EXTENTS_MAX = 512
"""A stat must not go through all extents of a database; of more of them the holes are not counted one by one."""


@dataclass(slots=True, eq=False)
class Layer:
    """One draft and the extents of it that count. ``unrecorded`` are extents that no journal record names yet."""

    draft: Draft
    extents: Extents
    lower_limit_bytes: int
    sealed: bool
    unrecorded: Extents


@dataclass(frozen=True, slots=True)
class FrozenLayer:
    """A sealed layer as a push sees it: its extents cannot change any more."""

    draft: Draft
    extents: Extents
    lower_limit_bytes: int


@dataclass(frozen=True, slots=True)
class BasePiece:
    """Bytes ``[start, stop)`` of the base file."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class DraftPiece:
    """Bytes ``[start, stop)`` of a draft file (offsets in a draft are offsets in the file)."""

    draft: Draft
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class ZeroPiece:
    """A range that reads as zeros."""

    start: int
    stop: int


Piece = BasePiece | DraftPiece | ZeroPiece


def pieces(layers: Sequence[Layer | FrozenLayer], base_size_bytes: int, start: int, stop: int) -> list[Piece]:
    """Where the bytes ``[start, stop)`` of a stack come from, in order and without gaps."""
    found: list[Piece] = []
    seen = [(start, stop)] if start < stop else []  # what shows through the layers looked at so far
    for layer in reversed(layers):
        through: list[tuple[int, int]] = []
        # From the top layer down; what a layer does not cover shows through to the next.
        for begin, end in seen:
            found += [DraftPiece(layer.draft, low, high) for low, high in layer.extents.intersect(begin, end)]
            for low, high in layer.extents.holes(begin, end):
                split = min(max(layer.lower_limit_bytes, low), high)
                if low < split:
                    through.append((low, split))
                if split < high:
                    found.append(ZeroPiece(split, high))
        seen = through
        if not seen:
            break
    for begin, end in seen:
        split = min(max(base_size_bytes, begin), end)
        if begin < split:
            found.append(BasePiece(begin, split))
        if split < end:
            found.append(ZeroPiece(split, end))
    found.sort(key=lambda piece: piece.start)
    return found


def _held(layers: Sequence[Layer | FrozenLayer], base_size_bytes: int, base_held_bytes: int, size_bytes: int) -> int:
    if sum(len(layer.extents) for layer in layers) > COUNTED_EXTENTS_MAX:
        written = sum(layer.extents.size_bytes for layer in layers)
        return min(size_bytes, written + base_held_bytes)
    written = below = 0
    for piece in pieces(layers, base_size_bytes, 0, size_bytes):
        if isinstance(piece, DraftPiece):
            written += piece.stop - piece.start
        elif isinstance(piece, BasePiece):
            below += piece.stop - piece.start
    return written + min(below, base_held_bytes)


class Content:
    """The stack of one file. ``size_bytes`` is the file's length; ``changed`` says that it is not just the base; ``queued`` that it
    waits for its checksums (see `sealing`)."""

    __slots__ = ("base", "base_held_bytes", "base_size_bytes", "layers", "queued", "size_bytes")

    def __init__(self, base: Cid | None, base_size_bytes: int) -> None:
        self.base = base
        self.base_size_bytes = base_size_bytes
        self.base_held_bytes = base_size_bytes
        """How much of the base is no hole, as far as that is known."""
        self.layers: list[Layer] = []
        self.size_bytes = base_size_bytes
        self.queued = False

    @property
    def changed(self) -> bool:
        return bool(self.layers)

    @property
    def unrecorded(self) -> bool:
        """Whether bytes were written that no journal record names yet."""
        return any(layer.unrecorded for layer in self.layers)

    @property
    def held_bytes(self) -> int:
        """How much of the file is no hole. Where a base with holes is written over, it is not known whether that filled one;
        then it counts as if it had."""
        return _held(self.layers, self.base_size_bytes, self.base_held_bytes, self.size_bytes)

    def pieces(self, start: int, stop: int) -> list[Piece]:
        """Where ``[start, stop)`` comes from; ``stop`` is cut to the file's length."""
        stop = min(stop, self.size_bytes)
        return pieces(self.layers, self.base_size_bytes, start, stop) if start < stop else []

    @property
    def data_stop(self) -> int:
        """Where the last bytes end that were written, or are of the base; zeros follow, if anything."""
        return max((piece.stop for piece in self.pieces(0, self.size_bytes) if not isinstance(piece, ZeroPiece)), default=0)

    def writable(self, new_draft: Callable[[], Draft]) -> Layer:
        """The layer that takes writes now; a new one when there is none or the topmost is sealed."""
        if self.layers and not self.layers[-1].sealed:
            return self.layers[-1]
        return self.begin(new_draft)

    def begin(self, new_draft: Callable[[], Draft]) -> Layer:
        """A new layer, which takes writes from now on."""
        layer = Layer(new_draft(), Extents(), self.size_bytes, False, Extents())
        # Only the topmost layer takes writes, or two of them would have bytes for one range in no order.
        for below in self.layers:
            below.sealed = True
        self.layers.append(layer)
        return layer

    def write(self, offset: int, data: bytes, new_draft: Callable[[], Draft]) -> None:
        """Write ``data`` into the draft of the topmost layer. Raises NoSpace, DiskFailed with nothing changed that a reader
        sees."""
        layer, start, stop = self.writable(new_draft), offset, offset + len(data)
        if not layer.draft.take(offset, data):
            # Its bytes there are sealed, or damaged.
            layer = self.begin(new_draft)
            layer.draft.write(offset, data)
        # Behind the bytes: what a write that failed half-way has put beyond the known extents is named by none, and not seen.
        layer.extents.add(start, stop)
        layer.unrecorded.add(start, stop)
        if stop > self.size_bytes:
            self.size_bytes = stop

    def truncate(self, layer: Layer, size_bytes: int) -> None:
        """Cut or grow the file to ``size_bytes``, in the writable layer."""
        if size_bytes < self.size_bytes:
            layer.extents.truncate(size_bytes)
            layer.unrecorded.truncate(size_bytes)
            layer.lower_limit_bytes = min(layer.lower_limit_bytes, size_bytes)
        self.size_bytes = size_bytes

    def seal(self) -> tuple[FrozenLayer, ...]:
        """Seal every layer; the snapshot names them with extents that stay as they are."""
        for layer in self.layers:
            layer.sealed = True
        # The extents are not copied: writes and cuts begin a new layer from here on, and while a push reads only that one takes
        # in bytes of others.
        return tuple(FrozenLayer(layer.draft, layer.extents, layer.lower_limit_bytes) for layer in self.layers)

    def reopen(self) -> None:
        """After a push that failed: the topmost layer may be written again, so that retries do not pile up layers."""
        if self.layers:
            self.layers[-1].sealed = False

    def squashed(self, index: int) -> list[tuple[int, int]]:
        """What of layer ``index`` must be in the draft of the layer above for that to show the same without it."""
        lower, upper = self.layers[index], self.layers[index + 1]
        found: list[tuple[int, int]] = []
        for start, stop in lower.extents.intersect(0, upper.lower_limit_bytes):
            found += upper.extents.holes(start, stop)
        return found

    def squash(self, index: int) -> None:
        """Drop layer ``index``, of which the layer above has everything now."""
        lower, upper = self.layers[index], self.layers[index + 1]
        for start, stop in self.squashed(index):
            upper.extents.add(start, stop)
            # A record that tells the new limit must tell these extents with it.
            upper.unrecorded.add(start, stop)
        upper.lower_limit_bytes = min(upper.lower_limit_bytes, lower.lower_limit_bytes)
        del self.layers[index]

    def rest_on(self, base: Cid | None, base_size_bytes: int, frozen: tuple[FrozenLayer, ...]) -> None:
        """The frozen layers are part of ``base`` now: drop them, keep what was written since."""
        self.base_held_bytes = _held(frozen, self.base_size_bytes, self.base_held_bytes, base_size_bytes)
        # By their drafts: writes since the snapshot have begun layers above them.
        gone = {layer.draft.id for layer in frozen}
        self.layers = [layer for layer in self.layers if layer.draft.id not in gone]
        self.base = base
        self.base_size_bytes = base_size_bytes
        if not self.layers:
            self.size_bytes = base_size_bytes
