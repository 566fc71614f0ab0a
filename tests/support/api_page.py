"""Writes docs/api.md from the docstrings of `bucketfs.api` (``make docs``). A test holds the page to them."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bucketfs import api
from bucketfs.api.bucket import DEFAULT_MODE

PAGE = Path(__file__).resolve().parents[2] / "docs/api.md"
SAME_AS = re.compile(r"As `(Async\w+)\.(\w+)`(.*)", re.DOTALL)
BLOCKING = (api.open_hub, api.OpenHub, api.OpenBucket)
VALUES = (api.BucketRecord, api.BucketEntry, api.TransferReport, api.SkippedPath, api.BucketUpdate, api.BucketChange)
ASYNC = (api.open_hub_async, api.AsyncHub, api.AsyncBucket, api.BucketUpdates)
PARTS: tuple[tuple[str, tuple[object, ...]], ...] = (
    ("Blocking", BLOCKING),
    ("Values", VALUES),
    ("For trio", ASYNC),
)
HEAD = """# Python API

{theory}

Complete programs: [backup](examples/backup.py), [follow](examples/follow.py), [many files at once](examples/many.py). Errors are
those of [bucketfs.errors](../bucketfs/errors.py); its docstring draws the tree. `make docs` makes this page from docstrings.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD.format(theory=_blocks(inspect.getdoc(api) or ""))]
    for title, members in PARTS:
        parts.append(f"## {title}\n")
        for member in members:
            parts += _function(member) if inspect.isfunction(member) else _class(member)
    return "\n".join(parts)


def _blocks(text: str) -> str:
    """A docstring in Markdown: double backquotes become single ones, an indented example stays one."""
    return re.sub(r"``(.+?)``", r"`\1`", text)


def _signature(function: object) -> str:
    """Arguments and result, as they stand in the code."""
    text = str(inspect.signature(function))  # type: ignore[arg-type]
    text = (
        re.sub(r"(: |-> )'([^']*)'", r"\1\2", text).replace("''", '""').replace(f"= {DEFAULT_MODE}", f"= {DEFAULT_MODE:#o}")
    )
    text = text.replace("(self, ", "(").replace("(self)", "()")
    if hasattr(function, "__wrapped__"):
        text = re.sub(r"Iterator\[(\w+)\]", r"AbstractContextManager[\1]", text)
        text = re.sub(r"AsyncGenerator\[(\w+), None\]", r"AbstractAsyncContextManager[\1]", text)
    return text


def _function(function: object) -> Iterator[str]:
    name = getattr(function, "__name__", "")
    yield f"### {name}\n"
    yield f"```python\n{name}{_signature(function)}\n```\n"
    yield _blocks(inspect.getdoc(function) or "") + "\n"


def _class(found: object) -> Iterator[str]:
    assert isinstance(found, type)
    yield f"### {found.__name__}\n"
    if dataclasses.is_dataclass(found):
        fields = [f"{field.name}: {field.type}" for field in dataclasses.fields(found)]
        yield "```python\n" + "\n".join(fields) + "\n```\n"
    yield _blocks(inspect.getdoc(found) or "") + "\n"
    if dataclasses.is_dataclass(found):
        return
    for name, member in vars(found).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            yield f"- **{name}**: {_blocks(_flat(inspect.getdoc(member) or ''))}"
        elif inspect.isfunction(member):
            word = "await " if inspect.iscoroutinefunction(member) else ""
            yield f"- **{word}{name}**`{_signature(member)}`\n\n" + _indented(_blocks(_docstring(member)))
    yield ""


def _docstring(method: object) -> str:
    """A method's docstring; "As `AsyncX.y`" stands for the one that it names."""
    text = inspect.getdoc(method) or ""
    found = SAME_AS.match(text)
    if found is None:
        return text
    other = inspect.getdoc(getattr(getattr(api, found[1]), found[2])) or ""
    rest = found[3].lstrip(". \n")
    return f"{other}\n\n{rest}" if rest else other


def _flat(text: str) -> str:
    return " ".join(text.split())


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines()) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"wrote {PAGE}")
