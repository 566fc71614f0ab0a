"""Settings and secrets that change while they are in use."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from bucketfs.client import Credentials
from bucketfs.config import Config, CredentialsFile, Paths, Profile, follow, follow_settings

PATIENCE_S = 10.0


class Calls:
    """A function that records the last argument of each call."""

    def __init__(self) -> None:
        self.all: list[object] = []
        self._event = trio.Event()

    def __call__(self, *what: object) -> None:
        self.all.append(what[-1] if what else None)
        self._event.set()

    async def until(self, enough: Callable[[list[object]], bool]) -> None:
        with trio.fail_after(PATIENCE_S):
            while not enough(self.all):
                self._event = trio.Event()
                await self._event.wait()


def text_of(file: Path) -> str:
    return file.read_text() if file.exists() else ""


async def test_a_file_that_is_made_changed_replaced_and_removed(tmp_path: Path) -> None:
    """Editors write in place or rename a new file over the old one; either must be noticed."""
    file, changes = tmp_path / "a", Calls()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, [file], lambda: text_of(file), changes)
        await trio.testing.wait_all_tasks_blocked()
        file.write_text("made")
        await changes.until(lambda seen: seen[-1:] == ["made"])
        file.write_text("changed")
        await changes.until(lambda seen: seen[-1:] == ["changed"])
        (tmp_path / "b").write_text("replaced")
        os.replace(tmp_path / "b", file)
        await changes.until(lambda seen: seen[-1:] == ["replaced"])
        file.unlink()
        await changes.until(lambda seen: seen[-1:] == [""])
        nursery.cancel_scope.cancel()


async def test_a_folder_that_cannot_be_watched_is_polled(tmp_path: Path) -> None:
    """A new key in a folder that did not exist at the start must be used all the same."""
    file, changes = tmp_path / "not/there", Calls()
    async with trio.open_nursery() as nursery:

        async def poll() -> None:
            await follow([file], lambda: text_of(file), changes, look_every_s=0.05)

        nursery.start_soon(poll)
        await trio.testing.wait_all_tasks_blocked()
        file.parent.mkdir()
        file.write_text("made")
        await changes.until(lambda seen: seen[-1:] == ["made"])
        nursery.cancel_scope.cancel()


async def test_another_key_and_another_setting(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A new key is used at once; a new setting is named by ``status`` and the log until the next mount. No key is logged."""
    caplog.set_level(logging.INFO)
    settings = tmp_path / "config.toml"
    settings.touch()
    environ = {"BUCKETFS_CONFIG": str(settings)}
    config = Config(Paths(tmp_path, tmp_path, tmp_path, tmp_path, tmp_path))
    new_keys, reports = Calls(), Calls()
    secrets = config.paths.credentials_file
    CredentialsFile(secrets, {}).save(Profile("default", "hub:1", Credentials(api_key="bold", api_secret="bs")))
    current = CredentialsFile(secrets, {}).current("default")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow_settings, config, current, new_keys, reports, environ)
        await trio.testing.wait_all_tasks_blocked()
        writer = CredentialsFile(secrets, {})
        writer.save(Profile("other", "hub:2", Credentials(api_key="belse")))
        writer.save(Profile("default", "hub:1", Credentials(api_key="bnew", api_secret="bt")))
        await new_keys.until(lambda seen: len(seen) == 1)
        late = f"mount.timeout of {settings} takes effect with the next mount"
        settings.write_text("[mount]\ntimeout = '5s'\n")
        await reports.until(lambda seen: seen[-1:] == [[late]])
        settings.write_text("[mount\n")
        await reports.until(lambda seen: "keeping the settings read before" in str(seen[-1]))
        assert len(new_keys.all) == 1
        nursery.cancel_scope.cancel()
    assert [record.getMessage() for record in caplog.records].count(late) == 1
    assert "bnew" not in caplog.text and "bt" not in caplog.text.split()
