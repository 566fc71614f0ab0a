"""``bucketfs hub mail``: messages between users of a Hub, which only sender and recipient can read."""

from __future__ import annotations

import sys
from typing import Any, BinaryIO

import click

from bucketfs.cli.acting import in_session
from bucketfs.cli.hub.group import hub
from bucketfs.cli.options import json_option
from bucketfs.cli.printing import moment_text, print_json, print_line, print_table, size_text
from bucketfs.client import Message, ReadStatus, letter, opened
from bucketfs.daemon import Session
from bucketfs.errors import BucketfsError, Corrupt, InvalidArgument, NotFound, Usage
from bucketfs.keys import Identity, parse_public_key, verify_signature

_acting = in_session("identity", "hub", "profile")
LISTED = 100
OVERHEAD_BYTES = 72
"""What sealing adds to a text."""


def _checked_key(_context: click.Context, _parameter: click.Parameter, key: str) -> str:
    try:
        parse_public_key(key)
    except InvalidArgument as error:
        raise Usage(f"{key!r} is not a public key", hint="'bucketfs hub whoami' shows a user their own") from error
    return key


@hub.group(short_help="Messages between users of a Hub.")
def mail() -> None:
    """Messages to other users, sealed so that only you and they can read them. A user is named by the public key that 'whoami'
    shows."""


@mail.command()
@_acting
async def setup(session: Session) -> None:
    """Make your mailbox, so that you can send and be sent messages."""
    await session.users.setup_mailbox()
    print_line("Others send messages to you by this key:", err=True)
    print_line(await session.me())


@mail.command()
@click.argument("to", metavar="KEY", callback=_checked_key)
@click.argument("text", type=click.File("rb"), default="-")
@_acting
async def send(session: Session, to: str, text: BinaryIO) -> None:
    """Send the file TEXT, or the standard input, to the user with the public key KEY. Prints the id of the message."""
    print_line(await session.users.send(letter(await _identity(session), to, text.read())))


@mail.command("ls")
@click.option("--sent", is_flag=True, help="Messages that you sent.")
@click.option("--unread", is_flag=True, help="Only those not read yet.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=LISTED, show_default=True, help="How many, newest first.")
@json_option
@_acting
async def list_messages(session: Session, sent: bool, unread: bool, limit: int, as_json: bool) -> None:
    """List messages, newest first."""
    if sent:
        found = await session.users.sentbox(limit=limit)
    else:
        found = await session.users.inbox(limit=limit, status=ReadStatus.UNREAD if unread else ReadStatus.ALL)
    if as_json:
        print_json([_document(one) for one in found])
        return
    rows = [
        (
            one.id,
            moment_text(one.created_at_ns),
            one.recipient if sent else one.sender,
            size_text(_size(one)),
            _state(one, sent=sent),
        )
        for one in found
    ]
    print_table(rows)


@mail.command()
@click.argument("message_id", metavar="ID")
@click.option("--sent", is_flag=True, help="A message that you sent.")
@click.option("--keep-unread", is_flag=True, help="Do not mark it as read.")
@_acting
async def read(session: Session, message_id: str, sent: bool, keep_unread: bool) -> None:
    """Print the text of a message, and mark it as read."""
    one = await _message(session, message_id, sent=sent)
    text = _text(await _identity(session), one)
    if not sent and not keep_unread:
        await session.users.mark_read(one.id)
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


@mail.command()
@click.argument("message_id", metavar="ID")
@click.option("--sent", is_flag=True, help="A message that you sent.")
@_acting
async def rm(session: Session, message_id: str, sent: bool) -> None:
    """Delete a message from your mailbox. The other side keeps its copy."""
    await _message(session, message_id, sent=sent)
    await (session.users.delete_sent(message_id) if sent else session.users.delete_received(message_id))


@mail.command()
@_acting
async def watch(session: Session) -> None:
    """Print new messages as they come, a line each: id, sender, and the first line of the text."""
    thread, identity = await session.users.setup_mailbox(), await _identity(session)
    async with session.threads.listen(thread, "inbox") as changes:
        await changes.begun()
        print_line("Waiting for messages; Ctrl-C ends", err=True)
        async for change in changes:
            if change.action.name != "CREATE":
                continue
            try:
                one = await _message(session, change.instance_id, sent=False)
                first = _text(identity, one).split(b"\n", 1)[0][:200].decode(errors="replace")
            except BucketfsError as error:
                first = f"({error})"
                print_line(change.instance_id, first)
            else:
                print_line(one.id, one.sender, first)


async def _identity(session: Session) -> Identity:
    """The key pair that letters are sealed for and signed with."""
    own = session.credentials().identity
    return Identity.from_text(own) if own else await session.hub.identity()


async def _message(session: Session, message_id: str, *, sent: bool) -> Message:
    list_from = session.users.sentbox if sent else session.users.inbox
    found = await list_from(seek=message_id, limit=1)
    if not found or found[0].id != message_id:
        raise NotFound(f"there is no message {message_id!r}", hint="'bucketfs hub mail ls' lists yours")
    return found[0]


def _text(identity: Identity, one: Message) -> bytes:
    """Raises Corrupt for a message that its sender did not sign, or that cannot be opened."""
    if not verify_signature(parse_public_key(one.sender), one.body, one.signature):
        raise Corrupt("this message was not signed by its sender")
    return opened(identity, one.body)


def _size(one: Message) -> int:
    return max(len(one.body) - OVERHEAD_BYTES, 0)


def _state(one: Message, *, sent: bool) -> str:
    return "" if sent or one.read_at_ns else "new"


def _document(one: Message) -> dict[str, Any]:
    return {
        "id": one.id,
        "from": one.sender,
        "to": one.recipient,
        "bytes": _size(one),
        "created_at_ns": one.created_at_ns,
        "read_at_ns": one.read_at_ns,
    }
