"""`/metrics`: what a caller sees of each thing that it depends on, also where that is dead."""

import re

import pytest

from support.cluster import get, wait_until
from support.data import MIB, random_bytes, unique
from support.s3 import body, client, refused
from support.sources import Faulty, set_fallback, source

COUNT = "mocks3_call_duration_seconds_count"


def calls(url):
    """(callee, outcome) -> how many calls."""
    found = {}
    for line in get(url, "/metrics")[2].decode().splitlines():
        if line.startswith(COUNT):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
            name = (labels["callee"], labels["outcome"])
            found[name] = found.get(name, 0) + float(line.rsplit(" ", 1)[1])
    return found


def grew(before, after, callee, good):
    """How many calls to `callee` came, those that went well or those that did not."""
    names = [name for name in after if name[0] == callee and (name[1] == "ok") == good]
    return sum(after[name] - before.get(name, 0) for name in names)


def use_everything(url, there, cluster):
    """An object of each size and way, so that every dependency of the edge is called."""
    s3, bucket = client(url), unique("calls")
    s3.create_bucket(Bucket=bucket)
    set_fallback(cluster, bucket)
    for key, data in {"small": b"x", "large": random_bytes(3 * MIB, seed=1)}.items():
        s3.put_object(Bucket=bucket, Key=key, Body=data)
        assert body(s3.get_object(Bucket=bucket, Key=key)) == data
    there.plans["outside"] = ("right md5", b"from outside")
    assert body(s3.get_object(Bucket=bucket, Key="outside")) == b"from outside"
    with refused({"NoSuchBucket"}, 404):
        s3.put_object(Bucket=unique("none"), Key="k", Body=b"")


def test_an_edge_tells_the_time_and_the_refusals_of_everything_it_calls(own_cluster):
    cluster = own_cluster(scale={"storage": 1})
    there, url = Faulty(), cluster.s3
    before = calls(url)
    try:
        with source(cluster, unique("there"), "http", there.url):
            use_everything(url, there, cluster)
    finally:
        there.close()
    after = calls(url)
    for callee in ["metadata", "storage_node", "third_party", "data"]:
        assert grew(before, after, callee, good=True) > 0, (callee, after)
    refusals = after.get(("metadata", "refused"), 0) - before.get(("metadata", "refused"), 0)
    assert refusals > 0, f"an answer that says no is not ok: {after}"
    asked = lambda: grew(before, calls(url), "queue", good=True) > 0  # noqa: E731
    wait_until("the object from outside was handed to the queue, to be saved", asked, 10)


@pytest.mark.parametrize(
    "service, callee", [("metadata", "metadata"), ("third-party", "third_party")]
)
def test_calls_to_a_dead_service_count_as_errors(own_cluster, service, callee):
    cluster = own_cluster(scale={"storage": 1})
    s3, bucket = client(cluster.s3), unique("dead")
    s3.create_bucket(Bucket=bucket)
    set_fallback(cluster, bucket)
    before = calls(cluster.s3)
    [victim] = cluster.members_of(service)
    for _ in range(5):  # it starts again meanwhile
        cluster.kill_member(victim)
        with pytest.raises(Exception):  # noqa: B017, PT011 - any refusal will do
            s3.get_object(Bucket=bucket, Key="outside")
        if grew(before, calls(cluster.s3), callee, good=False) > 0:
            return
        [victim] = wait_until("it is back", lambda: cluster.members_of(service), 10)
    raise AssertionError(f"no error of {callee} in {calls(cluster.s3)}")


def test_transfers_to_a_dead_storage_node_count_as_errors_of_the_data_plane(own_cluster):
    """It dies in the middle of a download that comes from it."""
    cluster = own_cluster(scale={"storage": 2}, config="[storage]\nreplicas = 1\n")
    edge, victim = cluster.members_of("storage")
    s3, bucket = client(edge["s3_url"]), unique("dead")
    s3.create_bucket(Bucket=bucket)
    data = random_bytes(32 * MIB, seed=2)
    for n in range(12):
        s3.put_object(Bucket=bucket, Key=str(n), Body=data)
    before = calls(edge["http_url"])
    answers = [s3.get_object(Bucket=bucket, Key=str(n))["Body"] for n in range(8)]
    firsts = [answer.read(1) for answer in answers]
    assert all(firsts)
    cluster.kill_member(victim)
    broken = 0
    for answer in answers:
        try:
            answer.read()
        except Exception:  # noqa: BLE001 - the transfer broke off, as it must
            broken += 1
    assert broken > 0, "some lay on the one that died"
    assert grew(before, calls(edge["http_url"]), "data", good=False) >= broken
