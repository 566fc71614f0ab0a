"""The people of a hub in SQL: developers, orgs, who is in which, sessions, invitations and API keys.

Session and invitation texts are looked up by their SHA-256, so the table itself opens nothing and lookups leak no timing.
"""

from __future__ import annotations

import hashlib
from typing import Any

import sqlalchemy as sa

import bucketfs.hub.db.schema as tables
from bucketfs.errors import Denied, Exists, NotFound, Refused, Stale
from bucketfs.hub.db.engine import DUPLICATE_KEY, Database
from bucketfs.hub.db.instances import delete_instances_of
from bucketfs.hub.db.models import AccountKind, AccountRow, InviteRow, KeyRow, MemberRow, SessionRow
from bucketfs.keys import KeyType

OWNER = "owner"
MEMBER = "member"


class AccountTable:
    """Accounts, members, sessions and invitations."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def create_account(self, row: AccountRow, owner: str | None = None) -> None:
        """Stores a new developer, or a new org together with its first owner. Raises Exists when name or email is taken."""
        columns = tables.accounts.c
        folded, email = row.username.casefold(), row.email.casefold() or None
        with self._db.write() as connection:
            same = sa.or_(
                columns.username_folded == folded, sa.and_(columns.email_folded == email, columns.email_folded.is_not(None))
            )
            if connection.execute(sa.select(columns.account).where(same)).first() is not None:
                raise Exists(f"{DUPLICATE_KEY}: account")
            values = {
                "account": row.account,
                "kind": row.kind.value,
                "username": row.username,
                "username_folded": folded,
                "name": row.name,
                "email": row.email or None,
                "email_folded": email,
                "seed": row.seed,
                "token": "",  # once a thread token of the account, which no call needed
                "created_at_ns": row.created_at_ns,
            }
            connection.execute(tables.accounts.insert().values(**values))
            # Made here so that no two first changes of a new account have to agree on who makes it.
            connection.execute(tables.usage.insert().values(account=row.account, threads=0, buckets=0, bytes=0))
            if owner is not None:
                self._add_member(connection, row.account, owner, OWNER, row.created_at_ns)

    def account(self, account: str) -> AccountRow:
        """By public key text. Raises NotFound ``Account not found``."""
        return self._account(tables.accounts.c.account == account, "Account not found")

    def account_named(self, username: str) -> AccountRow:
        """A developer or org by exact username or slug. Raises NotFound ``User not found``."""
        return self._account(tables.accounts.c.username == username, "User not found")

    def developer(self, username_or_email: str) -> AccountRow:
        """A developer by exact username or by email. Raises NotFound ``User not found``."""
        columns = tables.accounts.c
        either = sa.or_(columns.username == username_or_email, columns.email == username_or_email)
        return self._account(sa.and_(columns.kind == AccountKind.DEVELOPER.value, either), "User not found")

    def name_taken(self, username: str) -> bool:
        """Whether a developer or an org has this name, compared without case."""
        columns = tables.accounts.c
        query = sa.select(columns.account).where(columns.username_folded == username.casefold())
        with self._db.read() as connection:
            return connection.execute(query).first() is not None

    def delete_account(self, account: str) -> None:
        """Deletes a developer or org with its keys, sessions, invitations, memberships and threads.

        Raises Exists while a developer is still in an org (``Account not empty (delete orgs first)``) and while a thread of
        the account, or of a user of its keys, has buckets (``Account not empty (delete buckets first)``): nothing of a bucket is
        deleted on the way, and no user loses what only the owner's keys open.
        """
        mine = sa.select(tables.threads.c.id).where(
            sa.or_(tables.threads.c.owner == account, tables.threads.c.realm == account)
        )
        with self._db.write() as connection:
            member = sa.select(tables.members.c.org).where(tables.members.c.member == account)
            if connection.execute(member).first() is not None:
                raise Exists("Account not empty (delete orgs first)")
            if (
                connection.execute(sa.select(tables.buckets.c.key).where(tables.buckets.c.thread.in_(mine))).first()
                is not None
            ):
                raise Exists("Account not empty (delete buckets first)")
            for thread in connection.execute(mine).scalars().all():
                delete_instances_of(connection, thread)
            for table, column in (
                (tables.threads, tables.threads.c.owner),
                (tables.threads, tables.threads.c.realm),
                (tables.keys, tables.keys.c.owner),
                (tables.sessions, tables.sessions.c.user),
                (tables.invites, tables.invites.c.sender),
                (tables.invites, tables.invites.c.org),
                (tables.members, tables.members.c.org),
                (tables.usage, tables.usage.c.account),
                (tables.accounts, tables.accounts.c.account),
            ):
                connection.execute(table.delete().where(column == account))

    def members(self, org: str) -> list[tuple[MemberRow, AccountRow]]:
        """Who is in an org, in the order they came."""
        columns = tables.members.c
        query = (
            sa.select(tables.accounts, columns.role)
            .join(tables.members, columns.member == tables.accounts.c.account)
            .where(columns.org == org)
            .order_by(columns.created_at_ns, columns.member)
        )
        with self._db.read() as connection:
            return [(MemberRow(org, found.account, found.role), _account(found)) for found in connection.execute(query)]

    def orgs_of(self, member: str) -> list[AccountRow]:
        """The orgs a developer is in, oldest membership first."""
        columns = tables.members.c
        query = (
            sa.select(tables.accounts)
            .join(tables.members, columns.org == tables.accounts.c.account)
            .where(columns.member == member)
            .order_by(columns.created_at_ns, columns.org)
        )
        with self._db.read() as connection:
            return [_account(found) for found in connection.execute(query)]

    def role_in(self, org: str, member: str) -> str | None:
        """``owner``, ``member``, or ``None`` for one who is neither."""
        columns = tables.members.c
        with self._db.read() as connection:
            query = sa.select(columns.role).where(columns.org == org, columns.member == member)
            return connection.execute(query).scalar()

    def leave_org(self, org: str, member: str) -> None:
        """Takes a developer out of an org, with the invitations they sent. Raises Refused for the last owner."""
        columns = tables.members.c
        with self._db.write() as connection:
            owners = set(
                connection.execute(sa.select(columns.member).where(columns.org == org, columns.role == OWNER)).scalars()
            )
            if owners == {member}:
                raise Refused("an org must have at least one owner")
            connection.execute(tables.members.delete().where(columns.org == org, columns.member == member))
            sent = (tables.invites.c.org == org, tables.invites.c.sender == member)
            connection.execute(tables.invites.delete().where(*sent))

    def create_session(self, session: str, user: str, expires_at_ns: int) -> None:
        """Remembers a session by its hash."""
        values = {"session_hash": _hash(session), "user": user, "expires_at_ns": expires_at_ns}
        with self._db.write() as connection:
            connection.execute(tables.sessions.insert().values(**values))

    def session(self, session: str) -> SessionRow | None:
        """The session, expired or not; ``None`` when there is none."""
        with self._db.read() as connection:
            query = sa.select(tables.sessions).where(tables.sessions.c.session_hash == _hash(session))
            found = connection.execute(query).one_or_none()
        return None if found is None else SessionRow(found.user, found.expires_at_ns)

    def extend_session(self, session: str, expires_at_ns: int) -> None:
        """Moves the end of a session."""
        with self._db.write() as connection:
            where = tables.sessions.c.session_hash == _hash(session)
            connection.execute(tables.sessions.update().where(where).values(expires_at_ns=expires_at_ns))

    def delete_session(self, session: str) -> bool:
        """Forgets a session. False when there was none."""
        with self._db.write() as connection:
            where = tables.sessions.c.session_hash == _hash(session)
            return connection.execute(tables.sessions.delete().where(where)).rowcount == 1

    def create_invite(self, token: str, org: str, sender: str, email: str, expires_at_ns: int) -> None:
        """Remembers an invitation by the hash of its token."""
        values = {
            "org": org,
            "sender": sender,
            "email_folded": email.casefold(),
            "accepted": False,
            "expires_at_ns": expires_at_ns,
        }
        with self._db.write() as connection:
            connection.execute(tables.invites.insert().values(token_hash=_hash(token), **values))

    def accept_invite(self, token: str, now_ns: int) -> InviteRow:
        """Takes an invitation up: a known developer becomes a member and the token is used up; else it waits for the
        sign-up.

        Raises NotFound for a token that is unknown or used up, Stale for one that has expired.
        """
        columns, accounts = tables.invites.c, tables.accounts.c
        mine = columns.token_hash == _hash(token)
        with self._db.write() as connection:
            found = connection.execute(sa.select(tables.invites).where(mine)).one_or_none()
            if found is None:
                raise NotFound("no such invitation")
            if found.expires_at_ns < now_ns:
                raise Stale("the invitation has expired")
            user = connection.execute(
                sa.select(accounts.account).where(accounts.email_folded == found.email_folded)
            ).scalar()
            if user is None:
                connection.execute(tables.invites.update().where(mine).values(accepted=True))
            else:
                self._add_member(connection, found.org, user, MEMBER, now_ns)
                connection.execute(tables.invites.delete().where(mine))
        return InviteRow(found.org, found.sender, found.email_folded, True, found.expires_at_ns)

    def join_invited(self, user: str, email: str, now_ns: int) -> None:
        """Makes a new developer a member wherever an accepted invitation waits for that email."""
        columns = tables.invites.c
        waiting = (columns.email_folded == email.casefold(), columns.accepted, columns.expires_at_ns >= now_ns)
        with self._db.write() as connection:
            for org in connection.execute(sa.select(columns.org).where(*waiting)).scalars().all():
                self._add_member(connection, org, user, MEMBER, now_ns)
            connection.execute(tables.invites.delete().where(*waiting))

    def _account(self, where: sa.ColumnElement[bool], absent: str) -> AccountRow:
        with self._db.read() as connection:
            found = connection.execute(sa.select(tables.accounts).where(where)).first()
        if found is None:
            raise NotFound(absent)
        return _account(found)

    def _add_member(self, connection: sa.Connection, org: str, member: str, role: str, now_ns: int) -> None:
        columns = tables.members.c
        if connection.execute(sa.select(columns.role).where(columns.org == org, columns.member == member)).first() is None:
            connection.execute(tables.members.insert().values(org=org, member=member, role=role, created_at_ns=now_ns))


class KeyTable:
    """API keys."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def create_key(self, row: KeyRow, now_ns: int) -> None:
        """Stores a new key."""
        values = {
            "key": row.key,
            "secret": row.secret,
            "owner": row.owner,
            "type": row.type.value,
            "secure": row.secure,
            "valid": row.valid,
            "created_at_ns": now_ns,
        }
        with self._db.write() as connection:
            connection.execute(tables.keys.insert().values(**values))

    def key(self, key: str) -> KeyRow:
        """The key, valid or not. Raises NotFound."""
        with self._db.read() as connection:
            found = connection.execute(sa.select(tables.keys).where(tables.keys.c.key == key)).one_or_none()
        if found is None:
            raise NotFound("API key not found or is invalid")
        return _key(found, 0)

    def insecure_keys(self) -> int:
        """How many valid keys need no signature."""
        columns = tables.keys.c
        query = sa.select(sa.func.count()).select_from(tables.keys).where(columns.valid, sa.not_(columns.secure))
        with self._db.read() as connection:
            return int(connection.execute(query).scalar_one())

    def keys(self, owner: str) -> list[KeyRow]:
        """All keys of an account with the number of threads made with each, oldest first; invalid ones too."""
        columns = tables.keys.c
        count = sa.select(tables.threads.c.api_key, sa.func.count().label("n")).group_by(tables.threads.c.api_key).subquery()
        query = (
            sa.select(tables.keys, count.c.n)
            .outerjoin(count, count.c.api_key == columns.key)
            .where(columns.owner == owner)
            .order_by(columns.created_at_ns, columns.key)
        )
        with self._db.read() as connection:
            return [_key(found, found.n or 0) for found in connection.execute(query)]

    def invalidate_key(self, key: str, owner: str) -> None:
        """Makes a key useless for ever. Raises NotFound, or Denied when it is another's."""
        with self._db.write() as connection:
            found = connection.execute(sa.select(tables.keys.c.owner).where(tables.keys.c.key == key)).scalar()
            if found is None:
                raise NotFound("mongo: no documents in result")
            if found != owner:
                raise Denied("User does not own key")
            connection.execute(tables.keys.update().where(tables.keys.c.key == key).values(valid=False))


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _account(found: Any) -> AccountRow:
    return AccountRow(
        account=found.account,
        kind=AccountKind(found.kind),
        username=found.username,
        name=found.name,
        email=found.email or "",
        seed=found.seed,
        created_at_ns=found.created_at_ns,
    )


def _key(found: Any, threads: int) -> KeyRow:
    return KeyRow(found.key, found.secret, found.owner, KeyType(found.type), found.secure, found.valid, threads)
