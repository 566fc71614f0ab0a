"""Compiles the wire's .proto files, into the checkout (``make proto``) or into any other folder (a test that compares).

The compiler is that of the oldest grpcio-tools we support, pinned in pyproject.toml: what a newer one generates refuses to
be imported beside an older protobuf.
"""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def sources() -> list[Path]:
    """The .proto files, in name order."""
    return sorted((CHECKOUT / "bucketfs/wire").glob("*.proto"))


def compile_into(folder: Path) -> None:
    """Write ``bucketfs/wire/*_pb2.py`` and ``*_pb2.pyi`` below ``folder``. Raises RuntimeError when protoc refuses."""
    from grpc_tools import protoc

    arguments = [
        "protoc",
        f"--proto_path={CHECKOUT}",
        f"--proto_path={resources.files('grpc_tools') / '_proto'}",
        f"--python_out={folder}",
        f"--pyi_out={folder}",
        *(str(source.relative_to(CHECKOUT)) for source in sources()),
    ]
    if protoc.main(arguments) != 0:
        raise RuntimeError("protoc failed; it has said why on stderr")


if __name__ == "__main__":
    compile_into(CHECKOUT)
    sys.stdout.write(f"compiled {len(sources())} files of bucketfs/wire\n")
