"""Cumulative sizes of files in the layout that we write, by their lengths alone: no block is built."""

from __future__ import annotations

from collections.abc import Sequence

from bucketfs.dag.codec.nodes import FILE_WIDTH, LEAF_SIZE


def file_length_of_tsize(tsize: int) -> int | None:
    """The length of a file without attributes in the layout we write, from its cumulative size; None when none has this
    size.

    Hubs of Textile report cumulative sizes only. Every such size belongs to one length, because each further byte adds
    at least one to it.
    """
    if tsize <= LEAF_SIZE:
        return tsize if tsize >= 0 else None
    low, high = LEAF_SIZE, tsize
    while low < high:
        middle = (low + high) // 2
        if tsize_of_file_length(middle) < tsize:
            low = middle + 1
        else:
            high = middle
    return low if tsize_of_file_length(low) == tsize else None


def tsize_of_file_length(length: int) -> int:
    """The cumulative size of a file of this length, without attributes, from the lengths of its nodes."""
    if length <= LEAF_SIZE:
        return length
    total = length
    # All parts of a level are alike, but for the last one: (file bytes, cumulative bytes) of both.
    count = -(-length // LEAF_SIZE)
    full, full_tsize = LEAF_SIZE, LEAF_SIZE
    last = last_tsize = length - (count - 1) * LEAF_SIZE
    while count > 1:
        groups = -(-count // FILE_WIDTH)
        in_last = count - (groups - 1) * FILE_WIDTH
        overhead = _node_length([(full, full_tsize)] * (in_last - 1) + [(last, last_tsize)])
        total += overhead
        last, last_tsize = full * (in_last - 1) + last, full_tsize * (in_last - 1) + last_tsize + overhead
        if groups > 1:
            overhead = _node_length([(full, full_tsize)] * FILE_WIDTH)
            total += overhead * (groups - 1)
            full, full_tsize = full * FILE_WIDTH, full_tsize * FILE_WIDTH + overhead
        count = groups
    return total


def _node_length(children: Sequence[tuple[int, int]]) -> int:
    """The bytes of a node over children given as (file bytes, cumulative bytes), all with 36-byte CIDs."""
    links = sum(_field_length(41 + _varint_length(tsize)) for _, tsize in children)
    message = 3 + _varint_length(sum(size for size, _ in children))
    message += sum(1 + _varint_length(size) for size, _ in children)
    return links + _field_length(message)


def _field_length(size: int) -> int:
    return 1 + _varint_length(size) + size


def _varint_length(value: int) -> int:
    return max(1, (value.bit_length() + 6) // 7)
