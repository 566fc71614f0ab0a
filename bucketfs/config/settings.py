"""Settings: one row each, in three tables that are also the types of the values.

A setting comes from the first of: the command line, the variable ``BUCKETFS_…``, ``config.toml``, its default. The key
``mount.cache_size`` is ``cache_size`` under ``[mount]`` in the file, ``BUCKETFS_CACHE_SIZE`` in the environment and
``--cache-size`` on the command line; keys of ``[serve]`` have ``BUCKETFS_SERVE_…``. An unknown key is an error that names
it: a misspelt setting that is silently ignored costs an evening.

A new setting is a new row: the commands that take the settings of its section get the option, and the code reads it as
``config.mount.poll_s``.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from bucketfs.config import parsers
from bucketfs.config.paths import Paths, find_paths
from bucketfs.errors import Usage

EMBEDDED = "embedded"
"""The name of the Hub that bucketfs brings along, where an address is expected; also the profile that holds its keys."""

DEFAULT_PROFILE = "default"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Setting:
    """One key: how its value is parsed, its default, and the help text that ``--help`` shows."""

    key: str
    parse: Callable[[object], Any]
    default: Any
    help: str
    metavar: str
    secret: bool
    """Not an option, because every user of a machine can read command lines."""

    @property
    def name(self) -> str:
        """The key without its section."""
        return self.key.rpartition(".")[2]

    @property
    def flag(self) -> str:
        """The option on a command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The name in the environment."""
        return "BUCKETFS_" + (self.key.replace(".", "_") if self.key.startswith("serve.") else self.name).upper()


def setting(
    key: str, parse: Callable[[object], T], default: T, help: str, metavar: str = "TEXT", *, secret: bool = False
) -> T:
    """A field of a section that is a setting. The name of the field is that of the key, with the unit of the value."""
    row = Setting(key, parse, default, help, metavar, secret)
    return field(default=default, repr=not secret, metadata={"setting": row})


@dataclass(frozen=True, slots=True)
class GeneralSection:
    """The keys at the top of the file: which Hub, and who acts there. Empty texts were not given."""

    hub: str = setting("hub", parsers.text, "", "the Hub's address, or 'embedded'", "HUB")
    insecure_transport: bool = setting(
        "insecure_transport", parsers.switch, False, "send keys in clear text to a Hub on another machine"
    )
    profile: str = setting("profile", parsers.text, "", "which keys of credentials.toml to use", "NAME")
    org: str = setting(
        "org",
        parsers.text,
        "",
        "act for this organization (the name that 'hub org ls' shows); needs 'bucketfs hub login'",
        "ORG",
    )
    identity: Path | None = setting(
        "identity", parsers.identity_file, None, "file with the identity of a user, made on first use", "FILE"
    )
    thread: str = setting("thread", parsers.thread, "", "the thread that holds the buckets, also someone else's", "THREAD")


@dataclass(frozen=True, slots=True)
class MountSection:
    """``[mount]``."""

    state: Path | None = setting(
        "mount.state", parsers.path, None, "folder of the journal: changes that are not at the Hub yet", "FOLDER"
    )
    cache: Path | None = setting(
        "mount.cache", parsers.path, None, "folder of the cache; may be deleted at any time", "FOLDER"
    )
    cache_size_bytes: int = setting("mount.cache_size", parsers.size, 10 << 30, "most bytes the cache takes on disk", "SIZE")
    memory_size_bytes: int = setting(
        "mount.memory_size", parsers.size, 256 << 20, "most bytes the cache takes in memory", "SIZE"
    )
    uid: int | None = setting(
        "mount.uid", parsers.user, None, "owner of files that have none at the Hub (default: you)", "NUMBER"
    )
    gid: int | None = setting(
        "mount.gid", parsers.user, None, "group of files that have none at the Hub (default: yours)", "NUMBER"
    )
    allow_other: bool = setting("mount.allow_other", parsers.switch, False, "let other users in, as far as file modes allow")
    read_only: bool = setting("mount.read_only", parsers.switch, False, "refuse all changes")
    timeout_s: float = setting(
        "mount.timeout", parsers.seconds, 30.0, "how long a read waits for the Hub before it fails", "TIME"
    )
    drain_s: float = setting(
        "mount.drain", parsers.seconds, 30.0, "how long unmounting waits for changes to reach the Hub", "TIME"
    )
    poll_s: float = setting(
        "mount.poll", parsers.interval, 30.0, "how often to ask the Hub for changes it did not announce", "TIME"
    )
    fsync: str = setting(
        "mount.fsync", parsers.fsync_target, "disk", "what fsync waits for: this machine's disk, or the Hub", "disk|hub"
    )


@dataclass(frozen=True, slots=True)
class ServeSection:
    """``[serve]``: the Hub of ``bucketfs hub serve``. A size or number of 0 is no limit."""

    data: Path | None = setting("serve.data", parsers.path, None, "folder of the Hub's stores", "FOLDER")
    listen: str = setting(
        "serve.listen", parsers.text, "127.0.0.1:3006", "address to listen at: HOST:PORT or unix:/path", "HOST:PORT"
    )
    tls_cert: Path | None = setting("serve.tls_cert", parsers.path, None, "PEM file with the certificate chain", "FILE")
    tls_key: Path | None = setting("serve.tls_key", parsers.path, None, "PEM file with the private key", "FILE")
    plaintext: bool = setting(
        "serve.plaintext", parsers.switch, False, "allow a public address without TLS, behind a proxy that ends TLS"
    )
    database_url: str = setting(
        "serve.database",
        parsers.text,
        "",
        "SQLAlchemy URL of the database (default: SQLite in the data folder)",
        "URL",
        secret=True,
    )
    gateway_url: str = setting(
        "serve.gateway_url", parsers.text, "", "base URL of links to web pages (default: where the gateway listens)", "URL"
    )
    gateway_listen: str = setting(
        "serve.gateway_listen",
        parsers.text,
        "",
        "where web pages are served: HOST:PORT, or off (default: where the gateway URL leads, if that is this machine)",
        "ADDRESS",
    )
    web_listen: str = setting(
        "serve.web", parsers.text, "", "where web clients call (grpc-web): HOST:PORT (default: nowhere)", "ADDRESS"
    )
    confirm_secret: str = setting(
        "serve.confirm_secret", parsers.text, "", "a fixed secret in confirmation links, for tests", "TEXT", secret=True
    )
    bucket_domain: str = setting(
        "serve.bucket_domain", parsers.text, "", "domain under which buckets appear as web sites", "DOMAIN"
    )
    auto_confirm: bool = setting("serve.auto_confirm", parsers.switch, False, "confirm sign-ups and sign-ins without a mail")
    refuse_insecure_keys: bool = setting(
        "serve.refuse_insecure_keys", parsers.switch, False, "neither make nor accept keys that need no signature"
    )
    threads_per_owner_max: int = setting(
        "serve.threads_per_owner", parsers.number, 10_000, "most threads of one account and its users; 0: no limit", "NUMBER"
    )
    buckets_per_owner_max: int = setting(
        "serve.buckets_per_owner", parsers.number, 0, "most buckets of one account and its users; 0: no limit", "NUMBER"
    )
    account_bytes_max: int = setting(
        "serve.account_size", parsers.size, 0, "most bytes of one account and its users; 0: no limit", "SIZE"
    )
    bucket_bytes_max: int = setting("serve.bucket_size", parsers.size, 0, "most bytes of one bucket; 0: no limit", "SIZE")


SETTINGS: tuple[Setting, ...] = tuple(
    one.metadata["setting"] for section in (GeneralSection, MountSection, ServeSection) for one in fields(section)
)
BY_KEY: dict[str, Setting] = {setting.key: setting for setting in SETTINGS}


@dataclass(frozen=True, slots=True)
class Config:
    """All settings, and the folders of the user."""

    paths: Paths
    general: GeneralSection = GeneralSection()
    mount: MountSection = MountSection()
    serve: ServeSection = ServeSection()
    given: Mapping[str, object] = field(default_factory=dict)
    """The options of the command line, by key, for when the configuration is read again."""

    @property
    def state_folder(self) -> Path:
        """The folder of the journals of mounts."""
        return self.mount.state or self.paths.state

    @property
    def cache_folder(self) -> Path:
        """The folder of the caches of mounts."""
        return self.mount.cache or self.paths.cache

    @property
    def hub_data(self) -> Path:
        """The folder of the stores of a Hub on this machine."""
        return self.serve.data or self.paths.data / "hub"

    def values(self) -> dict[str, Any]:
        """Each setting's value, by key."""
        sections = (self.general, self.mount, self.serve)
        return {one.metadata["setting"].key: getattr(section, one.name) for section in sections for one in fields(section)}


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What one mount is started with."""

    mountpoint: Path
    """Absolute."""
    config: Config
    bucket: str = ""
    """The name or key of the bucket at the root of the mount; empty: all buckets as folders."""
    prefix: str = ""
    """A folder in ``bucket`` that is the root of the mount, without slashes at its ends."""
    ready_fd: int | None = None
    """A pipe to the process that started this one, for a line about how it went (see ready.py)."""


def load_config(options: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Read all settings. ``options`` are those of the command line, by key; ``None`` values were not given. Raises Usage."""
    environ = os.environ if environ is None else environ
    paths = find_paths(environ)
    file = config_file(paths, environ)
    found = {setting.key: setting.default for setting in SETTINGS}
    for key, value in _read_file(file, required="BUCKETFS_CONFIG" in environ).items():
        found[key] = _parse(BY_KEY[key], value, f"{file}: {key}")
    for setting in SETTINGS:
        # BUCKETFS_IDENTITY may hold the key itself: then it is one of the secrets (credentials.py).
        if setting.variable in environ and not (
            setting.key == "identity" and parsers.is_identity(environ[setting.variable])
        ):
            found[setting.key] = _parse(setting, environ[setting.variable], setting.variable)
    given = {key: value for key, value in (options or {}).items() if value is not None}
    for key, value in given.items():
        found[key] = _parse(BY_KEY[key], value, BY_KEY[key].flag)

    def section(kind: type[T]) -> T:
        return kind(**{one.name: found[one.metadata["setting"].key] for one in fields(kind)})  # type: ignore[arg-type]

    return Config(paths, section(GeneralSection), section(MountSection), section(ServeSection), given)


def config_file(paths: Paths, environ: Mapping[str, str]) -> Path:
    """The file of settings: ``$BUCKETFS_CONFIG``, or that of the user."""
    return Path(environ.get("BUCKETFS_CONFIG") or paths.config_file)


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
