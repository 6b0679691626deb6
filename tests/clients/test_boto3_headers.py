"""Step b. User metadata, the standard headers of an object, and response-* overrides."""

import datetime

import pytest

from support import raw
from support.s3 import header, refused

STANDARD = {
    "ContentType": "text/markdown; charset=utf-8",
    "CacheControl": "max-age=60, public",
    "ContentDisposition": 'attachment; filename="x y.md"',
    "ContentEncoding": "identity",
    "ContentLanguage": "de, en",
    "Expires": datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
}


def test_standard_headers_come_back_on_get_and_head(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", **STANDARD)
    for answer in (s3.get_object(Bucket=bucket, Key="k"), s3.head_object(Bucket=bucket, Key="k")):
        for name in ("ContentType", "CacheControl", "ContentDisposition", "ContentLanguage"):
            assert answer[name] == STANDARD[name]
        assert answer["ContentEncoding"] == "identity"
        assert header(answer, "expires") == "Wed, 02 Jan 2030 03:04:05 GMT"


def test_an_object_without_a_type_is_an_octet_stream(cluster, s3, bucket):
    raw.request(cluster.s3, "PUT", f"/{bucket}/k", body=b"x")
    assert s3.head_object(Bucket=bucket, Key="k")["ContentType"] in (
        "binary/octet-stream",
        "application/octet-stream",
    )


def test_headers_that_were_not_given_do_not_appear(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    answer = s3.head_object(Bucket=bucket, Key="k")
    for name in (
        "CacheControl",
        "ContentDisposition",
        "ContentEncoding",
        "ContentLanguage",
        "Expires",
    ):
        assert name not in answer
    assert answer["Metadata"] == {}


def test_aws_chunked_is_not_stored_as_an_encoding(cluster, s3, bucket):
    headers = {"Content-Encoding": "aws-chunked,gzip"}
    answer = raw.put_chunked(cluster.s3, f"/{bucket}/k", b"x" * 1000, headers=headers)
    assert answer.status == 200, answer
    assert s3.head_object(Bucket=bucket, Key="k")["ContentEncoding"] == "gzip"


def test_user_metadata_come_back(s3, bucket):
    metadata = {"color": "red", "with-dash": "a b  c", "empty": "", "number": "007"}
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata=metadata)
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == metadata
    assert s3.get_object(Bucket=bucket, Key="k")["Metadata"] == metadata


def test_user_metadata_names_are_lower_case(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata={"Mixed-Case": "Value"})
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == {"mixed-case": "Value"}


def test_user_metadata_have_a_limit_of_two_kilobytes(s3, bucket):
    s3.put_object(Bucket=bucket, Key="fits", Body=b"x", Metadata={"a": "x" * 2000})
    assert s3.head_object(Bucket=bucket, Key="fits")["Metadata"] == {"a": "x" * 2000}
    with refused("MetadataTooLarge", 400):
        s3.put_object(Bucket=bucket, Key="too-large", Body=b"x", Metadata={"a": "x" * 2100})


def test_an_overwrite_replaces_headers_and_metadata(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata={"a": "1"}, **STANDARD)
    s3.put_object(Bucket=bucket, Key="k", Body=b"y")
    answer = s3.head_object(Bucket=bucket, Key="k")
    assert answer["Metadata"] == {} and "CacheControl" not in answer


OVERRIDES = {
    "ResponseContentType": "image/png",
    "ResponseContentLanguage": "fr",
    "ResponseContentDisposition": "inline",
    "ResponseContentEncoding": "br",
    "ResponseCacheControl": "no-store",
}


def test_a_read_may_override_headers(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", **STANDARD)
    expires = datetime.datetime(2031, 1, 1, tzinfo=datetime.timezone.utc)
    answer = s3.get_object(Bucket=bucket, Key="k", ResponseExpires=expires, **OVERRIDES)
    for name, value in OVERRIDES.items():
        assert answer[name.removeprefix("Response")] == value
    assert "2031" in header(answer, "expires")
    assert s3.head_object(Bucket=bucket, Key="k")["ContentType"] == STANDARD["ContentType"]


@pytest.mark.parametrize("value", ["Grüße", "日本"])
def test_metadata_outside_of_ascii_come_back_as_they_were_sent(cluster, bucket, value):
    headers = {"x-amz-meta-name": value.encode().decode("latin-1")}
    answer = raw.request(cluster.s3, "PUT", f"/{bucket}/k", body=b"x", headers=encoded(headers))
    if answer.status == 200:  # else refused, which is allowed; silently changed is not
        head = raw.request(cluster.s3, "HEAD", f"/{bucket}/k")
        assert decoded(head.headers["x-amz-meta-name"]) == value
    else:
        assert answer.status == 400 or answer.code == "SignatureDoesNotMatch", answer


def encoded(headers):
    """RFC 2047, which is what AWS answers with and clients send."""
    import base64

    return {
        name: "=?UTF-8?B?" + base64.b64encode(value.encode("latin-1")).decode() + "?="
        for name, value in headers.items()
    }


def decoded(value):
    import email.header

    return str(email.header.make_header(email.header.decode_header(value)))
