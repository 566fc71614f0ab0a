"""The embedded Hub, for real: started once, shared, started again, ended with its last user."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from support import leftovers

from bucketfs.client import Channel, Credentials, Endpoint, HubClient
from bucketfs.config import Config, CredentialsFile, load_config
from bucketfs.daemon import answers, open_session
from bucketfs.errors import BucketfsError, NotFound, Unavailable

PATIENCE_S = 30


@pytest.fixture
def config(stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Config]:
    home = stage / tmp_path.name
    for name in ("CONFIG", "STATE", "DATA", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(home / name.lower()))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "run"))
    monkeypatch.setenv(leftovers.HOME_VARIABLE, str(home))
    yield load_config({})
    leftovers.end(leftovers.processes(home))


def socket_of(config: Config) -> Path:
    return config.paths.hub_socket(config.hub_data)


def hubs(config: Config) -> list[int]:
    return leftovers.processes(config.paths.state.parents[1])


async def test_the_first_session_makes_everything(config: Config) -> None:
    """A first `bucketfs mount` would find no bucket and no account, make new ones each time, or leave the keys readable for
    all."""
    async with open_session(config) as session:
        assert session.embedded and session.profile.name == "embedded"
        assert [bucket.name for bucket in await session.buckets.list()] == ["home"]
        assert (await session.hub.account()).username
    file = config.paths.credentials_file
    assert (mode_of(file), mode_of(config.hub_data), mode_of(config.paths.runtime)) == (0o600, 0o700, 0o700)
    saved = CredentialsFile(file).profile("embedded")
    assert saved.credentials.api_key and saved.credentials.api_secret and not saved.credentials.session
    async with open_session(config) as session:
        assert CredentialsFile(file).profile("embedded") == saved
        assert len(await session.buckets.list()) == 1
    assert len(hubs(config)) == 1


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def test_many_at_once_start_one(config: Config) -> None:
    """Several mounts at login would start several Hubs over the same data."""

    async def use() -> None:
        async with open_session(config) as session:
            assert len(await session.buckets.list()) == 1

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(use)
    assert len(hubs(config)) == 1


async def test_it_ends_when_nobody_uses_it_and_not_before(config: Config) -> None:
    """The embedded Hub would run for ever after the last unmount, or end under a mount that still uses it."""
    async with open_session(config) as session:
        await trio.sleep(7)
        await session.hub.account()
        pids = hubs(config)
    assert len(pids) == 1
    assert not await trio.to_thread.run_sync(leftovers.wait_until_gone, pids, PATIENCE_S)
    assert not answers(socket_of(config))


async def test_it_is_started_again_when_it_died(config: Config) -> None:
    """A mount would stay offline for ever after its embedded Hub was killed."""
    async with open_session(config) as session:
        (pid,) = hubs(config)
        os.kill(pid, signal.SIGKILL)
        with trio.fail_after(PATIENCE_S):
            while True:
                try:
                    await session.hub.account()
                    break
                except Unavailable:
                    await trio.sleep(0.2)
        assert hubs(config) != [pid]


async def test_lost_keys_and_lost_data_are_made_anew(config: Config) -> None:
    """Who loses credentials.toml would never get at the buckets of the embedded Hub again."""
    async with open_session(config) as session:
        account = await session.hub.account()
    config.paths.credentials_file.unlink()
    async with open_session(config) as session:
        # The account is the same one, so that its buckets are still its own.
        assert await session.hub.account() == account
        assert len(await session.buckets.list()) == 1
    file = CredentialsFile(config.paths.credentials_file)
    profile = file.profile("embedded")
    file.save(type(profile)("embedded", "embedded", Credentials(api_key="bnotakey")))
    async with open_session(config) as session:
        assert await session.hub.account() == account


async def test_what_the_block_raises_is_raised_as_it_was(config: Config) -> None:
    """A user would be shown an exception group instead of the error and its advice."""
    with pytest.raises(NotFound, match="mine"):
        async with open_session(config):
            raise NotFound("mine")


async def test_strangers_get_nothing_out_of_it(config: Config) -> None:
    """Other programs could read the buckets of the embedded Hub without a key."""
    async with open_session(config):
        endpoint = Endpoint.parse(f"unix:{socket_of(config)}")
        async with Channel(endpoint, Credentials) as channel:
            with pytest.raises(BucketfsError):
                await HubClient(channel).account()
        assert mode_of(socket_of(config)) == 0o600
