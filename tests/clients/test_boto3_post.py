"""Step e. POST object: what a browser form sends, its policy, and what the policy refuses."""

import base64
import datetime
import json

import pytest
import urllib3.filepost

from support import raw
from support.data import MIB, md5_hex, random_bytes
from support.s3 import body, refused


def post(cluster, bucket, fields, data, filename="file.txt", content_type=None, last=()):
    """Sends the form; the file goes last, as the rules of S3 ask, then the fields of `last`."""
    parts = [*fields.items(), ("file", (filename, data, content_type or "text/plain")), *last]
    form, kind = urllib3.filepost.encode_multipart_formdata(parts)
    return raw.send(cluster.s3, "POST", f"/{bucket}", {"Content-Type": kind}, form)


def presigned(s3, bucket, key="k", **options):
    return s3.generate_presigned_post(bucket, key, **options)["fields"]


@pytest.mark.parametrize("size", [0, 1, 100_000, 6 * MIB])
def test_a_form_stores_the_file(cluster, s3, bucket, size):
    data = random_bytes(size)
    answer = post(cluster, bucket, presigned(s3, bucket), data)
    assert answer.status == 204, answer
    assert answer.headers["etag"] == s3.head_object(Bucket=bucket, Key="k")["ETag"]
    assert answer.headers["location"] == f"{cluster.s3}/{bucket}/k"
    assert body(s3.get_object(Bucket=bucket, Key="k")) == data


def test_a_file_full_of_what_looks_like_a_boundary_is_stored(cluster, s3, bucket):
    for data in (b"\r" * MIB, b"\r\n--" * 200_000):
        assert post(cluster, bucket, presigned(s3, bucket), data).status == 204
        assert body(s3.get_object(Bucket=bucket, Key="k")) == data


def test_fields_of_the_form_become_headers_and_metadata(cluster, s3, bucket):
    extra = {"Content-Type": "image/png", "x-amz-meta-color": "red", "Cache-Control": "no-store"}
    conditions = [{name: value} for name, value in extra.items()]
    fields = presigned(s3, bucket, Fields=extra, Conditions=conditions)
    assert post(cluster, bucket, fields, b"x").status == 204
    head = s3.head_object(Bucket=bucket, Key="k")
    assert (head["ContentType"], head["Metadata"]) == ("image/png", {"color": "red"})
    assert head["CacheControl"] == "no-store"


def test_the_name_of_the_file_may_go_into_the_key(cluster, s3, bucket):
    fields = presigned(s3, bucket, "up/${filename}", Conditions=[["starts-with", "$key", "up/"]])
    assert post(cluster, bucket, fields, b"x", filename="näme.txt").status == 204
    assert body(s3.get_object(Bucket=bucket, Key="up/näme.txt")) == b"x"
    # old browsers give the whole path; and a name must not lead out of what the policy allows
    assert post(cluster, bucket, fields, b"y", filename="C:\\docs\\a.txt").status == 204
    assert body(s3.get_object(Bucket=bucket, Key="up/a.txt")) == b"y"
    fields = presigned(s3, bucket, "${filename}", Conditions=[["starts-with", "$key", "up/"]])
    assert post(cluster, bucket, fields, b"x", filename="k").code == "AccessDenied"


def test_the_form_may_ask_for_201_with_xml(cluster, s3, bucket):
    extra = {"success_action_status": "201"}
    fields = presigned(s3, bucket, "a b", Fields=extra, Conditions=[extra])
    answer = post(cluster, bucket, fields, b"x")
    assert answer.status == 201
    assert f"<Bucket>{bucket}</Bucket>".encode() in answer.body
    assert b"<Key>a b</Key>" in answer.body
    assert f"<ETag>&quot;{md5_hex(b'x')}&quot;</ETag>".encode() in answer.body
    assert f"<Location>{cluster.s3}/{bucket}/a%20b</Location>".encode() in answer.body


def test_the_form_may_ask_for_a_redirect(cluster, s3, bucket):
    extra = {"success_action_redirect": "http://app.example/done?x=1"}
    answer = post(cluster, bucket, presigned(s3, bucket, Fields=extra, Conditions=[extra]), b"x")
    assert answer.status == 303, answer
    assert answer.headers["location"].startswith("http://app.example/done?x=1&")
    assert f"bucket={bucket}&key=k&etag=%22{md5_hex(b'x')}%22" in answer.headers["location"]
    extra = {"success_action_redirect": "javascript:alert(1)"}
    answer = post(cluster, bucket, presigned(s3, bucket, Fields=extra, Conditions=[extra]), b"y")
    assert (answer.status, answer.code) == (400, "InvalidArgument"), answer
    assert body(s3.get_object(Bucket=bucket, Key="k")) == b"x", "refused before it is stored"


def test_the_size_may_be_limited(cluster, s3, bucket):
    fields = presigned(s3, bucket, Conditions=[["content-length-range", 5, 10]])
    assert post(cluster, bucket, fields, b"12345").status == 204
    for data, code in (
        (b"1234", "EntityTooSmall"),
        (b"x" * 11, "EntityTooLarge"),
        (b"x" * MIB, "EntityTooLarge"),
    ):
        answer = post(cluster, bucket, fields, data)
        assert (answer.status, answer.code) == (400, code), answer
    assert body(s3.get_object(Bucket=bucket, Key="k")) == b"12345"


def test_what_the_policy_does_not_allow_is_refused(cluster, s3, bucket):
    fields = presigned(s3, bucket)
    for changed in (
        {**fields, "key": "other"},
        {**fields, "x-amz-meta-color": "red"},
        {**fields, "Content-Type": "image/png"},
    ):
        answer = post(cluster, bucket, changed, b"x")
        assert (answer.status, answer.code) == (403, "AccessDenied"), answer
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_fields_behind_the_file_are_ignored(cluster, s3, bucket):
    answer = post(cluster, bucket, presigned(s3, bucket), b"x", last=[("key", "other")])
    assert answer.status in (204, 400), answer
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="other")


def test_a_policy_is_for_one_bucket(cluster, s3, bucket):
    from support.data import unique

    other = unique()
    s3.create_bucket(Bucket=other)
    answer = post(cluster, other, presigned(s3, bucket), b"x")
    assert (answer.status, answer.code) == (403, "AccessDenied"), answer
    s3.delete_bucket(Bucket=other)


def test_an_expired_policy_is_refused(cluster, s3, bucket):
    answer = post(cluster, bucket, presigned(s3, bucket, ExpiresIn=-10), b"x")
    assert (answer.status, answer.code) == (403, "AccessDenied"), answer


def test_a_changed_policy_or_signature_is_refused(cluster, s3, bucket):
    fields = presigned(s3, bucket)
    policy = json.loads(base64.b64decode(fields["policy"]))
    policy["expiration"] = "2099-01-01T00:00:00Z"
    longer = base64.b64encode(json.dumps(policy).encode()).decode()
    signature = fields["x-amz-signature"]
    flipped = ("0" if signature[0] != "0" else "1") + signature[1:]
    for changed in ({**fields, "policy": longer}, {**fields, "x-amz-signature": flipped}):
        answer = post(cluster, bucket, changed, b"x")
        assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch"), answer
    unknown = fields["x-amz-credential"].replace("mocks3/", "nobody/", 1)
    answer = post(cluster, bucket, {**fields, "x-amz-credential": unknown}, b"x")
    assert answer.status == 403, answer
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_form_lives_as_long_as_its_policy(cluster, s3, bucket):
    """However long ago it was signed: the page with the form may have been open for hours."""
    signer = raw.Signer(moment=raw.now() - datetime.timedelta(hours=5))
    fields = {
        "key": "k",
        "x-amz-algorithm": raw.ALGORITHM,
        "x-amz-credential": f"{signer.access_key}/{signer.scope}",
        "x-amz-date": signer.date,
    }
    expiration = (raw.now() + datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = [{"bucket": bucket}, *({name: value} for name, value in fields.items())]
    policy = json.dumps({"expiration": expiration, "conditions": conditions}).encode()
    fields["policy"] = base64.b64encode(policy).decode()
    fields["x-amz-signature"] = signer.sign(fields["policy"])
    assert post(cluster, bucket, fields, b"x").status == 204


def test_fields_that_we_cannot_honour_are_refused(cluster, s3, bucket):
    for name, value in (
        ("acl", "public-read"),
        ("tagging", "<Tagging><TagSet/></Tagging>"),
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-storage-class", "GLACIER"),
        ("x-amz-checksum-sha512", "AAAA"),
    ):
        fields = presigned(s3, bucket, Fields={name: value}, Conditions=[{name: value}])
        answer = post(cluster, bucket, fields, b"x")
        assert (answer.status, answer.code) == (501, "NotImplemented"), (name, answer)
    twice = [("key", "a"), *presigned(s3, bucket).items()]
    form, kind = urllib3.filepost.encode_multipart_formdata([*twice, ("file", ("f", b"x"))])
    answer = raw.send(cluster.s3, "POST", f"/{bucket}", {"Content-Type": kind}, form)
    assert (answer.status, answer.code) == (400, "InvalidArgument"), answer
    wrong = {"x-amz-checksum-crc32": "AAAAAA=="}
    answer = post(cluster, bucket, presigned(s3, bucket, Fields=wrong, Conditions=[wrong]), b"x")
    assert (answer.status, answer.code) == (400, "BadDigest"), answer
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_form_without_a_policy_is_anonymous_and_refused(cluster, s3, bucket):
    answer = post(cluster, bucket, {"key": "k"}, b"x")
    assert (answer.status, answer.code) == (403, "AccessDenied"), answer


def test_a_form_that_is_broken_is_refused(cluster, s3, bucket):
    fields = presigned(s3, bucket)
    form, kind = urllib3.filepost.encode_multipart_formdata([*fields.items()])  # no file
    answer = raw.send(cluster.s3, "POST", f"/{bucket}", {"Content-Type": kind}, form)
    assert 400 <= answer.status < 500, answer
    whole, kind = urllib3.filepost.encode_multipart_formdata(
        [*fields.items(), ("file", ("f", b"x" * 5000))]
    )
    answer = raw.send(cluster.s3, "POST", f"/{bucket}", {"Content-Type": kind}, whole[:-200])
    assert 400 <= answer.status < 500, answer
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
