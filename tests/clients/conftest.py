"""Fixtures of the client tests.

`cluster` is one cluster per pytest worker for all tests that only read and write; a test that
hurts or restarts something takes `own_cluster`, which starts fresh ones. Every test works in
buckets of its own, so order and parallel workers do not matter.
"""

import contextlib

import pytest

from support import s3 as s3_support
from support.cluster import BINARY, Cluster
from support.data import unique

LOG = pytest.StashKey()
FAILED = pytest.StashKey()


def pytest_sessionstart(session):
    session.config.stash[FAILED] = False
    if not BINARY.exists() and not hasattr(session.config, "workerinput"):
        pytest.exit(f"{BINARY} is missing: run `cargo build --release` first", returncode=1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        item.config.stash[FAILED] = True
        for cluster in item.session.stash.get(LOG, []):
            if cluster.process is not None or cluster.name != "shared":
                report.sections.append((f"end of {cluster.log}", cluster.log_tail()))
    return report


def remember(session, cluster):
    session.stash.setdefault(LOG, []).append(cluster)
    return cluster


def forget(session, cluster):
    session.stash[LOG].remove(cluster)


@pytest.fixture(scope="session")
def cluster(request):
    """The shared cluster: for reading and writing only."""
    shared = remember(request.session, Cluster("shared"))
    try:
        shared.start()
        yield shared
    finally:
        shared.close(keep=request.config.stash[FAILED])


@pytest.fixture
def own_cluster(request):
    """A maker of clusters that belong to one test alone: own_cluster(scale=..., config=...)."""
    with contextlib.ExitStack() as stack:

        def make(start=True, **options):
            made = remember(request.session, Cluster(request.node.name.split("[")[0], **options))
            stack.callback(forget, request.session, made)
            stack.callback(lambda: made.close(keep=request.config.stash[FAILED]))
            return made.start() if start else made

        yield make


@pytest.fixture(scope="session")
def s3(cluster):
    """A boto3 client on the first storage instance."""
    return s3_support.client(cluster.s3)


@pytest.fixture
def bucket(s3):
    """A fresh bucket, emptied and deleted after the test (which is a test of that, too)."""
    name = unique()
    s3.create_bucket(Bucket=name)
    yield name
    empty(s3, name)
    s3.delete_bucket(Bucket=name)


@pytest.fixture
def versioned(s3):
    """A fresh bucket with versioning on; every version and marker is removed after the test."""
    name = unique("v")
    s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    yield name
    empty_versions(s3, name)
    s3.delete_bucket(Bucket=name)


def empty(s3, bucket):
    """Removes all objects of a bucket without versions."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        remove(s3, bucket, [{"Key": entry["Key"]} for entry in page.get("Contents", [])])


def empty_versions(s3, bucket):
    """Removes every version and delete marker of a bucket."""
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        found = page.get("Versions", []) + page.get("DeleteMarkers", [])
        remove(s3, bucket, [{"Key": v["Key"], "VersionId": v["VersionId"]} for v in found])


def remove(s3, bucket, names):
    """Multi-delete, but for keys that XML cannot carry."""
    odd = [name for name in names if any(ord(char) < 32 for char in name["Key"])]
    for name in odd:
        s3.delete_object(Bucket=bucket, **name)
    names = [name for name in names if name not in odd]
    if names:
        gone = s3.delete_objects(Bucket=bucket, Delete={"Objects": names, "Quiet": True})
        assert not gone.get("Errors"), gone["Errors"]
