"""The Hub that bucketfs brings along: one process per user and data folder, on a private socket.

Its files lie beside its stores::

    socket        the path where the Hub listens, for users with any runtime folder
    users.lock    shared by every process that uses the Hub; the Hub takes it exclusively to stop
    start.lock    held while a user looks whether the Hub runs, starts it, or makes the account
    hub.lock      held by the Hub while it runs, so that there is one; says which process that is
    blocks/ …     the stores

A user takes ``users.lock`` *before* it looks whether the Hub runs. The Hub stops when that lock was free for ``IDLE_S``, and holds
it until it has ended: a user that comes in that moment waits and then starts a new Hub, and no user ever talks to one that is
stopping. The locks of dead processes are free, so ``kill -9`` leaves nothing to clean up.
"""

from __future__ import annotations

import fcntl
import getpass
import logging
import os
import re
import signal
import stat
import threading
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import trio

from bucketfs.client import NO_CREDENTIALS, Channel, Credentials, Endpoint, HubClient, connect, find_or_create_bucket
from bucketfs.config import EMBEDDED, Config, CredentialsFile, Profile, make_private
from bucketfs.daemon.host import answers, report_ready, spawn
from bucketfs.disk import Disk
from bucketfs.errors import BucketfsError, Busy, Denied, DiskFailed, Exists, NotFound, Unauthenticated

log = logging.getLogger(__name__)

HOME_BUCKET = "home"
SOCKET = "socket"
IDLE_S = 5.0
START_TIMEOUT_S = 60.0
LOOK_PERIOD_S = 1.0
SUPERVISE_PERIOD_S = 3.0


@asynccontextmanager
async def embedded_hub(config: Config, file: CredentialsFile, *, needed: bool = True) -> AsyncGenerator[Profile, None]:
    """Keep the embedded Hub running while the block lasts (it is restarted when it dies); gives the profile for it.

    The first time makes an account with an account key, its thread and the bucket ``home``. Raises what starting raises, unless the
    Hub is not ``needed`` at once and there is a profile: then starting is retried until it succeeds.
    """
    make_private(config.hub_data)
    async with _lock_held(config.hub_data / "users.lock", fcntl.LOCK_SH):
        async with _lock_held(config.hub_data / "start.lock", fcntl.LOCK_EX):
            profile = await _started(config, file, needed)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_supervise, config)
                yield profile
                nursery.cancel_scope.cancel()
        except ExceptionGroup as group:
            # The supervisor raises nothing, so this comes from the caller's block; raise it as it was there.
            if len(group.exceptions) != 1:
                raise
            raise group.exceptions[0] from group.exceptions[0].__cause__


async def _started(config: Config, file: CredentialsFile, needed: bool) -> Profile:
    try:
        await trio.to_thread.run_sync(_ensure_running, config)
    except BucketfsError as error:
        profile = file.profiles().get(EMBEDDED)
        if needed or profile is None:
            raise
        log.warning("the embedded Hub does not start; this is retried: %s", error)
        return profile
    return await _ensure_account(config, file)


def address_of(config: Config) -> str:
    """Where the embedded Hub listens."""
    return f"unix:{hub_socket(config)}"


def place_of_embedded(config: Config) -> str:
    """The embedded Hub, as local state is filed under it: by its data, wherever it listens."""
    return f"{EMBEDDED} {config.hub_data}"


def hub_socket(config: Config) -> Path:
    """The socket of the embedded Hub: where the last one listened, while that folder exists, else in our runtime folder. So a cron
    job and a login shell, whose runtime folders differ, use one Hub."""
    try:
        found = Path(os.fsdecode((config.hub_data / SOCKET).read_bytes()))
        facts = found.parent.lstat()
    except OSError:
        return config.paths.hub_socket(config.hub_data)
    if not found.is_absolute() or not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        return config.paths.hub_socket(config.hub_data)
    return found


def serve_embedded(config: Config, ready_fd: int | None) -> None:
    """Serve as the embedded Hub until no process uses it, or a signal. Blocks. Raises Busy when one runs already."""
    from bucketfs.hub import HubConfig, HubServer, end_process

    make_private(config.hub_data)
    make_private(hub_socket(config).parent)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    with _lock(config.hub_data / "hub.lock", f"process {os.getpid()}, listens at {hub_socket(config)}"):
        hub_config = HubConfig(
            data=config.hub_data,
            listen=address_of(config),
            auto_confirm=True,
            single_user=True,
            # Nothing but its socket, unless the user asks: a port is open to every user of this machine.
            gateway_listen=None if config.serve.gateway_listen in ("", "off") else config.serve.gateway_listen,
            gateway_url=config.serve.gateway_url.rstrip("/"),
            web_listen=config.serve.web_listen,
        )
        server = HubServer(hub_config)
        address = server.start()
        users: int | None = None
        try:
            report_ready(ready_fd, {"address": address, "pid": os.getpid()})
            users = _wait_until_unused(config.hub_data / "users.lock", stop)
        finally:
            if not server.stop():
                # The locks go with the process; everything that was acknowledged is on the disk.
                end_process()
            if users is not None:
                os.close(users)


def _wait_until_unused(path: Path, stop: threading.Event) -> int | None:
    """Wait until the lock at ``path`` was free for ``IDLE_S`` and return the descriptor that holds it now, or ``None`` when
    ``stop`` was set before."""
    idle_since = time.monotonic()
    while not stop.wait(LOOK_PERIOD_S):
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            idle_since = time.monotonic()
        else:
            if time.monotonic() - idle_since >= IDLE_S:
                return descriptor
        os.close(descriptor)
    return None


def _ensure_running(config: Config) -> None:
    """Start the Hub unless it runs. The caller holds ``start.lock``."""
    socket = hub_socket(config)
    make_private(socket.parent)
    if not answers(socket):
        _remember(config, socket)
        spawn(
            ["hub", "serve", "--embedded", "--data", str(config.hub_data)],
            config.paths.state / "log" / "hub.log",
            START_TIMEOUT_S,
        )


def _remember(config: Config, socket: Path) -> None:
    path = os.fsencode(socket)
    file = config.hub_data / SOCKET
    try:
        if not file.exists() or file.read_bytes() != path:
            Disk().replace_file(file, path)
    except (BucketfsError, OSError) as error:
        log.info("users of the embedded Hub in other runtime folders will not find it: %s", error)


async def _supervise(config: Config) -> None:
    """Restart the Hub when it has died. Calls in flight are retried as with any Hub that was away."""
    socket_path = hub_socket(config)
    logged = ""
    while True:
        await trio.sleep(SUPERVISE_PERIOD_S)
        if await trio.to_thread.run_sync(answers, socket_path, abandon_on_cancel=True):
            logged = ""
            continue
        if not logged:
            log.warning("the embedded Hub does not answer and is restarted")
        try:
            async with _lock_held(config.hub_data / "start.lock", fcntl.LOCK_EX):
                await trio.to_thread.run_sync(_ensure_running, config)
        except BucketfsError as error:
            # Tried every few seconds; each reason is logged once.
            if logged != str(error):
                logged = str(error)
                log.warning("the embedded Hub did not start; this is retried: %s", error)


async def _ensure_account(config: Config, file: CredentialsFile) -> Profile:
    """The profile of the embedded Hub; a new one when it is missing, or when the Hub does not know its key (its data may have been
    deleted)."""
    endpoint = Endpoint.parse(address_of(config))
    profile = file.profiles().get(EMBEDDED)
    if profile is not None:
        credentials = profile.credentials
        try:
            async with Channel(endpoint, lambda: credentials) as channel:
                await HubClient(channel).account()
            return profile
        except (Unauthenticated, NotFound, Denied) as error:
            log.info("the embedded Hub does not know the key of %s (%s); a new one is made", file.path, error)
    made = Profile(EMBEDDED, EMBEDDED, await _new_key(endpoint))
    async with connect(endpoint, lambda: made.credentials) as connection:
        await find_or_create_bucket(connection.buckets, HOME_BUCKET)
    # Saved last: when this is cut short the next process repeats it, and each step finds what was made before.
    file.save(made)
    return made


async def _new_key(endpoint: Endpoint) -> Credentials:
    name = _username()
    async with Channel(endpoint, lambda: NO_CREDENTIALS) as channel:
        hub = HubClient(channel)
        try:
            session = await hub.signup(name, f"{name}@localhost.localdomain")
        except Exists:
            # The account exists and its key was lost. Only its owner can reach this socket, so signing in needs no proof.
            session = await hub.signin(name)
    async with Channel(endpoint, lambda: Credentials(session=session)) as channel:
        key = await HubClient(channel).create_key(secure=True)
    return Credentials(api_key=key.key, api_secret=key.secret)


def _username() -> str:
    """A name that a Hub accepts for an account: letters and digits, with at most one hyphen inside."""
    try:
        found = getpass.getuser()
    except (KeyError, OSError):
        found = ""
    return re.sub(r"[^a-zA-Z0-9]+", "", found)[:32] or "me"


@asynccontextmanager
async def _lock_held(path: Path, how: int) -> AsyncGenerator[None, None]:
    """Hold a lock. It is waited for in a thread, which on cancellation is abandoned and releases the lock by itself."""
    descriptor = _open(path)
    try:
        # The copy is the thread's own: an abandoned thread may get the lock later, and releases it by closing its copy.
        await trio.to_thread.run_sync(_lock_and_close, os.dup(descriptor), how, abandon_on_cancel=True)
        yield
    finally:
        os.close(descriptor)


def _lock_and_close(descriptor: int, how: int) -> None:
    # flock(2) belongs to the open file, which both descriptors share: it stays until the last of them is closed.
    try:
        fcntl.flock(descriptor, how)
    finally:
        os.close(descriptor)


@contextmanager
def _lock(path: Path, who: str) -> Generator[None, None, None]:
    """Hold a lock, and write into the file who holds it. Raises Busy at once, with what the file says of the other process."""
    descriptor = _open(path)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.fsdecode(os.pread(descriptor, 4096, 0)) or "another process"
            raise Busy(
                f"the embedded Hub of {path.parent} runs already ({other}), and cannot be reached from here",
                hint="it may run in a container, or its runtime folder was removed; end that process, or the mounts that use it",
            ) from None
        # Only for messages: a full disk does not keep the Hub from starting.
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, os.fsencode(who), 0)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DiskFailed(f"cannot open {path}: {error.strerror}") from error
