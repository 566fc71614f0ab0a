"""What is checked in as compiled is what the .proto files compile to."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import protos

WIRE = protos.CHECKOUT / "bucketfs/wire"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("proto")
    protos.compile_into(folder)
    return folder / "bucketfs/wire"


def test_every_proto_is_compiled_and_nothing_else_is_there(compiled: Path) -> None:
    """No protocol file is forgotten, and no compiled one is left over."""

    def names(folder: Path) -> set[str]:
        return {path.name for pattern in ("*_pb2.py", "*_pb2.pyi") for path in folder.glob(pattern)}

    assert names(compiled) == names(WIRE)
    assert len(names(WIRE)) == 2 * len(protos.sources())


@pytest.mark.parametrize("source", protos.sources(), ids=lambda source: source.stem)
@pytest.mark.parametrize("ending", ["_pb2.py", "_pb2.pyi"])
def test_checked_in_equals_compiled(compiled: Path, source: Path, ending: str) -> None:
    """The compiled messages are those of the .proto files."""
    name = source.stem + ending
    assert (WIRE / name).read_text() == (compiled / name).read_text(), f"{name} is out of date: run `make proto`"
