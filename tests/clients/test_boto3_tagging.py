"""Step e. Tags of objects and buckets."""

import pytest

from support.s3 import body, refused, status


def tags(**pairs):
    return {"TagSet": [{"Key": key, "Value": value} for key, value in pairs.items()]}


def pairs(answer):
    return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}


@pytest.fixture
def stored(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"data")
    return bucket


def test_object_tags_are_put_read_replaced_and_deleted(s3, stored):
    assert pairs(s3.get_object_tagging(Bucket=stored, Key="k")) == {}
    s3.put_object_tagging(Bucket=stored, Key="k", Tagging=tags(color="red", shape="round"))
    assert pairs(s3.get_object_tagging(Bucket=stored, Key="k")) == {
        "color": "red",
        "shape": "round",
    }
    s3.put_object_tagging(Bucket=stored, Key="k", Tagging=tags(color="blue é/+=@:"))
    assert pairs(s3.get_object_tagging(Bucket=stored, Key="k")) == {"color": "blue é/+=@:"}
    assert status(s3.delete_object_tagging(Bucket=stored, Key="k")) == 204
    assert pairs(s3.get_object_tagging(Bucket=stored, Key="k")) == {}
    assert body(s3.get_object(Bucket=stored, Key="k")) == b"data"


def test_tags_may_come_with_the_object_and_are_counted(s3, stored):
    s3.put_object(Bucket=stored, Key="k", Body=b"x", Tagging="color=red&with%20space=a%2Bb&empty=")
    wanted = {"color": "red", "with space": "a+b", "empty": ""}
    assert pairs(s3.get_object_tagging(Bucket=stored, Key="k")) == wanted
    assert s3.get_object(Bucket=stored, Key="k")["TagCount"] == 3
    s3.put_object(Bucket=stored, Key="k", Body=b"y")
    assert pairs(s3.get_object_tagging(Bucket=stored, Key="k")) == {}


def test_tags_of_a_multipart_upload_are_those_of_its_start(s3, bucket):
    made = s3.create_multipart_upload(Bucket=bucket, Key="k", Tagging="color=red")
    names = {"Bucket": bucket, "Key": "k", "UploadId": made["UploadId"]}
    part = s3.upload_part(**names, PartNumber=1, Body=b"x")
    parts = [{"PartNumber": 1, "ETag": part["ETag"]}]
    s3.complete_multipart_upload(**names, MultipartUpload={"Parts": parts})
    assert pairs(s3.get_object_tagging(Bucket=bucket, Key="k")) == {"color": "red"}


def test_a_copy_takes_the_tags_along_or_replaces_them(s3, stored):
    s3.put_object_tagging(Bucket=stored, Key="k", Tagging=tags(color="red"))
    source = {"Bucket": stored, "Key": "k"}
    s3.copy_object(Bucket=stored, Key="kept", CopySource=source)
    assert pairs(s3.get_object_tagging(Bucket=stored, Key="kept")) == {"color": "red"}
    s3.copy_object(
        Bucket=stored, Key="new", CopySource=source, TaggingDirective="REPLACE", Tagging="a=b"
    )
    assert pairs(s3.get_object_tagging(Bucket=stored, Key="new")) == {"a": "b"}


def test_an_object_has_at_most_ten_tags(s3, stored):
    ten = tags(**{f"k{n}": "v" for n in range(10)})
    s3.put_object_tagging(Bucket=stored, Key="k", Tagging=ten)
    with refused(("BadRequest", "InvalidTag"), 400):
        s3.put_object_tagging(
            Bucket=stored, Key="k", Tagging=tags(**{f"k{n}": "v" for n in range(11)})
        )
    with refused(("BadRequest", "InvalidTag", "InvalidArgument"), 400):
        s3.put_object(
            Bucket=stored, Key="k", Body=b"x", Tagging="&".join(f"k{n}=v" for n in range(11))
        )
    assert len(pairs(s3.get_object_tagging(Bucket=stored, Key="k"))) == 10
    assert body(s3.get_object(Bucket=stored, Key="k")) == b"data"


@pytest.mark.parametrize(
    "wrong",
    [
        [("k" * 129, "v")],
        [("k", "v" * 257)],
        [("same", "1"), ("same", "2")],
        [("aws:reserved", "v")],
    ],
    ids=["long key", "long value", "twice", "reserved"],
)
def test_invalid_tags_are_refused(s3, stored, wrong):
    tagging = {"TagSet": [{"Key": key, "Value": value} for key, value in wrong]}
    with refused(("InvalidTag", "InvalidTagKey", "MalformedXML"), 400):
        s3.put_object_tagging(Bucket=stored, Key="k", Tagging=tagging)
    assert pairs(s3.get_object_tagging(Bucket=stored, Key="k")) == {}


def test_tags_of_what_is_not_there_are_refused(s3, bucket):
    with refused("NoSuchKey", 404):
        s3.get_object_tagging(Bucket=bucket, Key="missing")
    with refused("NoSuchKey", 404):
        s3.put_object_tagging(Bucket=bucket, Key="missing", Tagging=tags(a="b"))


def test_bucket_tags_are_put_read_and_deleted(s3, bucket):
    with refused("NoSuchTagSet", 404):
        s3.get_bucket_tagging(Bucket=bucket)
    s3.put_bucket_tagging(Bucket=bucket, Tagging=tags(team="storage", stage="test"))
    assert pairs(s3.get_bucket_tagging(Bucket=bucket)) == {"team": "storage", "stage": "test"}
    assert status(s3.delete_bucket_tagging(Bucket=bucket)) == 204
    with refused("NoSuchTagSet", 404):
        s3.get_bucket_tagging(Bucket=bucket)


def test_a_bucket_has_at_most_fifty_tags(s3, bucket):
    fifty = {f"k{n:02}": "v" for n in range(50)}
    s3.put_bucket_tagging(Bucket=bucket, Tagging=tags(**fifty))
    assert pairs(s3.get_bucket_tagging(Bucket=bucket)) == fifty
    with refused(("BadRequest", "InvalidTag"), 400):
        s3.put_bucket_tagging(Bucket=bucket, Tagging=tags(**fifty, one_more="v"))


def test_versions_have_tags_of_their_own(s3, versioned):
    first = s3.put_object(Bucket=versioned, Key="k", Body=b"1", Tagging="n=1")["VersionId"]
    second = s3.put_object(Bucket=versioned, Key="k", Body=b"2", Tagging="n=2")["VersionId"]
    assert pairs(s3.get_object_tagging(Bucket=versioned, Key="k")) == {"n": "2"}
    assert pairs(s3.get_object_tagging(Bucket=versioned, Key="k", VersionId=first)) == {"n": "1"}
    s3.put_object_tagging(Bucket=versioned, Key="k", VersionId=first, Tagging=tags(n="one"))
    assert pairs(s3.get_object_tagging(Bucket=versioned, Key="k", VersionId=first)) == {"n": "one"}
    assert pairs(s3.get_object_tagging(Bucket=versioned, Key="k", VersionId=second)) == {"n": "2"}
