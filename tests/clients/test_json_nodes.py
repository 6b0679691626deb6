"""Step g. Storage nodes over the metadata service's JSON API: who counts in N, and leaving for good."""

import pytest

from support.cluster import wait_until
from support.data import random_bytes, unique
from support.json_api import Api, path_of
from support.s3 import body, client


@pytest.fixture
def smaller(own_cluster):
    """A cluster of three storage nodes that was started again with two."""
    cluster = own_cluster()
    everyone = {m["instance"] for m in cluster.members_of("storage")}
    s3, bucket = client(cluster.s3), unique()
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="before", Body=random_bytes(100_000))
    cluster.stop()
    cluster.scale["storage"] = 2
    cluster.start()
    [absent] = everyone - {m["instance"] for m in cluster.members_of("storage")}
    return cluster, bucket, absent


def test_an_absent_node_counts_until_it_is_removed(smaller):
    cluster, bucket, absent = smaller
    api, s3 = Api(cluster.url("metadata")), client(cluster.s3)
    nodes = {n["instance"]: n["live"] for n in api("GET", "/nodes")["nodes"]}
    assert len(nodes) == 3 and nodes[absent] is False and sum(nodes.values()) == 2

    s3.put_object(Bucket=bucket, Key="meanwhile", Body=random_bytes(100_000))
    tasks = Api(cluster.url("queue"))

    def waiting():
        listed = tasks("GET", "/tasks?limit=1000")["tasks"]
        return [t for t in listed if t["kind"] == "replicate" and t["status"] != "completed"]

    [task, *_] = wait_until("the copy that it missed is a task", waiting, 10)
    error = tasks.refused("POST", f"/tasks/{task['id']}/cancel", 409)
    assert "own work" in error["error"], "nobody would ask for the copy again"

    present = next(instance for instance in nodes if instance != absent)
    conflict = api.refused("DELETE", "/nodes" + path_of(present), 409)
    assert present in conflict["error"] + str(conflict["reason"])
    api.refused("DELETE", "/nodes/storage-service-nobody", 404)
    api("DELETE", "/nodes" + path_of(absent), expect=204)
    assert {n["instance"] for n in api("GET", "/nodes")["nodes"]} == set(nodes) - {absent}

    wait_until("nobody waits for the removed node", lambda: not waiting(), 60)
    for key in ("before", "meanwhile"):
        assert body(s3.get_object(Bucket=bucket, Key=key)) == random_bytes(100_000)
    s3.put_object(Bucket=bucket, Key="after", Body=b"x")


def test_a_removed_node_that_comes_back_is_a_member_again(smaller):
    cluster, bucket, absent = smaller
    api = Api(cluster.url("metadata"))
    api("DELETE", "/nodes" + path_of(absent), expect=204)
    cluster.stop()
    cluster.scale["storage"] = 3
    cluster.start()

    def back():
        return {n["instance"]: n["live"] for n in api("GET", "/nodes")["nodes"]}.get(absent)

    wait_until("it counts again", back, 10)
    got = client(cluster.s3).get_object(Bucket=bucket, Key="before")
    assert body(got) == random_bytes(100_000)
