"""Step b. Copy: within and between buckets, metadata directives, onto itself, odd keys, errors."""

import urllib.parse

import pytest

from support import raw
from support.data import MIB, md5_hex, random_bytes, unique
from support.s3 import body, client, refused


@pytest.fixture
def stored(s3, bucket):
    s3.put_object(
        Bucket=bucket,
        Key="source",
        Body=b"data",
        ContentType="text/plain",
        CacheControl="no-cache",
        Metadata={"color": "red"},
    )
    return bucket


def source(bucket, key="source"):
    return {"Bucket": bucket, "Key": key}


@pytest.mark.parametrize("size", [0, 1, 70_000, 9 * MIB])
def test_a_copy_has_the_same_bytes_and_etag(cluster, s3, bucket, size):
    data = random_bytes(size)
    s3.put_object(Bucket=bucket, Key="source", Body=data)
    copied = s3.copy_object(Bucket=bucket, Key="copy", CopySource=source(bucket))
    assert copied["CopyObjectResult"]["ETag"] == f'"{md5_hex(data)}"'
    assert copied["CopyObjectResult"]["LastModified"]
    for url in cluster.s3_urls():
        assert body(client(url).get_object(Bucket=bucket, Key="copy")) == data


def test_a_copy_outlives_its_source_and_the_other_way_round(s3, bucket):
    data = random_bytes(300_000)
    s3.put_object(Bucket=bucket, Key="source", Body=data)
    for key in ("one", "two", "three"):
        s3.copy_object(Bucket=bucket, Key=key, CopySource=source(bucket))
    s3.delete_object(Bucket=bucket, Key="source")
    s3.delete_object(Bucket=bucket, Key="two")
    s3.put_object(Bucket=bucket, Key="three", Body=b"overwritten")
    assert body(s3.get_object(Bucket=bucket, Key="one")) == data


def test_a_copy_into_another_bucket_works(s3, stored):
    other = unique()
    s3.create_bucket(Bucket=other)
    s3.copy_object(Bucket=other, Key="copy", CopySource=source(stored))
    assert body(s3.get_object(Bucket=other, Key="copy")) == b"data"
    s3.delete_object(Bucket=other, Key="copy")
    s3.delete_bucket(Bucket=other)


def test_metadata_are_copied_by_default(s3, stored):
    s3.copy_object(Bucket=stored, Key="copy", CopySource=source(stored), Metadata={"color": "blue"})
    head = s3.head_object(Bucket=stored, Key="copy")
    assert head["Metadata"] == {"color": "red"}
    assert (head["ContentType"], head["CacheControl"]) == ("text/plain", "no-cache")


def test_metadata_are_replaced_on_demand(s3, stored):
    s3.copy_object(
        Bucket=stored,
        Key="copy",
        CopySource=source(stored),
        MetadataDirective="REPLACE",
        Metadata={"shape": "round"},
        ContentType="application/json",
    )
    head = s3.head_object(Bucket=stored, Key="copy")
    assert head["Metadata"] == {"shape": "round"}
    assert head["ContentType"] == "application/json"
    assert "CacheControl" not in head


def test_a_copy_onto_itself_needs_a_change(s3, stored):
    with refused("InvalidRequest", 400):
        s3.copy_object(Bucket=stored, Key="source", CopySource=source(stored))
    s3.copy_object(
        Bucket=stored,
        Key="source",
        CopySource=source(stored),
        MetadataDirective="REPLACE",
        Metadata={"color": "green"},
    )
    got = s3.get_object(Bucket=stored, Key="source")
    assert (got["Metadata"], body(got)) == ({"color": "green"}, b"data")


@pytest.mark.parametrize("key", ["a b+c%d", "é/😀", "?q=1&x#y", "a//b"], ids=ascii)
def test_a_copy_source_is_url_decoded_once(cluster, s3, bucket, key):
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for leading in ("", "/"):
        headers = {"x-amz-copy-source": leading + urllib.parse.quote(f"{bucket}/{key}")}
        answer = raw.request(cluster.s3, "PUT", f"/{bucket}/copy", headers=headers)
        assert answer.status == 200, answer
        assert body(s3.get_object(Bucket=bucket, Key="copy")) == key.encode()


def test_missing_sources_and_targets_are_told(s3, stored):
    with refused("NoSuchKey", 404):
        s3.copy_object(Bucket=stored, Key="copy", CopySource=source(stored, "missing"))
    with refused("NoSuchBucket", 404):
        s3.copy_object(Bucket=stored, Key="copy", CopySource=source(unique("missing")))
    with refused("NoSuchBucket", 404):
        s3.copy_object(Bucket=unique("missing"), Key="copy", CopySource=source(stored))
