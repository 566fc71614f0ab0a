"""A user whose umask is 000 (a container, a careless service): what bucketfs keeps is theirs alone all the same."""

from __future__ import annotations

import os
import stat

from support.home import Home
from support.served import ServedHub, free_address

UNDER_000 = ("sh", "-c", 'umask 000; exec "$@"', "sh")


def open_to_others(home: Home) -> list[str]:
    """Everything below the folders that bucketfs makes which others may enter, read or write."""
    found = []
    for kept in (home.state, home.data, home.cache, home.config, home.root / "run/bucketfs", home.root / "hub"):
        for folder, _, files in os.walk(kept):
            for path in [folder, *(os.path.join(folder, name) for name in files)]:
                mode = os.lstat(path).st_mode
                if mode & 0o077:
                    found.append(f"{stat.filemode(mode)} {os.path.relpath(path, home.root)}")
    return found


def test_nothing_that_is_kept_is_open_to_others(home: Home) -> None:
    """With umask 000 other users of the machine could read or change the keys and files that bucketfs keeps."""
    home.wrapper = UNDER_000
    folder = home.root / "folder"
    folder.mkdir()
    (folder / "note").write_text("text")
    mount = home.mount()
    (mount.path / "home/file").write_text("text")
    (mount.path / "home/folder").mkdir()
    mount.sync()
    (mount.path / "home/waits").write_text("not at the Hub yet")
    home.cli("buck", "create", "other")
    home.cli("buck", "watch", "--once", folder, "other")
    home.cli("buck", "pull", "home", home.root / "copy")
    assert not open_to_others(home), "\n".join(open_to_others(home))
    mount.umount()
    assert not open_to_others(home), "\n".join(open_to_others(home))
    # What is pulled is the user's, and has the modes of their umask and the bucket.
    assert (home.root / "copy/file").read_text() == "text"


def test_a_hub_keeps_its_data_to_itself(home: Home) -> None:
    """With umask 000 other users of the machine could read or change a Hub's blocks and accounts."""
    home.wrapper = UNDER_000
    (home.root / "hub").mkdir(mode=0o700)
    done = home.run(["timeout", "--preserve-status", "3", *_serve(home)], check=False)
    assert done.returncode == 0 and "Hub serves on" in done.stdout, done
    assert not open_to_others(home), "\n".join(open_to_others(home))


def _serve(home: Home) -> list[str]:
    from support.home import program

    return [*program(), "hub", "serve", "--data", str(home.root / "hub/data"), "--listen", free_address()]


def test_signing_in_without_confirmation_stays_on_this_machine(home: Home) -> None:
    """A Hub for tests, reached over the network, would let strangers sign in as any account."""
    said = home.complaint(
        "hub", "serve", "--data", home.root / "hub", "--listen", "0.0.0.0:0", "--plaintext", "--auto-confirm"
    )
    assert "could sign in as anyone" in said
    with ServedHub(home, home.root / "hub") as hub:
        hub.account("me")
    assert "any user of this machine can sign in as any account" in (home.root / "state/hub.log").read_text()
