"""What the tests of the room share: the vectors of other implementations, generators of content, a store in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bucketfs.dag import Built, drive
from bucketfs.types import Cid, Link, Steps

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "unixfs.json").read_text())


class Store:
    """Blocks in a dict, and what was asked of it: checks that no request is long, repeats a CID or names an identity CID."""

    def __init__(self) -> None:
        self.blocks: dict[Cid, bytes] = {}
        self.asked: list[Cid] = []
        self.requests = 0

    def get_many(self, cids: Sequence[Cid]) -> Mapping[Cid, bytes]:
        assert 0 < len(cids) <= 256
        assert len(set(cids)) == len(cids)
        assert not any(cid[:1] == b"\x01" and cid[2] == 0 for cid in cids)
        self.asked += cids
        self.requests += 1
        return {cid: self.blocks[cid] for cid in cids}

    def run(self, steps: Steps[Any]) -> Any:
        """The result of a computation over these blocks."""
        return drive(steps, self.get_many)

    def keep(self, built: Built) -> Link:
        """Take in the new blocks of something that was built."""
        self.blocks |= built.blocks
        return built.link

    def make(self, steps: Steps[Built]) -> Link:
        return self.keep(self.run(steps))

    def forget_questions(self) -> None:
        self.asked.clear()
        self.requests = 0


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def new_store() -> type[Store]:
    """For hypothesis, which wants a fresh store for each example."""
    return Store


@pytest.fixture(scope="session")
def vectors() -> dict[str, Any]:
    return VECTORS


def pieces_of(generator: str, size: int) -> Iterator[bytes]:
    """The content of a vector, as its ``generators`` section says, in pieces of about 1 MiB."""
    if generator == "zeros":
        yield bytes(size)
        return
    if generator == "pattern":
        period = bytes((i * 7 + 13) % 251 for i in range(251)) * 4096
        for start in range(0, size, len(period)):
            yield period[: min(len(period), size - start)]
        return
    for start in range(0, size, 1 << 20):
        first = start // 32
        count = -(-min(1 << 20, size - start) // 32)
        digests = (hashlib.sha256(b"bucketfs" + n.to_bytes(8, "big")).digest() for n in range(first, first + count))
        yield b"".join(digests)[: size - start]


@pytest.fixture(scope="session")
def content() -> Any:
    """``content(generator, size)``: pieces of the content that vectors name."""
    return pieces_of


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A parameter named ``<section>_case`` runs a test over the cases of that section of the vectors."""
    for parameter in metafunc.fixturenames:
        if parameter.endswith("_case"):
            section = VECTORS[parameter.removesuffix("_case")]
            cases = section if isinstance(section, list) else next(v for v in section.values() if isinstance(v, list))
            metafunc.parametrize(parameter, cases, ids=[_title(case) for case in cases])


def _title(case: dict[str, Any]) -> str:
    if "gen" in case:
        form = "" if case["raw_leaves"] else "-v0"
        return f"{case['gen']}-{case['size']}-{case['chunk']}x{case['width']}{form}"
    return str(case.get("name") or case.get("what"))[:60]
