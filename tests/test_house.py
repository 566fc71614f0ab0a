"""The house rules of docs/architecture.md, held by reading the code: floors, doors, and what may touch the world.

Nothing is imported; every file is parsed. A failure lists each offence as ``file:line: what``.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
HOUSE = TESTS.parent / "bucketfs"

FLOORS: tuple[tuple[str, ...], ...] = (
    ("types", "errors", "names", "quoting", "roles", "root_history", "disk", "reserve"),
    ("dag", "wire"),
    ("keys",),
    ("client", "hub", "cache", "journal"),
    ("vfs", "config"),
    ("remote",),
    ("sync", "transfer", "mount"),
    ("mirror",),
    ("daemon",),
    ("cli", "api"),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

LOBBY = frozenset({"types", "errors", "names", "quoting", "roles", "root_history", "disk", "reserve"})
"""Single files on the ground floor; they may see each other."""

OPEN_HOUSE = frozenset({"wire"})
"""Rooms without a door: generated modules, imported one by one."""

PURE = (
    "types.py",
    "errors.py",
    "names.py",
    "journal/ops.py",
    "quoting.py",
    "dag/*",
    "client/headers.py",
    "keys/*",
    "hub/trees/access.py",
    "cache/disk_index.py",
    "journal/record.py",
    "journal/state.py",
    "journal/extents.py",
    "vfs/snapshot/proposal.py",
    "vfs/recovery/checkpoint.py",
    "vfs/tree/content.py",
    "vfs/tree/stat_types.py",
    "vfs/snapshot/snapshot.py",
    "vfs/rebase/resurrected.py",
    "vfs/rebase/sides.py",
    "vfs/tree/node.py",
    "vfs/rebase/plan.py",
    "vfs/rebase/rebasing.py",
    "vfs/rebase/renames.py",
    "vfs/tree/volume.py",
    "mount/errno.py",
)
"""Files that only think, besides those whose own docstring says "Pure". They are given bytes and ``now_ns``."""

WORLD = frozenset({"trio", "grpc", "pyfuse3", "os", "socket", "sqlite3", "threading", "time"})

CONFINED: dict[str, tuple[str, ...]] = {
    "grpc": ("client/channel.py", "hub/*"),
    "grpc_health": ("client/channel.py", "hub/*"),
    "grpc_reflection": ("client/channel.py", "hub/*"),
    "pyfuse3": ("mount/*",),
    "sqlalchemy": ("hub/*",),
    "click": ("cli/*",),
    "rich": ("cli/*",),
    "subprocess": ("mount/*", "daemon/*", "cli/*", "hub/threaddb/scripts.py"),
    "asyncio": ("hub/gateway/asgi.py", "hub/web/*"),
}
"""Libraries, and the only places that may import them."""

THREADS_IN = (
    "disk.py",
    "client/*.py",
    "mount/*",
    "hub/*",
    "journal/*",
    "cache/*",
    "sync/*",
    "remote/*",
    "transfer/*",
    "mirror/*",
    "config/*",
    "api/*",
    "daemon/*",
    "vfs/tree/inode_table.py",  # writes the table of numbers behind, in its own background task
)
"""Where a hop into a thread may be written (``trio.to_thread``) or one be started: never on a path the kernel waits for."""


FILE_LINES_MAX = 400


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


LEFT_WORDS = words(
    "acts ahead asides beside bereft bounds contested displaced elsewhere facts footing ghosts gone growth here "
    "keeper known lens metadata naming overtaken owes people picture pledges retrying room said salvage seats settle "
    "settling sharing short sight slices stuck telling thaw told top turns waiting watched where"
)
"""Words that this code once used in a sense of its own; docs/glossary.md has those that it uses now. None of them is the name of a
file or a class again, in the singular or the plural."""

NEVER_PART_OF_A_CLASS = words(
    "Bereft Contested Displaced Footing Ghost Ghosts Keeper Lens Overtaken Pledge Pledges Salvage Seat Seats Settling "
    "Sight Stuck Thaw Top"
)
"""These are not even a part of the name of a class, as in ``RebaseSight``."""


@dataclass(frozen=True)
class Offence:
    path: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}"


def report(offences: list[Offence]) -> None:
    if offences:
        listing = "\n  ".join(str(offence) for offence in sorted(offences, key=lambda o: (o.path, o.line)))
        pytest.fail(f"{len(offences)} against the house rules:\n  {listing}", pytrace=False)


@dataclass(frozen=True)
class Module:
    """One parsed file of the house. ``name`` is relative to the house, as ``dag/unixfs.py``."""

    name: str
    tree: ast.Module

    @property
    def room(self) -> str:
        return self.name.split("/")[0].removesuffix(".py")

    @property
    def is_door(self) -> bool:
        return self.name.endswith("/__init__.py")

    @property
    def package(self) -> str:
        """The dotted package that the file stands in, relative to the house: ``dag.codec``, or nothing."""
        return ".".join(self.name.split("/")[:-1])

    @property
    def stem(self) -> str:
        """The name of the file without its suffix; of a door that of its package."""
        return self.name.removesuffix("/__init__.py").removesuffix(".py").rpartition("/")[2]

    def matches(self, patterns: tuple[str, ...]) -> bool:
        return any(fnmatchcase(self.name, pattern) for pattern in patterns)

    def offence(self, node: ast.stmt | ast.expr | None, what: str) -> Offence:
        return Offence(f"bucketfs/{self.name}", getattr(node, "lineno", 1), what)

    def imports(self) -> Iterator[tuple[ast.stmt, str, tuple[str, ...]]]:
        """Each import as (statement, dotted module, names taken from it); relative ones made absolute."""
        package = ["bucketfs", *self.name.split("/")[:-1]]
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield node, alias.name, ()
            elif isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else []
                module = ".".join([*base, *([node.module] if node.module else [])])
                yield node, module, tuple(alias.name for alias in node.names)


def parse(text: str, name: str) -> Module:
    return Module(name, ast.parse(text, name))


@functools.cache
def house() -> list[Module]:
    """Every module of the package; read once."""
    return [
        parse(path.read_text(), str(path.relative_to(HOUSE)))
        for path in sorted(HOUSE.rglob("*.py"))
        if not path.name.endswith("_pb2.py")
    ]


def rooms_entered(module: Module) -> Iterator[tuple[ast.stmt, str, str]]:
    """Each import of our own house as (statement, room, rest of the dotted path behind the room's door)."""
    for node, dotted, names in module.imports():
        if dotted == "bucketfs":
            for name in names:
                if not name.startswith("__"):
                    yield node, name, ""
        elif dotted.startswith("bucketfs."):
            _, room, *rest = dotted.split(".")
            yield node, room, ".".join(rest)


def floor_offences(module: Module) -> list[Offence]:
    own = module.room
    if own in ("__init__", "__main__"):
        return []
    if own not in FLOOR:
        return [module.offence(None, f"{own} stands on no floor")]
    found = []
    for node, room, _ in rooms_entered(module):
        if room == own:
            continue
        if room not in FLOOR:
            found.append(module.offence(node, f"imports {room}, which stands on no floor"))
        elif FLOOR[room] > FLOOR[own]:
            found.append(module.offence(node, f"{own} (floor {FLOOR[own]}) imports {room} above it (floor {FLOOR[room]})"))
        elif FLOOR[room] == FLOOR[own] and not (own in LOBBY and room in LOBBY):
            found.append(module.offence(node, f"{own} imports its neighbour {room}"))
    return found


def door_offences(module: Module) -> list[Offence]:
    """Other rooms are entered through their doors only."""
    return [
        module.offence(node, f"enters {room} by the window: {room}.{rest}; import it from bucketfs.{room}")
        for node, room, rest in rooms_entered(module)
        if rest and room != module.room and room not in LOBBY and room not in OPEN_HOUSE
    ]


def sub_door_offences(module: Module, sub_rooms: frozenset[str]) -> list[Offence]:
    """A sub-room is entered by its door, also from its own room. ``sub_rooms`` are dotted: ``dag.codec``."""
    found = []
    for node, dotted, _ in module.imports():
        path = dotted.removeprefix("bucketfs.")
        for sub_room in sub_rooms:
            is_inside = module.package == sub_room or module.package.startswith(f"{sub_room}.")
            if path.startswith(f"{sub_room}.") and path not in sub_rooms and not is_inside:
                found.append(
                    module.offence(node, f"enters {sub_room} by the window: {path}; import it from bucketfs.{sub_room}")
                )
    return found


def length_offences(name: str, text: str) -> list[Offence]:
    count = text.count("\n")
    return [Offence(f"bucketfs/{name}", count, f"has {count} lines")] if count > FILE_LINES_MAX else []


def classes_of(module: Module) -> Iterator[ast.ClassDef]:
    """Every class, also those in functions and classes."""
    return (node for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef))


def repeated_class_offences(modules: list[Module]) -> list[Offence]:
    first: dict[str, Module] = {}
    found = []
    for module in modules:
        for node in classes_of(module):
            before = first.setdefault(node.name, module)
            if before is not module:
                found.append(module.offence(node, f"class {node.name} is also in {before.name}"))
    return found


def _is_left_word(word: str) -> bool:
    return not LEFT_WORDS.isdisjoint({word, f"{word}s"})


def glossary_offences(module: Module) -> list[Offence]:
    found = []
    if _is_left_word(module.stem):
        found.append(module.offence(None, f"{module.stem} is a word of before; see docs/glossary.md"))
    for node in classes_of(module):
        parts = re.findall("[A-Z][a-z0-9]*", node.name)
        if (len(parts) == 1 and _is_left_word(parts[0].lower())) or not NEVER_PART_OF_A_CLASS.isdisjoint(parts):
            found.append(module.offence(node, f"class {node.name} has a word of before; see docs/glossary.md"))
    return found


def exported(door: Module) -> tuple[ast.stmt | None, list[str]]:
    """The names in a door's ``__all__``, and its statement (None when it has none)."""
    for node in door.tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            value: object = ast.literal_eval(node.value)
            assert isinstance(value, list | tuple)
            return node, [str(name) for name in value]
    return None, []


def furniture_offences(door: Module, files: set[str]) -> list[Offence]:
    """A door tells the room's theory, says what it exports, and hides none of the room's files behind a name.

    Class names cannot hide a file: files are lower case. A file that is exported whole, under its own name, is not hidden.
    """
    found = []
    whole = {
        alias.name
        for node in door.tree.body
        if isinstance(node, ast.ImportFrom) and node.module == f"bucketfs.{door.package}"
        for alias in node.names
        if alias.asname is None
    }
    if not ast.get_docstring(door.tree):
        found.append(door.offence(None, "a door without a docstring"))
    node, names = exported(door)
    if node is None:
        found.append(door.offence(None, "a door without __all__"))
    found += [
        door.offence(node, f"exports {name}, which hides the file {name}.py") for name in names if name in files - whole
    ]
    return found


def purity_offences(module: Module) -> list[Offence]:
    claims = re.search(r"\bPure\b", ast.get_docstring(module.tree) or "") is not None and not module.is_door
    if not claims and not module.matches(PURE):
        return []
    return [
        module.offence(node, f"is pure, and imports {dotted}")
        for node, dotted, _ in module.imports()
        if dotted.split(".")[0] in WORLD
    ]


def confinement_offences(module: Module) -> list[Offence]:
    return [
        module.offence(node, f"imports {dotted}, which belongs in {', '.join(CONFINED[library]) or 'no room'} only")
        for node, dotted, _ in module.imports()
        if (library := dotted.split(".")[0]) in CONFINED and not module.matches(CONFINED[library])
    ]


def thread_offences(module: Module) -> list[Offence]:
    if module.matches(THREADS_IN):
        return []
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("trio.to_thread", "threading.Thread"):
            found.append(module.offence(node, f"{ast.unparse(node)} outside of the rooms that may start threads"))
    return found


def swallowing_offences(module: Module) -> list[Offence]:
    """An ``except`` that catches everything and does nothing hides what only a bug could break."""
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))
            if broad and all(isinstance(statement, ast.Pass) for statement in node.body):
                found.append(Offence(f"bucketfs/{module.name}", node.lineno, "swallows every error"))
    return found


def edges(modules: list[Module]) -> dict[str, dict[str, ast.stmt]]:
    """Which module imports which other, with the statement; imports inside functions and under TYPE_CHECKING count, too."""
    names = {
        module.name.removesuffix("/__init__.py").removesuffix(".py").replace("/", "."): module.name for module in modules
    }
    found: dict[str, dict[str, ast.stmt]] = {}
    for module in modules:
        targets: dict[str, ast.stmt] = {}
        for node, dotted, taken in module.imports():
            behind = dotted.removeprefix("bucketfs").removeprefix(".")
            below = [f"{behind}.{name}".lstrip(".") for name in taken]
            for target in (name if name in names else behind for name in below or [behind]):
                if target in names and names[target] != module.name:
                    targets.setdefault(names[target], node)
        found[module.name] = targets
    return found


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The groups of nodes that lead to each other."""
    reach = {start: {start} for start in graph}
    for start in graph:
        waiting = [start]
        while waiting:
            for target in graph[waiting.pop()] - reach[start]:
                reach[start].add(target)
                waiting.append(target)
    groups = {frozenset(other for other in reach[start] if start in reach[other]) for start in graph}
    return [sorted(group) for group in groups if len(group) > 1]


def sub_room(name: str) -> str:
    """The sub-room that a module is in; for a module in none, itself."""
    return name.rpartition("/")[0] if name.count("/") > 1 else name


def circle_offences(modules: list[Module]) -> list[Offence]:
    """No import circle among modules, nor among sub-rooms and the modules beside them."""
    imports = edges(modules)
    by_name = {module.name: module for module in modules}
    rooms: dict[str, set[str]] = {}
    for name, targets in imports.items():
        rooms.setdefault(sub_room(name), set()).update({sub_room(target) for target in targets} - {sub_room(name)})
    found = []
    for group in [*circles({name: set(targets) for name, targets in imports.items()}), *circles(rooms)]:
        found += [
            by_name[name].offence(node, f"imports {target}; in a circle: {', '.join(group)}")
            for name, targets in imports.items()
            for target, node in targets.items()
            if {name, target} <= set(group)
            or ({sub_room(name), sub_room(target)} <= set(group) and sub_room(name) != sub_room(target))
        ]
    return found


def silent_test_offences(name: str, tree: ast.Module) -> list[Offence]:
    """Test functions and methods without a docstring. ``name`` is relative to tests/."""
    return [
        Offence(f"tests/{name}", node.lineno, f"{node.name} does not say what a user would lose")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if node.name.startswith("test") and not ast.get_docstring(node)
    ]


# The house as it stands


def test_floors() -> None:
    """A change in an upper room cannot break a lower one."""
    report([offence for module in house() for offence in floor_offences(module)])


def test_rooms_are_entered_through_their_doors() -> None:
    """What a room does not offer may change without a look at other rooms."""
    report([offence for module in house() for offence in door_offences(module)])


def test_no_import_goes_in_a_circle() -> None:
    """What leads back to itself can only be understood as one piece."""
    report(circle_offences(house()))


def test_doors_are_furnished() -> None:
    """A reader finds a room's theory, and what it offers, in one place."""
    found = []
    for module in house():
        if module.is_door and module.room not in OPEN_HOUSE:
            files = {path.stem for path in (HOUSE / module.name).parent.iterdir()} - {"__init__", "__pycache__"}
            found += furniture_offences(module, files)
    report(found)


def test_sub_rooms_are_entered_through_their_doors() -> None:
    """The same for the sub-rooms of a room."""
    sub_rooms = frozenset(m.package for m in house() if m.is_door and "." in m.package)
    report([offence for module in house() for offence in sub_door_offences(module, sub_rooms)])


def test_files_are_short() -> None:
    """A file can be read in one sitting."""
    report([o for module in house() for o in length_offences(module.name, (HOUSE / module.name).read_text())])


def test_class_names_are_unique() -> None:
    """A name in a traceback or a type error says which class it is."""
    report(repeated_class_offences(house()))


def test_words_of_before_do_not_come_back() -> None:
    """A word means what the glossary says."""
    report([offence for module in house() for offence in glossary_offences(module)])


def test_thinkers_touch_nothing() -> None:
    """What decides is tested with values alone, and the same in every run."""
    report([offence for module in house() for offence in purity_offences(module)])


def test_libraries_stay_where_they_belong() -> None:
    """A library can be replaced by a change in one room."""
    report([offence for module in house() for offence in confinement_offences(module)])


def test_threads_start_only_below_the_kernels_path() -> None:
    """No request of the kernel waits for a thread that should not be there."""
    report([offence for module in house() for offence in thread_offences(module)])


def test_no_error_is_swallowed() -> None:
    """A fault is seen where it happens, not by a user later."""
    report([offence for module in house() for offence in swallowing_offences(module)])


def test_every_module_says_what_it_is() -> None:
    """A reader knows from the first line whether a file is the right one."""
    report([m.offence(None, "has no docstring") for m in house() if m.tree.body and not ast.get_docstring(m.tree)])


def test_every_test_says_what_a_user_would_lose() -> None:
    """A developer who sees a test fail knows what it protects, before they read it."""
    found = []
    for path in sorted(TESTS.rglob("*.py")):
        found += silent_test_offences(str(path.relative_to(TESTS)), ast.parse(path.read_text(), str(path)))
    report(found)


# The rules bite: each is shown one offence and one neighbour of it that is right


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("dag/codec/unixfs.py", "from bucketfs.types import Cid\nfrom bucketfs.vfs import VFS\n", [2]),
        ("client/blocks.py", "from bucketfs.dag import verify\nimport bucketfs.hub\n", [2]),
        ("client/blocks.py", "from .. import hub\n", [1]),
        ("disk.py", "from bucketfs.errors import NoSpace\nfrom bucketfs import __version__\n", []),
        ("daemon/daemon.py", "def wire():\n    from bucketfs.cli import main\n", [2]),
        ("attic/x.py", "", [1]),
    ],
)
def test_rule_floors(name: str, text: str, lines: list[int]) -> None:
    """The rule finds imports upward, and of neighbours, however they are spelled."""
    assert [offence.line for offence in floor_offences(parse(text, name))] == lines


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("vfs/vfs.py", "from bucketfs.dag.codec.unixfs import decode\nfrom bucketfs.dag import decode\n", [1]),
        ("vfs/vfs.py", "from bucketfs.vfs.tree.pending import Pending\nfrom .pending import Pending\n", []),
        ("hub/services/blocks.py", "from bucketfs.wire import blocks_pb2\nimport bucketfs.wire.hub_pb2\n", []),
    ],
)
def test_rule_doors(name: str, text: str, lines: list[int]) -> None:
    """The rule tells a room's own files from those of others."""
    assert [offence.line for offence in door_offences(parse(text, name))] == lines


def test_rule_circles() -> None:
    """Circles of modules are found, under TYPE_CHECKING too, and circles of folders whose modules are in none."""
    guarded = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from bucketfs.dag.b import B\n"
    pair = [parse(guarded, "dag/a.py"), parse("from bucketfs.dag import a\n", "dag/b.py")]
    assert {(o.path, o.line) for o in circle_offences(pair)} == {("bucketfs/dag/a.py", 3), ("bucketfs/dag/b.py", 1)}
    folders = [
        parse("import bucketfs.vfs.rebase.b\n", "vfs/tree/a.py"),
        parse("", "vfs/tree/c.py"),
        parse("from bucketfs.vfs.tree.c import C\n", "vfs/rebase/d.py"),
        parse("", "vfs/rebase/b.py"),
    ]
    assert {(o.path, o.line) for o in circle_offences(folders)} == {
        ("bucketfs/vfs/tree/a.py", 1),
        ("bucketfs/vfs/rebase/d.py", 1),
    }
    assert circle_offences([parse("from bucketfs.dag.b import B\n", "dag/a.py"), parse("", "dag/b.py")]) == []


def test_rule_furniture() -> None:
    """The rule misses neither docstring, ``__all__`` nor a hidden file."""
    bare = furniture_offences(parse("x = 1\n", "dag/__init__.py"), set())
    assert [offence.what for offence in bare] == ["a door without a docstring", "a door without __all__"]
    hidden = furniture_offences(parse('"""Theory."""\n__all__ = ["Cid", "walk"]\n', "dag/__init__.py"), {"walk", "cid"})
    assert [(offence.line, offence.what) for offence in hidden] == [(2, "exports walk, which hides the file walk.py")]
    whole = '"""Theory."""\nfrom bucketfs.dag import walk\n__all__ = ["walk"]\n'
    assert furniture_offences(parse(whole, "dag/__init__.py"), {"walk"}) == []


def test_rule_purity_and_confinement() -> None:
    """The rules find imports of the world, of confined libraries, and threads."""
    assert [o.line for o in purity_offences(parse("import struct\nimport time\n", "dag/file.py"))] == [2]
    assert purity_offences(parse("import time\n", "vfs/vfs.py")) == []
    assert [o.line for o in purity_offences(parse('"""Rules. Pure."""\nimport os\n', "vfs/vfs.py"))] == [2]
    assert [o.line for o in confinement_offences(parse("import grpc\n", "client/retry.py"))] == [1]
    assert confinement_offences(parse("import grpc\n", "client/channel.py")) == []
    assert [o.line for o in thread_offences(parse("import trio\ntrio.to_thread.run_sync(f)\n", "vfs/vfs.py"))] == [2]
    assert [o.line for o in swallowing_offences(parse("try:\n    f()\nexcept Exception:\n    pass\n", "x/y.py"))] == [3]


def test_rule_sub_doors() -> None:
    """The rule lets a sub-room import its own files, and no others."""
    text = "from bucketfs.dag.codec.cid import cid_of\nfrom bucketfs.dag.codec import cid_text\n"
    sub_rooms = frozenset({"dag.codec"})
    assert [o.line for o in sub_door_offences(parse(text, "dag/walk.py"), sub_rooms)] == [1]
    assert [o.line for o in sub_door_offences(parse(text, "dag/files/file.py"), sub_rooms)] == [1]
    assert sub_door_offences(parse(text, "dag/codec/nodes.py"), sub_rooms) == []


def test_rule_lengths_and_class_names() -> None:
    """The rules count lines, and find classes inside of functions."""
    assert length_offences("x.py", "\n" * FILE_LINES_MAX) == []
    assert [o.what for o in length_offences("x.py", "\n" * (FILE_LINES_MAX + 1))] == ["has 401 lines"]
    one, other = parse("class Place: ...\nclass Spot: ...\n", "a.py"), parse("def f():\n    class Place: ...\n", "b.py")
    assert [(o.path, o.line) for o in repeated_class_offences([one, other])] == [("bucketfs/b.py", 2)]


def test_rule_glossary() -> None:
    """The rule finds words of before in files and classes, and leaves longer words alone."""
    assert [o.line for o in glossary_offences(parse("class Tree: ...\n", "vfs/sight.py"))] == [1]
    assert [o.line for o in glossary_offences(parse("class Tree: ...\nclass _Ghost: ...\n", "vfs/x.py"))] == [2]
    assert [o.line for o in glossary_offences(parse("class TreeSight: ...\nclass RoomLimit: ...\n", "vfs/x.py"))] == [1]
    assert glossary_offences(parse("class Topology: ...\n", "vfs/top_level.py")) == []


def test_rule_silent_tests() -> None:
    """The rule finds tests in classes and asynchronous ones, and asks nothing of helpers."""
    text = (
        'def test_a() -> None:\n    """Files would be lost."""\n'
        "class TestB:\n    async def test_b(self) -> None: ...\n"
        "def helper() -> None: ...\n"
    )
    assert [o.line for o in silent_test_offences("x.py", ast.parse(text))] == [4]


def test_the_rules_are_about_files_that_exist() -> None:
    """A renamed file must not slip out of a list: every pattern matches one."""
    patterns = [*PURE, *THREADS_IN, *(pattern for places in CONFINED.values() for pattern in places)]
    unused = [pattern for pattern in patterns if not any(module.matches((pattern,)) for module in house())]
    assert not unused
