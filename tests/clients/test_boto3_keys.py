"""Step b. Key names: any UTF-8 up to 1,024 bytes is stored and given back byte for byte."""

import pytest

from support import raw
from support.s3 import body, keys, refused

KEYS = [
    "plain",
    "with space",
    " leading and trailing ",
    "a//b",
    "/leading/slash",
    "//two",
    "trailing/",
    "..",
    ".",
    "a/../b",
    "../up",
    "a/./b",
    "percent%20sign",
    "%",
    "%2F",
    "100%",
    "plus+sign",
    "question?mark",
    "hash#mark",
    "amper&sand=equals;semi,comma",
    "quote\"double'single",
    "angle<bracket>&amp;",
    "back\\slash",
    "colon:at@dollar$star*paren()bang!",
    "tilde~caret^bar|brace{}bracket[]backtick`",
    "tab\there",
    "new\nline",
    "control\x01char",
    "\x7fdel",
    "grüße/ñandú",
    "日本語/キー",
    "emoji-😀-🧪",
    "e\u0301 is not é",  # decomposed and composed forms are two keys
    "é is not e\u0301",
    "\u202eright-to-left",
    "api/v1/objects",
    "health",
    "x" * 1024,
    "ü" * 512,
]


@pytest.mark.parametrize("key", KEYS, ids=lambda key: ascii(key)[:30])
def test_a_key_comes_back_as_it_was_given(s3, bucket, key):
    data = key.encode()
    s3.put_object(Bucket=bucket, Key=key, Body=data, Metadata={"a": "b"})
    assert body(s3.get_object(Bucket=bucket, Key=key)) == data
    assert s3.head_object(Bucket=bucket, Key=key)["ContentLength"] == len(data)
    assert keys(s3.list_objects_v2(Bucket=bucket)) == [key]
    assert keys(s3.list_objects_v2(Bucket=bucket, Prefix=key)) == [key]
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key})
    assert body(s3.get_object(Bucket=bucket, Key="copy")) == data
    s3.delete_object(Bucket=bucket, Key=key)
    with refused("NoSuchKey"):
        s3.get_object(Bucket=bucket, Key=key)


def test_keys_that_look_alike_are_different_objects(s3, bucket):
    alike = ["a", "A", "a/", "/a", "a//", "a%2F", "a ", "a+", "é", "e\u0301", "a/../a", "./a"]
    for key in alike:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for key in alike:
        assert body(s3.get_object(Bucket=bucket, Key=key)) == key.encode()
    assert keys(s3.list_objects_v2(Bucket=bucket)) == sorted(alike, key=str.encode)


def test_keys_are_listed_in_the_order_of_their_bytes(s3, bucket):
    # U+FF5E sorts after U+1F600 in UTF-16, but before it in UTF-8, which is S3's order.
    names = ["z", "~", "é", "\uff5e", "\U0001f600", "Z", "0", "a-b", "a/b", "a.b"]
    for key in names:
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    assert keys(s3.list_objects_v2(Bucket=bucket)) == sorted(names, key=str.encode)


@pytest.mark.parametrize("key", ["x" * 1025, "ü" * 512 + "x"], ids=["ascii", "utf-8"])
def test_a_key_of_1025_bytes_is_too_long(s3, bucket, key):
    with refused("KeyTooLongError", 400):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")


def test_a_path_that_is_not_utf8_is_refused(cluster, bucket):
    path = raw.presign(cluster.s3, "PUT", f"/{bucket}/k").replace("/k?", "/%FF%FE?")
    assert 400 <= raw.send(cluster.s3, "PUT", path, body=b"x").status < 500


def test_a_slash_key_does_not_touch_its_neighbours(s3, bucket):
    s3.put_object(Bucket=bucket, Key="folder/", Body=b"")
    s3.put_object(Bucket=bucket, Key="folder/file", Body=b"file")
    s3.delete_object(Bucket=bucket, Key="folder/")
    assert keys(s3.list_objects_v2(Bucket=bucket)) == ["folder/file"]
