"""Step b. Buckets by boto3: create, head, list, location, delete."""

import pytest

from support import raw
from support.data import unique
from support.s3 import refused, status


def test_a_bucket_can_be_created_found_listed_and_deleted(s3):
    name = unique()
    s3.create_bucket(Bucket=name)
    assert status(s3.head_bucket(Bucket=name)) == 200
    listed = {bucket["Name"]: bucket for bucket in s3.list_buckets()["Buckets"]}
    assert abs((listed[name]["CreationDate"] - raw.now()).total_seconds()) < 60
    assert status(s3.delete_bucket(Bucket=name)) == 204
    with refused(("404", "NoSuchBucket"), 404):
        s3.head_bucket(Bucket=name)
    assert name not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]


def test_the_owner_is_named_in_the_list_of_buckets(s3, bucket):
    owner = s3.list_buckets()["Owner"]
    assert owner["ID"]


def test_the_location_is_the_default_region(s3, bucket):
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] in (None, "us-east-1")


def test_a_bucket_with_a_location_constraint_can_be_created(cluster, s3):
    name = unique()
    body = (
        b'<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        b"<LocationConstraint>us-east-1</LocationConstraint></CreateBucketConfiguration>"
    )
    answer = raw.request(cluster.s3, "PUT", f"/{name}", body=body)
    assert answer.status in (200, 400), answer  # AWS itself refuses us-east-1 here
    if answer.status == 200:
        s3.delete_bucket(Bucket=name)
    else:
        assert answer.code in ("InvalidLocationConstraint", "IllegalLocationConstraintException")


def test_creating_a_bucket_again_keeps_what_is_in_it(s3, bucket):
    s3.put_object(Bucket=bucket, Key="kept", Body=b"kept")
    try:
        s3.create_bucket(Bucket=bucket)
    except s3.exceptions.BucketAlreadyOwnedByYou as error:
        assert status(error.response) == 409
    assert s3.get_object(Bucket=bucket, Key="kept")["Body"].read() == b"kept"


def test_a_bucket_with_objects_is_not_deleted(s3, bucket):
    s3.put_object(Bucket=bucket, Key="there", Body=b"x")
    with refused("BucketNotEmpty", 409):
        s3.delete_bucket(Bucket=bucket)
    assert status(s3.head_object(Bucket=bucket, Key="there")) == 200


@pytest.mark.parametrize(
    "name", ["ab", "Upper-Case", "under_score", "-dash", "dash-", "a..b", "192.168.1.1", "a" * 64]
)
def test_invalid_bucket_names_are_refused(cluster, name):
    answer = raw.request(cluster.s3, "PUT", f"/{name}")
    assert (answer.status, answer.code) == (400, "InvalidBucketName"), answer


@pytest.mark.parametrize("name", ["abc", "1abc", "with.dots.in-it", "a" * 60 + "xyz"])
def test_valid_unusual_bucket_names_work(s3, name):
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="k", Body=b"v")
    assert s3.get_object(Bucket=name, Key="k")["Body"].read() == b"v"
    s3.delete_object(Bucket=name, Key="k")
    s3.delete_bucket(Bucket=name)


def test_operations_on_a_missing_bucket_say_so(s3):
    name = unique("missing")
    for operation in (
        lambda: s3.put_object(Bucket=name, Key="k", Body=b"v"),
        lambda: s3.get_object(Bucket=name, Key="k"),
        lambda: s3.delete_object(Bucket=name, Key="k"),
        lambda: s3.list_objects_v2(Bucket=name),
        lambda: s3.list_objects(Bucket=name),
        lambda: s3.delete_bucket(Bucket=name),
        lambda: s3.get_bucket_location(Bucket=name),
        lambda: s3.delete_objects(Bucket=name, Delete={"Objects": [{"Key": "k"}]}),
    ):
        with refused("NoSuchBucket", 404):
            operation()


def test_every_storage_instance_sees_a_new_bucket_at_once(cluster, bucket):
    from support.s3 import client

    for url in cluster.s3_urls():
        assert status(client(url).head_bucket(Bucket=bucket)) == 200
