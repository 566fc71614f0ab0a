"""What a user decides: settings, secrets, and where files are.

``load_config`` reads the settings, each a row of the tables in ``settings.py``; ``CredentialsFile`` holds the profiles with
their keys, ``find_paths`` the XDG folders. ``follow_settings`` notices that the files changed while a mount uses them.
"""

from typing import TYPE_CHECKING

from bucketfs.config.parsers import seconds as parse_seconds
from bucketfs.config.paths import OWNER_ONLY, Paths, close_to_others, find_paths, make_private, tag
from bucketfs.config.settings import (
    BY_KEY,
    DEFAULT_PROFILE,
    EMBEDDED,
    SETTINGS,
    Config,
    MountOptions,
    Setting,
    config_file,
    load_config,
)

if TYPE_CHECKING:
    from bucketfs.config.credentials import CredentialsFile, Profile, chosen_for, identity_of
    from bucketfs.config.reload import follow, follow_settings

__all__ = [
    "BY_KEY",
    "DEFAULT_PROFILE",
    "EMBEDDED",
    "OWNER_ONLY",
    "SETTINGS",
    "Config",
    "CredentialsFile",
    "MountOptions",
    "Paths",
    "Profile",
    "Setting",
    "chosen_for",
    "close_to_others",
    "config_file",
    "find_paths",
    "follow",
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
    "follow": "reload",
    "follow_settings": "reload",
    "identity_of": "credentials",
}
"""These bring gRPC along, so they are loaded on first use: ``bucketfs status`` must not wait for it."""


def __getattr__(name: str) -> object:
    import importlib

    if name in _LATE:
        return getattr(importlib.import_module(f"bucketfs.config.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
