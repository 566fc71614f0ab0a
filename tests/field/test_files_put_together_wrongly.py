"""A file in somebody else's bucket cannot be read: its parts have other sizes than it says, or the Hub has lost some. It is left
out and said, and all else arrives.

Reported: after one such file no `buck watch` of the bucket went on, and `buck pull` ended before it had written anything. One of a
size that the disk here cannot have stopped a watch for ever, without a word.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.planting import plant_tree

from bucketfs.dag import DAG_PB, PbLink, PbNode, UnixFs, UnixFsType, cid_of, encode_pb, encode_unixfs
from bucketfs.hub import HubServer
from bucketfs.types import Cid, Link

Buck = Callable[..., str]

LEAF = os.urandom(1000)
LOST = cid_of(b"lost")


def file_of(*parts: tuple[Cid, int]) -> tuple[Link, dict[Cid, bytes]]:
    """A file of leaves with the sizes that they are said to have."""
    sizes = tuple(size for _, size in parts)
    message = encode_unixfs(UnixFs(UnixFsType.FILE, filesize=sum(sizes), blocksizes=sizes))
    block = encode_pb(PbNode(tuple(PbLink(cid, b"", len(LEAF)) for cid, _ in parts), message))
    cid = cid_of(block, DAG_PB)
    return Link(cid, len(block) + len(LEAF) * len(parts)), {cid: block, cid_of(LEAF): LEAF}


def wrong_files() -> dict[bytes, tuple[Link, dict[Cid, bytes]]]:
    leaf = cid_of(LEAF)
    return {
        b"longer": file_of((leaf, 10)),
        b"shorter": file_of((leaf, 5000)),
        b"large": file_of(*[(leaf, 300_000)] * 3),
        b"lacks all": file_of((LOST, 4)),
        b"lacks some": file_of((leaf, 1000), (LOST, 4)),
        b"no disk is so large": file_of((leaf, 1 << 62)),
    }


@pytest.fixture
def bucket(hub: HubServer, buck: Buck, tmp_path: Path) -> str:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    for plain in ("first", "sub/file", "z last"):
        (tree / plain).write_text(plain)
    buck("push", tree, "home")
    for name, (link, blocks) in wrong_files().items():
        plant_tree(tmp_path / "hub", "home", name, link, blocks)
    return "home"


def arrived(top: Path) -> list[str]:
    return sorted(str(path.relative_to(top)) for path in top.rglob("*") if path.is_file())


def test_a_pull_goes_on(buck: Buck, bucket: str, tmp_path: Path) -> None:
    """One broken file in a bucket would keep all others from being pulled, or overwrite a good file here."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "longer").write_text("what was here stays")
    said = buck("pull", bucket, here, code=1)
    for name in wrong_files():
        assert name.decode() in said
    assert said.count("left out: ") == len(wrong_files())
    assert arrived(here) == ["first", "longer", "sub/file", "z last"]
    assert (here / "longer").read_text() == "what was here stays"


def test_a_watch_goes_on_both_ways(buck: Buck, bucket: str, tmp_path: Path) -> None:
    """One broken file would stop a watch, or be removed at the Hub because it never arrived here."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "mine").write_text("mine")
    said = buck("watch", "--once", here, bucket, code=1)
    assert f"{len(wrong_files())} left out, the rest is done" in said
    assert arrived(here) == ["first", "mine", "sub/file", "z last"]
    assert buck("cat", f"{bucket}/mine") == "mine"
    # What never arrived is not taken for removed.
    (here / "first").unlink()
    buck("watch", "--once", here, bucket, code=1)
    names = buck("ls", bucket).splitlines()
    assert "first" not in names
    assert {name.decode() for name in wrong_files()} <= set(names)
