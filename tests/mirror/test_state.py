"""What a mirror remembers: written together or not at all, and refused when it is not what it should be."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.unixfs import build_file

from bucketfs.dag import empty_directory
from bucketfs.disk import Disk
from bucketfs.errors import DiskFailed
from bucketfs.mirror import MirrorState, forget_state
from bucketfs.mirror.state import Attempt, Position, SeenEntry
from bucketfs.transfer import LocalEntry
from bucketfs.types import Kind, Link, NodeAttributes

ROOT = empty_directory().link.cid
OTHER = empty_directory(NodeAttributes(mode=0o700)).link.cid
FILE = build_file(b"content").link


def entry(name: bytes, inode: int = 7, kind: Kind = Kind.FILE) -> LocalEntry:
    return LocalEntry(name, kind, 5, 0o644, -1, 2**62, inode, 0)


@pytest.fixture
def state(tmp_path: Path) -> MirrorState:
    return MirrorState(tmp_path / "state.db")


def test_what_is_noted_is_there_after_a_restart(tmp_path: Path, state: MirrorState) -> None:
    """Else every start would read all files anew."""
    position = Position(ROOT, OTHER, Attempt(ROOT, OTHER, (((b"a", b"\xc3\xbc"), (b"a", b"copy")),)))
    highest = entry(b"name", inode=2**64 - 1)
    with state.together():
        state.position = position
        state.note((b"dir", b"name"), SeenEntry(highest, FILE, fresh=True))
        state.note((), SeenEntry(entry(b"", kind=Kind.DIRECTORY), attributes=NodeAttributes(uid=1)))
    state.close()
    again = MirrorState(tmp_path / "state.db")
    assert again.position == position
    assert again.seen((b"dir",)) == {b"name": SeenEntry(highest, FILE, fresh=True)}
    assert again.same_inode(highest) == SeenEntry(highest, FILE, fresh=True)
    assert again.places_of(FILE.cid) == [((b"dir", b"name"), SeenEntry(highest, FILE, fresh=True))]
    seen = again.seen_at(())
    assert seen is not None
    assert seen.attributes == NodeAttributes(uid=1)
    again.close()


def test_what_fails_in_the_middle_was_never_written(state: MirrorState) -> None:
    """Half a transaction would make the mirror take changes for agreed."""
    with pytest.raises(RuntimeError), state.together():
        state.position = Position(ROOT)
        state.note((b"name",), SeenEntry(entry(b"name"), FILE))
        raise RuntimeError
    assert state.position == Position()
    assert state.seen(()) == {}
    state.close()


def test_a_folder_is_forgotten_with_all_below_it_and_nothing_beside_it(state: MirrorState) -> None:
    """Forgetting too much costs reading; too little brings removed files back."""
    paths = [(b"d",), (b"d", b"in"), (b"d", b"e", b"f"), (b"d!", b"in"), (b"d0", b"in"), (b"c",)]
    for path in paths:
        state.note(path, SeenEntry(entry(path[-1]), FILE))
    state.forget((b"d",))
    assert [state.seen_at(path) is not None for path in paths] == [False, False, False, True, True, True]
    state.close()


def test_a_state_of_another_version_and_a_damaged_one_are_refused(tmp_path: Path, state: MirrorState) -> None:
    """The user hears what to do, and no file is touched on a guess."""
    state.note_fact("version", "99")
    state.close()
    file = tmp_path / "state.db"
    with pytest.raises(DiskFailed, match="another version") as caught:
        MirrorState(file)
    assert "--anew" in caught.value.hint
    forget_state(Disk(), file)
    MirrorState(file).close()
    file.write_bytes(b"no database at all" * 100)
    with pytest.raises(DiskFailed) as caught:
        MirrorState(file)
    assert "--anew" in caught.value.hint


def test_unknown_places_say_so(state: MirrorState) -> None:
    """What was never seen must not look like something that was."""
    assert state.seen_at((b"nothing",)) is None
    assert state.same_inode(entry(b"x")) is None
    assert state.places_of(FILE.cid) == []
    assert state.blocks([ROOT]) == {}
    state.note((b"x",), SeenEntry(entry(b"x"), Link(FILE.cid, 5)))
    assert state.same_inode(entry(b"y", inode=8)) is None
    state.close()
