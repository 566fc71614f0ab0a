"""Making a folder and working in it at once: `mkdir M/project; cd M/project; git init`."""

from __future__ import annotations

import json
import sys

from support.home import Home

WORK = """
# Makes folders at argv[1], is in each for a while, and tells how often it had no name there.
import json, os, sys, time
top, rounds = sys.argv[1], int(sys.argv[2])
lost = []
for number in range(rounds):
    for again in range(2):
        place = os.path.join(top, f'project{number}')
        os.mkdir(place)
        os.chdir(place)
        until = time.monotonic() + 0.03
        while time.monotonic() < until:
            try:
                assert os.getcwd() == place
            except FileNotFoundError:
                lost.append([number, again])
                break
        os.chdir(top)
        os.rmdir(place)
print(json.dumps(lost))
"""


def test_a_new_bucket_and_a_new_folder(home: Home) -> None:
    """`mkdir project; cd project; git init` would fail, because the new folder is replaced while it is used."""
    mount = home.mount()
    for top, rounds in ((mount.path, 12), (mount.path / "home", 8)):
        said = home.run([sys.executable, "-I", "-S", "-c", WORK, top, str(rounds)]).stdout
        assert json.loads(said) == [], f"getcwd failed in folders made below {top}"
    mount.umount()
