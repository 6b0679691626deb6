"""Step c. Where copies go, how many must be there before the answer, and what a full disk does."""

import contextlib
import subprocess

import pytest

from support.cluster import wait_until
from support.damage import SEGMENT, lacking, rows, segments
from support.data import MIB, random_bytes, unique
from support.s3 import body, client, keys, refused

pytestmark = pytest.mark.timeout(180)


@contextlib.contextmanager
def away(cluster, *members):
    """The members frozen, and out of their peers' groups."""

    def unseen():
        state = {m["instance"]: m["state"] for m in cluster.members()}
        return all(state.get(m["instance"]) != "live" for m in members)

    with cluster.frozen(*members):
        wait_until("they are known to be away", unseen, 5)
        yield
    cluster.wait_healthy()


def others(cluster):
    """The storage members but the first one, which the tests talk to."""
    return [m for m in cluster.members_of("storage") if m["s3_url"].rstrip("/") != cluster.s3]


def test_of_five_nodes_three_hold_each_object_and_any_one_may_be_lost(own_cluster):
    cluster, bucket = own_cluster(scale={"storage": 5}, config=SMALL), unique("five")
    s3 = client(cluster.s3)
    s3.create_bucket(Bucket=bucket)
    data = {f"{n:02}": random_bytes(size, seed=n) for n, size in enumerate([4 * MIB - 9999, 9] * 12)}
    for key, value in data.items():
        s3.put_object(Bucket=bucket, Key=key, Body=value)
    wait_until("each has three copies", lambda: not lacking(cluster, bucket), 20)
    nodes = cluster.members_of("storage")
    holders = [set(row["storage_nodes"]) for row in rows(cluster, bucket)]
    assert set().union(*holders) == {node["instance"] for node in nodes}, "none is left out"
    whole = sum(map(len, data.values()))
    stored = [segments(cluster, node) for node in nodes]
    room = 5 * SEGMENT  # that each active segment may hold in advance
    assert 3 * whole <= sum(stored) < 3 * whole + room + MIB < 4 * whole, stored
    urls = [node["s3_url"].rstrip("/") for node in nodes]
    for lost, url in zip(nodes, urls[1:] + urls[:1], strict=True):
        with away(cluster, lost):
            through = client(url)
            for key, value in data.items():
                assert body(through.get_object(Bucket=bucket, Key=key)) == value, key


@pytest.mark.parametrize(("quorum", "absent"), [('"all"', 1), ("3", 1), ("2", 2), ('"majority"', 2)])
def test_fewer_nodes_than_the_quorum_take_no_write(own_cluster, quorum, absent):
    cluster = own_cluster(config=f"[storage]\nwrite_quorum = {quorum}\n")
    s3, bucket = client(cluster.s3), unique("quorum")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="before", Body=b"all are there")
    with away(cluster, *others(cluster)[:absent]):
        for size in (7, MIB):
            with refused("SlowDown", 503):
                s3.put_object(Bucket=bucket, Key="refused", Body=random_bytes(size))
        assert body(s3.get_object(Bucket=bucket, Key="before")) == b"all are there"
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="refused")
    s3.put_object(Bucket=bucket, Key="refused", Body=b"now")


@pytest.mark.parametrize(("quorum", "absent"), [("1", 2), ("2", 1), ('"majority"', 1)])
def test_as_many_nodes_as_the_quorum_take_writes_and_the_rest_follows(own_cluster, quorum, absent):
    cluster = own_cluster(config=f"[storage]\nwrite_quorum = {quorum}\n")
    s3, bucket = client(cluster.s3), unique("quorum")
    s3.create_bucket(Bucket=bucket)
    data = {f"{size}": random_bytes(size) for size in (7, MIB)}
    with away(cluster, *others(cluster)[:absent]):
        for key, value in data.items():
            s3.put_object(Bucket=bucket, Key=key, Body=value)
        assert len(lacking(cluster, bucket)) == len(data)
    wait_until("the missed copies are made", lambda: not lacking(cluster, bucket), 60, 0.2)
    for url in cluster.s3_urls():
        for key, value in data.items():
            assert body(client(url).get_object(Bucket=bucket, Key=key)) == value


SMALL = f"[storage]\nsegment_size = \"{SEGMENT // MIB}MiB\"\n"
FULL = """
[storage]
quota = "48MiB"
segment_size = "4MiB"
delete_grace = "1s"
"""


def test_a_full_disk_refuses_writes_serves_reads_and_is_freed_by_deletes(own_cluster):
    cluster, bucket = own_cluster(config=FULL), unique("full")
    s3, size = client(cluster.s3), 3 * MIB
    s3.create_bucket(Bucket=bucket)
    stored = []
    with refused("StorageFull", 507):
        for n in range(20):
            s3.put_object(Bucket=bucket, Key=f"{n:02}", Body=random_bytes(size, seed=n))
            stored.append(n)
    assert len(stored) >= 8, "most of the quota can be used"
    too_many = f"{len(stored):02}"
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key=too_many)
    assert keys(s3.list_objects_v2(Bucket=bucket)) == [f"{n:02}" for n in stored]
    made = s3.create_multipart_upload(Bucket=bucket, Key="parts")
    with refused("StorageFull", 507):
        s3.upload_part(
            Bucket=bucket, Key="parts", UploadId=made["UploadId"], PartNumber=1,
            Body=random_bytes(20 * MIB),
        )  # fmt: skip
    for url in cluster.s3_urls():
        for n in stored:
            got = body(client(url).get_object(Bucket=bucket, Key=f"{n:02}"))
            assert got == random_bytes(size, seed=n)
    for n in stored[:4]:
        s3.delete_object(Bucket=bucket, Key=f"{n:02}")

    def fits():
        return s3.put_object(Bucket=bucket, Key="again", Body=random_bytes(size))

    wait_until("there is room again", fits, 60, 0.5)
    assert body(s3.get_object(Bucket=bucket, Key="again")) == random_bytes(size)
    for n in stored[4:]:
        got = body(s3.get_object(Bucket=bucket, Key=f"{n:02}"))
        assert got == random_bytes(size, seed=n)


SHARED = """
[storage]
segment_size = "16MiB"
delete_grace = "1s"
"""


def test_a_disk_that_all_services_share_is_filled_only_so_far_that_deletes_work(own_cluster):
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
        pytest.skip("privileged: this machine cannot make mount namespaces")
    cluster = own_cluster(config=SHARED, disk="400m")
    s3, bucket = client(cluster.s3), unique("shared")
    s3.create_bucket(Bucket=bucket)
    data, number, in_a_row = random_bytes(MIB), 0, 0
    while in_a_row < 20:  # some room may come back; it does not help to insist
        try:
            s3.put_object(Bucket=bucket, Key=f"{number:04}", Body=data)
            number, in_a_row = number + 1, 0
        except s3.exceptions.ClientError as error:
            assert error.response["Error"]["Code"] in {"StorageFull", "SlowDown"}, error
            in_a_row += 1
        assert number < 133, "three copies of each on 400 MiB"
    assert number > 40
    assert body(s3.get_object(Bucket=bucket, Key="0000")) == data
    for key in range(number):
        s3.delete_object(Bucket=bucket, Key=f"{key:04}")
    wait_until("there is room again", lambda: stored(s3, bucket, data), 60, 0.5)
    assert "starts again" not in cluster.log.read_text(), "a process ended over it"


def stored(s3, bucket, data):
    try:
        s3.put_object(Bucket=bucket, Key="again", Body=data)
    except s3.exceptions.ClientError:
        return False
    return body(s3.get_object(Bucket=bucket, Key="again")) == data
