"""Running the writer of `support.acknowledged` against a mount, and holding the mount and the Hub to its log."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from support import acknowledged
from support.acknowledged import Model, Tree
from support.plainclient import PlainClient

SCRIPT = Path(acknowledged.__file__)


@dataclass(eq=False)
class Writing:
    """A writer that runs. ``model`` knows what it found and, after the end, what must be there."""

    folder: Path
    log: Path
    seed: int
    model: Model = field(default_factory=Model)
    pause_s: float = 0.0
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> Writing:
        self.log.unlink(missing_ok=True)
        # Isolated: nothing but the standard library, so that it starts in a few hundredths of a second.
        command = [
            sys.executable,
            "-I",
            "-S",
            str(SCRIPT),
            str(self.folder),
            str(self.log),
            str(self.seed),
            str(self.pause_s),
        ]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, cwd="/")
        assert self._process.stdin is not None
        self._process.stdin.write(acknowledged.dump(self.model))
        self._process.stdin.close()
        return self

    def join(self, timeout_s: float = 60) -> int:
        """Wait until it has ended because the mount was killed; the model then says what must be there. Returns the number of
        acts that were acknowledged."""
        assert self._process is not None
        try:
            assert self._process.wait(timeout_s) == 0, "the writer itself broke"
        finally:
            self._process.kill()
            self._process.wait()
        complaints = acknowledged.replay(self.model, self.log)
        assert not complaints, f"seed {self.seed}: {complaints}"
        return self.log.read_bytes().count(b'"done"')

    def stop(self, timeout_s: float = 60) -> int:
        """Let it finish its act and close its files, and wait for that."""
        assert self._process is not None
        self._process.terminate()
        count = self.join(timeout_s)
        self.model = acknowledged.settled(self.model)
        return count


def assert_as_written(model: Model, found: Tree, where: str) -> None:
    """Hold ``found`` to the model."""
    differences = model.differences(found)
    assert not differences, f"{where}: " + "\n".join(differences[:12])


def at_the_hub(client: PlainClient, bucket: str) -> Tree:
    """The tree of a bucket as the Hub has it, by ListPath and PullPath."""
    key = client.enter(bucket)
    found: Tree = {}
    for path, item in client.walk(key):
        if path != ".textileseed":
            found[path] = None if item.is_dir else client.pull_path(key, path) if item.size else b""
    return found
