"""The documents of the repository: links lead somewhere, lists are complete, and what they name is there."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_house import FLOORS, HOUSE

import bucketfs

CHECKOUT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
PYPROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())


def documents() -> Iterator[Path]:
    """Every page of Markdown that is ours."""
    yield from CHECKOUT.glob("*.md")
    yield from (CHECKOUT / "docs").rglob("*.md")
    yield from (path for path in (CHECKOUT / "tests").rglob("*.md") if "node_modules" not in path.parts)


def anchors(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", sorted(documents()), ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_lead_somewhere(page: Path) -> None:
    """A reader who follows a link inside of the repository finds what it names."""
    broken = []
    for target in LINK.findall(page.read_text()):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        found = page.parent / name if name else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", sorted(documents()), ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_files_that_are_named_are_there(page: Path) -> None:
    """A page that names a file or a sub-room (``vfs/tree``, ``mount/errno.py``) names one that exists."""
    rooms = {room for rooms in FLOORS for room in rooms}
    missing = []
    for name in re.findall(r"`([\w.]+/[\w./-]*)`", page.read_text()):
        if name.split("/")[0] in {*rooms, "bucketfs", "tests", "docs", "systemd", ".ci"}:
            ends = ("", ".py")
            if not any((top / f"{name}{end}").exists() for top in (CHECKOUT, HOUSE) for end in ends):
                missing.append(name)
    assert missing == []


def test_every_decision_is_in_the_index() -> None:
    """A decision that the index leaves out is read by few."""
    folder = CHECKOUT / "docs/adr"
    pages = sorted(page.name for page in folder.glob("0*.md"))
    assert re.findall(r"\]\((0\d+[^)]*\.md)\)", (folder / "README.md").read_text()) == pages
    assert [int(name[:4]) for name in pages] == list(range(1, len(pages) + 1))


def test_the_changelog_knows_the_version() -> None:
    """Who installs a version can read what it changed."""
    headings = re.findall(r"^## (.+)$", (CHECKOUT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased" and bucketfs.__version__ in headings


def test_continuous_integration_runs_what_we_say_we_support() -> None:
    """Each Python of the classifiers is tested, and every make target that the workflow and the guide name exists."""
    classifiers = re.findall(r"Python :: (3\.\d+)", "\n".join(PYPROJECT["project"]["classifiers"]))
    workflow = (CHECKOUT / ".github/workflows/ci.yml").read_text()
    matrix = re.search(r"python: \[(.*)\]", workflow)
    assert matrix is not None and re.findall(r"3\.\d+", matrix[1]) == classifiers
    assert PYPROJECT["project"]["requires-python"] == f">={classifiers[0]}"
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    named = [*re.findall(r"run: make ([a-z -]+)", workflow)]
    named += re.findall(r"`make ([a-z -]+)[^`]*`", (CHECKOUT / "CONTRIBUTING.md").read_text())
    assert {target for words in named for target in words.split()} - targets == set()


def test_the_map_names_every_room() -> None:
    """A newcomer finds each room in the map of CONTRIBUTING.md."""
    text = (CHECKOUT / "CONTRIBUTING.md").read_text()
    rooms = {path.name for path in HOUSE.iterdir() if (path / "__init__.py").exists()} | {"wire"}
    assert {room for room in rooms if f"{room}/" not in text} == set()


def test_the_architecture_has_the_floors_of_the_house() -> None:
    """The table of docs/architecture.md is the one that the house is held to, with every sub-room."""
    text = (CHECKOUT / "docs/architecture.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([^|]*) \| [^|]* \|([^|]*)\|$", text, re.MULTILINE)
    floors: dict[int, set[str]] = {}
    for floor, rooms, sub_rooms in rows:
        named = re.findall(r"`(\w+)`", rooms)
        floors.setdefault(int(floor), set()).update(named)
        if len(named) == 1 and named[0] != "wire":
            there = {path.parent.name for path in (HOUSE / named[0]).glob("*/__init__.py")}
            assert set(re.findall(r"`(\w+)`", sub_rooms)) == there, named[0]
    assert floors == {number: set(rooms) for number, rooms in enumerate(FLOORS)}
