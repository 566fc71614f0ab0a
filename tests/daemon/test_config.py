"""Settings: where they come from, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from bucketfs.config import SETTINGS, load_config
from bucketfs.config import parsers as reading
from bucketfs.errors import Usage


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name in ("CONFIG", "STATE", "DATA", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    (tmp_path / "config/bucketfs").mkdir(parents=True)
    return {"XDG_RUNTIME_DIR": str(tmp_path / "run")}


def write(tmp_path: Path, text: str) -> None:
    (tmp_path / "config/bucketfs/config.toml").write_text(text)


def test_without_anything_there_are_defaults(environ: dict[str, str], tmp_path: Path) -> None:
    config = load_config({}, environ)
    options = config.mount_options(Path("/m"))
    assert (options.hub, options.profile, options.timeout_s, options.drain_s, options.fsync) == ("", "", 30, 30, "disk")
    assert options.state_folder == tmp_path / "state/bucketfs"
    assert options.cache_folder == tmp_path / "cache/bucketfs"
    assert config.hub_data == tmp_path / "data/bucketfs/hub"
    assert config.places.control_socket(Path("/m")).parent == tmp_path / "run/bucketfs"


def test_file_then_environment_then_options(environ: dict[str, str], tmp_path: Path) -> None:
    write(tmp_path, 'hub = "one:1"\nprofile = "p"\n[mount]\ncache_size = "2GiB"\ntimeout = 5\nallow_other = true\n')
    environ |= {"BUCKETFS_HUB": "two:2", "BUCKETFS_TIMEOUT": "7s"}
    options = load_config({"mount.timeout": "1m", "mount.drain": None, "mount.poll": "2s"}, environ).mount_options(
        Path("/m")
    )
    assert (options.hub, options.profile, options.timeout_s, options.drain_s) == ("two:2", "p", 60, 30)
    assert options.poll_s == 2
    assert (options.cache_size_bytes, options.allow_other) == (2 << 30, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hubb = 1", "unknown key 'hubb'"),
        ("[mount]\nchache = 1", r"unknown key 'mount\.chache'"),
        ("[mount]\ntimeout = true", r"mount\.timeout is True"),
        ("[mount]\nfsync = 'never'", r"mount\.fsync is 'never'"),
        ("[mount", "is not TOML"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(environ: dict[str, str], tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, text)
    with pytest.raises(Usage, match=said) as caught:
        load_config({}, environ)
    assert caught.value.hint


def test_a_wrong_variable_and_a_wrong_option_are_named(environ: dict[str, str]) -> None:
    with pytest.raises(Usage, match="BUCKETFS_CACHE_SIZE is 'lots'"):
        load_config({}, environ | {"BUCKETFS_CACHE_SIZE": "lots"})
    with pytest.raises(Usage, match="--cache-size is '-1'"):
        load_config({"mount.cache_size": "-1"}, environ)
    with pytest.raises(Usage, match="does not exist"):
        load_config({}, environ | {"BUCKETFS_CONFIG": "/nowhere.toml"})


def test_every_setting_has_a_variable_of_its_own_and_a_default_that_reads_back() -> None:
    assert len({setting.variable for setting in SETTINGS}) == len(SETTINGS)
    for setting in SETTINGS:
        if setting.default is not None:
            assert setting.parse(setting.default) == (setting.default or setting.parse(setting.default))


@pytest.mark.parametrize(
    ("text", "bytes_"), [("0", 0), ("512", 512), ("1k", 1000), ("1KiB", 1024), ("1.5 MB", 1_500_000), ("10GiB", 10 << 30)]
)
def test_sizes(text: str, bytes_: int) -> None:
    assert reading.size(text) == bytes_


@pytest.mark.parametrize(("text", "expected"), [("30", 30), ("1.5s", 1.5), ("5m", 300), ("2h", 7200)])
def test_times(text: str, expected: float) -> None:
    assert reading.seconds(text) == expected
    for wrong in ("", "-1", "5 days", "m"):
        with pytest.raises(ValueError):
            reading.seconds(wrong)


def test_what_is_repeated_has_a_pause() -> None:
    assert reading.interval("0.1s") == 0.1
    for wrong in ("0", "0.05s", "soon"):
        with pytest.raises(ValueError, match=r"at least 0\.1s"):
            reading.interval(wrong)
