"""Options that are settings: made from the table of settings, so that no command repeats a key, a default or a help text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from bucketfs.config import SETTINGS, Config, Setting, load_config

F = TypeVar("F", bound=Callable[..., Any])

_BY_KEY = {setting.key: setting for setting in SETTINGS}


class LocalPath(click.Path):
    """A path here. An empty one, which a script makes of a variable that is not set, is not the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the path is empty, and the current folder is written .", param, ctx)
        return super().convert(value, param, ctx)


def settings(*keys: str) -> Callable[[F], F]:
    """Add an option for each key; with that of the Hub's address comes the one about its transport. The command receives them under
    the last part of the key; ``None`` is not given."""

    def add(command: F) -> F:
        for key in reversed(_with_transport(keys)):
            command = _option(_BY_KEY[key])(command)
        return command

    return add


def _with_transport(keys: tuple[str, ...]) -> list[str]:
    return [added for key in keys for added in ((key, "insecure_transport") if key == "hub" else (key,))]


def org_option(command: F) -> F:
    """``-o``, ``--org``."""
    setting = _BY_KEY["org"]
    return click.option("-o", "--org", "org", default=None, metavar="ORG", help=_help(setting))(command)


def configured(section: str, options: dict[str, Any]) -> Config:
    """All settings, with these options of a command laid over them. Raises Usage."""
    return load_config({_key(section, name): value for name, value in options.items()})


def _key(section: str, name: str) -> str:
    return name if name in _BY_KEY else f"{section}.{name}"


def _option(setting: Setting) -> Callable[[F], F]:
    name = setting.key.rpartition(".")[2]
    flag = "--" + name.replace("_", "-")
    text = _help(setting)
    if isinstance(setting.default, bool):
        return click.option(flag, name, is_flag=True, default=None, help=text)
    return click.option(flag, name, default=None, metavar=_METAVARS.get(name, "TEXT"), help=text)


def _help(setting: Setting) -> str:
    return f"{setting.help[0].upper()}{setting.help[1:]}. [{setting.variable}]"


_METAVARS = {
    "org": "ORG",
    "identity": "FILE",
    "thread": "THREAD",
    "hub": "HUB",
    "profile": "NAME",
    "state": "FOLDER",
    "cache": "FOLDER",
    "data": "FOLDER",
    "cache_size": "SIZE",
    "memory_size": "SIZE",
    "account_size": "SIZE",
    "bucket_size": "SIZE",
    "threads_per_owner": "NUMBER",
    "buckets_per_owner": "NUMBER",
    "uid": "NUMBER",
    "gid": "NUMBER",
    "timeout": "TIME",
    "drain": "TIME",
    "poll": "TIME",
    "fsync": "disk|hub",
    "listen": "HOST:PORT",
    "tls_cert": "FILE",
    "tls_key": "FILE",
    "database": "URL",
    "gateway_url": "URL",
    "bucket_domain": "DOMAIN",
}
