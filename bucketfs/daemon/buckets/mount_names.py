"""The names of the folders of buckets in an all-buckets mount. Pure.

The Hub allows two buckets of one name, and names that no folder can have. A bucket that is shown keeps its folder's name while the
Hub keeps its name: the folder that a program uses must not become another bucket because some bucket came or went.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count

from bucketfs.client import BucketInfo
from bucketfs.names import NAME_BYTES_MAX
from bucketfs.types import BucketKey


def folder_names(buckets: Iterable[BucketInfo], shown: Mapping[BucketKey, bytes]) -> dict[BucketKey, bytes]:
    """The folder of each of ``buckets``, all different: the bucket's name, and for the younger of two with one name a part of its
    key behind it. ``shown`` are the folders that there are; those of buckets that are not among ``buckets`` stay taken."""
    present = {info.key: info for info in buckets}
    found: dict[BucketKey, bytes] = {}
    taken = {name for key, name in shown.items() if key not in present}
    for key, info in present.items():
        name = shown.get(key)
        if name is not None and _is_called(name, info):
            found[key] = name
            taken.add(name)
    for info in sorted(present.values(), key=lambda info: (info.created_at_ns, info.key)):
        if info.key not in found:
            found[info.key] = next(name for name in _candidates(info) if name not in taken)
            taken.add(found[info.key])
    return found


def _plain(info: BucketInfo) -> str:
    name = info.name.replace("/", "_").replace("\0", "_")
    return info.key if name in ("", ".", "..") else _cut(name, NAME_BYTES_MAX)


def _cut(name: str, bytes_max: int) -> str:
    return name.encode()[:bytes_max].decode(errors="ignore")


def _candidates(info: BucketInfo) -> Iterator[bytes]:
    name = _plain(info)
    yield name.encode()
    yield _with(name, f" ({info.key[-8:]})")
    for number in count(1):
        # Only for names that were chosen to look like these.
        yield _with(name, f" ({info.key}) {number}")


def _with(name: str, rest: str) -> bytes:
    return (_cut(name, NAME_BYTES_MAX - len(rest)) + rest).encode()


def _is_called(name: bytes, info: BucketInfo) -> bool:
    plain = _plain(info)
    if name == plain.encode():
        return True
    head, _, rest = name.decode(errors="replace").rpartition(" (")
    return head == _cut(plain, NAME_BYTES_MAX - len(f" ({rest}".encode())) and info.key[-8:] in rest
