"""``api.usersd.pb``: the threads of an account, and its mail. Archives are not offered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bucketfs.errors import NotFound
from bucketfs.hub.context import Hub
from bucketfs.hub.db import ThreadRow
from bucketfs.hub.rpc import USERS, Code, Context, Service, Status, answered
from bucketfs.hub.services.accounts import no_billing
from bucketfs.hub.services.mail import Mail, SendingPace
from bucketfs.wire import users_pb2 as pb


def service(hub: Hub) -> Service:
    """The service over this Hub."""
    users, mail = Users(hub), Mail(hub, SendingPace())
    return Service(
        USERS,
        {
            "GetThread": users.get_thread,
            "ListThreads": users.list_threads,
            "GetUsage": no_billing,
            "SetupMailbox": mail.setup,
            "SendMessage": mail.send,
            "ListInboxMessages": mail.list_inbox,
            "ListSentboxMessages": mail.list_sentbox,
            "ReadInboxMessage": mail.read,
            "DeleteInboxMessage": mail.delete_received,
            "DeleteSentboxMessage": mail.delete_sent,
        },
        unimplemented="is not offered: this hub has no archive (Filecoin) service",
    )


@dataclass(frozen=True, slots=True)
class Users:
    """Threads by name, and all of them."""

    hub: Hub

    def get_thread(self, request: Any, context: Context) -> Any:
        # Nameless threads cannot be asked for by their missing name.
        if not request.name:
            raise Status(Code.NOT_FOUND, "Thread not found")
        with answered(NotFound, Code.NOT_FOUND, "Thread not found"):
            return _thread(self.hub.database.thread_named(context.call.account, request.name, context.call.realm))

    def list_threads(self, _request: Any, context: Context) -> Any:
        # The original lists a user's threads under all keys; but users of another owner's key are other users.
        rows = self.hub.database.threads_of(context.call.account, context.call.realm)
        return pb.ListThreadsResponse(list=[_thread(row) for row in rows])


def _thread(row: ThreadRow) -> Any:
    return pb.GetThreadResponse(id=row.id, name=row.name, is_db=row.is_db)
