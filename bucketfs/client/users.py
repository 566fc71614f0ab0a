"""The acting account's threads and mail: the client of ``api.usersd.pb.APIService`` (textileio/textile ``api/usersd``)."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from bucketfs.client.channel import Channel
from bucketfs.client.mail import Letter
from bucketfs.keys import parse_thread
from bucketfs.types import ThreadId
from bucketfs.wire import users_pb2 as pb

_SERVICE = pb.DESCRIPTOR.services_by_name["APIService"]


class ReadStatus(enum.IntEnum):
    """Which letters of an inbox to list (``ListInboxMessagesRequest.Status``)."""

    ALL = 1
    READ = 2
    UNREAD = 3


@dataclass(frozen=True, slots=True)
class ThreadEntry:
    """A thread of the acting account, under the name it was made with (which may be empty)."""

    id: ThreadId
    name: str
    is_db: bool


@dataclass(frozen=True, slots=True)
class Message:
    """A letter in a mailbox. ``body`` is still sealed; times are nanoseconds since 1970, 0 for not read."""

    id: str
    sender: str
    recipient: str
    body: bytes
    signature: bytes
    created_at_ns: int
    read_at_ns: int


class UsersClient:
    """Each call raises what the channel raises."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def thread(self, name: str) -> ThreadEntry:
        """The thread of exactly that name. Raises NotFound."""
        return _entry(await self._channel.unary(_SERVICE, "GetThread", pb.GetThreadRequest(name=name)))

    async def threads(self) -> Sequence[ThreadEntry]:
        """All threads of the acting account, whatever key made them."""
        reply: pb.ListThreadsResponse = await self._channel.unary(_SERVICE, "ListThreads", pb.ListThreadsRequest())
        return [_entry(item) for item in reply.list]

    async def setup_mailbox(self) -> ThreadId:
        """Makes the mailbox unless there is one; returns its thread."""
        reply: pb.SetupMailboxResponse = await self._channel.unary(_SERVICE, "SetupMailbox", pb.SetupMailboxRequest())
        return parse_thread(reply.mailbox_id)

    async def send(self, letter: Letter) -> str:
        """Sends a sealed letter; returns its id. Raises NotFound when either side has no mailbox, Unauthenticated when the
        signatures are not the caller's."""
        request = pb.SendMessageRequest(
            to=letter.recipient,
            to_body=letter.to_body,
            to_signature=letter.to_signature,
            from_body=letter.from_body,
            from_signature=letter.from_signature,
        )
        reply: pb.SendMessageResponse = await self._channel.unary(_SERVICE, "SendMessage", request)
        return reply.id

    async def inbox(
        self, *, seek: str = "", limit: int = 0, ascending: bool = False, status: ReadStatus = ReadStatus.ALL
    ) -> Sequence[Message]:
        """Letters received, newest first unless ``ascending``; ``seek`` is the id to begin with, 0 means the Hub's limit of
        100."""
        request = pb.ListInboxMessagesRequest(
            seek=seek,
            limit=limit,
            ascending=ascending,
            status=pb.ListInboxMessagesRequest.Status.Name(int(status)),
        )
        reply: pb.ListInboxMessagesResponse = await self._channel.unary(_SERVICE, "ListInboxMessages", request)
        return [_message(message) for message in reply.messages]

    async def sentbox(self, *, seek: str = "", limit: int = 0, ascending: bool = False) -> Sequence[Message]:
        """Letters sent; else as ``inbox``."""
        request = pb.ListSentboxMessagesRequest(seek=seek, limit=limit, ascending=ascending)
        reply: pb.ListSentboxMessagesResponse = await self._channel.unary(_SERVICE, "ListSentboxMessages", request)
        return [_message(message) for message in reply.messages]

    async def mark_read(self, message_id: str) -> int:
        """Marks a received letter as read, now; returns when that was (ns). Raises NotFound."""
        request = pb.ReadInboxMessageRequest(id=message_id)
        reply: pb.ReadInboxMessageResponse = await self._channel.unary(_SERVICE, "ReadInboxMessage", request)
        return reply.read_at

    async def delete_received(self, message_id: str) -> None:
        """Deletes a received letter; an unknown id is fine."""
        await self._channel.unary(_SERVICE, "DeleteInboxMessage", pb.DeleteInboxMessageRequest(id=message_id))

    async def delete_sent(self, message_id: str) -> None:
        """Deletes a sent letter; an unknown id is fine."""
        await self._channel.unary(_SERVICE, "DeleteSentboxMessage", pb.DeleteSentboxMessageRequest(id=message_id))


def _entry(item: pb.GetThreadResponse) -> ThreadEntry:
    return ThreadEntry(parse_thread(item.id), item.name, item.is_db)


def _message(item: pb.Message) -> Message:
    sender = getattr(item, "from")  # A keyword of Python.
    return Message(item.id, sender, item.to, item.body, item.signature, item.created_at, item.read_at)
