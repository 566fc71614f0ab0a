"""The bucket service beside nested dicts: any sequence of writes by path leaves the tree that the dicts predict.

The alphabet is tiny, so that names collide, contain each other as strings (``a``, ``ab``) and change their kind.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from bucketfs.hub import HubConfig
from bucketfs.hub.db.models import ThreadRow
from bucketfs.hub.gc import collect
from bucketfs.hub.rpc.service import Call
from bucketfs.hub.rpc.status import Status
from bucketfs.hub.server import open_hub
from bucketfs.hub.services import buckets
from bucketfs.types import ThreadId
from bucketfs.wire import buckets_pb2

pb: Any = buckets_pb2
NAMES = st.sampled_from(["a", "ab", "b"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
CONTENT = st.sampled_from([0, 1, 2, 300_000]).map(lambda size: bytes([size % 251]) * size)
THREAD = ThreadId(b"\x01\x55" + bytes(32))

Tree = dict[str, Any]


class Someone:
    """The context of a call by the owner."""

    call = Call(account="owner", thread=THREAD, writer="owner")

    def check_active(self) -> None:
        """The caller is always there."""


def at(tree: Tree, path: str) -> Any:
    """What stands at a path, ``None`` for nothing."""
    found: Any = tree
    for name in path.split("/") if path else ():
        if not isinstance(found, dict) or name not in found:
            return None
        found = found[name]
    return found


def put(tree: Tree, path: str, thing: Any) -> bool:
    """Puts something at a path; False, and nothing done, when a file is in the way."""
    *parents, last = path.split("/")
    trial = copy.deepcopy(tree)
    place: Any = trial
    for name in parents:
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            return False
    place[last] = copy.deepcopy(thing)
    tree.clear()
    tree.update(trial)
    return True


def drop(tree: Tree, path: str) -> None:
    parent, _, last = path.rpartition("/")
    del at(tree, parent)[last]


class Writes(RuleBasedStateMachine):
    private = False

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.config = HubConfig(data=self.folder)
        self.hub = open_hub(self.config)
        self.hub.database.create_thread(ThreadRow(THREAD, "owner", "", "", "", True, b"", 1))
        self.methods = buckets.service(self.hub).methods
        made = self.ask("Create", private=self.private)
        self.key, self.seed = made.root.key, made.seed
        self.tree: Tree = {}

    def ask(self, method: str, **fields: Any) -> Any:
        return self.methods[method](getattr(pb, f"{method}Request")(**fields), Someone())

    def refused(self, method: str, **fields: Any) -> str:
        with pytest.raises(Status) as caught:
            self.ask(method, key=self.key, **fields)
        return caught.value.text

    @rule(path=PATHS, data=CONTENT)
    def push(self, path: str, data: bytes) -> None:
        def requests() -> Any:
            yield pb.PushPathRequest(header=pb.PushPathRequest.Header(key=self.key, path=path))
            yield pb.PushPathRequest(chunk=data)

        if put(self.tree, path, data):
            list(self.methods["PushPath"](requests(), Someone()))
        else:
            with pytest.raises(Status, match="not a directory"):
                list(self.methods["PushPath"](requests(), Someone()))

    @rule(files=st.dictionaries(PATHS, CONTENT, min_size=1, max_size=4))
    def push_many(self, files: dict[str, bytes]) -> None:
        def requests() -> Any:
            yield pb.PushPathsRequest(header=pb.PushPathsRequest.Header(key=self.key))
            for path, data in files.items():
                if data:
                    yield pb.PushPathsRequest(chunk=pb.PushPathsRequest.Chunk(path=path, data=data))
                yield pb.PushPathsRequest(chunk=pb.PushPathsRequest.Chunk(path=path))

        answered = []
        try:
            for reply in self.methods["PushPaths"](requests(), Someone()):
                answered.append(reply)
        except Status as error:
            assert error.text.startswith("adding bucket link: ")
        # Files before the one that does not fit stay; so the model stops there, too.
        fits = [path for path in files if not _stopped(self.tree, files, path)]
        assert [reply.path for reply in answered] == fits
        if answered:
            assert answered[-1].root.path == self.ask("Root", key=self.key).root.path
        for path in fits:
            assert put(self.tree, path, files[path])

    @rule(path=PATHS)
    def remove(self, path: str) -> None:
        if at(self.tree, path) is None:
            text = self.refused("RemovePath", path=path)
            assert "could not resolve path" in text if self.private else text == "no link by that name"
        else:
            self.ask("RemovePath", key=self.key, path=path)
            drop(self.tree, path)

    @rule(source=PATHS, goal=st.one_of(PATHS, st.just("")))
    def move(self, source: str, goal: str) -> None:
        thing = at(self.tree, source)
        if source == goal:
            self.ask("MovePath", key=self.key, from_path=source, to_path=goal)
            return
        if thing is None:
            self.refused("MovePath", from_path=source, to_path=goal)
            return
        there = at(self.tree, goal)
        place = f"{goal}/{source.rpartition('/')[2]}".removeprefix("/") if isinstance(there, dict) else goal
        if place == source:
            self.ask("MovePath", key=self.key, from_path=source, to_path=goal)
            return
        after = copy.deepcopy(self.tree)
        drop(after, source)
        if (isinstance(there, bytes) and isinstance(thing, dict)) or not _moved(after, self.tree, source, place, thing):
            assert "not a directory" in self.refused("MovePath", from_path=source, to_path=goal)
            return
        self.ask("MovePath", key=self.key, from_path=source, to_path=goal)
        self.tree = after

    @rule(source=st.one_of(PATHS, st.just("")), goal=PATHS)
    def copy_by_cid(self, source: str, goal: str) -> None:
        thing = at(self.tree, source)
        # Of a private bucket no node in the clear is stored, so there is nothing to name.
        if self.private or thing is None or source == "":
            return
        cid = self.ask("ListPath", key=self.key, path=source).item.cid
        if put(self.tree, goal, thing):
            self.ask("SetPath", key=self.key, path=goal, cid=cid)
        else:
            assert self.refused("SetPath", path=goal, cid=cid) == "not a directory"

    @rule(path=st.one_of(PATHS, st.just("")), role=st.integers(0, 2))
    def share(self, path: str, role: int) -> None:
        if path == "" or at(self.tree, path) is not None:
            self.ask("PushPathAccessRoles", key=self.key, path=path, roles={"*": role})
        else:
            self.refused("PushPathAccessRoles", path=path, roles={"*": role})

    @rule()
    def collect(self) -> None:
        collect(self.config, grace_s=0)

    @invariant()
    def the_trees_agree(self) -> None:
        if hasattr(self, "tree"):
            assert self.shown("") == {".textileseed": self.seed, **self.tree}

    @invariant()
    def entries_speak_of_what_is_there(self) -> None:
        if hasattr(self, "tree"):
            for path in self.ask("Root", key=self.key).root.path_metadata:
                assert path in ("", ".textileseed") or at(self.tree, path) is not None

    def shown(self, path: str) -> Tree:
        tree: Tree = {}
        for item in self.ask("ListPath", key=self.key, path=path).item.items:
            below = f"{path}/{item.name}".removeprefix("/")
            if item.is_dir:
                tree[item.name] = self.shown(below)
                assert item.items_count == len(tree[item.name])
            else:
                pieces = self.methods["PullPath"](pb.PullPathRequest(key=self.key, path=below), Someone())
                tree[item.name] = b"".join(piece.chunk for piece in pieces)
        return tree

    def teardown(self) -> None:
        if hasattr(self, "hub"):
            self.hub.blockstore.close()
            self.hub.database.close()
            shutil.rmtree(self.folder)


def _moved(after: Tree, before: Tree, source: str, place: str, thing: Any) -> bool:
    """Puts the thing at its place, in the tree without it, unless a file of the tree with it is in the way."""
    if not place.startswith(f"{source}/") and not put(copy.deepcopy(before), place, thing):
        return False
    if place.startswith(f"{source}/") and not isinstance(thing, dict):
        return False
    return put(after, place, thing)


def _stopped(tree: Tree, files: dict[str, bytes], path: str) -> bool:
    trial = copy.deepcopy(tree)
    for one, data in files.items():
        if not put(trial, one, data):
            return True
        if one == path:
            return False
    raise AssertionError(path)


class PrivateWrites(Writes):
    private = True


@pytest.mark.parametrize("machine", [Writes, PrivateWrites], ids=["public", "private"])
def test_model(machine: type[Writes]) -> None:
    """Some sequence of pushes, moves and removals would leave another tree than the user made."""
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=15, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)),
    )
