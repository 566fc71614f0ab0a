"""A Hub that is told to stop while calls are at work: it ends by itself and in order, and what was acknowledged is there.

Reported as a segmentation fault: the index was closed under a thread that was reading it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from support.bareclient import Caller
from support.bucketuser import BLOCKS, BucketUser
from support.home import Home, program
from support.keyring import sign_up
from support.unixfs import build_file

from bucketfs.dag import drive, edit_directory
from bucketfs.types import Cid, Link
from bucketfs.wire import blocks_pb2

FOLDERS = 400

RUNS_ON = """
import signal, sys, threading
from pathlib import Path
from bucketfs.hub import HubConfig, HubServer, end_process
from bucketfs.hub.services import SERVICES
from bucketfs.hub.rpc.service import Service
from bucketfs.dag import cid_of

def busy(request, context):
    print("busy", flush=True)
    store, names = hub.hub.blockstore, [cid_of(bytes([n])) for n in range(200)]
    while True:
        {work}

hub = HubServer(
    HubConfig(Path(sys.argv[1]), "127.0.0.1:0", auto_confirm=True),
    [*(make for make in SERVICES if "blocks" not in make.__module__), lambda _: Service("bucketfs.v1.Blocks", dict(Missing=busy))],
)
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
print(hub.start(), flush=True)
stop.wait()
if not hub.stop(0.5):
    print("gave up", flush=True)
    end_process()
"""


def tree_of(user: BucketUser, base: bytes) -> tuple[Cid, dict[Cid, bytes]]:
    """A root with many folders, each another."""
    blocks: dict[Cid, bytes] = {}
    links: dict[bytes, Link] = {}
    for number in range(FOLDERS):
        made = build_file(b"%d" % number)
        folder = drive(edit_directory(None, {b"f": made.link, b"%d" % number: made.link}), lambda cids: {})
        blocks |= {**made.blocks, **folder.blocks}
        links[b"%d" % number] = folder.link
    held = {Cid(base): user.get_blocks([base])[0].data}
    top = drive(edit_directory(Cid(base), links), lambda cids: {cid: held[cid] for cid in cids})
    return top.link.cid, blocks | dict(top.blocks)


def test_large_swaps_at_work(home: Home) -> None:
    """Stopping a Hub that is at work would crash it, or hang until it is killed."""
    arguments = ["hub", "serve", "--data", str(home.root / "hub"), "--listen", "127.0.0.1:0", "--auto-confirm"]
    server = subprocess.Popen([*program(), *arguments], env=home.environment(), stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    with server:
        try:
            address = server.stdout.readline().split()[3].rstrip(",")
            with grpc.insecure_channel(address) as channel, ThreadPoolExecutor(4) as pool:
                user = BucketUser.with_new_thread(sign_up(Caller(channel), "ann"))
                keys = [user.create().root.key for _ in range(2)]
                roots = [tree_of(user, user.root_cid(key)) for key in keys]
                for _, blocks in roots:
                    user.put_blocks(blocks)
                calls = [
                    pool.submit(user.swap, key, user.root_cid(key), new) for key, (new, _) in zip(keys, roots, strict=True)
                ]
                server.send_signal(signal.SIGTERM)
                for call in calls:
                    # Done, or given up: both are an answer.
                    assert call.exception(30) is None or isinstance(call.exception(), grpc.RpcError)
            assert server.wait(30) == 0
        finally:
            server.kill()


@pytest.mark.parametrize(
    ("work", "said"),
    [
        ("store.missing(names)", ""),
        ("try:\n            store.missing(names)\n        except Exception:\n            pass", "gave up"),
    ],
    ids=["looks at blocks", "never ends"],
)
def test_a_handler_that_runs_on(home: Home, work: str, said: str) -> None:
    """One meets closed stores and ends by that; the other is left to the end of the process."""
    script = RUNS_ON.replace("{work}", work)
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(home.root / "hub")],
        env=home.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process:
        try:
            with grpc.insecure_channel(process.stdout.readline().strip()) as channel:
                call: Any = sign_up(Caller(channel), "ann").start(BLOCKS, "Missing", blocks_pb2.MissingRequest())
                assert process.stdout.readline() == "busy\n"
                process.send_signal(signal.SIGTERM)
                assert call.exception(30) is not None
                assert process.wait(30) == 0
            assert process.stdout.read().strip() == said
        finally:
            process.kill()
