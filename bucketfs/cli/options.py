"""Options of several commands. Those that are settings are made from the table of settings, so that no command repeats a key, a
default or a help text."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from bucketfs.config import BY_KEY, SETTINGS, Setting, load_config

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")


def asks_first(ask: Callable[[dict[str, Any]], None]) -> Decorator:
    """Call ``ask`` with the options of a command, which it may change or refuse, before anything else is done: a question holds up
    no session, and Ctrl-C at it ends a command that has not begun."""

    def add(command: Command) -> Command:
        @functools.wraps(command)
        def run(*arguments: Any, **options: Any) -> Any:
            ask(options)
            return command(*arguments, **options)

        return run

    return add


class LocalPath(click.Path):
    """A path on this machine. An empty one, which a script makes of a variable that is not set, is not the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the path is empty; write . for the current folder", param, ctx)
        return super().convert(value, param, ctx)


def settings(*keys: str) -> Decorator:
    """Add an option for each key (``-o`` adds the organization with its short form), and pass the command one first argument:
    the `Config` of these options, the environment and the files. Option ``--insecure-transport`` comes along with ``hub``."""
    spelled = {BY_KEY["org" if key == "-o" else key]: [key] if key == "-o" else [] for key in _with_transport(keys)}

    def add(command: Command) -> Command:
        @functools.wraps(command)
        def with_config(*arguments: Any, **options: Any) -> Any:
            given = {setting.key: options.pop(_parameter(setting)) for setting in spelled}
            return command(load_config(given), *arguments, **options)

        for setting, short in reversed(spelled.items()):
            _option(setting, *short)(with_config)
        return with_config

    return add


def section(name: str) -> tuple[str, ...]:
    """The keys of a section that may be options."""
    return tuple(setting.key for setting in SETTINGS if setting.key.startswith(f"{name}.") and not setting.secret)


def _with_transport(keys: tuple[str, ...]) -> list[str]:
    return [added for key in keys for added in ((key, "insecure_transport") if key == "hub" else (key,))]


def _parameter(setting: Setting) -> str:
    """The name that click passes the value by; no other option of a command has it."""
    return f"setting_{setting.name}"


def _option(setting: Setting, *short: str) -> Decorator:
    names = (*short, setting.flag, _parameter(setting))
    text = f"{setting.help[0].upper()}{setting.help[1:]}. [{setting.variable}]"
    if isinstance(setting.default, bool):
        return click.option(*names, is_flag=True, default=None, help=text)
    return click.option(*names, default=None, metavar=setting.metavar, help=text)
