"""What the tests of dag share: the vectors of other implementations, generators of content, a store in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.store import Store

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent.parent / "vectors" / "unixfs.json").read_text())


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
