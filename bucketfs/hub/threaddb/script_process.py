"""The process in which functions of strangers run. It is started by its path and imports nothing of bucketfs.

It answers one request at a time on the socket that is its standard input::

    length[4, big-endian] | JSON        both ways

    request   {"kind": "compile" | "validate" | "filter", "body": text,
               "arguments": [JSON text, ...], "instances": [JSON text, ...]}
    answer    {"results": [...]} | {"error": text} | {"slow": true}

Each request gets an engine of its own, so nothing that a function leaves behind meets another one. Three things end a function:
the engine's limits of time, memory and stack; SIGPROF after twice the time, for loops of the engine's own code that look at no
limit (``[].sort`` on an object of length 2**32 - 1 takes eight minutes); and the end of the parent, seen as the end of the
standard input.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import struct
import sys
from typing import Any

import quickjs

STACK_BYTES = 512 << 10
ADDRESS_SPACE_BYTES = 1 << 30
FILES_MAX = 8
_HEADER = struct.Struct(">I")

# The functions take and give JSON text: no object of the engine is ever touched from outside.
_VALIDATOR = """(function (body) {
  var validate = new Function('writer', 'event', 'instance', body);
  return function (writer, event, instance) {
    var read = function (text) { return text === 'undefined' ? undefined : JSON.parse(text); };
    var verdict = validate(read(writer), read(event), read(instance));
    if (verdict === true) return 'true';
    if (verdict === false || verdict === null || verdict === undefined) return 'false';
    return 'because ' + String(verdict);
  };
})"""
_FILTER = """(function (body) {
  var filter = new Function('reader', 'instance', body);
  return function (reader, instance) {
    var shown = filter(reader === 'undefined' ? undefined : JSON.parse(reader), JSON.parse(instance));
    if (shown === null || shown === undefined) return 'null';
    if (typeof shown !== 'object' || shown instanceof Array) throw new TypeError('a read filter returns an object or null');
    return JSON.stringify(shown);
  };
})"""


def main() -> None:
    """Serve until the parent closes the socket. Arguments: seconds and bytes that one request may use."""
    time_s, memory_bytes = float(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES_MAX, FILES_MAX))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    os.chdir("/")
    with socket.socket(fileno=0) as parent:
        while request := _receive(parent):
            # The default action of SIGPROF ends the process, also inside the engine's code.
            signal.setitimer(signal.ITIMER_PROF, 2 * time_s + 0.5)
            answer = json.dumps(_answer(json.loads(request), time_s, memory_bytes)).encode()
            signal.setitimer(signal.ITIMER_PROF, 0)
            parent.sendall(_HEADER.pack(len(answer)) + answer)


def _receive(parent: socket.socket) -> bytes:
    """The next request, or ``b""`` at the end."""
    header = _exactly(parent, _HEADER.size)
    return _exactly(parent, _HEADER.unpack(header)[0]) if header else b""


def _exactly(parent: socket.socket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count:
        piece = parent.recv(min(count - len(found), 1 << 20))
        if not piece:
            return b""
        found += piece
    return bytes(found)


def _answer(request: dict[str, Any], time_s: float, memory_bytes: int) -> dict[str, Any]:
    engine = quickjs.Context()
    engine.set_memory_limit(memory_bytes)
    engine.set_max_stack_size(STACK_BYTES)
    engine.set_time_limit(time_s)
    try:
        run = engine.eval(_VALIDATOR if request["kind"] == "validate" else _FILTER)(request["body"])
        if request["kind"] == "compile":
            return {"results": []}
        if request["kind"] == "validate":
            return {"results": [run(*request["arguments"])]}
        return {"results": [run(*request["arguments"], instance) for instance in request["instances"]]}
    except quickjs.JSException as error:
        return _failure(str(error))
    except (MemoryError, UnicodeError) as error:
        return {"error": type(error).__name__}


def _failure(text: str) -> dict[str, Any]:
    """The first line of an error: what follows is the engine's stack."""
    first = text.split("\n", 1)[0]
    if first == "InternalError: interrupted":
        return {"slow": True}
    return {"error": "out of memory" if first in ("null", "InternalError: out of memory") else first}


if __name__ == "__main__":
    main()
