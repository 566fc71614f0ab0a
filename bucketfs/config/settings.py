"""Settings: one table says every key, its parser and its default.

A setting comes from the first of: the command line, the variable ``BUCKETFS_…``, ``config.toml``, its default. The key
``mount.cache_size`` is ``cache_size`` under ``[mount]`` in the file, ``BUCKETFS_CACHE_SIZE`` in the environment and
``--cache-size`` on the command line; keys of ``[serve]`` have ``BUCKETFS_SERVE_…``. An unknown key is an error that names
it, for a misspelt setting that is silently ignored costs an evening.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bucketfs.config import parsers as values
from bucketfs.config.paths import Places, find_places
from bucketfs.errors import Usage

EMBEDDED = "embedded"
"""The name of the Hub that bucketfs brings along, where an address is expected; also the profile that holds its keys."""

DEFAULT_PROFILE = "default"


@dataclass(frozen=True, slots=True)
class Setting:
    """One key: how its value is read, what it is without one, and what it does (shown by ``--help``)."""

    key: str
    parse: Callable[[object], Any]
    default: Any
    help: str

    @property
    def variable(self) -> str:
        """The name in the environment."""
        section, _, name = self.key.rpartition(".")
        return "BUCKETFS_" + (f"{section}_{name}" if section == "serve" else name).upper()


SETTINGS: tuple[Setting, ...] = (
    Setting("hub", values.text, "", "the Hub's address, or 'embedded'"),
    Setting("insecure_transport", values.switch, False, "send keys in clear text to a Hub on another machine"),
    Setting("profile", values.text, "", "which keys of credentials.toml to use"),
    Setting("org", values.text, "", "act for this organization (its slug); needs 'bucketfs hub login'"),
    Setting("identity", values.identity_file, None, "file with the identity of a user, made on first use"),
    Setting("thread", values.thread, "", "the thread that holds the buckets, also someone else's"),
    Setting("mount.state", values.path, None, "folder of the journal: what is not at the Hub yet"),
    Setting("mount.cache", values.path, None, "folder of the cache; may be deleted at any moment"),
    Setting("mount.cache_size", values.size, 10 << 30, "most bytes the cache takes on disk"),
    Setting("mount.memory_size", values.size, 256 << 20, "most bytes the cache takes in memory"),
    Setting("mount.uid", values.user, None, "owner shown for files that name none (default: who mounts)"),
    Setting("mount.gid", values.user, None, "group shown for files that name none"),
    Setting("mount.allow_other", values.switch, False, "let other users in, as far as modes allow"),
    Setting("mount.read_only", values.switch, False, "refuse all changes"),
    Setting("mount.timeout", values.seconds, 30.0, "how long a read waits for the Hub before it fails"),
    Setting("mount.drain", values.seconds, 30.0, "how long unmounting waits for changes to reach the Hub"),
    Setting("mount.poll", values.interval, 30.0, "how often to ask for changes that the Hub did not tell of"),
    Setting("mount.fsync", values.when, "disk", "what fsync waits for: this machine's disk, or the hub"),
    Setting("serve.data", values.path, None, "folder of a Hub's stores"),
    Setting("serve.listen", values.text, "127.0.0.1:3006", "HOST:PORT or unix:/path"),
    Setting("serve.tls_cert", values.path, None, "PEM file with the certificate chain"),
    Setting("serve.tls_key", values.path, None, "PEM file with the private key"),
    Setting("serve.plaintext", values.switch, False, "allow a public address without TLS, behind a proxy that ends TLS"),
    Setting("serve.database", values.text, "", "SQLAlchemy URL of the metadata (default: SQLite in the data folder)"),
    Setting("serve.gateway_url", values.text, "http://127.0.0.1:8006", "base of the links that clients show"),
    Setting("serve.bucket_domain", values.text, "", "domain under which buckets appear as web sites"),
    Setting("serve.auto_confirm", values.switch, False, "sign-ups need no confirmation"),
    Setting("serve.refuse_insecure_keys", values.switch, False, "neither make nor accept keys that need no signature"),
    Setting("serve.threads_per_owner", values.number, 10_000, "most threads of one account and its users; 0: no limit"),
    Setting("serve.buckets_per_owner", values.number, 0, "most buckets of one account and its users; 0: no limit"),
    Setting("serve.account_size", values.size, 0, "most bytes of one account and its users; 0: no limit"),
    Setting("serve.bucket_size", values.size, 0, "most bytes of one bucket; 0: no limit"),
)
BY_KEY: dict[str, Setting] = {setting.key: setting for setting in SETTINGS}


@dataclass(frozen=True, slots=True)
class MountOptions:
    """Everything one mount is told. Paths are absolute; the folders need not exist."""

    mountpoint: Path
    places: Places
    bucket: str = ""
    """The name or key of the bucket at the root of the mount; empty: all buckets as folders."""
    prefix: str = ""
    """A folder in ``bucket`` that is the root of the mount, without slashes at its ends."""
    hub: str = ""
    """The Hub's address, ``embedded``, or empty: what the profile says, else embedded."""
    profile: str = ""
    given: Mapping[str, object] = field(default_factory=dict)
    """Settings of the command line, by key, for when the configuration is read again."""
    state: Path | None = None
    cache: Path | None = None
    cache_size_bytes: int = 10 << 30
    memory_size_bytes: int = 256 << 20
    uid: int | None = None
    gid: int | None = None
    allow_other: bool = False
    read_only: bool = False
    timeout_s: float = 30.0
    drain_s: float = 30.0
    poll_s: float = 30.0
    fsync: str = "disk"
    ready_fd: int | None = None
    """A pipe to whoever started this process, for one line about how it went (see ready.py)."""

    @property
    def state_folder(self) -> Path:
        """The folder of the journal, whatever was given."""
        return self.state or self.places.state

    @property
    def cache_folder(self) -> Path:
        """The folder of the cache, whatever was given."""
        return self.cache or self.places.cache


@dataclass(frozen=True, slots=True)
class Config:
    """All settings, read. ``values`` holds each key of the table."""

    places: Places
    values: Mapping[str, Any] = field(repr=False)
    given: Mapping[str, object] = field(default_factory=dict)
    """What the command line said, by key."""

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    @property
    def hub(self) -> str:
        """The Hub asked for, or empty."""
        return str(self.values["hub"])

    @property
    def insecure(self) -> bool:
        """Whether keys may cross a network in clear text."""
        return bool(self.values["insecure_transport"])

    @property
    def profile(self) -> str:
        """The profile asked for, or empty."""
        return str(self.values["profile"])

    @property
    def org(self) -> str:
        """The slug of the organization to act for, or empty."""
        return str(self.values["org"])

    @property
    def identity(self) -> Path | None:
        """The file of the identity to act as."""
        found: Path | None = self.values["identity"]
        return found

    @property
    def thread(self) -> str:
        """The thread asked for, or empty."""
        return str(self.values["thread"])

    @property
    def hub_data(self) -> Path:
        """The folder of the embedded Hub's stores."""
        return self.values["serve.data"] or self.places.data / "hub"

    def mount_options(
        self, mountpoint: Path, bucket: str = "", prefix: str = "", ready_fd: int | None = None
    ) -> MountOptions:
        """The options of one mount."""
        get = self.values
        return MountOptions(
            mountpoint=mountpoint,
            places=self.places,
            bucket=bucket,
            prefix=prefix,
            hub=self.hub,
            profile=self.profile,
            given=self.given,
            state=get["mount.state"],
            cache=get["mount.cache"],
            cache_size_bytes=get["mount.cache_size"],
            memory_size_bytes=get["mount.memory_size"],
            uid=get["mount.uid"],
            gid=get["mount.gid"],
            allow_other=get["mount.allow_other"],
            read_only=get["mount.read_only"],
            timeout_s=get["mount.timeout"],
            drain_s=get["mount.drain"],
            poll_s=get["mount.poll"],
            fsync=get["mount.fsync"],
            ready_fd=ready_fd,
        )


def load_config(options: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Read everything. ``options`` are those of the command line, by key; ``None`` values were not given. Raises Usage."""
    environ = os.environ if environ is None else environ
    places = find_places(environ)
    file = Path(environ.get("BUCKETFS_CONFIG") or places.config_file)
    found = {setting.key: setting.default for setting in SETTINGS}
    for key, value in _read_file(file, required="BUCKETFS_CONFIG" in environ).items():
        found[key] = _parse(BY_KEY[key], value, f"{file}: {key}")
    for setting in SETTINGS:
        # BUCKETFS_IDENTITY may hold the key itself: then it is one of the secrets (credentials.py).
        if setting.variable in environ and not (setting.key == "identity" and values.is_identity(environ[setting.variable])):
            found[setting.key] = _parse(setting, environ[setting.variable], setting.variable)
    given = {key: value for key, value in (options or {}).items() if value is not None}
    for key, value in given.items():
        found[key] = _parse(BY_KEY[key], value, "--" + key.rpartition(".")[2].replace("_", "-"))
    return Config(places, found, given)


def _read_file(file: Path, required: bool) -> dict[str, object]:
    try:
        document = tomllib.loads(file.read_bytes().decode())
    except FileNotFoundError:
        if required:
            raise Usage(f"{file} does not exist", hint="BUCKETFS_CONFIG names it") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"{file} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from error
    except tomllib.TOMLDecodeError as error:
        raise Usage(f"{file} is not TOML: {error}", hint="correct that line") from error
    found: dict[str, object] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            found.update({f"{key}.{name}": inner for name, inner in value.items()})
        else:
            found[key] = value
    for key in found:
        if key not in BY_KEY:
            raise Usage(f"{file}: unknown key {key!r}", hint=f"known keys: {', '.join(BY_KEY)}")
    return found


def _parse(setting: Setting, value: object, where: str) -> Any:
    try:
        return setting.parse(value)
    except ValueError as error:
        raise Usage(f"{where} is {value!r}", hint=f"write {error}") from None
