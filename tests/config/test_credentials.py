"""The file of secrets."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bucketfs.client import Credentials
from bucketfs.config import CredentialsFile, Profile
from bucketfs.daemon.session.session import choose_profile
from bucketfs.errors import NotFound, Usage
from bucketfs.types import ThreadId

MINE = Profile(
    "default", "hub.example:443", Credentials(api_key="bkey", api_secret="bsecret"), ThreadId(b"\x01\x55" + bytes(32))
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config/credentials.toml"


def test_saved_privately_and_read_back(path: Path) -> None:
    """Keys must come back as they were, in a file that no other user can read."""
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


HAND_WRITTEN = """# keys of Ann
# asked for on Monday

[default]  # work
hub = 'hub.example:443'  # TLS
api_key = "bold"
session = "bsession"
# the secret is in the safe

# for the app
[app]
token = "btoken"

# last
[other]
hub = "two:1"
"""
SAVED = """# keys of Ann
# asked for on Monday

[default]  # work
hub = 'hub.example:443'  # TLS
api_key = "bnew"
api_secret = "bs"
# the secret is in the safe

# for the app

# last
[other]
hub = "two:1"

[third]
hub = "three:1"
"""


def hand_written(path: Path, text: str) -> CredentialsFile:
    path.parent.mkdir()
    path.write_text(text)
    path.chmod(0o600)
    return CredentialsFile(path, {})


def test_comments_and_order_of_the_user_stay(path: Path) -> None:
    """A user who wrote down where a key is from must find that again after 'hub login' or 'logout'."""
    file = hand_written(path, HAND_WRITTEN)
    file.save(Profile("default", "hub.example:443", Credentials(api_key="bnew", api_secret="bs")))
    file.save(Profile("third", "three:1", Credentials()))
    file.remove("app")
    assert path.read_text() == SAVED
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_of_the_last_release_still_loads(path: Path) -> None:
    """All keys that were ever released, and an inline table."""
    text = "".join(f'{key} = "b{key}"\n' for key in ("api_key", "api_secret", "session", "org", "token", "identity"))
    file = hand_written(path, f'[default]\nhub = "h:1"\n{text}["a b"]\nhub = "h:2"\n')
    assert file.profile("default").credentials == Credentials(
        "bapi_key", "bapi_secret", "bsession", "borg", "btoken", "bidentity"
    )
    assert file.profile("a b").hub == "h:2"


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
STEPS = st.lists(
    st.tuples(st.sampled_from(["default", "a.b", "[x]", "é ", '"', "'"]) | NAMES, TEXTS | st.none(), TEXTS), max_size=8
)


@given(STEPS)
def test_whatever_was_saved_is_read_back(steps: list[tuple[str, str | None, str]]) -> None:
    """Saving and removing profiles in any order must never damage another one, nor the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "credentials.toml"
        path.write_text("# first\n[default]\n# only a comment\n[x]\napi_key = 'k' # c\n\n# end")
        path.chmod(0o600)
        expected = {"default": Profile("default", "", Credentials()), "x": Profile("x", "", Credentials(api_key="k"))}
        for name, hub, key in steps:
            file = CredentialsFile(path, {})
            if hub is not None:
                expected[name] = Profile(name, hub, Credentials(api_key=key))
                file.save(expected[name])
            elif expected.pop(name, None) is not None:
                file.remove(name)
            assert CredentialsFile(path, {}).profiles() == expected
        assert path.read_text().startswith("# first\n") and "# only a comment" in path.read_text()


def test_refused_when_others_may_read_it(path: Path) -> None:
    """A key that others could have read must not be used without a word."""
    CredentialsFile(path, {}).save(MINE)
    for mode in (0o640, 0o604, 0o660):
        path.chmod(mode)
        with pytest.raises(Usage, match="open to others") as caught:
            CredentialsFile(path, {}).profiles()
        assert caught.value.hint == f"chmod 600 {path}"


def test_a_key_is_replaced_while_in_use(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A mount must use a new key at once, and keep the old one while the file cannot be read."""
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
    """Messages end up in logs and issue trackers."""
    path.parent.mkdir()
    path.write_text('[default]\napi_secret = "bverysecret"\napi_sekret = "bverysecret"\n')
    path.chmod(0o600)
    with pytest.raises(Usage, match="unknown key 'api_sekret'") as caught:
        CredentialsFile(path, {}).profiles()
    assert "bverysecret" not in f"{caught.value!r} {caught.value} {caught.value.hint}"
    assert "bsecret" not in repr(MINE)


def test_the_environment_is_laid_over(path: Path) -> None:
    """A container gets its key by a variable."""
    file = CredentialsFile(path, {"BUCKETFS_API_KEY": "benv"})
    assert file.profile("default").credentials == Credentials(api_key="benv")
    file.save(MINE)
    assert file.profile("default").credentials == Credentials(api_key="benv", api_secret="bsecret")


def test_which_hub_is_meant(path: Path) -> None:
    """Without any wish it is the default profile, and without that the embedded Hub."""
    file = CredentialsFile(path, {})
    assert choose_profile("", "", file).name == "embedded"
    with pytest.raises(NotFound):
        choose_profile("work", "", file)
    with pytest.raises(NotFound):
        choose_profile("", "hub.example:443", file)
    file.save(MINE)
    assert choose_profile("", "", file) == MINE
    assert choose_profile("", "embedded", file).name == "embedded"
    assert choose_profile("embedded", "", file).name == "embedded"
    with pytest.raises(Usage, match="profile of its own"):
        choose_profile("default", "embedded", file)


def test_keys_go_to_no_other_hub(path: Path) -> None:
    """A mistyped address must not get the keys of another Hub."""
    file = CredentialsFile(path, {})
    file.save(MINE)
    assert choose_profile("", "hub.example:443", file).hub == "hub.example:443"
    with pytest.raises(Usage, match=r"are for hub\.example:443, not for evil\.example:443"):
        choose_profile("", "evil.example:443", file)
