"""Step e. CORS of a bucket: settings, preflight, and the headers of real answers."""

import pytest

from support import raw
from support.s3 import refused, status

RULES = [
    {
        "ID": "app",
        "AllowedOrigins": ["https://app.example"],
        "AllowedMethods": ["GET", "PUT"],
        "AllowedHeaders": ["x-amz-meta-*", "content-type"],
        "ExposeHeaders": ["ETag", "x-amz-version-id"],
        "MaxAgeSeconds": 600,
    },
    {"AllowedOrigins": ["http://*.wild.example"], "AllowedMethods": ["GET"]},
]


@pytest.fixture
def shared(s3, bucket):
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": RULES})
    s3.put_object(Bucket=bucket, Key="k", Body=b"data")
    return bucket


def preflight(cluster, bucket, origin, method, headers=None):
    asked = {"Origin": origin, "Access-Control-Request-Method": method}
    if headers:
        asked["Access-Control-Request-Headers"] = headers
    return raw.send(cluster.s3, "OPTIONS", f"/{bucket}/k", asked)


def test_rules_are_put_read_and_deleted(s3, bucket):
    with refused("NoSuchCORSConfiguration", 404):
        s3.get_bucket_cors(Bucket=bucket)
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": RULES})
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"] == RULES
    assert status(s3.delete_bucket_cors(Bucket=bucket)) == 204
    with refused("NoSuchCORSConfiguration", 404):
        s3.get_bucket_cors(Bucket=bucket)


def test_an_allowed_preflight_is_answered(cluster, shared):
    answer = preflight(
        cluster, shared, "https://app.example", "PUT", "Content-Type, x-amz-meta-color"
    )
    assert answer.status == 200, answer
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert "PUT" in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"].lower().replace(" ", "").split(",")
    assert {"content-type", "x-amz-meta-color"} <= set(allowed)
    assert answer.headers["access-control-max-age"] == "600"
    assert (
        answer.headers["access-control-expose-headers"].replace(" ", "") == "ETag,x-amz-version-id"
    )
    assert "origin" in answer.headers["vary"].lower()


def test_a_wildcard_in_the_origin_matches(cluster, shared):
    answer = preflight(cluster, shared, "http://a.b.wild.example", "GET")
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "http://a.b.wild.example"
    assert preflight(cluster, shared, "https://a.wild.example", "GET").status == 403


@pytest.mark.parametrize(
    ("origin", "method", "headers"),
    [
        ("https://evil.example", "GET", None),
        ("https://app.example", "DELETE", None),
        ("https://app.example", "PUT", "x-other"),
        ("https://app.example.evil", "GET", None),
    ],
)
def test_a_preflight_that_no_rule_allows_is_forbidden(cluster, shared, origin, method, headers):
    answer = preflight(cluster, shared, origin, method, headers)
    assert (answer.status, answer.code) in ((403, "AccessForbidden"), (403, "AccessDenied")), answer
    assert "access-control-allow-origin" not in answer.headers


def test_without_rules_every_preflight_is_forbidden(cluster, bucket):
    answer = preflight(cluster, bucket, "https://app.example", "GET")
    assert answer.status == 403 and "access-control-allow-origin" not in answer.headers


def test_a_preflight_without_an_origin_is_refused(cluster, shared):
    answer = raw.send(cluster.s3, "OPTIONS", f"/{shared}/k")
    assert answer.status in (400, 403), answer


def test_real_answers_carry_the_headers_for_an_allowed_origin(cluster, shared):
    for method, data in (("GET", None), ("PUT", b"new")):
        answer = raw.request(
            cluster.s3, method, f"/{shared}/k", headers={"Origin": "https://app.example"}, body=data
        )
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert "etag" in answer.headers["access-control-expose-headers"].lower()
    missing = raw.request(
        cluster.s3, "GET", f"/{shared}/missing", headers={"Origin": "https://app.example"}
    )
    assert missing.status == 404  # a browser can read errors, too
    assert missing.headers["access-control-allow-origin"] == "https://app.example"


def test_real_answers_are_plain_for_other_origins(cluster, shared):
    answer = raw.request(
        cluster.s3, "GET", f"/{shared}/k", headers={"Origin": "https://evil.example"}
    )
    assert answer.status == 200 and "access-control-allow-origin" not in answer.headers


def test_a_presigned_url_works_across_origins(cluster, s3, shared):
    path = raw.presign(cluster.s3, "GET", f"/{shared}/k")
    answer = raw.send(cluster.s3, "GET", path, {"Origin": "https://app.example"})
    assert answer.body == b"data"
    assert answer.headers["access-control-allow-origin"] == "https://app.example"


def test_a_star_allows_everybody(cluster, s3, bucket):
    rule = {"AllowedOrigins": ["*"], "AllowedMethods": ["GET"], "AllowedHeaders": ["*"]}
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
    answer = preflight(cluster, bucket, "https://anybody.example", "GET", "x-anything")
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] in ("*", "https://anybody.example")


def test_rules_that_make_no_sense_are_refused(s3, bucket):
    for rule in (
        {"AllowedOrigins": ["*"], "AllowedMethods": ["PATCH"]},
        {"AllowedOrigins": ["http://*.a.*"], "AllowedMethods": ["GET"]},
    ):
        with refused(("InvalidRequest", "MalformedXML"), 400):
            s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
