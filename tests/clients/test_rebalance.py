"""Step j. Storage nodes that join get their share, what a removed one had is made again, and the
number of copies may change; objects stay readable all the while."""

import contextlib
import json
import signal
import subprocess
import uuid

import pytest

from support.cluster import (
    BINARY, ENVIRONMENT, Foreground, PortBlock, get, mocks3, wait_until,
)  # fmt: skip
from support.damage import lacking, open_tasks, rows
from support.data import MIB, random_bytes, unique
from support.json_api import Api, path_of
from support.s3 import body, client

pytestmark = pytest.mark.timeout(300)
SIZES = [9, 30_000, 200_000]  # inline and streamed
COUNT = 60
CONFIG = """
[storage]
segment_size = "4MiB"
replicas = {copies}
delete_grace = "{grace}"
rebalance_rate = "{rate}"
"""


def config(copies=2, grace="1s", rate="100MiB"):
    return CONFIG.format(copies=copies, grace=grace, rate=rate)


@contextlib.contextmanager
def one_more_node(cluster):
    """A storage node that somebody starts by hand; gives its instance id and a way to stop it."""
    seed = cluster.members_of("metadata")[0]["cluster_address"]
    cluster_id = json.loads((cluster.data / "cluster.json").read_text())["cluster_id"]
    instance, ports = f"storage-service-{uuid.uuid4()}", PortBlock()
    url = f"http://127.0.0.1:{ports.base}"
    command = [BINARY, "node", "--service", "storage", "--instance", instance]
    command += ["--data-dir", cluster.folder / "added", "--http", url.removeprefix("http://")]
    command += ["--bootstrap", seed, "--cluster-id", cluster_id]
    command += ["--secret-file", cluster.data / "cluster.secret"]
    command += ["--config", cluster.folder / "mocks3.toml"]
    with open(cluster.folder / "added.log", "wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=ENVIRONMENT
        )

    def stop():
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0

    try:
        wait_until("it is healthy", lambda: get(url, "/health")[0] == 200, 20)
        yield instance, stop
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        ports.release()


def fill(cluster):
    """A bucket with COUNT objects; their bytes follow from their keys."""
    s3, bucket = client(cluster.s3), unique("move")
    s3.create_bucket(Bucket=bucket)
    for n in range(COUNT):
        size = SIZES[n % len(SIZES)]
        s3.put_object(Bucket=bucket, Key=f"{n:03}/{size}", Body=random_bytes(size, seed=n))
    return bucket


def check(cluster, bucket):
    s3 = client(cluster.s3)
    for n in range(COUNT):
        size = SIZES[n % len(SIZES)]
        got = body(s3.get_object(Bucket=bucket, Key=f"{n:03}/{size}"))
        assert got == random_bytes(size, seed=n), n


def progress(cluster):
    return Api(cluster.url("metadata"))("GET", "/rebalance")


def on_disk(cluster):
    """How many data items lie on each storage node that counts, by its own word."""
    stats = Api(cluster.url("storage"))("GET", "/stats")
    return {node["id"]: node["items"] for node in stats["nodes"]}


def holders(cluster, bucket):
    """How many objects each node has, by metadata's word."""
    found = {}
    for row in rows(cluster, bucket):
        for node in row["storage_nodes"]:
            found[node] = found.get(node, 0) + 1
    return found


def wait_at_rest(cluster, bucket, copies, what):
    """Every object has its copies, in metadata's books and on the disks, and none has more."""

    def settled():
        on = on_disk(cluster)
        books = holders(cluster, bucket)
        state = progress(cluster)
        assert not lacking(cluster, bucket, copies) and sum(on.values()) == copies * COUNT, on
        assert {node: n for node, n in on.items() if n} == books, (on, books)
        assert state["state"] == "resting", state
        return open_tasks(cluster) == 0

    wait_until(what, settled, 90, 0.3)


def reader(cluster, bucket):
    """Reads all objects again and again until the block ends."""
    s3 = client(cluster.s3)

    def read(number):
        n = number % COUNT
        size = SIZES[n % len(SIZES)]
        got = body(s3.get_object(Bucket=bucket, Key=f"{n:03}/{size}"))
        assert got == random_bytes(size, seed=n), n

    return Foreground(read, threads=2)


def test_a_node_that_joins_gets_its_share_and_one_that_leaves_is_made_up_for(own_cluster):
    cluster = own_cluster(config=config())
    bucket = fill(cluster)
    wait_at_rest(cluster, bucket, 2, "the copies are where they belong from the start")
    before = {row["key"]: set(row["storage_nodes"]) for row in rows(cluster, bucket)}
    with reader(cluster, bucket) as reads, one_more_node(cluster) as (added, stop):
        wait_until("it has objects", lambda: holders(cluster, bucket).get(added), 30)
        wait_at_rest(cluster, bucket, 2, "objects moved to the new node")
        share = holders(cluster, bucket)[added]
        assert COUNT * 2 / 4 / 2 < share < COUNT * 2 / 4 * 2, share
        after = {row["key"]: set(row["storage_nodes"]) for row in rows(cluster, bucket)}
        moved = [key for key in before if before[key] != after[key]]
        assert len(moved) == share, "nothing else moved"
        assert all(after[key] - before[key] == {added} for key in moved)
        state = progress(cluster)
        assert (state["nodes"], state["copies"], state["postponed"]) == (4, 2, 0)
        assert state["moved"] == state["to_move"] == state["released"] == share
        said = mocks3("status", "--url", cluster.s3)
        assert f"rebalanced: {share} copies made, {share} let go" in said.stdout, said

        stop()
        api = Api(cluster.url("metadata"))
        wait_until("it is away", lambda: len(cluster.members_of("storage")) == 3, 10)
        assert len(lacking(cluster, bucket, 2)) == 0, "an absent node counts"
        assert progress(cluster)["moved"] == share, "and nothing moves for its sake"
        api("DELETE", "/nodes" + path_of(added), expect=204)
        wait_until("its copies are missing", lambda: progress(cluster)["nodes"] == 3, 10)
        wait_at_rest(cluster, bucket, 2, "what it had was made again")
    assert not reads.errors, reads.errors[:3]
    again = {row["key"]: set(row["storage_nodes"]) for row in rows(cluster, bucket)}
    assert again == before, "the same nodes as before it came"
    check(cluster, bucket)


def test_a_removed_node_that_comes_back_brings_no_copy_too_many(own_cluster):
    cluster = own_cluster(config=config())
    bucket = fill(cluster)
    everyone = {m["instance"] for m in cluster.members_of("storage")}
    cluster.stop()
    cluster.scale["storage"] = 2
    cluster.start()
    [away] = everyone - {m["instance"] for m in cluster.members_of("storage")}
    Api(cluster.url("metadata"))("DELETE", "/nodes" + path_of(away), expect=204)
    wait_at_rest(cluster, bucket, 2, "two nodes have all")
    assert set(holders(cluster, bucket).values()) == {COUNT}
    cluster.stop()
    cluster.scale["storage"] = 3
    cluster.start()
    wait_at_rest(cluster, bucket, 2, "three nodes have two copies of each")
    assert set(holders(cluster, bucket)) == everyone
    check(cluster, bucket)


def test_old_objects_follow_when_the_number_of_copies_changes(own_cluster):
    cluster = own_cluster(scale={"storage": 1}, config=config(copies=3))
    bucket = fill(cluster)
    wait_at_rest(cluster, bucket, 1, "there is one node")
    cluster.stop()
    cluster.scale["storage"] = 3
    cluster.start()
    wait_at_rest(cluster, bucket, 3, "three nodes have everything")
    cluster.stop()
    (cluster.folder / "mocks3.toml").write_text(config(copies=2))
    cluster.start()
    wait_at_rest(cluster, bucket, 2, "one copy of each was let go")
    check(cluster, bucket)


def test_copies_are_made_at_the_rate_that_was_set_and_the_bar_shows_it(own_cluster):
    cluster = own_cluster(scale={"storage": 1}, config=config(copies=1, rate="256KiB"))
    bucket = fill(cluster)
    whole = sum(row["size"] for row in rows(cluster, bucket))
    with one_more_node(cluster) as (added, _):

        def moving():
            state = progress(cluster)
            return state["state"] == "moving" and 0 < state["moved"] < state["to_move"] and state

        state = wait_until("some copies were made", moving, 30, 0.02)
        assert whole / 4 < state["to_move_bytes"] < whole, "about half of them"
        said = mocks3("status", "--url", cluster.s3)
        assert "rebalancing [" in said.stdout and f"of {state['to_move']} copies" in said.stdout
        seen = [progress(cluster)["rate"]]
        check(cluster, bucket)

        def ended():
            state = progress(cluster)
            seen.append(state["rate"])
            return state["state"] == "resting"

        wait_until("all is moved", ended, 60, 0.1)
        assert seen[-1] < 1.6 * 256 * 1024, seen  # with the burst at its beginning
        wait_at_rest(cluster, bucket, 1, "one copy of each is left")
        assert holders(cluster, bucket)[added] > COUNT / 4
        check(cluster, bucket)


def test_a_read_in_progress_survives_that_its_object_moves_away(own_cluster):
    patience = '\n[http]\nwrite_stall = "5min"\n'
    cluster = own_cluster(scale={"storage": 1}, config=config(copies=1) + patience)
    s3, bucket, size = client(cluster.s3), unique("slow"), 24 * MIB
    s3.create_bucket(Bucket=bucket)
    for n in range(6):
        s3.put_object(Bucket=bucket, Key=f"{n}", Body=random_bytes(size, seed=n))
    streams = [s3.get_object(Bucket=bucket, Key=f"{n}")["Body"] for n in range(6)]
    begun = [stream.read(100_000) for stream in streams]
    with one_more_node(cluster) as (added, _):

        def gone():
            first, second = holders(cluster, bucket).values()
            on = on_disk(cluster)
            assert first + second == sum(on.values()) == 6, on
            return on[added] > 0 and progress(cluster)["state"] == "resting"

        wait_until("some objects lie on the new node alone", gone, 60, 0.3)
        for n, (stream, start) in enumerate(zip(streams, begun, strict=True)):
            assert start + stream.read() == random_bytes(size, seed=n), n
