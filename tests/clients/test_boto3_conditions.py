"""Step b. Conditional reads, writes and copies."""

import concurrent.futures
import datetime

import botocore.exceptions
import pytest

from support import raw
from support.data import md5_hex
from support.s3 import body, refused, status

ETAG = f'"{md5_hex(b"data")}"'
OTHER = '"00000000000000000000000000000000"'
PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)


@pytest.fixture
def stored(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"data")
    return bucket


def soon():
    return raw.now() + datetime.timedelta(hours=1)


@pytest.mark.parametrize("operation", ["get_object", "head_object"])
def test_a_read_whose_condition_holds_is_answered(s3, stored, operation):
    for condition in (
        {"IfMatch": ETAG},
        {"IfMatch": ETAG.strip('"')},
        {"IfMatch": "*"},
        {"IfMatch": f"{OTHER}, {ETAG}"},
        {"IfNoneMatch": OTHER},
        {"IfModifiedSince": PAST},
        {"IfUnmodifiedSince": soon()},
        {"IfMatch": ETAG, "IfUnmodifiedSince": PAST},  # the ETag decides
    ):
        assert status(getattr(s3, operation)(Bucket=stored, Key="k", **condition)) == 200, condition


@pytest.mark.parametrize("operation", ["get_object", "head_object"])
def test_a_read_whose_condition_fails_is_refused(s3, stored, operation):
    for condition, expected in (
        ({"IfMatch": OTHER}, 412),
        ({"IfUnmodifiedSince": PAST}, 412),
        ({"IfNoneMatch": ETAG}, 304),
        ({"IfNoneMatch": "*"}, 304),
        ({"IfModifiedSince": raw.now()}, 304),
        ({"IfNoneMatch": ETAG, "IfModifiedSince": PAST}, 304),  # the ETag decides
    ):
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            getattr(s3, operation)(Bucket=stored, Key="k", **condition)
        assert status(caught.value.response) == expected, condition


def test_not_modified_carries_the_etag_and_no_body(cluster, stored):
    answer = raw.request(cluster.s3, "GET", f"/{stored}/k", headers={"If-None-Match": ETAG})
    assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", ETAG)


def test_a_write_if_none_match_star_never_overwrites(s3, stored):
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=stored, Key="k", Body=b"new", IfNoneMatch="*")
    assert body(s3.get_object(Bucket=stored, Key="k")) == b"data"
    s3.put_object(Bucket=stored, Key="fresh", Body=b"new", IfNoneMatch="*")
    assert body(s3.get_object(Bucket=stored, Key="fresh")) == b"new"
    s3.delete_object(Bucket=stored, Key="fresh")
    s3.put_object(Bucket=stored, Key="fresh", Body=b"again", IfNoneMatch="*")


def test_a_write_if_match_replaces_only_that_version(s3, stored):
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=stored, Key="k", Body=b"new", IfMatch=OTHER)
    assert body(s3.get_object(Bucket=stored, Key="k")) == b"data"
    s3.put_object(Bucket=stored, Key="k", Body=b"new", IfMatch=ETAG)
    assert body(s3.get_object(Bucket=stored, Key="k")) == b"new"
    with refused("NoSuchKey", 404):
        s3.put_object(Bucket=stored, Key="missing", Body=b"new", IfMatch=ETAG)


def test_of_many_concurrent_first_writes_exactly_one_wins(s3, bucket):
    def create(number):
        try:
            s3.put_object(Bucket=bucket, Key="k", Body=b"%d" % number, IfNoneMatch="*")
        except botocore.exceptions.ClientError as error:
            assert status(error.response) in (409, 412)
            return None
        return number

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        winners = [n for n in pool.map(create, range(24)) if n is not None]
    assert len(winners) == 1
    assert body(s3.get_object(Bucket=bucket, Key="k")) == b"%d" % winners[0]


def test_a_copy_checks_the_conditions_on_its_source(s3, stored):
    source = {"Bucket": stored, "Key": "k"}
    for condition in (
        {"CopySourceIfMatch": ETAG},
        {"CopySourceIfNoneMatch": OTHER},
        {"CopySourceIfModifiedSince": PAST},
        {"CopySourceIfUnmodifiedSince": soon()},
    ):
        s3.copy_object(Bucket=stored, Key="copy", CopySource=source, **condition)
    for condition in (
        {"CopySourceIfMatch": OTHER},
        {"CopySourceIfNoneMatch": ETAG},
        {"CopySourceIfUnmodifiedSince": PAST},
    ):
        with refused("PreconditionFailed", 412):
            s3.copy_object(Bucket=stored, Key="never", CopySource=source, **condition)
    with refused("404"):
        s3.head_object(Bucket=stored, Key="never")


def test_a_copy_checks_the_conditions_on_its_target(s3, stored):
    source = {"Bucket": stored, "Key": "k"}
    s3.put_object(Bucket=stored, Key="target", Body=b"old")
    with refused("PreconditionFailed", 412):
        s3.copy_object(Bucket=stored, Key="target", CopySource=source, IfNoneMatch="*")
    with refused("PreconditionFailed", 412):
        s3.copy_object(Bucket=stored, Key="target", CopySource=source, IfMatch=OTHER)
    assert body(s3.get_object(Bucket=stored, Key="target")) == b"old"
    s3.copy_object(Bucket=stored, Key="fresh", CopySource=source, IfNoneMatch="*")
