"""A file that does not fit the limit of the Hub: it waits here, and every other file of its bucket, and of its folder, goes."""

from __future__ import annotations

import os

import pytest
from support.home import Home
from support.hubprocess import developer, serving

MIB = 1 << 20


@pytest.mark.timeout(180)
def test_the_other_files_go(home: Home) -> None:
    """One file over the limit would keep all other changes of the bucket from the Hub."""
    with developer(home) as address:
        mount = home.mount()
        data = mount.path / "data"
        data.mkdir()
        mount.sync()
    # The Hub comes back with a limit that was not known when this was written.
    (data / "folder").mkdir()
    large = os.urandom(6 * MIB)
    (data / "folder/large").write_bytes(large)
    (data / "folder/small").write_text("small")
    (data / "other").write_text("other")
    mount.expect("would pass a limit of the Hub")
    mount.expect("changes wait here|Hub|UNAVAILABLE")
    with serving(home, "--account-size", "4MiB", listen=address):
        said = home.complaint("sync", mount.path)
        assert "folder/large" in said, said
        assert home.cli("buck", "ls", "data/folder").stdout.split() == ["small"]
        assert (data / "folder/large").read_bytes() == large
        (data / "folder/large").unlink()
        mount.sync()
        mount.umount()
