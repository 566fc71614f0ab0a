"""Asynchronous direct writes as databases make them: io_submit(2), without libaio."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

BLOCK = 4096

_PWRITE = 1
_NUMBERS = {
    "x86_64": {"setup": 206, "destroy": 207, "getevents": 208, "submit": 209},
    "aarch64": {"setup": 0, "destroy": 1, "submit": 2, "getevents": 4},
}
_LIBC = ctypes.CDLL(None, use_errno=True)


class _Block(ctypes.Structure):
    """struct iocb of linux/aio_abi.h, little-endian."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_uint32),
        ("opcode", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("descriptor", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("eventfd", ctypes.c_uint32),
    )


class _Event(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_uint64),
        ("block", ctypes.c_uint64),
        ("result", ctypes.c_int64),
        ("result2", ctypes.c_int64),
    )


def _call(name: str, *arguments: object) -> int:
    result = int(_LIBC.syscall(ctypes.c_long(_NUMBERS[platform.machine()][name]), *arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"io_{name}: {os.strerror(number)}")
    return result


class Writer:
    """Writes blocks of one file, opened with O_DIRECT, one at a time."""

    def __init__(self, descriptor: int, context: ctypes.c_ulong) -> None:
        self._descriptor = descriptor
        self._context = context
        self._memory = mmap.mmap(-1, BLOCK)  # aligned, as O_DIRECT needs it
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))

    def write(self, offset: int, data: bytes) -> None:
        """Submit a block and wait until it is reported as written."""
        assert len(data) == BLOCK
        self._memory[:] = data
        block = _Block(opcode=_PWRITE, descriptor=self._descriptor, buffer=self._address, size=BLOCK, offset=offset)
        blocks = (ctypes.c_void_p * 1)(ctypes.addressof(block))
        assert _call("submit", self._context, ctypes.c_long(1), blocks) == 1
        event = _Event()
        assert _call("getevents", self._context, ctypes.c_long(1), ctypes.c_long(1), ctypes.byref(event), None) == 1
        if event.result < 0:
            raise OSError(-event.result, os.strerror(-event.result))
        assert event.result == BLOCK


@contextmanager
def writer(descriptor: int) -> Iterator[Writer]:
    context = ctypes.c_ulong(0)
    _call("setup", ctypes.c_uint(8), ctypes.byref(context))
    try:
        yield Writer(descriptor, context)
    finally:
        _call("destroy", context)
