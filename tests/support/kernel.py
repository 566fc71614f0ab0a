"""The kernel by its system calls: errnos, renameat2, the page cache, inotify."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

NOREPLACE, EXCHANGE = 1, 2
"""Flags of renameat2(2)."""

PAGE = mmap.PAGESIZE
MAP_FAILED = ctypes.c_void_p(-1).value

EVENTS = {
    0x0002: "modify",
    0x0004: "attrib",
    0x0040: "moved_from",
    0x0080: "moved_to",
    0x0100: "create",
    0x0200: "delete",
    0x0400: "delete_self",
    0x0800: "move_self",
}
"""inotify(7)."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def refused(code: int) -> pytest.RaisesExc[OSError]:
    """Expects an OSError with this errno."""
    return pytest.raises(OSError, check=lambda error: error.errno == code)


def renameat2(old: Path, new: Path, flags: int) -> None:
    """renameat2(2), which Python has no word for. Raises OSError."""
    at_cwd = -100
    if _libc.renameat2(at_cwd, os.fsencode(old), at_cwd, os.fsencode(new), flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(old), None, str(new))


def cached_pages(path: Path) -> tuple[int, int]:
    """How many pages of a file the kernel has in its page cache, and how many there are; mincore(2). The file is opened, not
    read."""
    size = path.stat().st_size
    pages = -(-size // PAGE)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
        assert address != MAP_FAILED, os.strerror(ctypes.get_errno())
        found = ctypes.create_string_buffer(pages)
        status = _libc.mincore(address, size, found)
        _libc.munmap(address, size)
        assert status == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(descriptor)
    return sum(byte & 1 for byte in found.raw), pages


@contextmanager
def kept_in_memory(path: Path) -> Iterator[None]:
    """Keeps the pages of a file that are cached from being given up for want of memory; mlock(2). What a file system invalidates
    goes all the same."""
    size = path.stat().st_size
    descriptor = os.open(path, os.O_RDONLY)
    try:
        address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    finally:
        os.close(descriptor)
    assert address != MAP_FAILED, os.strerror(ctypes.get_errno())
    try:
        assert _libc.mlock(address, size) == 0, os.strerror(ctypes.get_errno())
        yield
    finally:
        _libc.munmap(address, size)


class Watch:
    """An inotify instance that watches some paths; a context manager."""

    def __init__(self, *paths: Path) -> None:
        self._descriptor = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._descriptor >= 0, os.strerror(ctypes.get_errno())
        self._paths: dict[int, str] = {}
        for path in paths:
            number = _libc.inotify_add_watch(self._descriptor, os.fsencode(path), sum(EVENTS))
            assert number >= 0, os.strerror(ctypes.get_errno())
            self._paths[number] = path.name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._descriptor)

    def events(self) -> list[tuple[str, str]]:
        """What was heard since the last call, as (name of the watched path, event)."""
        found, at = [], 0
        try:
            data = os.read(self._descriptor, 1 << 16)
        except BlockingIOError:
            return []
        while at < len(data):
            number, mask, _, length = struct.unpack_from("iIII", data, at)
            at += 16 + length
            found += [(self._paths[number], event) for bit, event in EVENTS.items() if mask & bit]
        return found


MS_NOSUID, MS_NODEV, MS_REMOUNT = 2, 4, 32


def forget_inodes(mount: Path) -> bool:
    """Have the kernel forget all names and inodes of one mount that nothing holds open, as when memory runs out or by
    ``/proc/sys/vm/drop_caches``, and leave those of all other mounts alone. Whether it did: only root may ask for it."""
    if os.geteuid() != 0:
        return False
    # A remount begins with it, whatever it changes; here nothing.
    failed = _libc.mount(None, os.fsencode(mount), None, ctypes.c_ulong(MS_REMOUNT | MS_NOSUID | MS_NODEV), None)
    assert not failed, os.strerror(ctypes.get_errno())
    return True
