"""Step b. What is not supported answers `NotImplemented` and changes nothing."""

import pytest

from support import raw
from support.s3 import body, refused

LIFECYCLE = {
    "Rules": [{"ID": "r", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}]
}
SSE = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
REPLICATION = {
    "Role": "r",
    "Rules": [{"Status": "Enabled", "Destination": {"Bucket": "arn:aws:s3:::b"}, "Prefix": ""}],
}
BLOCK = {"BlockPublicAcls": True, "IgnorePublicAcls": True}
BUCKET_CALLS = [
    ("put_bucket_lifecycle_configuration", {"LifecycleConfiguration": LIFECYCLE}),
    ("put_bucket_acl", {"ACL": "public-read"}),
    ("put_bucket_website", {"WebsiteConfiguration": {"IndexDocument": {"Suffix": "index.html"}}}),
    ("put_bucket_policy", {"Policy": "{}"}),
    ("put_bucket_replication", {"ReplicationConfiguration": REPLICATION}),
    ("put_bucket_encryption", {"ServerSideEncryptionConfiguration": SSE}),
    ("put_bucket_notification_configuration", {"NotificationConfiguration": {}}),
    ("put_bucket_logging", {"BucketLoggingStatus": {}}),
    ("put_bucket_accelerate_configuration", {"AccelerateConfiguration": {"Status": "Enabled"}}),
    ("put_bucket_request_payment", {"RequestPaymentConfiguration": {"Payer": "Requester"}}),
    ("put_public_access_block", {"PublicAccessBlockConfiguration": BLOCK}),
    (
        "put_object_lock_configuration",
        {"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"}},
    ),
    ("delete_bucket_lifecycle", {}),
    ("delete_bucket_website", {}),
    ("delete_bucket_policy", {}),
    ("get_bucket_website", {}),
    ("get_bucket_notification_configuration", {}),
]
OBJECT_CALLS = [
    ("put_object_acl", {"ACL": "public-read"}),
    (
        "put_object_retention",
        {"Retention": {"Mode": "GOVERNANCE", "RetainUntilDate": "2030-01-01"}},
    ),
    ("put_object_legal_hold", {"LegalHold": {"Status": "ON"}}),
    ("restore_object", {"RestoreRequest": {"Days": 1}}),
    ("get_object_torrent", {}),
]
PUT_OPTIONS = [
    {"ACL": "public-read"},
    {"GrantRead": 'uri="http://acs.amazonaws.com/groups/global/AllUsers"'},
    {"ServerSideEncryption": "AES256"},
    {"ServerSideEncryption": "aws:kms"},
    {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32},
    {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": "2030-01-01"},
    {"ObjectLockLegalHoldStatus": "ON"},
    {"WriteOffsetBytes": 4},
]
CODES = ("NotImplemented", "AccessControlListNotSupported")


@pytest.fixture
def stored(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"data")
    return bucket


@pytest.mark.parametrize(
    ("call", "arguments"), BUCKET_CALLS, ids=[call for call, _ in BUCKET_CALLS]
)
def test_bucket_settings_that_do_not_exist_here(s3, bucket, call, arguments):
    with refused("NotImplemented", 501):
        getattr(s3, call)(Bucket=bucket, **arguments)


@pytest.mark.parametrize(
    ("call", "arguments"), OBJECT_CALLS, ids=[call for call, _ in OBJECT_CALLS]
)
def test_object_calls_that_do_not_exist_here(s3, stored, call, arguments):
    with refused("NotImplemented", 501):
        getattr(s3, call)(Bucket=stored, Key="k", **arguments)


@pytest.mark.parametrize("options", PUT_OPTIONS, ids=lambda options: next(iter(options)))
def test_a_put_with_a_promise_that_we_cannot_keep_is_refused(s3, stored, options):
    # over plain HTTP boto3 itself refuses to send a customer key; the raw test below covers that
    if "SSECustomerKey" in options:
        return_code = raw_sse_customer(s3, stored)
        assert return_code in CODES
        return
    with refused(CODES):
        s3.put_object(Bucket=stored, Key="k", Body=b"changed", **options)
    assert body(s3.get_object(Bucket=stored, Key="k")) == b"data"


def raw_sse_customer(s3, bucket):
    headers = {
        "x-amz-server-side-encryption-customer-algorithm": "AES256",
        "x-amz-server-side-encryption-customer-key": "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=",
        "x-amz-server-side-encryption-customer-key-MD5": "Ku6vNyv2fW0xZfUuB2GgBg==",
    }
    return raw.request(s3.meta.endpoint_url, "PUT", f"/{bucket}/k", headers=headers, body=b"x").code


def test_the_private_acl_is_what_we_do_anyway(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"data", ACL="private")
    assert body(s3.get_object(Bucket=bucket, Key="k")) == b"data"


def test_an_unknown_sub_resource_is_not_taken_for_an_object(cluster, s3, stored):
    for method, query in (
        ("PUT", "lifecycle"),
        ("PUT", "acl"),
        ("DELETE", "policy"),
        ("PUT", "logging"),
    ):
        answer = raw.request(cluster.s3, method, f"/{stored}", query=[(query, "")], body=b"<x/>")
        assert answer.status in (400, 501), (query, answer)
    for method, query in (("PUT", "acl"), ("PUT", "retention"), ("PUT", "legal-hold")):
        answer = raw.request(cluster.s3, method, f"/{stored}/k", query=[(query, "")], body=b"<x/>")
        assert answer.status in (400, 501), (query, answer)
    assert body(s3.get_object(Bucket=stored, Key="k")) == b"data"


def test_a_checksum_that_we_cannot_check_is_refused(cluster, s3, stored):
    for header in ("x-amz-checksum-xxhash64", "x-amz-checksum-sha512", "x-amz-checksum-md5"):
        answer = raw.request(
            cluster.s3, "PUT", f"/{stored}/k", headers={header: "AAAAAAAAAAA="}, body=b"changed"
        )
        assert answer.status in (400, 501), (header, answer)
    assert body(s3.get_object(Bucket=stored, Key="k")) == b"data"


def test_an_unknown_method_is_refused(cluster, stored):
    answer = raw.request(cluster.s3, "PATCH", f"/{stored}/k", body=b"x")
    assert answer.status in (405, 501), answer
