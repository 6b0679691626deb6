"""Step b. Who may do what: signatures, presigned URLs, anonymous, users, addressing styles."""

import datetime

import pytest

from support import raw
from support.data import MIB, random_bytes, unique
from support.s3 import body, client, refused


@pytest.fixture
def stored(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"data", ContentType="text/plain")
    return bucket


# -- signatures ----------------------------------------------------------------------------


def test_a_wrong_secret_key_is_refused(cluster, stored):
    wrong = client(cluster.s3, secret_key="not-the-secret")
    with refused("SignatureDoesNotMatch", 403):
        wrong.get_object(Bucket=stored, Key="k")
    with refused("SignatureDoesNotMatch", 403):
        wrong.put_object(Bucket=stored, Key="k", Body=b"changed")


def test_an_unknown_access_key_is_refused(cluster, stored):
    with refused("InvalidAccessKeyId", 403):
        client(cluster.s3, access_key="nobody").list_objects_v2(Bucket=stored)


def test_a_changed_signature_is_refused(cluster, stored):
    answer = raw.request(cluster.s3, "GET", f"/{stored}/k", tamper=True)
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch"), answer


def test_a_body_other_than_the_signed_one_is_refused(cluster, s3, stored):
    for size in (10, 2 * MIB):
        data = random_bytes(size)
        answer = raw.request(
            cluster.s3, "PUT", f"/{stored}/k", body=data, payload_hash=raw.EMPTY_SHA256
        )
        assert (answer.status, answer.code) == (400, "XAmzContentSHA256Mismatch"), answer
        assert body(s3.get_object(Bucket=stored, Key="k")) == b"data"


def test_an_unsigned_payload_is_accepted_in_a_signed_request(cluster, s3, stored):
    answer = raw.request(
        cluster.s3, "PUT", f"/{stored}/u", body=b"unsigned", payload_hash="UNSIGNED-PAYLOAD"
    )
    assert answer.status == 200, answer
    assert body(s3.get_object(Bucket=stored, Key="u")) == b"unsigned"


def test_a_clock_that_is_off_by_an_hour_is_refused(cluster, stored):
    for hours in (-1, 1):
        signer = raw.Signer(moment=raw.now() + datetime.timedelta(hours=hours))
        answer = raw.request(cluster.s3, "GET", f"/{stored}/k", signer=signer)
        assert (answer.status, answer.code) == (403, "RequestTimeTooSkewed"), answer


def test_a_garbled_authorization_header_is_refused(cluster, stored):
    for value in (
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=x",
        "Basic eDp5",
        "Bearer x",
        "x" * 5000,
    ):
        answer = raw.send(cluster.s3, "GET", f"/{stored}/k", {"Authorization": value})
        assert answer.status in (400, 403), (value, answer)


# -- anonymous -----------------------------------------------------------------------------


def test_anonymous_requests_are_refused(cluster, s3, stored):
    for method, path, data in (
        ("GET", f"/{stored}/k", None),
        ("HEAD", f"/{stored}/k", None),
        ("GET", f"/{stored}", None),
        ("GET", "/", None),
        ("PUT", f"/{stored}/k", b"changed"),
        ("DELETE", f"/{stored}/k", None),
        ("PUT", f"/{unique()}", b""),
    ):
        answer = raw.send(cluster.s3, method, path, body=data)
        assert answer.status == 403, (method, path, answer)
        assert method == "HEAD" or answer.code == "AccessDenied", answer
    assert body(s3.get_object(Bucket=stored, Key="k")) == b"data"


# -- presigned -----------------------------------------------------------------------------


def fetch(cluster, url, method="GET", data=None, headers=None):
    return raw.send(cluster.s3, method, url.removeprefix(cluster.s3), headers, data)


def test_a_presigned_get_reads(cluster, s3, stored):
    url = s3.generate_presigned_url(
        "get_object", Params={"Bucket": stored, "Key": "k"}, ExpiresIn=60
    )
    answer = fetch(cluster, url)
    assert (answer.status, answer.body) == (200, b"data")
    assert fetch(cluster, url, headers={"Range": "bytes=1-2"}).body == b"at"


def test_a_presigned_get_may_override_headers(cluster, s3, stored):
    parameters = {
        "Bucket": stored,
        "Key": "k",
        "ResponseContentDisposition": 'attachment; filename="é"',
    }
    url = s3.generate_presigned_url("get_object", Params=parameters)
    answer = fetch(cluster, url)
    assert answer.status == 200 and answer.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize("size", [0, 5, 3 * MIB])
def test_a_presigned_put_writes(cluster, s3, stored, size):
    data = random_bytes(size)
    url = s3.generate_presigned_url("put_object", Params={"Bucket": stored, "Key": "p ü+"})
    answer = fetch(cluster, url, "PUT", data)
    assert answer.status == 200, answer
    assert body(s3.get_object(Bucket=stored, Key="p ü+")) == data


def test_a_presigned_url_works_for_one_method_only(cluster, s3, stored):
    url = s3.generate_presigned_url("get_object", Params={"Bucket": stored, "Key": "k"})
    for method, data in (("PUT", b"changed"), ("DELETE", None)):
        answer = fetch(cluster, url, method, data)
        assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch"), answer


def test_a_presigned_url_works_for_one_key_only(cluster, s3, stored):
    s3.put_object(Bucket=stored, Key="other", Body=b"other")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": stored, "Key": "k"})
    answer = fetch(cluster, url.replace(f"/{stored}/k?", f"/{stored}/other?"))
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch"), answer


def test_an_expired_presigned_url_is_refused(cluster, stored):
    signer = raw.Signer(moment=raw.now() - datetime.timedelta(minutes=10))
    fresh = raw.presign(cluster.s3, "GET", f"/{stored}/k", seconds=900, signer=signer)
    assert raw.send(cluster.s3, "GET", fresh).status == 200
    expired = raw.presign(cluster.s3, "GET", f"/{stored}/k", seconds=540, signer=signer)
    answer = raw.send(cluster.s3, "GET", expired)
    assert (answer.status, answer.code) == (403, "AccessDenied"), answer


def test_a_presigned_url_lives_at_most_a_week(cluster, stored):
    path = raw.presign(cluster.s3, "GET", f"/{stored}/k", seconds=604_801)
    answer = raw.send(cluster.s3, "GET", path)
    assert answer.status in (400, 403), answer
    assert answer.code == "AuthorizationQueryParametersError", answer


def test_a_presigned_url_with_a_wrong_key_is_refused(cluster, stored):
    for signer, code in (
        (raw.Signer(secret_key="wrong"), "SignatureDoesNotMatch"),
        (raw.Signer(access_key="nobody"), "InvalidAccessKeyId"),
    ):
        path = raw.presign(cluster.s3, "GET", f"/{stored}/k", signer=signer)
        answer = raw.send(cluster.s3, "GET", path)
        assert (answer.status, answer.code) == (403, code), answer


# -- chunked uploads -----------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 300_000, 3 * MIB + 1])
def test_a_signed_chunked_upload_is_stored(cluster, s3, stored, size):
    data = random_bytes(size)
    answer = raw.put_chunked(cluster.s3, f"/{stored}/c", data)
    assert answer.status == 200, answer
    got = s3.get_object(Bucket=stored, Key="c")
    assert body(got) == data and "ContentEncoding" not in got


def test_a_chunk_that_was_changed_on_the_way_is_refused(cluster, s3, stored):
    for chunk in (0, 3):
        answer = raw.put_chunked(cluster.s3, f"/{stored}/k", random_bytes(300_000), tamper_at=chunk)
        assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch"), answer
        assert body(s3.get_object(Bucket=stored, Key="k")) == b"data"


def test_a_chunked_upload_without_its_end_is_refused(cluster, s3, stored):
    answer = raw.put_chunked(cluster.s3, f"/{stored}/k", random_bytes(200_000), cut=True)
    assert 400 <= answer.status < 500, answer
    assert body(s3.get_object(Bucket=stored, Key="k")) == b"data"


# -- addressing ----------------------------------------------------------------------------


def port(cluster):
    return cluster.s3.rpartition(":")[2]


def test_the_bucket_may_stand_in_the_host_name(cluster, s3, stored):
    host = f"{stored}.localhost:{port(cluster)}"
    answer = raw.request(cluster.s3, "GET", "/k", host=host)
    assert (answer.status, answer.body) == (200, b"data"), answer
    answer = raw.request(cluster.s3, "PUT", "/a b/ü", host=host, body=b"virtual")
    assert answer.status == 200, answer
    assert body(s3.get_object(Bucket=stored, Key="a b/ü")) == b"virtual"
    listing = raw.request(cluster.s3, "GET", "/", query=[("list-type", "2")], host=host)
    assert b"<Key>k</Key>" in listing.body, listing
    presigned = raw.presign(cluster.s3, "GET", "/k", host=host)
    assert raw.send(cluster.s3, "GET", presigned, {"Host": host}).body == b"data"


def test_localhost_alone_is_path_style(cluster, stored):
    answer = raw.request(cluster.s3, "GET", f"/{stored}/k", host=f"localhost:{port(cluster)}")
    assert (answer.status, answer.body) == (200, b"data"), answer


@pytest.mark.parametrize("name", ["api", "health", "metrics", "openapi.json"])
def test_a_bucket_may_be_named_like_a_path_of_the_json_api(cluster, s3, name):
    s3.create_bucket(Bucket=name)
    for key in ("v1/stats", "v1/objects/x", "k"):
        s3.put_object(Bucket=name, Key=key, Body=b"mine")
        assert body(s3.get_object(Bucket=name, Key=key)) == b"mine"
        url = s3.generate_presigned_url("get_object", Params={"Bucket": name, "Key": key})
        assert fetch(cluster, url).body == b"mine"
        s3.delete_object(Bucket=name, Key=key)
    assert s3.list_objects_v2(Bucket=name)["KeyCount"] == 0
    s3.delete_bucket(Bucket=name)


def test_any_region_in_the_signature_is_accepted(cluster, stored):
    signer = raw.Signer(region="eu-central-1")
    answer = raw.request(cluster.s3, "GET", f"/{stored}/k", signer=signer)
    assert (answer.status, answer.body) == (200, b"data"), answer
