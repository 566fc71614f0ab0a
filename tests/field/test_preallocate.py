"""Tools that take room before they write. A bucket cannot reserve any, and says so in the way that makes them go on without."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import subprocess

from support.home import Home

MIB = 1 << 20


def test_tools_fall_back(home: Home) -> None:
    """`rsync --preallocate` and programs that call posix_fallocate would fail in a mount, or lose bytes."""
    mount = home.mount()
    folder = mount.path / "home"
    data = random.Random("preallocate").randbytes(2 * MIB)
    (home.root / "new").write_bytes(data)
    descriptor = os.open(folder / "taken", os.O_RDWR | os.O_CREAT)
    try:
        library = ctypes.CDLL(None, use_errno=True)
        for mode in range(8):
            assert library.fallocate(descriptor, mode, ctypes.c_long(0), ctypes.c_long(MIB)) == -1
            assert ctypes.get_errno() == errno.EOPNOTSUPP, f"mode {mode}"
        os.pwrite(descriptor, b"first", 0)
        # glibc does it by hand then, which changes nothing of what is there.
        os.posix_fallocate(descriptor, 0, MIB)
    finally:
        os.close(descriptor)
    assert (folder / "taken").read_bytes() == b"first" + bytes(MIB - 5)
    subprocess.run(["rsync", "-a", "--preallocate", home.root / "new", folder / "copy"], check=True, capture_output=True)
    assert (folder / "copy").read_bytes() == data
    mount.umount()
