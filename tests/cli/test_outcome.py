"""How commands end: one line, an exit code, no secrets."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from bucketfs.cli import main, outcome
from bucketfs.errors import BucketfsError, NoSpace, Unavailable, Usage
from bucketfs.mount import Mounted

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs ``bucketfs`` with a command that raises."""

    def run(error: BaseException, *arguments: str) -> tuple[int, str]:
        @click.command()
        def command() -> None:
            raise error

        monkeypatch.setattr("bucketfs.cli.commands.LateGroup.get_command", lambda *_: command)
        code = main([*arguments, "status"])
        return code, capsys.readouterr().err

    return run


def chained() -> BucketfsError:
    error = Unavailable("reading home/x: the Hub is\naway", hint="check the network")
    error.__cause__ = OSError(111, "Connection refused")
    return error


def test_an_error_is_one_line_that_says_what_to_do(fails: Run) -> None:
    assert fails(chained()) == (1, "bucketfs: reading home/x: the Hub is away: check the network\n")
    assert fails(NoSpace("the disk is full")) == (1, "bucketfs: the disk is full\n")


def test_verbose_adds_the_causes_wherever_it_stands(fails: Run) -> None:
    code, said = fails(chained(), "-v")
    assert code == 1
    assert said.splitlines()[1:] == ["  because of ConnectionRefusedError: [Errno 111] Connection refused"]


def test_wrong_usage_has_a_code_of_its_own(fails: Run) -> None:
    assert fails(Usage("config.toml: unknown key 'x'", hint="known keys: y"))[0] == 2
    assert fails(click.UsageError("no"))[0] == 2


def test_a_group_is_told_as_its_first_member(fails: Run) -> None:
    group = ExceptionGroup("nursery", [ExceptionGroup("inner", [NoSpace("the disk is full")])])
    assert fails(group) == (1, "bucketfs: the disk is full\n")


def test_a_fault_of_ours_says_so_and_hides_its_traceback(fails: Run) -> None:
    code, said = fails(ZeroDivisionError("oh"))
    assert code == 1 and said.count("\n") == 1
    assert said == "bucketfs: unexpected ZeroDivisionError: oh: this is a fault of bucketfs; -v shows where\n"
    assert "Traceback" in fails(ZeroDivisionError("oh"), "-v")[1]


def test_interrupted(fails: Run) -> None:
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
    assert outcome._verbose_first(words) == expected


def test_the_module_runs_and_help_costs_no_grpc() -> None:
    program = (
        "import sys; from bucketfs.cli import main; code = main(['status', '--help']); "
        "sys.exit(code or ('grpc' in sys.modules) or ('pyfuse3' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0
    done = subprocess.run([sys.executable, "-m", "bucketfs", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()[0]) == (0, "bucketfs")


@pytest.mark.parametrize("command", ["mount", "umount", "status", "sync", "hub", "hub serve", "hub key create"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage: bucketfs")


@pytest.mark.parametrize("group", ["", "buck", "hub", "hub key", "hub org", "buck roles"])
def test_lists_of_commands_say_whole_sentences(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*group.split(), "--help"]) == 0
    commands = capsys.readouterr().out.split("Commands:")[1].strip().splitlines()
    assert len(commands) >= 2 and [line for line in commands if not line.endswith(".")] == []
    assert [line for line in commands if line.endswith("...")] == []


def test_a_reader_who_left_is_a_quiet_end(fails: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[bool] = []
    monkeypatch.setattr(outcome, "_drop_output", lambda: left.append(True))
    # As a nursery raises it.
    assert fails(ExceptionGroup("tasks", [BrokenPipeError()])) == (141, "")
    assert fails(BrokenPipeError(errno.EPIPE, "gone")) == (141, "")
    assert left == [True, True]
    code, said = fails(OSError(errno.ENOSPC, "No space left on device"))
    assert (code, said.count("\n")) == (1, 1)
    assert "what is printed cannot be written: No space left on device" in said
    assert fails(OSError(errno.ENOSPC, "No space left on device", "/some/file"))[1].startswith(
        "bucketfs: unexpected OSError"
    )


@pytest.mark.parametrize("words", [[], ["status"], ["status", "--json"], ["buck", "create", "--help"]])
def test_a_closed_pipe_ends_a_command_as_it_ends_ls(words: list[str], tmp_path: Path) -> None:
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
    assert done.stderr.startswith("bucketfs: what is printed cannot be written: ")


class Mounts:
    """Mounts, and what the daemon of each answers or raises."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: dict[str, Any] | BucketfsError) -> None:
        self._answers = answers
        mounted = [Mounted(Path(f"/{name}"), "fuse.bucketfs", "home", "0:99") for name in answers]
        for module in ("conflicts", "running"):
            monkeypatch.setattr(f"bucketfs.cli.{module}.listening_mounts", lambda _places: mounted)
            monkeypatch.setattr(f"bucketfs.cli.{module}.ask_mount", self._ask)

    def _ask(self, _places: object, mounted: Mounted, *_arguments: object, **_how: object) -> dict[str, Any]:
        answer = self._answers[mounted.mountpoint.name]
        if isinstance(answer, BucketfsError):
            raise answer
        return answer


def test_one_mount_in_trouble_hides_nothing_of_the_others(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    trouble = {name: Unavailable(f"/{name} hangs", hint="wait") for name in ("one", "three")}
    failed = {"original": "/two/b", "error": "it is open", "hint": "close it"}
    two = {"resolved": [{"original": "/two/a"}], "failed": [failed]}
    Mounts(monkeypatch, one=trouble["one"], two=two, three=trouble["three"])
    words = ["conflicts", "--resolve", "keep-mine", "--all"]
    assert main(words) == 1
    out, err = capfd.readouterr()
    assert out == "/two/a: yours is kept\n"
    lines = ["/one hangs: wait", "/three hangs: wait", "/two/b: it is open: close it"]
    assert err.splitlines() == [f"bucketfs: {line}" for line in lines]
    assert main([*words, "--json"]) == 1
    out, err = capfd.readouterr()
    assert json.loads(out) == two and err.splitlines() == [f"bucketfs: {line}" for line in lines]
    Mounts(monkeypatch, one=trouble["one"], two={"resolved": [], "failed": []})
    assert main(words) == 1
    assert capfd.readouterr() == ("", "bucketfs: /one hangs: wait\n")


def test_all_says_what_to_resolve(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["conflicts", "--all"]) == 2
    assert "add --resolve" in capfd.readouterr().err
