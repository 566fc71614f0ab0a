"""Write validators and read filters: ECMAScript functions that the owner of a database gives, run apart from the Hub.

They run in processes of their own (script_process.py), each with limits of time, memory, files and address space, because an
engine inside the Hub's process could be kept busy for minutes by one call of the engine's own code, and a fault of the engine
would be a fault of the Hub. A process is used again until it exceeds a limit. ADR 0009 has the measurements.

Numbers pass through ECMAScript's doubles. A number that a filter shows where the instance has the same double is given back as
the instance has it, so nanoseconds (above 2**53) stay exact.
"""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bucketfs.errors import Denied, InvalidArgument, Unavailable

TIME_S = 1.0
"""CPU seconds that one request may take: one validation, or a batch of instances through a filter."""
MEMORY_BYTES = 64 << 20
BODY_BYTES_MAX = 64 << 10
WHY_CHARS_MAX = 1000
"""Of a validator's reason: it travels in a header."""
PROCESSES_MAX = 4
WAIT_S = 30.0
"""How long a call waits for a process, and how long (in seconds of the clock) for its answer."""
ANSWER_BYTES_MAX = 256 << 20
DENIED = "app denied net record body"
_HEADER = struct.Struct(">I")
_PROGRAM = Path(__file__).with_name("script_process.py")


class ScriptFailed(InvalidArgument):
    """A function threw an error, or used more than its limits."""


class Scripts:
    """Runs functions. Thread-safe; starts processes as they are needed. Close it when done."""

    def __init__(self, time_s: float = TIME_S, memory_bytes: int = MEMORY_BYTES, processes_max: int = PROCESSES_MAX) -> None:
        self._time_s = time_s
        self._memory_bytes = memory_bytes
        self._processes_max = processes_max
        self._turns = threading.Condition()
        self._busy: set[str] = set()
        """Whose functions run: one at a time of each lane, so that the slow functions of one account leave room for others."""
        self._idle: list[_ScriptProcess] = []
        self._closed = False

    def check(self, body: str, *, lane: str) -> None:
        """Whether ``body`` is the body of a function. Raises ScriptFailed with the engine's text when it is not.

        ``lane`` is who pays for the database; of each lane one function runs at a time. Every method raises Unavailable when
        others had all processes for ``WAIT_S``.
        """
        if len(body.encode("utf-8", "replace")) > BODY_BYTES_MAX:
            raise ScriptFailed(f"a function may have {BODY_BYTES_MAX} bytes")
        self._run(lane, "compile", body, [], [])

    def validate(
        self, body: str, writer: str | None, event: dict[str, Any], instance: dict[str, Any] | None, *, lane: str
    ) -> None:
        """Ask a write validator. ``instance`` is the stored one, unfiltered; ``None`` when there is none.

        Raises Denied with the text that clients compare when it does not accept, throws, or exceeds a limit.
        """
        arguments = [_text(writer), json.dumps(event), _text(instance)]
        try:
            verdict = str(self._run(lane, "validate", body, arguments, [])[0])
        except ScriptFailed as error:
            raise Denied(f"{DENIED}: {error}") from error
        if verdict != "true":
            why = verdict.removeprefix("because ")[:WHY_CHARS_MAX]
            raise Denied(DENIED if verdict == "false" else f"{DENIED}: {why}")

    def filter(
        self, body: str, reader: str | None, instances: Sequence[dict[str, Any]], *, lane: str
    ) -> list[dict[str, Any] | None]:
        """What a read filter shows of each instance; ``None`` for one that it hides. Raises ScriptFailed."""
        if not instances:
            return []
        shown = self._run(lane, "filter", body, [_text(reader)], [json.dumps(one) for one in instances])
        if len(shown) != len(instances):
            raise Unavailable("the process of the read filter answered something else")
        return [_exact(json.loads(text), before) for text, before in zip(shown, instances, strict=True)]

    def close(self) -> None:
        """End the processes. Calls that run fail with Unavailable, at the latest when their time is over."""
        with self._turns:
            self._closed = True
            idle, self._idle = self._idle, []
            self._turns.notify_all()
        for process in idle:
            process.end()

    def _run(self, lane: str, kind: str, body: str, arguments: Sequence[str], instances: Sequence[str]) -> list[Any]:
        request = {"kind": kind, "body": body, "arguments": list(arguments), "instances": list(instances)}
        with self._turn(lane) as process:
            answer = process.ask(json.dumps(request).encode())
        if answer.get("slow"):
            raise ScriptFailed(f"the function ran for more than {self._time_s:g} s")
        if "error" in answer:
            raise ScriptFailed(str(answer["error"]))
        results = answer.get("results")
        if not isinstance(results, list):
            raise Unavailable("the process of the function answered something else")
        return results

    @contextmanager
    def _turn(self, lane: str) -> Iterator[_ScriptProcess]:
        """A process of one's own for a while."""

        def free() -> bool:
            return self._closed or (lane not in self._busy and len(self._busy) < self._processes_max)

        with self._turns:
            if not self._turns.wait_for(free, WAIT_S):
                raise Unavailable("too many functions of databases run at the moment", hint="try again later")
            if self._closed:
                raise Unavailable("the hub is stopping")
            self._busy.add(lane)
            process = self._idle.pop() if self._idle else None
        try:
            process = process or _ScriptProcess(self._time_s, self._memory_bytes)
            yield process
        finally:
            self._give_back(lane, process)

    def _give_back(self, lane: str, process: _ScriptProcess | None) -> None:
        with self._turns:
            self._busy.remove(lane)
            keep = process is not None and process.alive and not self._closed
            if keep and process is not None:
                self._idle.append(process)
            self._turns.notify_all()
        if process is not None and not keep:
            process.end()


class _ScriptProcess:
    """One process. Used by one thread at a time."""

    def __init__(self, time_s: float, memory_bytes: int) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(WAIT_S)
        self.alive = True
        try:
            with theirs:
                # Nothing of the Hub goes along: no environment, no other descriptor, and no signal of the terminal's.
                self._process = subprocess.Popen(
                    [sys.executable, "-I", str(_PROGRAM), str(time_s), str(memory_bytes)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=dict[str, str](),
                    start_new_session=True,
                )
        except OSError as error:
            self._socket.close()
            raise Unavailable(f"cannot start a process for functions: {error.strerror}") from error

    def ask(self, request: bytes) -> dict[str, Any]:
        """The answer to a request; that of a process which ended meanwhile is ``slow``, or an error."""
        try:
            self._socket.sendall(_HEADER.pack(len(request)) + request)
            answer = json.loads(self._receive())
        except (OSError, EOFError, ValueError):
            return self._ended()
        if not isinstance(answer, dict):
            return self._ended()
        return answer

    def end(self) -> None:
        """Kill the process and wait for it. May be called again."""
        self.alive = False
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def _ended(self) -> dict[str, Any]:
        """What to say of a process that gave no answer: it is ended, unless it ended by itself."""
        waited = False
        try:
            self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            waited = True
        code = self._process.returncode
        self.end()
        if waited or code in _OUT_OF_TIME:
            return {"slow": True}
        return {"error": "out of memory"}

    def _receive(self) -> bytes:
        size = _HEADER.unpack(self._exactly(_HEADER.size))[0]
        if size > ANSWER_BYTES_MAX:
            raise EOFError
        return self._exactly(size)

    def _exactly(self, count: int) -> bytes:
        found = bytearray()
        while len(found) < count:
            piece = self._socket.recv(min(count - len(found), 1 << 20))
            if not piece:
                raise EOFError
            found += piece
        return bytes(found)


_OUT_OF_TIME = (-27, -24)
"""Ended by SIGPROF or SIGXCPU."""


def _text(value: object) -> str:
    return "undefined" if value is None else json.dumps(value)


def _exact(shown: Any, before: Any) -> Any:
    """``shown`` with the numbers of ``before`` wherever both are the same double."""
    if isinstance(shown, dict) and isinstance(before, dict):
        return {name: _exact(value, before.get(name)) for name, value in shown.items()}
    if isinstance(shown, list) and isinstance(before, list) and len(shown) == len(before):
        return [_exact(one, other) for one, other in zip(shown, before, strict=True)]
    numbers = isinstance(shown, (int, float)) and isinstance(before, (int, float))
    if numbers and not isinstance(shown, bool) and not isinstance(before, bool) and _double(shown) == _double(before):
        return before
    return shown


def _double(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")
