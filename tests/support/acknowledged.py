"""A writer that logs what was acknowledged to it, and the model that knows from the log what must be there after a crash.

The writer runs as a process of its own (``python acknowledged.py FOLDER LOG SEED PAUSE``, the model on its standard input). Each
act is logged before it begins and when it has returned, so after a kill at most one act is in doubt, and beside it the file that
the writer keeps open all the time. The log lies outside of the mount. Standard library only, so that it starts quickly.
"""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

PAGE = 4096
FILES_MAX = 40
BYTES_MAX = 6 << 20
SERVER_GONE = (errno.ENOTCONN, errno.ECONNABORTED)
SIZES = (0, 1, 100, 4096, 5000, 70_000, 262_143, 262_144, 262_145, 600_000)


def payload(seed: int, size: int) -> bytes:
    """Bytes that only this seed makes."""
    return random.Random(seed).randbytes(size)


@dataclass(frozen=True)
class File:
    """What a file may hold: every byte is that of ``before`` or of ``after``, or zero where only ``after`` has one.

    For a closed file the two are the same. ``maybe``: whether there is a file at all is in doubt, too.
    """

    before: bytes
    after: bytes
    maybe: bool = False

    def allows(self, found: bytes) -> bool:
        if found in (self.before, self.after):
            return True
        low, high = sorted((len(self.before), len(self.after)))
        if not low <= len(found) <= high:
            return False
        return all(self._allows_page(found, start) for start in range(0, len(found), PAGE))

    def _allows_page(self, found: bytes, start: int) -> bool:
        page = found[start : start + PAGE]
        old, new = self.before[start : start + len(page)], self.after[start : start + len(page)]
        if page in (old, new):
            return True
        return all(
            byte in (old[at : at + 1] or b"\0", new[at : at + 1])
            for at, byte in ((i, page[i : i + 1]) for i in range(len(page)))
        )


Tree = dict[str, bytes | None]
"""What is found: paths with their bytes, ``None`` for a folder."""


@dataclass
class Model:
    """What must be there. ``doubt`` is the tree as it is if the act in flight has happened."""

    entries: dict[str, File | None] = field(default_factory=dict)
    doubt: dict[str, File | None] | None = None
    open_path: str = ""

    def differences(self, found: Tree) -> list[str]:
        """Why ``found`` is not what the model allows; nothing when it is."""
        one = _differences(self.entries, found)
        if one and self.doubt is not None:
            other = _differences(self.doubt, found)
            return other and [*one, "or, had the last act happened:", *other]
        return one

    def take(self, found: Tree) -> None:
        """What was found (and allowed) is what must be there from now on."""
        self.entries = {path: None if data is None else File(data, data) for path, data in found.items()}
        self.doubt = None
        self.open_path = ""

    def tree(self) -> Tree:
        return {path: None if file is None else file.after for path, file in self.entries.items()}


def _differences(entries: dict[str, File | None], found: Tree) -> list[str]:
    said = [f"there is {path!r}" for path in found if path not in entries]
    for path, file in entries.items():
        if path not in found:
            if file is None or not file.maybe:
                said.append(f"{path!r} is gone")
            continue
        data = found[path]
        if (file is None) != (data is None):
            said.append(f"{path!r} is of another kind")
        elif file is not None and data is not None and not file.allows(data):
            said.append(
                f"{path!r} has {len(data)} wrong bytes (before: {len(file.before)}, after: {len(file.after)}; "
                f"equal to before up to {_same(data, file.before)}, to after up to {_same(data, file.after)})"
            )
    return said


def _same(one: bytes, other: bytes) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def look(folder: Path) -> Tree:
    """Everything below a folder."""
    found: Tree = {}
    for parent, folders, files in os.walk(folder, onerror=_fail):
        for name in folders:
            found[str(Path(parent, name).relative_to(folder))] = None
        for name in files:
            found[str(Path(parent, name).relative_to(folder))] = Path(parent, name).read_bytes()
    return found


def _fail(error: OSError) -> None:
    raise error


# The acts, as both sides understand them


def happened(model: Model, act: dict[str, Any]) -> dict[str, File | None]:
    """The entries after an act that has returned."""
    entries = dict(model.entries)
    kind, path = act["act"], act["path"]
    if kind == "mkdir":
        entries[path] = None
    elif kind in ("unlink", "rmdir"):
        del entries[path]
    elif kind == "rename":
        _move(entries, path, act["to"])
    elif kind == "truncate":
        data = _bytes_of(entries, path)[: act["size"]].ljust(act["size"], b"\0")
        entries[path] = File(data, data)
    elif kind == "keep":
        data = _after(entries, path) + payload(act["seed"], act["size"])
        file = entries.get(path)
        before = data if act["fsync"] else file.before if file is not None else b""
        entries[path] = File(before, data)
    elif kind != "read":
        data = written(entries, act)
        entries[path] = File(data, data)
    return entries


def in_flight(model: Model, act: dict[str, Any], synced: int) -> None:
    """Put an act into the model that began and did not return; ``synced`` bytes of what it wrote had been fsynced."""
    kind, path = act["act"], act["path"]
    if kind in ("create", "append", "overwrite", "keep"):
        old = model.entries.get(path)
        after = written(model.entries, act)
        before = old.before if old is not None else b""
        if synced:
            sure = act.get("offset", len(after) - act["size"]) + synced
            # What stood behind the synced part of an overwrite stands there until it is written over.
            before = after[:sure] + _after(model.entries, path)[sure:]
        model.entries[path] = File(before, after, maybe=old is None and not synced)
    elif kind != "read":
        model.doubt = happened(model, act)


def written(entries: dict[str, File | None], act: dict[str, Any]) -> bytes:
    """The bytes of a file once an act that writes has written all."""
    data, old = payload(act["seed"], act["size"]), _after(entries, act["path"])
    if act["act"] == "overwrite":
        return old[: act["offset"]] + data + old[act["offset"] + len(data) :]
    return old + data


def _after(entries: dict[str, File | None], path: str) -> bytes:
    file = entries.get(path)
    return b"" if file is None else file.after


def _bytes_of(entries: dict[str, File | None], path: str) -> bytes:
    file = entries[path]
    assert file is not None, f"{path} is a folder"
    return file.after


def _move(entries: dict[str, File | None], old: str, new: str) -> None:
    entries.pop(new, None)
    for path in [path for path in entries if path == old or path.startswith(f"{old}/")]:
        entries[new + path[len(old) :]] = entries.pop(path)


def replay(model: Model, log: Path) -> list[str]:
    """Bring the model up to date from a log. Returns what the writer complained about."""
    complaints: list[str] = []
    act: dict[str, Any] | None = None
    synced = 0
    for line in log.read_bytes().splitlines():
        said = json.loads(line)
        if "complaint" in said:
            complaints.append(said["complaint"])
        elif "synced" in said:
            synced = said["synced"]
        elif "done" in said:
            assert act is not None, "done before it began"
            model.entries = happened(model, act)
            if act["act"] == "rename" and act["path"] == model.open_path:
                model.open_path = act["to"]
            elif act["act"] == "rename" and model.open_path.startswith(act["path"] + "/"):
                model.open_path = act["to"] + model.open_path[len(act["path"]) :]
            elif act["act"] == "keep":
                model.open_path = act["path"]
            act = None
        else:
            act, synced = said, 0
    if act is not None:
        in_flight(model, act, synced)
    return complaints


# The writer


class Writer:
    """Does random acts below ``folder`` until the file system goes away."""

    def __init__(self, folder: Path, log: int, seed: int, model: Model, pause_s: float) -> None:
        """``pause_s`` is the mean of the pauses between acts."""
        self._folder = folder
        self._log = log
        self._random = random.Random(seed)
        self._model = model
        self._pause_s = pause_s
        self._kept: int | None = None
        self._stop = False
        signal.signal(signal.SIGTERM, self._asked_to_stop)

    def _asked_to_stop(self, *_: object) -> None:
        self._stop = True

    def say(self, said: dict[str, Any]) -> None:
        os.write(self._log, json.dumps(said).encode() + b"\n")

    def run(self) -> None:
        """Returns when the server of the folder is gone, or between two acts after SIGTERM. Any other failure of a call is a
        complaint."""
        while not self._stop:
            if self._pause_s:
                time.sleep(random.expovariate(1 / self._pause_s))
            act = self._one()
            self.say(act)
            try:
                self._do(act)
            except OSError as error:
                if error.errno not in SERVER_GONE and not self._gone():
                    self.say({"complaint": f"{act}: {error}"})
                return
            self.say({"done": True})
            model = self._model
            model.entries = happened(model, act)
            kept = model.open_path
            if act["act"] == "rename" and (kept == act["path"] or kept.startswith(act["path"] + "/")):
                model.open_path = act["to"] + kept[len(act["path"]) :]

    def _gone(self) -> bool:
        """Whether the server is gone. Bytes that the kernel could not write back before it went are an EIO of close."""
        try:
            os.statvfs(self._folder)  # the answer to a stat is cached
        except OSError as error:
            return error.errno in SERVER_GONE
        return False

    def _one(self) -> dict[str, Any]:
        model, chance = self._model, self._random
        files = [path for path, file in model.entries.items() if file is not None and path != model.open_path]
        folders = [path for path, file in model.entries.items() if file is None]
        size = sum(len(file.after) for file in model.entries.values() if file is not None)
        if files and (len(files) > FILES_MAX or size > BYTES_MAX):
            return {"act": "unlink", "path": chance.choice(files)}
        kind = chance.choices(
            ("create", "append", "overwrite", "rename", "unlink", "mkdir", "rmdir", "truncate", "keep", "read"),
            (5, 3, 3, 4, 2, 1, 1, 1, 4, 1),
        )[0]
        made = self._possible(kind, files, folders)
        return made if made is not None else self._create(folders)

    def _possible(self, kind: str, files: list[str], folders: list[str]) -> dict[str, Any] | None:
        model, chance = self._model, self._random
        if kind == "mkdir" and len(folders) < 8:
            return {"act": "mkdir", "path": self._new(folders, "d")}
        if kind == "rmdir":
            empty = [path for path in folders if not any(other.startswith(f"{path}/") for other in model.entries)]
            return {"act": "rmdir", "path": chance.choice(empty)} if empty else None
        if kind == "keep":
            path = model.open_path or self._new(folders, "kept")
            model.open_path = path
            return {"act": "keep", "path": path, "fsync": chance.random() < 0.5} | self._body()
        if kind == "rename":
            return self._rename(files, folders)
        if not files or kind in ("create", "mkdir"):
            return None
        path = chance.choice(files)
        length = len(_bytes_of(model.entries, path))
        if kind == "append":
            return {"act": kind, "path": path, "fsync": chance.random() < 0.3} | self._body()
        if kind == "overwrite":
            return {
                "act": kind,
                "path": path,
                "offset": chance.randint(0, length),
                "fsync": chance.random() < 0.3,
            } | self._body()
        if kind == "truncate":
            return {"act": kind, "path": path, "size": chance.randint(0, length + 5000)}
        return {"act": kind, "path": path}

    def _create(self, folders: list[str]) -> dict[str, Any]:
        return {"act": "create", "path": self._new(folders, "f"), "fsync": self._random.random() < 0.3} | self._body()

    def _rename(self, files: list[str], folders: list[str]) -> dict[str, Any] | None:
        chance = self._random
        kept = [self._model.open_path] if self._model.open_path else []
        if folders and chance.random() < 0.3:
            old = chance.choice(folders)
            above = [path for path in ["", *folders] if path != old and not path.startswith(f"{old}/")]
            return {"act": "rename", "path": old, "to": self._new(above, "d", exactly=True)}
        if not files:
            return None
        old = chance.choice([*files, *kept])
        over = [path for path in files if path != old]
        if over and old not in kept and chance.random() < 0.6:
            return {"act": "rename", "path": old, "to": chance.choice(over)}
        return {"act": "rename", "path": old, "to": self._new(folders, "f")}

    def _body(self) -> dict[str, Any]:
        return {"seed": self._random.getrandbits(48), "size": self._random.choice(SIZES)}

    def _new(self, folders: list[str], letter: str, exactly: bool = False) -> str:
        while True:
            above = self._random.choice(folders if exactly else ["", *folders])
            name = f"{letter}{self._random.randrange(1000)}"
            path = f"{above}/{name}" if above else name
            if path not in self._model.entries:
                return path

    def _do(self, act: dict[str, Any]) -> None:
        kind, path = act["act"], str(self._folder / act["path"])
        if kind == "mkdir":
            os.mkdir(path)
        elif kind == "unlink":
            os.unlink(path)
        elif kind == "rmdir":
            os.rmdir(path)
        elif kind == "rename":
            os.rename(path, self._folder / act["to"])
        elif kind == "truncate":
            os.truncate(path, act["size"])
        elif kind == "read":
            self._check(act["path"], path)
        elif kind == "keep":
            if self._kept is None:
                self._kept = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            self._write(self._kept, act)
        else:
            flags = {"create": os.O_CREAT | os.O_EXCL, "append": os.O_APPEND, "overwrite": 0}[kind]
            descriptor = os.open(path, os.O_WRONLY | flags, 0o644)
            try:
                if kind == "overwrite":
                    os.lseek(descriptor, act["offset"], os.SEEK_SET)
                self._write(descriptor, act)
            finally:
                os.close(descriptor)

    def _write(self, descriptor: int, act: dict[str, Any]) -> None:
        data, done = payload(act["seed"], act["size"]), 0
        step = self._random.choice((len(data), len(data) // 3 + 1, 65536)) or 1
        while done < len(data):
            done += os.write(descriptor, data[done : done + step])
            if act["fsync"] and self._random.random() < 0.2:
                os.fsync(descriptor)
                self.say({"synced": done})
        if act["fsync"]:
            os.fsync(descriptor)
            self.say({"synced": done})

    def _check(self, path: str, place: str) -> None:
        with open(place, "rb") as file:
            data = file.read()
        wanted = _bytes_of(self._model.entries, path)
        if data != wanted:
            self.say({"complaint": f"read of {path!r}: {len(data)} bytes, not the {len(wanted)} that were written"})


def dump(model: Model) -> bytes:
    """The settled model, for the writer's standard input."""
    return json.dumps({path: None if file is None else file.after.hex() for path, file in model.entries.items()}).encode()


def load(data: bytes) -> Model:
    entries = {path: None if text is None else bytes.fromhex(text) for path, text in json.loads(data).items()}
    return Model({path: None if body is None else File(body, body) for path, body in entries.items()})


def settled(model: Model) -> Model:
    """The model once every file is closed and nothing was killed."""
    return replace(
        model, entries={path: None if file is None else File(file.after, file.after) for path, file in model.entries.items()}
    )


def main() -> None:
    folder, log, seed, pause_s = sys.argv[1:]
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    model = load(sys.stdin.buffer.read())
    Writer(Path(folder), descriptor, int(seed), model, float(pause_s)).run()


if __name__ == "__main__":
    main()
