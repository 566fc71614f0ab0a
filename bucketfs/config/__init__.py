"""What a user decides: settings, secrets, and where files are.

``load_config`` reads settings by one table (`settings`), ``CredentialsFile`` the profiles with their keys, ``find_places`` the
XDG folders. ``follow_settings`` notices that the files changed while a mount uses them.
"""

from typing import TYPE_CHECKING

from bucketfs.config.parsers import seconds as parse_seconds
from bucketfs.config.paths import OWNER_ONLY, Places, close_to_others, find_places, make_private, tag
from bucketfs.config.settings import DEFAULT_PROFILE, EMBEDDED, SETTINGS, Config, MountOptions, Setting, load_config

if TYPE_CHECKING:
    from bucketfs.config.credentials import CredentialsFile, Profile, chosen_for, identity_of
    from bucketfs.config.reload import follow_settings

__all__ = [
    "DEFAULT_PROFILE",
    "EMBEDDED",
    "OWNER_ONLY",
    "SETTINGS",
    "Config",
    "CredentialsFile",
    "MountOptions",
    "Places",
    "Profile",
    "Setting",
    "chosen_for",
    "close_to_others",
    "find_places",
    "follow_settings",
    "identity_of",
    "load_config",
    "make_private",
    "parse_seconds",
    "tag",
]

_LATE = {
    "CredentialsFile": "credentials",
    "Profile": "credentials",
    "chosen_for": "credentials",
    "follow_settings": "reload",
    "identity_of": "credentials",
}
"""What is loaded when it is first asked for: ``bucketfs status`` must not wait for gRPC."""


def __getattr__(name: str) -> object:
    import importlib

    if name in _LATE:
        return getattr(importlib.import_module(f"bucketfs.config.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
