"""What a file holds: layers of drafts over a base. Pure: offsets in, pieces out.

A file's bytes are a stack. At the bottom lies the base, a file of the bucket's base tree, immutable. Above it lie layers, each
a draft file with the extents that were written to it; the topmost unsealed layer takes new writes. Below its own extents a
layer shows what lies under it, up to its ``lower_limit_bytes`` (what a truncation cut off does not come back when the file grows
again). Ranges that nothing covers read as zeros.

A push seals the layers: a sealed layer's draft is never written again, so the pushed snapshot is one moment of the file however
long the upload takes, and later writes begin a new layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bucketfs.journal import Draft, Extents
from bucketfs.types import Cid


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


def pieces(
    layers: list[Layer] | tuple[FrozenLayer, ...], base_size_bytes: int, start: int, stop: int, top: int | None = None
) -> list[Piece]:
    """Where the bytes ``[start, stop)`` of a stack come from, in order and without gaps. ``top`` is the layer to begin at."""
    index = (len(layers) if top is None else top) - 1
    found: list[Piece] = []
    if index < 0:
        split = min(max(base_size_bytes, start), stop)
        if start < split:
            found.append(BasePiece(start, split))
        if split < stop:
            found.append(ZeroPiece(split, stop))
        return found
    layer = layers[index]
    position = start
    for begin, end in layer.extents.intersect(start, stop):
        if position < begin:
            found += _below(layers, base_size_bytes, position, begin, index)
        found.append(DraftPiece(layer.draft, begin, end))
        position = end
    if position < stop:
        found += _below(layers, base_size_bytes, position, stop, index)
    return found


def _below(
    layers: list[Layer] | tuple[FrozenLayer, ...], base_size_bytes: int, start: int, stop: int, index: int
) -> list[Piece]:
    split = min(max(layers[index].lower_limit_bytes, start), stop)
    found: list[Piece] = []
    if start < split:
        found += pieces(layers, base_size_bytes, start, split, index)
    if split < stop:
        found.append(ZeroPiece(split, stop))
    return found


class Content:
    """The stack of one file. ``size_bytes`` is the file's length; ``changed`` says that it is not just the base."""

    __slots__ = ("base", "base_size_bytes", "layers", "size_bytes")

    def __init__(self, base: Cid | None, base_size_bytes: int) -> None:
        self.base = base
        self.base_size_bytes = base_size_bytes
        self.layers: list[Layer] = []
        self.size_bytes = base_size_bytes

    @property
    def changed(self) -> bool:
        return bool(self.layers)

    @property
    def unrecorded(self) -> bool:
        """Whether bytes were written that no journal record names yet."""
        return any(layer.unrecorded for layer in self.layers)

    def pieces(self, start: int, stop: int) -> list[Piece]:
        """Where ``[start, stop)`` comes from; ``stop`` is cut to the file's length."""
        stop = min(stop, self.size_bytes)
        return pieces(self.layers, self.base_size_bytes, start, stop) if start < stop else []

    def writable(self, new_draft: Callable[[], Draft]) -> Layer:
        """The layer that takes writes now; a new one when there is none or the topmost is sealed."""
        if self.layers and not self.layers[-1].sealed:
            return self.layers[-1]
        layer = Layer(new_draft(), Extents(), self.size_bytes, False, Extents())
        self.layers.append(layer)
        return layer

    def wrote(self, layer: Layer, start: int, stop: int) -> None:
        """Take note of bytes ``[start, stop)`` that stand in the layer's draft now."""
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
        return tuple(FrozenLayer(layer.draft, layer.extents, layer.lower_limit_bytes) for layer in self.layers)

    def thaw(self) -> None:
        """After a push that failed: the topmost layer may be written again, so that retries do not pile up layers."""
        if self.layers:
            self.layers[-1].sealed = False

    def rest_on(self, base: Cid | None, base_size_bytes: int, frozen: tuple[FrozenLayer, ...]) -> None:
        """The frozen layers are part of ``base`` now: drop them, keep what was written since."""
        gone = {layer.draft.id for layer in frozen}
        self.layers = [layer for layer in self.layers if layer.draft.id not in gone]
        self.base = base
        self.base_size_bytes = base_size_bytes
        if not self.layers:
            self.size_bytes = base_size_bytes
