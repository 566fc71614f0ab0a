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
from bucketfs.config import CredentialsFile, Profile, find_places, reload
from bucketfs.config.reload import follow, follow_settings

PATIENCE_S = 10.0


class Heard:
    """What was called, and waiting for more of it."""

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


class Telling(logging.Handler):
    """Log lines as calls."""

    def __init__(self, heard: Heard) -> None:
        super().__init__()
        self._heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        self._heard(record.getMessage())


def text_of(file: Path) -> str:
    return file.read_text() if file.exists() else ""


async def test_a_file_that_is_made_changed_replaced_and_removed(tmp_path: Path) -> None:
    file, heard = tmp_path / "a", Heard()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, [file], lambda: text_of(file), heard)
        await trio.testing.wait_all_tasks_blocked()
        file.write_text("made")
        await heard.until(lambda seen: seen[-1:] == ["made"])
        file.write_text("changed")
        await heard.until(lambda seen: seen[-1:] == ["changed"])
        (tmp_path / "b").write_text("replaced")
        os.replace(tmp_path / "b", file)
        await heard.until(lambda seen: seen[-1:] == ["replaced"])
        file.unlink()
        await heard.until(lambda seen: seen[-1:] == [""])
        nursery.cancel_scope.cancel()


async def test_a_folder_that_cannot_be_watched_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "LOOK_EVERY_S", 0.05)
    file, heard = tmp_path / "not/there", Heard()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, [file], lambda: text_of(file), heard)
        await trio.testing.wait_all_tasks_blocked()
        file.parent.mkdir()
        file.write_text("made")
        await heard.until(lambda seen: seen[-1:] == ["made"])
        nursery.cancel_scope.cancel()


async def test_another_key_and_another_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("BUCKETFS_")]:
        monkeypatch.delenv(name)
    caplog.set_level(logging.INFO)
    places, hurried, said = find_places({}), Heard(), Heard()
    monkeypatch.setattr(reload.log, "handlers", [Telling(said)])
    file = CredentialsFile(places.credentials_file, {})
    file.save(Profile("default", "hub:1", Credentials(api_key="bold", api_secret="bs")))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow_settings, places, {}, file.current("default"), hurried)
        await trio.testing.wait_all_tasks_blocked()
        writer = CredentialsFile(places.credentials_file, {})
        writer.save(Profile("other", "hub:2", Credentials(api_key="belse")))
        writer.save(Profile("default", "hub:1", Credentials(api_key="bnew", api_secret="bt")))
        await hurried.until(lambda seen: len(seen) == 1)
        places.config_file.write_text("[mount]\ntimeout = '5s'\n")
        await said.until(lambda lines: f"mount.timeout of {places.config_file} takes effect with the next mount" in lines)
        places.config_file.write_text("[mount\n")
        await said.until(lambda lines: any("keeping the settings read before" in str(line) for line in lines))
        assert len(hurried.all) == 1
        nursery.cancel_scope.cancel()
    assert "bnew" not in caplog.text and "bt" not in caplog.text.split()
