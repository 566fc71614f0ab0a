"""Which byte ranges of a file are held: sorted, disjoint half-open intervals. Pure.

Rules that keep this file honest:

1. ``start < stop`` for every interval, and every interval ends strictly before the next one starts. Intervals that touch are
   one interval, so two ``Extents`` that cover the same bytes are equal.
2. The starts and the stops live in two lists, so that ``bisect`` works on plain integers. A file written front to back
   stays one interval and an ``add`` at its end costs one comparison; anything else costs a binary search and one list
   splice.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from bucketfs.errors import InvalidArgument

Interval = tuple[int, int]


class Extents:
    """A mutable set of bytes, kept as intervals ``[start, stop)``. Offsets are bytes from the start of the file."""

    __slots__ = ("_starts", "_stops")

    def __init__(self, intervals: Iterable[Interval] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for start, stop in intervals:
            self.add(start, stop)

    def add(self, start: int, stop: int) -> None:
        """Holds ``[start, stop)`` too. An empty range changes nothing; InvalidArgument for one that makes no sense."""
        if not _something(start, stop):
            return
        starts, stops = self._starts, self._stops
        if not stops or start > stops[-1]:
            starts.append(start)
            stops.append(stop)
            return
        if start >= starts[-1]:
            if stop > stops[-1]:
                stops[-1] = stop
            return
        first = bisect_left(stops, start)
        after = bisect_right(starts, stop)
        if first < after:
            start = min(start, starts[first])
            stop = max(stop, stops[after - 1])
        starts[first:after] = [start]
        stops[first:after] = [stop]

    def remove(self, start: int, stop: int) -> None:
        """Holds ``[start, stop)`` no longer, whether it was held or not."""
        if not _something(start, stop):
            return
        starts, stops = self._starts, self._stops
        first = bisect_right(stops, start)
        after = bisect_left(starts, stop)
        if first >= after:
            return
        rest: list[Interval] = []
        if starts[first] < start:
            rest.append((starts[first], start))
        if stops[after - 1] > stop:
            rest.append((stop, stops[after - 1]))
        starts[first:after] = [low for low, _ in rest]
        stops[first:after] = [high for _, high in rest]

    def truncate(self, size: int) -> None:
        """Holds nothing from offset ``size`` on."""
        if self._stops and self._stops[-1] > size:
            self.remove(size, self._stops[-1])

    def intersect(self, start: int, stop: int) -> list[Interval]:
        """The held parts of ``[start, stop)``, ascending."""
        if start >= stop:
            return []
        first = bisect_right(self._stops, start)
        after = bisect_left(self._starts, stop)
        return [(max(start, self._starts[at]), min(stop, self._stops[at])) for at in range(first, after)]

    def holes(self, start: int, stop: int) -> list[Interval]:
        """The parts of ``[start, stop)`` that are not held, ascending."""
        found: list[Interval] = []
        for low, high in self.intersect(start, stop):
            if start < low:
                found.append((start, low))
            start = high
        if start < stop:
            found.append((start, stop))
        return found

    def items(self) -> tuple[Interval, ...]:
        """All intervals, ascending: what ``SetContent.extents`` holds."""
        return tuple(zip(self._starts, self._stops, strict=True))

    def copy(self) -> Extents:
        """An independent copy."""
        twin = Extents()
        twin._starts = self._starts.copy()
        twin._stops = self._stops.copy()
        return twin

    def clear(self) -> None:
        """Holds nothing any more."""
        self._starts.clear()
        self._stops.clear()

    @property
    def stop(self) -> int:
        """The offset after the last byte held; 0 when nothing is."""
        return self._stops[-1] if self._stops else 0

    @property
    def size_bytes(self) -> int:
        """How many bytes are held."""
        return sum(self._stops) - sum(self._starts)

    def __iter__(self) -> Iterator[Interval]:
        return iter(self.items())

    def __len__(self) -> int:
        """The number of intervals."""
        return len(self._starts)

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Extents):
            return NotImplemented
        return self._starts == other._starts and self._stops == other._stops

    def __repr__(self) -> str:
        return f"Extents({list(self.items())!r})"


def _something(start: int, stop: int) -> bool:
    if start < 0 or stop < start:
        raise InvalidArgument(f"no byte range: {start} to {stop}")
    return start < stop
