"""Step d. Lost copies are made again by tasks, and the space of deleted objects comes back."""

import os
import shutil

import pytest

from support.cluster import wait_until
from support.damage import open_tasks, used
from support.data import MIB, random_bytes, unique
from support.s3 import body, client, refused

pytestmark = pytest.mark.timeout(240)
SIZES = [10, 70_000, 2 * MIB]
CONFIG = """
[storage]
segment_size = "4MiB"
delete_grace = "1s"
"""


def others(cluster, member):
    return [m for m in cluster.members_of("storage") if m["instance"] != member["instance"]]


def write(s3, bucket, prefix):
    for size in SIZES:
        for n in range(4):
            key = f"{prefix}/{size}/{n}"
            s3.put_object(Bucket=bucket, Key=key, Body=random_bytes(size, seed=key))


def check(s3, bucket, prefix):
    for size in SIZES:
        for n in range(4):
            key = f"{prefix}/{size}/{n}"
            assert body(s3.get_object(Bucket=bucket, Key=key)) == random_bytes(size, seed=key)


def test_a_node_that_was_away_gets_the_copies_it_missed(own_cluster):
    cluster, bucket = own_cluster(config=CONFIG), unique("repair")
    first = client(cluster.s3_urls()[0])
    first.create_bucket(Bucket=bucket)
    write(first, bucket, "before")
    first.put_object(Bucket=bucket, Key="deleted", Body=b"x")
    away = next(m for m in cluster.members_of("storage") if m["s3_url"].rstrip("/") != cluster.s3)
    with cluster.frozen(away):
        write(first, bucket, "missed")
        first.delete_object(Bucket=bucket, Key="deleted")
    cluster.wait_healthy()
    wait_until("all repairs are done", lambda: open_tasks(cluster) == 0, 30, 0.2)
    # Only the one that was away is left to read from: through it, everything must be there.
    with cluster.frozen(*others(cluster, away)):
        alone = client(away["s3_url"].rstrip("/"), read_timeout=20)
        wait_until("its peers are known to be away", lambda: alone.head_bucket(Bucket=bucket), 10)
        check(alone, bucket, "before")
        check(alone, bucket, "missed")
        with refused("NoSuchKey", 404):
            alone.get_object(Bucket=bucket, Key="deleted")


def test_a_node_whose_disk_was_lost_is_filled_again(own_cluster):
    cluster, bucket = own_cluster(), unique("disk")
    s3 = client(cluster.s3_urls()[0])
    s3.create_bucket(Bucket=bucket)
    write(s3, bucket, "k")
    lost = next(m for m in cluster.members_of("storage") if m["s3_url"].rstrip("/") != cluster.s3)
    segments = [p for p in cluster.data.rglob("seg-*") if lost["instance"] in str(p)]
    assert segments, "the data of an instance lie in a folder that names it"
    for segment in segments:
        os.truncate(segment, 0) if segment.is_file() else shutil.rmtree(segment)
    cluster.kill_member(lost)
    wait_until("it is back", lambda: cluster.healthy(), 10)
    check(client(lost["s3_url"].rstrip("/")), bucket, "k")  # reads find the gaps
    wait_until("all repairs are done", lambda: open_tasks(cluster) == 0, 60, 0.2)
    with cluster.frozen(*others(cluster, lost)):
        alone = client(lost["s3_url"].rstrip("/"), read_timeout=20)
        wait_until("its peers are known to be away", lambda: alone.head_bucket(Bucket=bucket), 10)
        check(alone, bucket, "k")


def test_the_space_of_deleted_objects_comes_back(own_cluster):
    """At most 1.1 times the living bytes and one active segment on each node."""
    cluster, bucket = own_cluster(config=CONFIG), unique("space")
    s3 = client(cluster.s3_urls()[0])
    s3.create_bucket(Bucket=bucket)
    for n in range(40):
        s3.put_object(Bucket=bucket, Key=f"{n:02}", Body=random_bytes(2 * MIB, seed=n))
    full = used(cluster.data)
    assert full > 3 * 80 * MIB * 0.99, "three copies of 80 MiB"
    for n in range(40):
        if n % 10:
            s3.delete_object(Bucket=bucket, Key=f"{n:02}")
    living = 4 * 2 * MIB
    bound = 3 * (1.1 * living + 4 * MIB) + 16 * MIB  # and 16 MiB for metadata, queue and logs
    wait_until(f"disk use {full} is below {bound}", lambda: used(cluster.data) <= bound, 125, 0.5)
    for n in range(0, 40, 10):
        assert body(s3.get_object(Bucket=bucket, Key=f"{n:02}")) == random_bytes(2 * MIB, seed=n)


def test_delete_tasks_of_a_frozen_queue_are_done_when_it_is_back(own_cluster):
    cluster, bucket = own_cluster(config=CONFIG), unique("outbox")
    s3 = client(cluster.s3_urls()[0])
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="k", Body=random_bytes(30 * MIB))
    full = used(cluster.data)
    with cluster.frozen(*cluster.members_of("queue")):
        s3.delete_object(Bucket=bucket, Key="k")
    cluster.wait_healthy()
    wait_until("the space is free again", lambda: used(cluster.data) < full - 60 * MIB, 60, 0.5)
