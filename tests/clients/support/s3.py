"""boto3 clients for a cluster of ours, and the one way the tests look at S3 errors."""

import contextlib

import boto3
import botocore.config
import botocore.exceptions

from support.cluster import ACCESS_KEY, SECRET_KEY

REGION = "us-east-1"


def client(endpoint, access_key=ACCESS_KEY, secret_key=SECRET_KEY, **options):
    """A client that asks once (retries would hide wrong answers), path-style, with short waits."""
    settings = {
        "s3": {"addressing_style": "path"},
        "signature_version": "s3v4",  # for presigned URLs and forms boto3 would still take v2
        "retries": {"total_max_attempts": 1},
        "connect_timeout": 3,
        "read_timeout": 60,
        "max_pool_connections": 16,
        **options,
    }
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=botocore.config.Config(**settings),
    )


def patient(endpoint):
    """A client with boto3's usual retries, as an application would use one."""
    return client(endpoint, retries={"mode": "standard", "max_attempts": 6}, read_timeout=15)


@contextlib.contextmanager
def refused(code, status=None):
    """Asserts that the block is refused with one of the S3 error codes and with that status."""
    codes = {code} if isinstance(code, str) else set(code)
    try:
        yield
    except botocore.exceptions.ClientError as error:
        found = error.response["Error"]["Code"]
        http = error.response["ResponseMetadata"]["HTTPStatusCode"]
        assert found in codes, f"{found} instead of {codes}: {error}"
        assert status is None or http == status, f"HTTP {http} instead of {status}: {error}"
        return
    raise AssertionError(f"answered with success instead of {codes}")


def body(answer):
    return answer["Body"].read()


def keys(listing):
    return [entry["Key"] for entry in listing.get("Contents", [])]


def prefixes(listing):
    return [entry["Prefix"] for entry in listing.get("CommonPrefixes", [])]


def header(answer, name):
    return answer["ResponseMetadata"]["HTTPHeaders"].get(name.lower())


def status(answer):
    return answer["ResponseMetadata"]["HTTPStatusCode"]
