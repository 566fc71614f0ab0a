"""The file of secrets."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from bucketfs.client import Credentials
from bucketfs.config import CredentialsFile, Profile
from bucketfs.daemon.session import choose
from bucketfs.errors import NotFound, Usage
from bucketfs.types import ThreadId

MINE = Profile(
    "default", "hub.example:443", Credentials(api_key="bkey", api_secret="bsecret"), ThreadId(b"\x01\x55" + bytes(32))
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config/credentials.toml"


def test_saved_privately_and_read_back(path: Path) -> None:
    file = CredentialsFile(path, {})
    assert file.profiles() == {}
    file.save(MINE)
    file.save(Profile("other", "two:1", Credentials(session="bs")))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert CredentialsFile(path, {}).profile("default") == MINE
    assert sorted(CredentialsFile(path, {}).profiles()) == ["default", "other"]
    file.remove("other")
    assert sorted(file.profiles()) == ["default"]
    with pytest.raises(NotFound):
        file.remove("other")


def test_refused_when_others_may_read_it(path: Path) -> None:
    CredentialsFile(path, {}).save(MINE)
    for mode in (0o640, 0o604, 0o660):
        path.chmod(mode)
        with pytest.raises(Usage, match="open to others") as caught:
            CredentialsFile(path, {}).profiles()
        assert caught.value.hint == f"chmod 600 {path}"


def test_a_key_is_replaced_while_in_use(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = CredentialsFile(path, {})
    file.save(MINE)
    current = file.current("default")
    assert current() == MINE.credentials
    CredentialsFile(path, {}).save(Profile("default", MINE.hub, Credentials(api_key="bnew")))
    assert current() == Credentials(api_key="bnew")
    with caplog.at_level(logging.WARNING):
        path.write_text("[default")
        os.utime(path, ns=(1, 1))
        assert current() == current() == Credentials(api_key="bnew")
    assert len(caplog.records) == 1
    assert "bnew" not in caplog.text


def test_secrets_are_in_no_message(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('[default]\napi_secret = "bverysecret"\napi_sekret = "bverysecret"\n')
    path.chmod(0o600)
    with pytest.raises(Usage, match="unknown key 'api_sekret'") as caught:
        CredentialsFile(path, {}).profiles()
    assert "bverysecret" not in f"{caught.value!r} {caught.value} {caught.value.hint}"
    assert "bsecret" not in repr(MINE)


def test_the_environment_is_laid_over(path: Path) -> None:
    file = CredentialsFile(path, {"BUCKETFS_API_KEY": "benv"})
    assert file.profile("default").credentials == Credentials(api_key="benv")
    file.save(MINE)
    assert file.profile("default").credentials == Credentials(api_key="benv", api_secret="bsecret")


def test_which_hub_is_meant(path: Path) -> None:
    file = CredentialsFile(path, {})
    assert choose("", "", file).name == "embedded"
    with pytest.raises(NotFound):
        choose("work", "", file)
    with pytest.raises(NotFound):
        choose("", "hub.example:443", file)
    file.save(MINE)
    assert choose("", "", file) == MINE
    assert choose("", "embedded", file).name == "embedded"
    assert choose("embedded", "", file).name == "embedded"
    with pytest.raises(Usage, match="profile of its own"):
        choose("default", "embedded", file)


def test_keys_go_to_no_other_hub(path: Path) -> None:
    file = CredentialsFile(path, {})
    file.save(MINE)
    assert choose("", "hub.example:443", file).hub == "hub.example:443"
    with pytest.raises(Usage, match=r"are for hub\.example:443, not for evil\.example:443"):
        choose("", "evil.example:443", file)
