"""Settings: where they come from, and which mistakes are refused."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from bucketfs.config import SETTINGS, load_config, parsers
from bucketfs.config.settings import ServeSection
from bucketfs.errors import Usage
from bucketfs.hub import HubConfig


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment whose file of settings is ``config.toml`` in the folder of the test."""
    (tmp_path / "config.toml").touch()
    return {"XDG_RUNTIME_DIR": str(tmp_path / "run"), "BUCKETFS_CONFIG": str(tmp_path / "config.toml")}


def write(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_text(text)


def test_without_anything_there_are_defaults() -> None:
    """A user without a configuration gets the folders and waiting times that README names."""
    config = load_config({}, {"XDG_RUNTIME_DIR": "/run/user/1"})
    mount = config.mount
    assert (config.general.hub, config.general.profile, mount.timeout_s, mount.drain_s, mount.fsync) == (
        "",
        "",
        30,
        30,
        "disk",
    )
    assert (config.state_folder, config.cache_folder) == (config.paths.state, config.paths.cache)
    assert config.hub_data == config.paths.data / "hub"
    assert config.paths.control_socket(Path("/m")).parent == Path("/run/user/1/bucketfs")


def test_file_then_environment_then_options(environ: dict[str, str], tmp_path: Path) -> None:
    """An option must win over a variable, and a variable over the file."""
    write(tmp_path, 'hub = "one:1"\nprofile = "p"\n[mount]\ncache_size = "2GiB"\ntimeout = 5\nallow_other = true\n')
    environ |= {"BUCKETFS_HUB": "two:2", "BUCKETFS_TIMEOUT": "7s"}
    config = load_config({"mount.timeout": "1m", "mount.drain": None, "mount.poll": "2s"}, environ)
    assert (config.general.hub, config.general.profile) == ("two:2", "p")
    assert (config.mount.timeout_s, config.mount.drain_s, config.mount.poll_s) == (60, 30, 2)
    assert (config.mount.cache_size_bytes, config.mount.allow_other) == (2 << 30, True)
    assert config.given == {"mount.timeout": "1m", "mount.poll": "2s"}


RELEASED = """
hub = "https://hub.example.org"
insecure_transport = false
profile = "work"
org = "acme"
identity = "~/one.key"
thread = ""
[mount]
state = "/s"
cache = "/c"
cache_size = "1GB"
memory_size = 1000
uid = 1000
gid = ""
allow_other = true
read_only = "yes"
timeout = "10s"
drain = 5
poll = "1m"
fsync = "hub"
[serve]
data = "/d"
listen = "unix:/s"
tls_cert = "/c.pem"
tls_key = "/k.pem"
plaintext = "no"
database = "sqlite:///x"
gateway_url = "http://x"
bucket_domain = "x"
auto_confirm = true
refuse_insecure_keys = true
threads_per_owner = 1
buckets_per_owner = "2"
account_size = "3k"
bucket_size = "4ki"
"""


def test_a_file_of_the_last_release_still_loads(environ: dict[str, str], tmp_path: Path) -> None:
    """Each key that was ever released must keep its name and its meaning."""
    write(tmp_path, RELEASED)
    config = load_config({}, environ)
    assert set(config.values()) == {setting.key for setting in SETTINGS}
    assert (config.general.org, config.general.identity) == ("acme", Path("~/one.key").expanduser())
    assert (config.state_folder, config.cache_folder, config.hub_data) == (Path("/s"), Path("/c"), Path("/d"))
    assert (config.mount.uid, config.mount.gid, config.mount.read_only, config.mount.fsync) == (1000, None, True, "hub")
    assert (config.serve.account_bytes_max, config.serve.bucket_bytes_max) == (3000, 4096)
    assert config.serve.database_url == "sqlite:///x" and "sqlite" not in repr(config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hubb = 1", "unknown key 'hubb'"),
        ("[mount]\nchache = 1", r"unknown key 'mount\.chache'"),
        ("[mount]\ntimeout = true", r"mount\.timeout is True"),
        ("[mount]\nfsync = 'never'", r"mount\.fsync is 'never'"),
        ("[mount", "is not TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named(environ: dict[str, str], tmp_path: Path, text: str, message: str) -> None:
    """A misspelt setting that is silently ignored costs an evening."""
    write(tmp_path, text)
    with pytest.raises(Usage, match=message) as caught:
        load_config({}, environ)
    assert caught.value.hint


def test_a_wrong_variable_and_a_wrong_option_are_named(environ: dict[str, str]) -> None:
    """The message must say where the wrong value came from."""
    with pytest.raises(Usage, match="BUCKETFS_CACHE_SIZE is 'lots'"):
        load_config({}, environ | {"BUCKETFS_CACHE_SIZE": "lots"})
    with pytest.raises(Usage, match="--cache-size is '-1'"):
        load_config({"mount.cache_size": "-1"}, environ)
    with pytest.raises(Usage, match="does not exist"):
        load_config({}, environ | {"BUCKETFS_CONFIG": "/nowhere.toml"})


def test_every_setting_has_a_variable_of_its_own_and_a_default_that_reads_back() -> None:
    """A new row of the table must not share its variable with another, nor have a default that its parser refuses."""
    assert len({setting.variable for setting in SETTINGS}) == len({setting.key for setting in SETTINGS}) == len(SETTINGS)
    for setting in SETTINGS:
        if setting.default is not None:
            assert setting.parse(setting.default) == (setting.default or setting.parse(setting.default))


def test_the_settings_of_serve_are_those_of_a_hub() -> None:
    """``bucketfs hub serve`` passes them on by name; one that HubConfig does not have would have no effect."""
    assert {one.name for one in fields(ServeSection)} <= {one.name for one in fields(HubConfig)}


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("0", 0), ("512", 512), ("1k", 1000), ("1KiB", 1024), ("1.5 MB", 1_500_000), ("10GiB", 10 << 30)],
)
def test_sizes(text: str, size_bytes: int) -> None:
    """Decimal and binary units are told apart."""
    assert parsers.size(text) == size_bytes


@pytest.mark.parametrize(("text", "expected_s"), [("30", 30), ("1.5s", 1.5), ("5m", 300), ("2h", 7200)])
def test_times(text: str, expected_s: float) -> None:
    """A bare number is seconds; what is no time is refused."""
    assert parsers.seconds(text) == expected_s
    for wrong in ("", "-1", "5 days", "m"):
        with pytest.raises(ValueError):
            parsers.seconds(wrong)


def test_an_interval_is_not_zero() -> None:
    """A poll without a pause would keep the Hub and a processor busy."""
    assert parsers.interval("0.1s") == 0.1
    for wrong in ("0", "0.05s", "soon"):
        with pytest.raises(ValueError, match=r"at least 0\.1s"):
            parsers.interval(wrong)
