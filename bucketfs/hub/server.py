"""A hub process: opens the stores, binds, serves, stops. Which thread serves which call is the dispatcher's affair."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from sqlalchemy.exc import OperationalError

from bucketfs.disk import make_private_folder
from bucketfs.errors import DiskFailed, NoSpace
from bucketfs.hub.config import HubConfig
from bucketfs.hub.context import Confirmations, Hub, InstanceEvents
from bucketfs.hub.db import HubDatabase, sqlite_url
from bucketfs.hub.gateway import GatewayApp, GatewayAsgi
from bucketfs.hub.rpc import Authenticator, Dispatcher, Service, bind, in_pool
from bucketfs.hub.services import SERVICES
from bucketfs.hub.store import NODES_RESERVE_BYTES, SCRATCH_BYTES, DiskBlockStore, UploadQuota, give_up_reserve, take_reserve
from bucketfs.hub.threaddb import Scripts, ThreadDb
from bucketfs.hub.trees import WorkingSet, tree_size
from bucketfs.hub.web import GrpcWeb, HttpServer
from bucketfs.keys import Identity

log = logging.getLogger("bucketfs.hub")

STOP_GRACE_S = 5.0
HANDLERS_GRACE_S = 5.0
"""How long, at most, handlers are waited for whose calls have ended. Who walks a tree asks at every block whether it is wanted."""
STANDARD_THREADS = 8
"""For each of the standard services (health, reflection)."""


class HubServer:
    """One hub. ``start`` and ``stop`` once each, from any thread; also a context manager that starts and stops."""

    def __init__(
        self,
        config: HubConfig,
        services: Sequence[Callable[[Hub], Service]] = SERVICES,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Opens nothing yet. ``hub`` is there after ``start``. ``now_ns`` is the clock that credentials are judged by."""
        self.config = config
        self._services = services
        self._now_ns = now_ns
        self.address = ""
        self.hub: Hub
        self._server: Any = None
        self._gateway = HttpServer("the gateway", config.gateway_address, config)
        self._web = HttpServer("grpc-web", config.web_listen, config)
        self._gateway_app: GatewayAsgi | None = None
        self._health = health.HealthServicer()
        self._methods: dict[str, Any] = {}
        self._gate: Dispatcher | None = None
        self._beside = [ThreadPoolExecutor(STANDARD_THREADS, thread_name_prefix="hub-beside") for _ in range(2)]
        self._stopped = threading.Event()
        self._left = 0
        self._stopping = threading.Lock()

    def start(self) -> str:
        """Opens the stores and serves. Returns the address clients use, with its real port.

        Raises Usage, Busy, Unavailable (the address), Unsupported (a newer layout), NoSpace and DiskFailed (the stores).
        """
        try:
            # Before the stores are opened: links lead to the real ports.
            self.config = replace(self.config, gateway_listen=self._gateway.bind(), web_listen=self._web.bind())
            self.hub = open_hub(self.config)
        except BaseException:
            self._stop_web()
            raise
        try:
            self._gateway_app = GatewayAsgi(GatewayApp(self.hub))
            self._gateway.start(self._gateway_app)
            self._server = self._make_server()
            self.address = bind(self._server, self.config)
            self._server.start()
            self._web.start(GrpcWeb(self._methods, self.config.message_bytes_max))
        except BaseException:
            self._stop_web()
            self._close()
            raise
        log.info("hub serves on %s", self.address)
        insecure = 0 if self.config.refuse_insecure_keys else self.hub.database.insecure_keys()
        if insecure:
            log.warning(
                "%d keys of this hub need no signature, so anyone who sees one can use it; --refuse-insecure-keys refuses them",
                insecure,
            )
        return self.address

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until the hub has stopped; False when the time is over first."""
        return self._stopped.wait(timeout_s)

    def stop(self, grace_s: float = STOP_GRACE_S) -> bool:
        """Takes no new calls, ends those that only wait, lets the others finish for ``grace_s``, closes the stores.

        A call that was ended may have a handler that goes on for a while: each asks whether it is still wanted, but not at every
        step. That is waited for, too. Says whether all have come to their end. What one does that has not meets closed stores (an
        error, and never a freed handle), and its thread keeps the interpreter from exiting: a process that is to end ends by
        ``end_process``.
        """
        with self._stopping:
            if self._stopped.is_set() or self._server is None:
                return not self._left
            self._health.enter_graceful_shutdown()
            # First no new calls, then the end of the old ones: a listener that comes back at once must meet a closed door.
            done = self._server.stop(grace_s)
            self.hub.events.close()
            self.hub.confirmations.close()
            # Those that listened over the web have been told why it ended.
            self._stop_web()
            done.wait(grace_s + HANDLERS_GRACE_S)
            self._left = self._close(min(grace_s, HANDLERS_GRACE_S))
            self._stopped.set()
            if self._left:
                log.warning("%d calls run on while the hub stops; what they began is not done", self._left)
            log.info("hub on %s has stopped", self.address)
            return not self._left

    def __enter__(self) -> HubServer:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def _make_server(self) -> Any:
        authenticator = Authenticator(self.hub.database, self.hub.host_key, self.config.refuse_insecure_keys)
        gate = self._gate = Dispatcher(authenticator, log, self.config, self._now_ns)
        server = grpc.server(
            gate.singles,
            options=[
                ("grpc.max_receive_message_length", self.config.message_bytes_max),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
                # The known clients ping every 20 s, also without calls; a hub that counts that as abuse drops them.
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
                ("grpc.http2.max_ping_strikes", 0),
                ("grpc.keepalive_permit_without_calls", 1),
                # Finds listeners whose machine went to sleep or behind a dead NAT.
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.keepalive_timeout_ms", 20_000),
            ],
        )
        services = [make(self.hub) for make in self._services]
        for service in services:
            methods = gate.methods(service)
            self._methods |= {f"/{service.name}/{name}": handler for name, handler in methods.items()}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.name, methods),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, _OwnPoolServer(server, self._beside[0]))
        names = [service.name for service in services]
        for name in names:
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        reflection.enable_server_reflection(
            [*names, health.SERVICE_NAME, reflection.SERVICE_NAME], _OwnPoolServer(server, self._beside[1])
        )
        gate.start()
        return server

    def _stop_web(self) -> None:
        for server in (self._web, self._gateway):
            server.stop()
        if self._gateway_app is not None:
            self._gateway_app.close()

    def _close(self, grace_s: float = 0.0) -> int:
        """How many handlers still run."""
        left = 0 if self._gate is None else self._gate.stop(grace_s)
        for pool in self._beside:
            pool.shutdown(wait=False)
        self.hub.threaddb.close()
        self.hub.blockstore.close()
        self.hub.database.close()
        # Those that were left meet closed stores now.
        return self._gate.stop(grace_s) if left and self._gate is not None else 0


def end_process(code: int = 0) -> NoReturn:
    """Ends this process without waiting for threads, once everything that is printed or logged is out."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


class _OwnPoolServer:
    """The server that health and reflection are added to. They need no account, so they get threads of their own: a client that
    blocks these blocks nothing else."""

    def __init__(self, server: Any, pool: ThreadPoolExecutor) -> None:
        self._server = server
        self._pool = pool

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """Nothing: the same handlers come once more, by their names."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Adds the handlers of a service, moved to the threads of our pool."""
        moved = {name: self._moved(handler) for name, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, moved),))

    def _moved(self, handler: Any) -> Any:
        kind = f"{'stream' if handler.request_streaming else 'unary'}_{'stream' if handler.response_streaming else 'unary'}"
        behave = getattr(handler, kind)

        def run(*arguments: Any) -> Any:
            return behave(*arguments)

        run.__dict__.update(getattr(behave, "__dict__", {}))
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(in_pool(run, self._pool), handler.request_deserializer, handler.response_serializer)


ROOM_MIN_BYTES = 1 << 20


def _is_full(folder: os.PathLike[str]) -> bool:
    facts = os.statvfs(folder)
    return facts.f_bavail * facts.f_frsize < ROOM_MIN_BYTES


def open_hub(config: HubConfig) -> Hub:
    """Opens (or makes) the stores of a hub without serving. Raises DiskFailed, NoSpace, Unsupported."""
    try:
        return _opened(config)
    except NoSpace:
        if not give_up_reserve(config.data):
            raise
    return _opened(config)


def _opened(config: HubConfig) -> Hub:
    try:
        make_private_folder(config.data)
        database = HubDatabase(config.database_url or sqlite_url(config.data))
    except OSError as error:
        raise DiskFailed(f"cannot open the hub's data in {config.data}: {error.strerror}") from error
    except OperationalError as error:
        # SQLite needs some room even to read, and says "I/O error" when there is none.
        if config.database_url or not _is_full(config.data):
            raise
        raise NoSpace(
            f"the disk of the hub's data in {config.data} is full", hint="make room there, then it starts"
        ) from error
    try:
        blockstore = DiskBlockStore(
            config.data / "blocks",
            nodes_reserve_bytes=0 if config.single_user else NODES_RESERVE_BYTES,
            make_scratch=partial(give_up_reserve, config.data, SCRATCH_BYTES),
        )
    except BaseException:
        database.close()
        raise
    take_reserve(config.data)
    # Only after an upgrade is there anything to count.
    database.correct_usage(lambda root, link_key: tree_size(WorkingSet(blockstore), root, link_key), all_buckets=False)
    return Hub(
        config=config,
        database=database,
        blockstore=blockstore,
        events=InstanceEvents(),
        confirmations=Confirmations(config),
        host_key=Identity(database.host_seed()),
        upload_quota=UploadQuota(config.account_bytes_max),
        threaddb=ThreadDb(database, Scripts(), config.limits),
        log=log,
    )


def serve(config: HubConfig, ready: Callable[[str], None] | None = None, stop: threading.Event | None = None) -> None:
    """Runs a hub until ``stop`` is set (or for ever): ``ready`` is called with the address once it serves. Raises as ``start``."""
    with HubServer(config) as server:
        if ready is not None:
            ready(server.address)
        (stop or threading.Event()).wait()
