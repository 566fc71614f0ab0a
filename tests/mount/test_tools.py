"""Programs that lean on a file system harder than most: git, sqlite3, restic and borg at work in a mount."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from support import trees
from support.home import Mounted


def run(*command: str | Path, cwd: Path, variables: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=os.environ | (variables or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def test_git(bucket: Path) -> None:
    """A repository in a mount works."""
    git = ("git", "-c", "user.name=Somebody", "-c", "user.email=somebody@example.com", "-c", "init.defaultBranch=main")
    run(*git, "init", "-q", "work", cwd=bucket)
    work = bucket / "work"
    for number in range(60):
        (work / f"file{number}.txt").write_text(f"{number}\n" * number)
    (work / "script").write_text("#!/bin/sh\n")
    (work / "script").chmod(0o755)
    (work / "link").symlink_to("script")
    run(*git, "add", ".", cwd=work)
    run(*git, "commit", "-q", "-m", "first", cwd=work)
    run(*git, "checkout", "-q", "-b", "side", cwd=work)
    run(*git, "mv", "file3.txt", "renamed.txt", cwd=work)
    run(*git, "commit", "-q", "-a", "-m", "second", cwd=work)
    run(*git, "checkout", "-q", "main", cwd=work)
    run(*git, "merge", "-q", "side", cwd=work)
    run(*git, "gc", "-q", cwd=work)
    run(*git, "fsck", "--strict", cwd=work)
    assert run(*git, "status", "--porcelain", cwd=work) == ""
    run(*git, "clone", "-q", "work", "clone", cwd=bucket)
    assert (bucket / "clone/renamed.txt").read_text() == "3\n" * 3


def test_sqlite(bucket: Path) -> None:
    """A database in a mount works."""
    database = bucket / "d.sqlite"
    statements = "create table t(n integer primary key, x blob);" + "".join(
        f"begin; insert into t(x) select randomblob(900) from generate_series(1, 50); update t set x = x || {n}; commit;"
        for n in range(5)
    )
    run("sqlite3", database, statements, cwd=bucket)
    assert run("sqlite3", database, "pragma integrity_check; select count(*) from t;", cwd=bucket).split() == ["ok", "250"]
    run("sqlite3", database, "delete from t where n % 2; vacuum;", cwd=bucket)
    assert run("sqlite3", database, "pragma integrity_check; select count(*) from t;", cwd=bucket).split() == ["ok", "125"]
    assert os.listdir(bucket) == ["d.sqlite"], "the rollback journal is gone again"


def test_restic(bucket: Path, mounted: Mounted) -> None:
    """A backup repository in a mount works."""
    trees.oddities(bucket / "source")
    variables = {
        "RESTIC_PASSWORD": "x",
        "RESTIC_REPOSITORY": str(bucket / "repository"),
        "XDG_CACHE_HOME": str(mounted.home.root),
    }
    run("restic", "init", cwd=bucket, variables=variables)
    run("restic", "backup", "source", cwd=bucket, variables=variables)
    again = run("restic", "backup", "source", cwd=bucket, variables=variables)
    assert "    0 new,     0 changed" in again, "inode numbers and times are stable, so nothing is read anew"
    run("restic", "check", "--read-data", cwd=bucket, variables=variables)
    run("restic", "restore", "latest", "--target", "restored", cwd=bucket, variables=variables)
    assert trees.look(bucket / "restored/source") == trees.look(bucket / "source")


def test_borg(bucket: Path, mounted: Mounted) -> None:
    """A borg repository in a mount works."""
    trees.oddities(bucket / "source")
    for beyond in ("secret", "sticky"):  # borg keeps no times before 1970 or after 2038
        os.utime(bucket / "source" / beyond, ns=(0, 1_700_000_000_000_000_001))
    variables = {"BORG_BASE_DIR": str(mounted.home.root), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
    run("borg", "init", "--encryption=none", "repository", cwd=bucket, variables=variables)
    run("borg", "create", "repository::one", "source", cwd=bucket, variables=variables)
    again = run("borg", "create", "--list", "--filter=AM", "repository::two", "source", cwd=bucket, variables=variables)
    assert again == ""
    run("borg", "check", "--verify-data", "repository", cwd=bucket, variables=variables)
    (bucket / "out").mkdir()
    run("borg", "extract", "../repository::two", cwd=bucket / "out", variables=variables)
    assert trees.look(bucket / "out/source") == trees.look(bucket / "source")
