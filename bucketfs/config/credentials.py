"""The file of secrets: profiles, each with the keys of one Hub.

::

    [default]
    hub = "hub.example.org:443"
    api_key = "b…"
    api_secret = "b…"

The file must be readable by its owner alone; otherwise it is refused, with the chmod to type. Each use of a key looks whether
the file has changed, so a key can be replaced while a mount uses it; a change that cannot be read is logged, and the keys read
before stay in use. Saving a profile keeps the comments, the order and the quoting that the user wrote.

A profile may hold a session beside a key. The key is for mounts and buckets; the session, which can do everything the account
can, is sent only where the account itself is managed, or where the user acts for an organization.

The identity of a user is in a file of its own, made on first use.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Table

from bucketfs.client import Credentials
from bucketfs.config.parsers import is_identity
from bucketfs.disk import Disk, make_private_folder
from bucketfs.errors import BucketfsError, InvalidArgument, NotFound, Usage
from bucketfs.keys import Identity, thread_from_text, thread_text
from bucketfs.types import ThreadId

log = logging.getLogger(__name__)

SECRETS = ("api_key", "api_secret", "session", "org", "token", "identity")
_KEYS = ("hub", "thread", *SECRETS)

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Profile:
    """One table of the file: a Hub, the credentials for it, and the thread of the buckets when it is not the account's own."""

    name: str
    hub: str
    credentials: Credentials
    thread: ThreadId | None = None


class CredentialsFile:
    """The profiles of one file. Reading it raises Usage when it is open to others, is not TOML, or has unknown keys."""

    def __init__(self, path: Path, environ: Mapping[str, str] | None = None) -> None:
        self.path = path
        self._environ = os.environ if environ is None else environ
        self._stamp: Stamp | None = None
        self._profiles: dict[str, Profile] = {}

    def profiles(self) -> dict[str, Profile]:
        """All profiles by name; none when there is no file. Reads the file only when it has changed since."""
        stamp = self.stamp()
        if stamp != self._stamp:
            self._profiles = {name: self._profile(name, table) for name, table in self._read()[1].items()}
            self._stamp = stamp
        return dict(self._profiles)

    def profile(self, name: str) -> Profile:
        """The profile of that name; the variables ``BUCKETFS_API_KEY`` and so on win over what the file says. Raises NotFound."""
        profile = self.profiles().get(name)
        given = {key: value for key in SECRETS if (value := self._environ.get(f"BUCKETFS_{key.upper()}"))}
        if "identity" in given and not is_identity(given["identity"]):
            del given["identity"]  # the path of a file, which is a setting
        if profile is None and not given:
            raise NotFound(f"{self.path} has no profile {name!r}", hint="'bucketfs hub login' makes one")
        profile = profile or Profile(name, "", Credentials())
        return replace(profile, credentials=replace(profile.credentials, **given)) if given else profile

    def current(
        self, name: str, chosen: Callable[[Credentials], Credentials] = lambda all: all
    ) -> Callable[[], Credentials]:
        """What a channel asks on every call: those that ``chosen`` takes of the credentials as the file has them now. This call
        raises what ``chosen`` raises; what it returns raises nothing."""
        last = chosen(self.profile(name).credentials)
        logged: Stamp | None = None

        def credentials() -> Credentials:
            nonlocal last, logged
            try:
                last = chosen(self.profile(name).credentials)
            except BucketfsError as error:
                stamp = self.stamp()
                if stamp != logged:
                    log.warning("keeping the keys read before: %s", error)
                logged = stamp
            return last

        return credentials

    def save(self, profile: Profile) -> None:
        """Put one profile into the file, durably, with mode 0600; the other profiles stay. Raises Usage, NoSpace,
        DiskFailed."""
        document = self._document()
        if profile.name not in document:
            document[profile.name] = tomlkit.table()
        table: Any = document[profile.name]
        comments = _cut_trailing_comments(table)
        wanted = _table(profile)
        for key in [key for key in table if key not in wanted]:
            del table[key]
        for key, value in wanted.items():
            if table.get(key) != value:
                table[key] = value
        if comments:
            table.value.body.append((None, tomlkit.ws(comments)))
        self._write(document)

    def remove(self, name: str) -> None:
        """Take one profile out of the file. Raises NotFound."""
        document = self._document()
        if name not in document:
            raise NotFound(f"{self.path} has no profile {name!r}")
        comments = _cut_trailing_comments(document[name])
        place = next(index for index, (key, _) in enumerate(document.body) if key is not None and key.key == name)
        del document[name]
        if comments:
            document.body[place] = (None, tomlkit.ws(comments))
        self._write(document)

    def stamp(self) -> Stamp | None:
        """A value that changes when the file does; None when there is no file. Raises Usage."""
        try:
            facts = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Usage(f"{self.path} cannot be read: {error.strerror}") from error
        return facts.st_mtime_ns, facts.st_ino, facts.st_ctime_ns

    def _document(self) -> tomlkit.TOMLDocument:
        self.profiles()  # checks each key: a file with a mistake in it is not written over
        try:
            return tomlkit.parse(self._read()[0])
        except TOMLKitError as error:
            raise Usage(f"{self.path} cannot be changed: {error}", hint="correct that line") from None

    def _write(self, document: tomlkit.TOMLDocument) -> None:
        make_private_folder(self.path.parent)
        # Disk makes files with mode 0600, so that the secrets are at no moment open to others.
        Disk().replace_file(self.path, tomlkit.dumps(document).encode())

    def _read(self) -> tuple[str, dict[str, object]]:
        """The file as text and as TOML; both are empty when there is none."""
        try:
            _check_private(self.path)
            text = self.path.read_bytes().decode()
            return text, tomllib.loads(text)
        except FileNotFoundError:
            return "", {}
        except (OSError, UnicodeDecodeError) as error:
            raise Usage(f"{self.path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from error
        except tomllib.TOMLDecodeError as error:
            raise Usage(f"{self.path} is not TOML: {error}", hint="correct that line") from None

    def _profile(self, name: str, table: object) -> Profile:
        if not isinstance(table, dict):
            raise Usage(f"{self.path}: {name!r} stands outside of a profile", hint="begin with a line like [default]")
        for key, value in table.items():
            if key not in _KEYS:
                raise Usage(f"{self.path}: unknown key {key!r} in [{name}]", hint=f"known keys: {', '.join(_KEYS)}")
            if not isinstance(value, str):
                raise Usage(f"{self.path}: {key!r} in [{name}] is not a text", hint="put it in quotes")
        try:
            thread = thread_from_text(table["thread"]) if table.get("thread") else None
        except InvalidArgument:
            raise Usage(
                f"{self.path}: 'thread' in [{name}] is not a thread ID", hint="write it as 'bucketfs buck get' shows it"
            ) from None
        return Profile(
            name, table.get("hub", ""), Credentials(**{key: table[key] for key in SECRETS if key in table}), thread
        )


def _table(profile: Profile) -> dict[str, str]:
    values = {field.name: getattr(profile.credentials, field.name) for field in fields(Credentials)}
    values |= {"hub": profile.hub, "thread": thread_text(profile.thread) if profile.thread else ""}
    return {key: values[key] for key in _KEYS if values[key]}


def _cut_trailing_comments(table: object) -> str:
    """Take comments and blank lines off the end of a table and return them. TOML counts them to the table above, but users
    write them above the next one: a new key goes before them, and they stay when the table goes."""
    found = ""
    if isinstance(table, Table):
        body = table.value.body
        while body and body[-1][0] is None:
            found = body.pop()[1].as_string() + found
    return found


def chosen_for(*, org: str = "", manage: bool = False, identity: str = "") -> Callable[[Credentials], Credentials]:
    """A choice of the credentials in a profile that are sent. Every Hub prefers a session to a key, so never both are sent.

    ``org``: the slug of an organization to act for, with the session. ``manage``: the calls change the account itself, which
    only a session may do at every Hub, so the session is preferred. ``identity``: the private-key text of the user to act as.
    The function returned raises Usage when the profile lacks what is needed.
    """

    def choose(held: Credentials) -> Credentials:
        if org or (held.org and not held.api_key):
            if not held.session:
                raise Usage("acting for an organization needs a session", hint="'bucketfs hub login NAME' gets one")
            return Credentials(session=held.session, org=org or held.org)
        if held.session and ((manage and not identity) or not held.api_key):
            return Credentials(session=held.session)
        found = replace(held, session="", org="")
        # A token belongs to the identity it was given to.
        return replace(found, identity=identity, token="") if identity else found

    return choose


def identity_of(path: Path) -> Identity:
    """The identity in a file, which is made with mode 0600 when it is missing. Raises Usage when the file is open to others or
    holds no identity, NoSpace, DiskFailed."""
    for _ in range(2):
        try:
            _check_private(path)
            return Identity.from_text(path.read_bytes().decode())
        except FileNotFoundError:
            _make_identity(path)
        except InvalidArgument as error:
            raise Usage(f"{path} holds no identity: {error}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise Usage(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from error
    raise Usage(f"{path} was made and removed again while it was read", hint="does another program clean up there?")


def _make_identity(path: Path) -> None:
    """Make the file. Two processes that do so at once must end with one identity: the first to link its file wins."""
    disk = Disk()
    make_private_folder(path.parent)
    aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    disk.replace_file(aside, Identity.generate().private_key.encode() + b"\n")
    try:
        os.link(aside, path)
    except FileExistsError:
        log.debug("%s was made by another process", path)
    except OSError as error:
        raise Usage(f"{path} cannot be created: {error.strerror}") from error
    finally:
        disk.unlink(aside)
    disk.fsync_folder(path.parent)


def _check_private(path: Path) -> None:
    facts = path.stat()
    if facts.st_uid not in (0, os.geteuid()) or stat.S_IMODE(facts.st_mode) & 0o077:
        raise Usage(f"{path} holds secrets and is open to others", hint=f"chmod 600 {path}")
