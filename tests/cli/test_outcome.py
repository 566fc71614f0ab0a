"""How commands end: one line, an exit code, no secrets."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from bucketfs.cli import main
from bucketfs.cli.find_mounts import Document, UserMounts
from bucketfs.cli.outcome import run, verbose_first
from bucketfs.errors import BucketfsError, NoSpace, Unavailable, Usage
from bucketfs.mount import Mounted

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a program like ``bucketfs`` with a command that raises."""

    def fail(error: BaseException, *arguments: str) -> tuple[int, str]:
        @click.group()
        @click.option("-v", is_flag=True, expose_value=False)
        def program() -> None: ...

        @program.command()
        def status() -> None:
            raise error

        code = run([*arguments, "status"], program)
        return code, capsys.readouterr().err

    return fail


def chained() -> BucketfsError:
    error = Unavailable("reading home/x: the Hub is\naway", hint="check the network")
    error.__cause__ = OSError(111, "Connection refused")
    return error


def test_an_error_is_one_line_that_says_what_to_do(fails: Run) -> None:
    """A script and a user read one line."""
    assert fails(chained()) == (1, "bucketfs: reading home/x: the Hub is away: check the network\n")
    assert fails(NoSpace("the disk is full")) == (1, "bucketfs: the disk is full\n")


def test_verbose_adds_the_causes_wherever_it_stands(fails: Run) -> None:
    """Who asks for more gets the causes."""
    code, said = fails(chained(), "-v")
    assert code == 1
    assert said.splitlines()[1:] == ["  because of ConnectionRefusedError: [Errno 111] Connection refused"]


def test_wrong_usage_has_a_code_of_its_own(fails: Run) -> None:
    """A script tells a mistake of its own from a Hub that is away."""
    assert fails(Usage("config.toml: unknown key 'x'", hint="known keys: y"))[0] == 2
    assert fails(click.UsageError("no"))[0] == 2


def test_a_group_is_told_as_its_first_member(fails: Run) -> None:
    """Nurseries wrap errors; users must not see that."""
    group = ExceptionGroup("nursery", [ExceptionGroup("inner", [NoSpace("the disk is full")])])
    assert fails(group) == (1, "bucketfs: the disk is full\n")


def test_a_fault_of_ours_says_so_and_hides_its_traceback(fails: Run) -> None:
    """A bug is named as one, and -v has what a report needs."""
    code, said = fails(ZeroDivisionError("oh"))
    assert code == 1 and said.count("\n") == 1
    assert said == "bucketfs: unexpected ZeroDivisionError: oh: this is a bug in bucketfs; -v shows where\n"
    assert "Traceback" in fails(ZeroDivisionError("oh"), "-v")[1]


def test_interrupted(fails: Run) -> None:
    """Ctrl-C has the exit code that shells expect."""
    code, said = fails(KeyboardInterrupt())
    assert (code, said.strip()) == (130, "bucketfs: interrupted")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["status", "-v"], ["-v", "status"]),
        (["--verbose", "status"], ["-v", "status"]),
        (["buck", "cat", "--", "-v"], ["buck", "cat", "--", "-v"]),
        ([], []),
    ],
)
def test_where_verbose_may_stand(words: list[str], expected: list[str]) -> None:
    """After -- the word is a name."""
    assert verbose_first(words) == expected


def test_the_module_runs_and_help_costs_no_grpc() -> None:
    """``status`` must not wait a second for gRPC, nor a Hub's machine need libfuse."""
    program = (
        "import sys; from bucketfs.cli import main; code = main(['status', '--help']); "
        "sys.exit(code or ('grpc' in sys.modules) or ('pyfuse3' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0
    done = subprocess.run([sys.executable, "-m", "bucketfs", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()[0]) == (0, "bucketfs")


@pytest.mark.parametrize("command", ["mount", "umount", "status", "sync", "hub", "hub serve", "hub key create"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--help works without a configuration."""
    assert main([*command.split(), "--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage: bucketfs")


@pytest.mark.parametrize("group", ["", "buck", "hub", "hub key", "hub org", "buck roles"])
def test_lists_of_commands_say_whole_sentences(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Click cuts long sentences off; each must fit."""
    assert main([*group.split(), "--help"]) == 0
    commands = capsys.readouterr().out.split("Commands:")[1].strip().splitlines()
    assert len(commands) >= 2 and [line for line in commands if not line.endswith(".")] == []
    assert [line for line in commands if line.endswith("...")] == []


READER_LEFT = """
import click, sys
from bucketfs.cli.outcome import run
def fail(): raise ExceptionGroup("tasks", [BrokenPipeError()])
sys.exit(run([], click.Command("bucketfs", callback=fail)))
"""


def test_a_reader_who_left_is_a_quiet_end(fails: Run) -> None:
    """``bucketfs buck cat b/f | head`` is no failure, also as a nursery raises it; a full disk below a file of ours is a bug."""
    done = subprocess.run([sys.executable, "-c", READER_LEFT], stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (141, b"")
    error = OSError(errno.ENOSPC, "No space left on device", "/some/file")
    assert fails(error)[1].startswith("bucketfs: unexpected OSError")


@pytest.mark.parametrize("words", [[], ["status"], ["status", "--json"], ["buck", "create", "--help"]])
def test_a_closed_pipe_ends_a_command_as_it_ends_ls(words: list[str], tmp_path: Path) -> None:
    """``bucketfs status | head -1`` is no failure."""
    program = [sys.executable, "-m", "bucketfs", *words]
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    for both in (False, True):
        reader, writer = os.pipe()
        os.close(reader)
        try:
            done = subprocess.run(
                program, stdout=writer, stderr=subprocess.STDOUT if both else subprocess.PIPE, env=environment, text=True
            )
        finally:
            os.close(writer)
        assert (done.returncode, done.stderr or "") == (141, "")
    with open("/dev/full", "w") as full:
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, env=environment, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("bucketfs: the output cannot be written: ")


class FakeMounts(UserMounts):
    """Mounts, and what the daemon of each answers or raises."""

    def __init__(self, **answers: Document | BucketfsError) -> None:
        self._answers = answers

    def listening(self) -> list[Mounted]:
        return [Mounted(Path(f"/{name}"), "fuse.bucketfs", "home", "0:99") for name in self._answers]

    def ask(self, mounted: Mounted, *_arguments: object, **_how: object) -> Document:
        answer = self._answers[mounted.mountpoint.name]
        if isinstance(answer, BucketfsError):
            raise answer
        return answer


def test_one_mount_in_trouble_hides_nothing_of_the_others(capfd: pytest.CaptureFixture[str]) -> None:
    """A user with three mounts, one of which hangs, must see what was done in the other two."""
    trouble = {name: Unavailable(f"/{name} hangs", hint="wait") for name in ("one", "three")}
    failed = {"original": "/two/b", "error": "it is open", "hint": "close it"}
    two = {"resolved": [{"original": "/two/a"}], "failed": [failed]}
    mounts = FakeMounts(one=trouble["one"], two=two, three=trouble["three"])
    words = ["conflicts", "--resolve", "keep-mine", "--all"]
    assert run(words, context=mounts) == 1
    out, err = capfd.readouterr()
    assert out == "/two/a: your version is kept\n"
    lines = ["/one hangs: wait", "/three hangs: wait", "/two/b: it is open: close it"]
    assert err.splitlines() == [f"bucketfs: {line}" for line in lines]
    assert run([*words, "--json"], context=mounts) == 1
    out, err = capfd.readouterr()
    assert json.loads(out) == two and err.splitlines() == [f"bucketfs: {line}" for line in lines]
    mounts = FakeMounts(one=trouble["one"], two={"resolved": [], "failed": []})
    assert run(words, context=mounts) == 1
    assert capfd.readouterr() == ("", "bucketfs: /one hangs: wait\n")


def test_all_says_what_to_resolve(capfd: pytest.CaptureFixture[str]) -> None:
    """--all alone must not be taken for a wish to resolve anything."""
    assert main(["conflicts", "--all"]) == 2
    assert "add --resolve" in capfd.readouterr().err


def test_changes_that_cannot_be_applied_are_listed_and_saved(capfd: pytest.CaptureFixture[str]) -> None:
    """Otherwise what a user wrote on blocks that are lost would be kept where nobody finds it."""
    lost = {"bucket": "home", "key": "bafy1", "path": "d/f", "change": "created, written"}
    mounts = FakeMounts(one={"quarantined": [lost]}, two={"quarantined": []})
    assert run(["recover"], context=mounts) == 0
    assert capfd.readouterr().out.splitlines() == [
        "bucket home: d/f: created, written",
        "These changes can never be applied; 'bucketfs recover --to FOLDER' saves them.",
    ]
    saved = {"bucket": "home", "key": "bafy1", "folder": "/out/home", "files": 1}
    failed = {"bucket": "work", "key": "bafy2", "folder": "/out/work", "error": "it is full", "hint": "make room"}
    mounts = FakeMounts(one={"exported": [saved], "failed": [failed]}, two=Unavailable("/two hangs", hint="wait"))
    assert run(["recover", "--to", "/out"], context=mounts) == 1
    assert capfd.readouterr() == (
        "bucket home: 1 files and changes.txt are in /out/home\n",
        "bucketfs: /two hangs: wait\nbucketfs: bucket 'work': it is full: make room\n",
    )
    assert run(["recover"], context=FakeMounts(one={"quarantined": []})) == 0
    assert capfd.readouterr().out == "All changes could be applied; there is nothing to recover.\n"
