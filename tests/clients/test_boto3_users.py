"""Step b. Several users: each owns its buckets, and nobody touches another's."""

import pytest

from support.data import unique
from support.s3 import body, client, refused

CONFIG = """
[[s3.users]]
name = "alice"
access_key = "alice-key"
secret_key = "alice-secret-0123456789"

[[s3.users]]
name = "bob"
access_key = "bob-key"
secret_key = "bob-secret-0123456789"
"""


@pytest.fixture
def users(own_cluster):
    cluster = own_cluster(config=CONFIG, scale={"storage": 1})
    alice = client(cluster.s3, "alice-key", "alice-secret-0123456789")
    bob = client(cluster.s3, "bob-key", "bob-secret-0123456789")
    return alice, bob, client(cluster.s3)


def test_users_are_apart_from_each_other(users):
    alice, bob, default = users
    hers = unique()
    alice.create_bucket(Bucket=hers)
    alice.put_object(Bucket=hers, Key="k", Body=b"alice's")
    for other in (bob, default):
        with refused("AccessDenied", 403):
            other.get_object(Bucket=hers, Key="k")
        with refused("AccessDenied", 403):
            other.put_object(Bucket=hers, Key="k", Body=b"changed")
        with refused("AccessDenied", 403):
            other.list_objects_v2(Bucket=hers)
        with refused("AccessDenied", 403):
            other.delete_object(Bucket=hers, Key="k")
        with refused("AccessDenied", 403):
            other.delete_bucket(Bucket=hers)
        with refused("BucketAlreadyExists", 409):
            other.create_bucket(Bucket=hers)
        assert hers not in [bucket["Name"] for bucket in other.list_buckets()["Buckets"]]
    assert [bucket["Name"] for bucket in alice.list_buckets()["Buckets"]] == [hers]
    assert body(alice.get_object(Bucket=hers, Key="k")) == b"alice's"
    check_copies(alice, bob, hers)


def check_copies(alice, bob, hers):
    """A copy needs rights on both sides."""
    his = unique()
    bob.create_bucket(Bucket=his)
    bob.put_object(Bucket=his, Key="k", Body=b"bob's")
    with refused("AccessDenied", 403):
        bob.copy_object(Bucket=his, Key="copy", CopySource={"Bucket": hers, "Key": "k"})
    with refused("AccessDenied", 403):
        bob.copy_object(Bucket=hers, Key="copy", CopySource={"Bucket": his, "Key": "k"})
    assert [e["Key"] for e in alice.list_objects_v2(Bucket=hers)["Contents"]] == ["k"]


def test_the_default_user_can_be_switched_off(own_cluster):
    cluster = own_cluster(config="[s3]\ndefault_user = false\n" + CONFIG, scale={"storage": 1})
    with refused("InvalidAccessKeyId", 403):
        client(cluster.s3).list_buckets()
    assert client(cluster.s3, "bob-key", "bob-secret-0123456789").list_buckets()["Buckets"] == []
