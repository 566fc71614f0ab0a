"""A member leaves an organization and tries to go on as it.

Reported: ``GetIdentity`` gave every member the private key of the organization, which worked for ever, beside anybody's key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from support.bareclient import Caller
from support.bucketuser import BucketUser, raised
from support.keyring import ACCOUNT, HUB, USER, get_token, make_key, sign_up

from bucketfs.dag import multibase_encode
from bucketfs.hub import HubConfig, HubServer
from bucketfs.keys import Identity
from bucketfs.wire import hub_pb2


def refused(work: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        work()
    return raised(caught.value)


def test_a_member_takes_nothing_along(tmp_path: Path) -> None:
    """A former member could read an organization's private buckets for ever."""
    config = HubConfig(data=tmp_path / "hub", listen="127.0.0.1:0", auto_confirm=True, gateway_listen="")
    with HubServer(config) as server, grpc.insecure_channel(server.address) as channel:
        bare = Caller(channel)
        ann, bob, eve = (sign_up(bare, name) for name in ("ann", "bob", "eve"))
        org = ann.call(HUB, "CreateOrg", hub_pb2.CreateOrgRequest(name="acme")).org_info
        account = multibase_encode(org.key)
        invited = ann.using(x_textile_org=org.slug).call(
            HUB, "InviteToOrg", hub_pb2.InviteToOrgRequest(email="eve@example.org")
        )
        server.hub.database.accept_invite(invited.token, 0)
        member = eve.using(x_textile_org=org.slug)
        shared = BucketUser.with_new_thread(bob)
        bucket = shared.create("plans", private=True).root.key
        shared.push(bucket, "f", b"for acme")
        shared.ask("PushPathAccessRoles", key=bucket, path="f", roles={account: 1})
        assert shared.beside(member).pull(bucket, "f") == b"for acme"
        for caller in (member, bare.using(**make_key(member, ACCOUNT).headers())):
            assert caller.refused(HUB, "GetIdentity", hub_pb2.GetIdentityRequest())[0] == "PERMISSION_DENIED"
        # As if an older hub had handed it out.
        kept = Identity(server.hub.database.account(account).seed)
        member.call(HUB, "LeaveOrg", hub_pb2.LeaveOrgRequest())

        assert refused(lambda: shared.beside(member).pull(bucket, "f"))[1] == "User is not an org member"
        own = [eve, *(bare.using(**make_key(eve, kind).headers()) for kind in (ACCOUNT, USER))]
        for caller in own:
            assert refused(lambda caller=caller: get_token(caller, kept))[0] == "PERMISSION_DENIED"
        for caller in own[:2]:
            assert "could not resolve path" in shared.beside(caller).refused("PullPath", key=bucket, path="f")[1]
        # Those who stayed are not disturbed.
        assert shared.beside(ann.using(x_textile_org=org.slug)).pull(bucket, "f") == b"for acme"
