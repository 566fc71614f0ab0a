"""The wheel: what ``pip install bucketfs`` puts on a machine is all that a checkout has."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import bucketfs

CHECKOUT = Path(__file__).resolve().parents[1]
SOURCES = ("bucketfs", "systemd", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources: setuptools leaves its work beside them. No index is asked."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder / "dist", folder)
    (made,) = (folder / "dist").glob("bucketfs-*.whl")
    return made


def run(*command: str | Path) -> str:
    """Standard output of a command, which must succeed, and sees no checkout."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "BUCKETFS_"))}
    environment["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd="/", env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_has_every_file(wheel: Path) -> None:
    """Modules, the mark that types are to be read, the protocol's files and the units of systemd are in it."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    package = CHECKOUT / "bucketfs"
    wanted = {
        str(path.relative_to(CHECKOUT))
        for path in package.rglob("*")
        if path.suffix in (".py", ".pyi", ".proto") or path.name == "py.typed"
    }
    assert wanted - names == set()
    data = f"bucketfs-{bucketfs.__version__}.data/data/share/systemd/user"
    assert {f"{data}/{unit.name}" for unit in (CHECKOUT / "systemd").iterdir()} - names == set()


def test_the_installed_program_runs(wheel: Path, tmp_path: Path) -> None:
    """In an environment that has the dependencies and this wheel, the command is there and each group of commands loads."""
    fresh = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", fresh)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(fresh), "platbase": str(fresh)}))
    # `--python`: the command is to run under the interpreter of that environment, not under the one of the tests.
    run(sys.executable, "-m", "pip", "--python", fresh / "bin/python", "install", "-q", "--no-deps", "--no-index", wheel)
    # The dependencies come from here. A path file is not followed from a path file, so an editable install of the checkout is
    # out of sight.
    roots = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (packages / "dependencies.pth").write_text("\n".join(roots) + "\n")
    python, program = fresh / "bin/python", fresh / "bin/bucketfs"
    where = run(python, "-c", "import bucketfs; print(bucketfs.__file__)").strip()
    assert Path(where).is_relative_to(packages), where
    assert run(program, "--version").strip().endswith(bucketfs.__version__)
    for group in ("mount", "buck", "hub", "status"):
        assert run(program, group, "--help").startswith("Usage: bucketfs")
    assert sorted(path.name for path in (fresh / "share/systemd/user").iterdir()) == [
        "bucketfs-hub.service",
        "bucketfs@.service",
    ]
