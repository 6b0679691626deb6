"""Step c. kill -9 of each kind of process while uploads, downloads and deletes run.

Two phases, as in every chaos test here: while it hurts, nothing may be promised and broken;
afterwards the cluster must be healthy within 10 s and every promise must hold; and given some time
all tasks are done, every object has all its copies, and the disk is within its bound.
"""

import re
import time

import pytest

from support.cluster import Foreground, wait_until
from support.damage import CONFIG, dice, kill_and_wait, lacking, segments, wait_settled
from support.data import MIB, md5_hex, random_bytes, unique
from support.ledger import Ledger
from support.s3 import body, client, patient, refused

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def hurt(own_cluster):
    """A cluster with three storage nodes and a ledger over all its S3 endpoints."""
    cluster = own_cluster(config=CONFIG)
    bucket = unique("loss")
    patient(cluster.s3).create_bucket(Bucket=bucket)
    return cluster, Ledger(bucket, cluster.s3_urls())


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_loss_of_a_storage_node_breaks_no_promise(hurt, victim):
    cluster, ledger = hurt
    storage = sorted(cluster.members_of("storage"), key=lambda member: member["s3_url"])
    with Foreground(ledger.work) as load:
        wait_until("some writes are through", lambda: len(ledger.written) > 20, 20)
        kill_and_wait(cluster, storage[victim])
        before = len(ledger.written)
        wait_until("writes go on", lambda: len(ledger.written) > before + 20, 20)
    assert len(load.errors) < 50, load.errors[-1]
    ledger.check()
    wait_settled(cluster, ledger)


def test_a_storage_node_that_keeps_dying_breaks_no_promise(hurt):
    cluster, ledger = hurt
    chance = dice()
    with Foreground(ledger.work):
        for _ in range(4):
            time.sleep(chance.uniform(0.1, 0.8))
            kill_and_wait(cluster, chance.choice(cluster.members_of("storage")))
    ledger.check()
    wait_settled(cluster, ledger)
    ledger.check()  # also after the copies were made again and space was given back


@pytest.mark.parametrize("service", ["metadata", "queue", "third-party", "mock-error"])
def test_loss_of_any_other_process_breaks_no_promise(hurt, service):
    cluster, ledger = hurt
    chance = dice()
    with Foreground(ledger.work):
        wait_until("some writes are through", lambda: len(ledger.written) > 10, 20)
        for _ in range(2):
            [member] = cluster.members_of(service)
            time.sleep(chance.uniform(0.0, 0.6))
            kill_and_wait(cluster, member)
        before = len(ledger.written)
        wait_until("writes go on", lambda: len(ledger.written) > before + 10, 20)
    ledger.check()
    wait_settled(cluster, ledger)


@pytest.mark.parametrize("service", ["queue", "third-party", "mock-error"])
def test_objects_do_not_need_the_other_services(hurt, service):
    """A frozen queue, third party or injector holds up neither reads nor writes nor deletes."""
    cluster, ledger = hurt
    with cluster.frozen(*cluster.members_of(service)):
        for number in range(15):
            ledger.work(number)
        ledger.check()
    cluster.wait_healthy()


def test_one_frozen_storage_node_of_three_is_done_without(hurt):
    cluster, ledger = hurt
    [first, *rest] = cluster.s3_urls()
    frozen = next(m for m in cluster.members_of("storage") if m["s3_url"].rstrip("/") != first)
    ledger.clients = [client(first)]
    for number in range(8):
        ledger.write(number)
    with cluster.frozen(frozen):
        time.sleep(2)  # by then it is out of the groups
        started = time.monotonic()
        for number in range(8, 30):
            ledger.work(number)
        assert time.monotonic() - started < 10
        ledger.check([first])
    cluster.wait_healthy()
    ledger.check([first, *rest])


def test_without_a_quorum_writes_are_refused_in_time_and_reads_go_on(hurt):
    cluster, ledger = hurt
    first = cluster.s3_urls()[0]
    s3 = client(first)
    ledger.clients = [s3]
    for number in range(14):
        ledger.write(number)
    others = [m for m in cluster.members_of("storage") if m["s3_url"].rstrip("/") != first]
    assert len(others) == 2
    with cluster.frozen(*others):
        for data in (b"small", random_bytes(2 * MIB)):
            started = time.monotonic()
            with refused("SlowDown", 503):
                s3.put_object(Bucket=ledger.bucket, Key="refused", Body=data)
            assert time.monotonic() - started < 2.5  # 2 s until noticed, at most, and some slack
        started = time.monotonic()
        with refused("SlowDown", 503):
            s3.put_object(Bucket=ledger.bucket, Key="refused", Body=b"noticed by now")
        assert time.monotonic() - started < 2
        for number in range(14):
            ledger.read(0, f"k-{number:06}")
        assert not ledger.wrong_reads
    cluster.wait_healthy()
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=ledger.bucket, Key="refused")
    s3.put_object(Bucket=ledger.bucket, Key="refused", Body=b"now")
    assert body(s3.get_object(Bucket=ledger.bucket, Key="refused")) == b"now"


def test_two_storage_nodes_read_but_do_not_write_after_a_loss(own_cluster):
    cluster = own_cluster(scale={"storage": 2})
    first, bucket = cluster.s3_urls()[0], unique("two")
    s3 = client(first)
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="k", Body=b"data")
    [other] = [m for m in cluster.members_of("storage") if m["s3_url"].rstrip("/") != first]
    with cluster.frozen(other):
        with refused("SlowDown", 503):
            s3.put_object(Bucket=bucket, Key="new", Body=b"x")
        assert body(s3.get_object(Bucket=bucket, Key="k")) == b"data"


def test_a_download_goes_on_over_the_loss_of_the_node_it_reads_from(own_cluster):
    """Four nodes, three copies: the edge without one reads from a peer, and just that one dies."""
    cluster, bucket = own_cluster(scale={"storage": 4}), unique("midway")
    s3, data = client(cluster.s3), random_bytes(96 * MIB)
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="large", Body=data)
    wait_until("all copies are there", lambda: not lacking(cluster, bucket), 20)
    nodes = cluster.members_of("storage")
    edge = min(nodes, key=lambda node: segments(cluster, node))
    assert segments(cluster, edge) < 90 * MIB, "one of the four has no copy"
    peers = [node for node in nodes if node is not edge]
    before = {peer["pid"]: bytes_read(peer) for peer in peers}
    stream = client(edge["s3_url"].rstrip("/")).get_object(Bucket=bucket, Key="large")["Body"]
    got = stream.read(MIB)
    grown = {peer["pid"]: bytes_read(peer) - before[peer["pid"]] for peer in peers}
    [source] = [peer for peer in peers if grown[peer["pid"]] > MIB]
    kill_and_wait(cluster, source)
    got += stream.read()
    assert got == data and md5_hex(got) == md5_hex(data)
    [(node, at)] = broken_reads(cluster, edge)
    assert node == source["instance"] and MIB <= at < 96 * MIB, "it broke off in the middle"


def bytes_read(member):
    """What a process has read by its system calls so far, from disk above all."""
    with open(f"/proc/{member['pid']}/io") as io:
        return int(re.search(r"rchar: (\d+)", io.read())[1])


def broken_reads(cluster, edge):
    """(node, byte) of each read that broke off, from the log of the edge that read."""
    log = (cluster.data / "nodes" / edge["instance"] / "node.log").read_text(errors="replace")
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in log.splitlines()]
    broken = [line for line in lines if "a read broke off" in line]
    return [(re.search(r"node=(\S+)", b)[1], int(re.search(r" at=(\d+)", b)[1])) for b in broken]


def test_an_upload_of_parts_survives_a_loss_in_between(hurt):
    cluster, ledger = hurt
    first = cluster.s3_urls()[0]
    s3, parts = patient(first), [random_bytes(5 * MIB, seed=n) for n in range(3)]
    made = s3.create_multipart_upload(Bucket=ledger.bucket, Key="parts")
    names = {"Bucket": ledger.bucket, "Key": "parts", "UploadId": made["UploadId"]}
    done = []
    victims = [m for m in cluster.members_of("storage") if m["s3_url"].rstrip("/") != first]
    victims += cluster.members_of("metadata")
    for number, data in enumerate(parts, 1):
        answer = s3.upload_part(**names, PartNumber=number, Body=data)
        done.append({"PartNumber": number, "ETag": answer["ETag"]})
        kill_and_wait(cluster, victims[number - 1])
    s3.complete_multipart_upload(**names, MultipartUpload={"Parts": done})
    assert body(s3.get_object(Bucket=ledger.bucket, Key="parts")) == b"".join(parts)
