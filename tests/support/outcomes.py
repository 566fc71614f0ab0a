"""The outcome table of docs/semantics.md, as cells that can be run: two users, one folder of a bucket for each cell.

Everything a user does is a list of plain steps, ``(verb of World, path, arguments)``; who carries them out, on a VFS without a
kernel or through a mount, is for the tests to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "semantics.md"

ALONE = "## The table"
SAME = "### Both do it to the same name"
TWO = "### Each to a name of its own in one folder"
INSIDE = "### The row to a folder, the column to something in it"

NEW = ("create", "mkdir", "symlink")
ON_FOLDERS = ("rename-folder", "rmdir", "to-file")
ON_BOTH = ("chmod", "utimens")

MODES = {"r": 0o600, "c": 0o640}
FOLDER_MODES = {"r": 0o700, "c": 0o750}
TIMES = {"r": 978_307_200_000_000_001, "c": 1_009_843_200_000_000_002}
DAY_S = 86_400

Step = tuple[str, str, tuple[object, ...]]
Cell = tuple[str, str, str]
"""Relation, verb of the row, verb of the column."""


@dataclass(frozen=True)
class Thing:
    """What is expected at a name: a folder without, a link or file with ``data``. None of the other two: whatever it is."""

    kind: str
    data: bytes = b""
    mode: int | None = None
    mtime_ns: int | None = None


@dataclass(frozen=True)
class Case:
    """One cell in one order, in a folder of its own. ``first`` is what the one does who pushes first."""

    folder: str
    prepare: tuple[Step, ...]
    first: tuple[Step, ...]
    second: tuple[Step, ...]
    expected: dict[str, Thing]
    """By path inside the folder; ``~`` at the end of a name is its conflict copy."""


# Reading the document


def section(title: str) -> list[list[str]]:
    """The cells of the table rows below a heading, up to the next heading."""
    text = DOCUMENT.read_text().split(f"{title}\n", 1)[1]
    text = re.split(r"^#", text, maxsplit=1, flags=re.MULTILINE)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return rows[2:]


@cache
def alone() -> dict[str, tuple[str, str]]:
    """What each verb needs, and what it leaves."""
    return {row[0]: (row[2].strip("`"), row[3].strip("`")) for row in section(ALONE)}


@cache
def outcomes() -> dict[Cell, str]:
    """Every cell of the document. An assertion fails when one is told twice."""
    verbs = tuple(alone())
    found: dict[Cell, str] = {}
    for title in (SAME, TWO, INSIDE):
        for row, column, outcome in section(title):
            if (row, column) == ("any", "any"):
                pairs = list(combinations_with_replacement(verbs, 2))
            else:
                pairs = [(one, other) for one in row.split(", ") for other in column.split(", ")]
            for one, other in pairs:
                cell = (title, one, other)
                assert cell not in found, f"told twice: {cell}"
                assert title != SAME or one == other or (title, other, one) not in found, f"told twice: {cell}"
                found[cell] = outcome.strip("`")
    return found


def needed() -> Iterator[Cell]:
    """The cells that a complete document has, the same name in one order of row and column."""
    verbs = tuple(alone())
    for one, other in combinations_with_replacement(verbs, 2):
        yield (SAME, one, other)
        yield (TWO, one, other)
    for one in (*NEW, *ON_FOLDERS, *ON_BOTH):
        for other in verbs:
            yield (INSIDE, one, other)


def cases() -> list[Case]:
    """Every cell in both orders."""
    found: list[Case] = []
    for cell, outcome in outcomes().items():
        if outcome == "-":
            continue
        for row_first in (True, False):
            found.append(case(cell, outcome, row_first, f"cell{len(found):04}"))
    return found


# What the users do


def before(verb: str, other: str | None) -> str:
    """What must be there for both verbs to be done to one name: ``nothing``, ``file`` or ``folder``."""
    both = [verb] if other is None else [verb, other]
    if all(one in NEW for one in both):
        return "nothing"
    if any(one in ON_FOLDERS for one in both):
        return "folder"
    return "file"


def base_bytes(folder: str, name: str) -> bytes:
    """Unlike in any other cell: what has the same bytes and times may be taken for the same thing."""
    return f"{name} before, in {folder}".encode()


def made(folder: str, at: str, what: str) -> list[Step]:
    """What brings about what must be there."""
    if what == "file":
        return [("write", at, (base_bytes(folder, "n"),))]
    if what == "folder":
        return [("mkdir", at, ()), ("write", f"{at}/in", (base_bytes(folder, "in"),))]
    return []


def done(folder: str, verb: str, at: str, there: str, who: str, inside: tuple[str, ...] = ("in",)) -> list[Step]:
    """What ``who`` (``r`` or ``c``) does when it does ``verb`` at a path where ``there`` is. A folder has the files ``inside``."""
    away: list[Step] = [("unlink", at, ())]
    if there == "nothing":
        away = []
    elif there != "file":
        away = [*(("unlink", f"{at}/{name}", ()) for name in inside), ("rmdir", at, ())]
    mine = own_bytes(folder, "write", who)
    steps: dict[str, list[Step]] = {
        "write": [("write", at, (mine,))],
        "rewrite": [("write", at, (base_bytes(folder, "n"),))],
        "append": [("append", at, (f" and {who}".encode(),))],
        "truncate": [("truncate", at, (0,))],
        "create": [*away, ("write", at, (mine,))],
        "delete": away,
        "rename": [("rename", at, (f"{at}{who}",))],
        "rename-folder": [("rename", at, (f"{at}{who}",))],
        "mkdir": [*away, ("mkdir", at, ())],
        "rmdir": away,
        "chmod": [("chmod", at, ((FOLDER_MODES if there == "folder" else MODES)[who],))],
        "utimens": [("utime", at, (TIMES[who],))],
        "symlink": [*away, ("symlink", at, (mine.decode(),))],
        "to-folder": [*away, ("mkdir", at, ()), ("write", f"{at}/in", (mine,))],
        "to-file": [*away, ("write", at, (mine,))],
    }
    return steps[verb]


def own_bytes(folder: str, verb: str, who: str) -> bytes:
    """The bytes that a verb of ``who`` leaves."""
    if verb == "append":
        return base_bytes(folder, "n") + f" and {who}".encode()
    if verb == "truncate":
        return b""
    if verb in ("rewrite", "chmod", "utimens", "rename", "rename-folder"):
        return base_bytes(folder, "n")
    return f"{who} was in {folder}".encode()


def case(cell: Cell, outcome: str, row_first: bool, folder: str) -> Case:
    """A cell as what is to be done and expected."""
    relation, row, column = cell
    if relation == SAME:
        there = before(row, column)
        prepare = made(folder, f"{folder}/n", there)
        by_row = done(folder, row, f"{folder}/n", there, "r")
        by_column = done(folder, column, f"{folder}/n", there, "c")
        expected = read(folder, outcome, row, column, row_first)
    elif relation == TWO:
        prepare, by_row, by_column, expected = [], [], [], {}
        for verb, who, name, steps in ((row, "r", "p", by_row), (column, "c", "q", by_column)):
            there = before(verb, None)
            prepare += made(folder, f"{folder}/{name}", there)
            steps += done(folder, verb, f"{folder}/{name}", there, who)
            left = alone()[verb][1].replace("=r", f"={who}").replace("nr", f"n{who}")
            solo = read(folder, left, row, column, row_first)
            expected |= {name + path.removeprefix("n"): thing for path, thing in solo.items()}
    else:
        there = before(column, None)
        name = {"nothing": "x", "file": "n", "folder": "s"}[there]
        prepare = [("mkdir", f"{folder}/d", ()), ("write", f"{folder}/d/k", (base_bytes(folder, "k"),))]
        prepare += made(folder, f"{folder}/d/{name}", there)
        inner = {"nothing": [], "file": ["n"], "folder": []}[there]
        by_row = []
        if there == "folder" and row in (*NEW, "rmdir", "to-file"):
            by_row += [("unlink", f"{folder}/d/s/in", ()), ("rmdir", f"{folder}/d/s", ())]
        by_row += done(folder, row, f"{folder}/d", "folder", "r", ("k", *inner))
        by_column = done(folder, column, f"{folder}/d/{name}", there, "c")
        expected = read(folder, outcome, row, column, row_first)
    first, second = (by_row, by_column) if row_first else (by_column, by_row)
    return Case(folder, (("mkdir", folder, ()), *prepare), tuple(first), tuple(second), expected)


# What comes of it


def read(folder: str, outcome: str, row: str, column: str, row_first: bool) -> dict[str, Thing]:
    """An outcome as things by path."""
    if outcome == "nothing":
        return {}
    sides = {"r": row, "c": column}
    order = {"1": "r" if row_first else "c", "2": "c" if row_first else "r"}
    found: dict[str, Thing] = {}
    for word in outcome.split():
        place, *others = word.split(",")
        path, _, whose = place.partition("=")
        whose = order.get(whose, whose)
        if whose:
            thing = left_by(folder, path, whose, sides.get(whose))
        else:
            thing = Thing("folder", mode=0o755)
        for other in others:
            modes = MODES if whose else FOLDER_MODES
            mode = modes[other[1]] if other[0] == "m" else thing.mode
            mtime_ns = TIMES[other[1]] if other[0] == "t" else thing.mtime_ns
            thing = Thing(thing.kind, thing.data, mode, mtime_ns)
        found[path] = thing
    return found


def left_by(folder: str, path: str, who: str, verb: str | None) -> Thing:
    """A file or link as ``who`` left it by ``verb``; as it was before when that is None."""
    name = path.rpartition("/")[2].rstrip("~")
    if verb is None:
        return Thing("file", base_bytes(folder, name if name in ("in", "k") else "n"), 0o644)
    data = own_bytes(folder, verb, who)
    if verb == "symlink":
        return Thing("link", data)
    mode = MODES[who] if verb == "chmod" else 0o644
    return Thing("file", data, mode, TIMES[who] if verb == "utimens" else None)


COPY = re.compile(r" \(conflict .* \d{4}-\d\d-\d\d \d{6}( \d+)?\)")


def difference(case: Case, tree: dict[str, tuple[str, bytes, int, int]]) -> str:
    """How the tree below a cell's folder is not what was expected; empty when it is. The tree has kind, data, mode, mtime."""
    found = {COPY.sub("~", path): thing for path, thing in tree.items()}
    wrong: list[str] = []
    if found.keys() != case.expected.keys() or len(found) != len(tree):
        wrong.append(f"names {sorted(tree)}, not {sorted(case.expected)}")
    for path in sorted(found.keys() & case.expected.keys()):
        kind, data, mode, mtime_ns = found[path]
        thing = case.expected[path]
        if (kind, data) != (thing.kind, thing.data):
            wrong.append(f"{path}: {kind} {data!r}, not {thing.kind} {thing.data!r}")
        if thing.mode not in (None, mode) and kind != "link":
            wrong.append(f"{path}: mode {mode:o}, not {thing.mode:o}")
        if thing.mtime_ns not in (None, mtime_ns):
            wrong.append(f"{path}: mtime {mtime_ns}, not {thing.mtime_ns}")
    return "; ".join(wrong)
