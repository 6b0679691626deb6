"""Step f. Objects from sources outside the cluster: served, checked, saved, and never resurrected."""

import hashlib
import time

import botocore.exceptions
import pytest
import urllib3.exceptions

from support import s3 as s3_support
from support.cluster import ACCESS_KEY, SECRET_KEY, get, wait_until
from support.data import MIB, random_bytes, unique
from support.s3 import body, header, keys, refused
from support.sources import SEAWEED_KEYS, Faulty, api, seaweedfs, set_fallback, source

SIZES = [0, 1, 70_000, 3 * MIB, 9 * MIB + 1]
BROKEN = (
    botocore.exceptions.BotoCoreError,
    botocore.exceptions.ClientError,
    urllib3.exceptions.HTTPError,
)


@pytest.fixture
def outside(cluster, bucket):
    """A bucket of ours with fallback on."""
    set_fallback(cluster, bucket)
    return bucket


@pytest.fixture
def faulty(cluster):
    server, name = Faulty(), unique("faulty")
    with source(cluster, name, "http", server.url):
        yield server
    server.close()


@pytest.fixture
def upstream(request, own_cluster, tmp_path_factory):
    """Another S3 server: (endpoint, access key, secret key)."""
    if request.param == "ours":
        other = own_cluster(scale={"storage": 1, "third-party": 1})
        yield other.s3, ACCESS_KEY, SECRET_KEY
    else:
        with seaweedfs(tmp_path_factory.mktemp("weed")) as endpoint:
            yield endpoint, *SEAWEED_KEYS


def saved(s3, bucket, key):
    return key in keys(s3.list_objects_v2(Bucket=bucket))


@pytest.mark.parametrize("upstream", ["ours", "seaweedfs"], indirect=True)
def test_objects_of_another_s3_server_are_served_and_saved(cluster, s3, outside, upstream):
    endpoint, access_key, secret_key = upstream
    there = s3_support.client(endpoint, access_key, secret_key)
    there.create_bucket(Bucket=outside)
    data = {f"a b/ü+%/{size}": random_bytes(size, seed=size) for size in SIZES}
    for key, value in data.items():
        there.put_object(Bucket=outside, Key=key, Body=value, ContentType="text/x-outside",
                         Metadata={"color": "red"})  # fmt: skip
    with refused({"NoSuchKey", "404"}, 404):
        s3.head_object(Bucket=outside, Key=next(iter(data)))
    secrets = {"access_key": access_key, "secret_key": secret_key}
    with source(cluster, unique("s3"), "s3", endpoint, **secrets):
        for key, value in data.items():
            head = s3.head_object(Bucket=outside, Key=key)
            assert head["ContentLength"] == len(value)
            assert head["ETag"] == f'"{hashlib.md5(value).hexdigest()}"'
        assert keys(s3.list_objects_v2(Bucket=outside)) == [], "HEAD saves nothing"
        for key, value in data.items():
            got = s3.get_object(Bucket=outside, Key=key)
            assert body(got) == value, f"{key}: other bytes"
            assert got["ContentType"] == "text/x-outside" and got["Metadata"] == {"color": "red"}
        for key in data:
            wait_until(f"{key} is saved", lambda key=key: saved(s3, outside, key), 20)
    for key, value in data.items():  # the source is gone, the objects are here
        got = s3.get_object(Bucket=outside, Key=key)
        assert body(got) == value and got["Metadata"] == {"color": "red"}


def test_ranges_and_conditions_work_on_objects_from_outside(s3, outside, faulty):
    data = random_bytes(500_000)
    faulty.plans["k"] = ("right md5", data)
    part = s3.get_object(Bucket=outside, Key="k", Range="bytes=1000-1999")
    assert body(part) == data[1000:2000] and s3_support.status(part) == 206
    assert header(part, "content-range") == "bytes 1000-1999/500000"
    tail = s3.get_object(Bucket=outside, Key="k", Range="bytes=-10")
    assert body(tail) == data[-10:]
    with refused({"304", "NotModified"}, 304):
        s3.get_object(Bucket=outside, Key="k", IfNoneMatch=part["ETag"])


def test_only_buckets_with_the_switch_ask_outside(s3, bucket, cluster, faulty):
    faulty.plans["k"] = ("good", b"outside")
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="k")
    assert faulty.asked == []
    set_fallback(cluster, bucket)
    assert body(s3.get_object(Bucket=bucket, Key="k")) == b"outside"
    wait_until("it is saved", lambda: saved(s3, bucket, "k"), 20)
    set_fallback(cluster, bucket, on=False)


def test_a_deleted_object_does_not_come_back(s3, outside, faulty):
    faulty.plans["seen"] = faulty.plans["unseen"] = ("good", b"outside")
    assert body(s3.get_object(Bucket=outside, Key="seen")) == b"outside"
    wait_until("it is saved", lambda: saved(s3, outside, "seen"), 20)
    for key in ["seen", "unseen"]:
        s3.delete_object(Bucket=outside, Key=key)
        with refused("NoSuchKey", 404):
            s3.get_object(Bucket=outside, Key=key)
    s3.put_object(Bucket=outside, Key="seen", Body=b"mine")
    assert body(s3.get_object(Bucket=outside, Key="seen")) == b"mine"


@pytest.mark.parametrize("change", ["put", "delete"])
def test_a_save_never_wins_over_a_newer_put_or_delete(s3, outside, faulty, change):
    for round_ in range(5):
        key = f"{change}-{round_}"
        faulty.plans[key] = ("slow", b"outside")
        assert body(s3.get_object(Bucket=outside, Key=key)) == b"outside"
        if change == "put":  # while the save task fetches again, or is about to
            s3.put_object(Bucket=outside, Key=key, Body=b"mine")
        else:
            s3.delete_object(Bucket=outside, Key=key)
    time.sleep(3)  # the saves have come to their end
    for round_ in range(5):
        key = f"{change}-{round_}"
        if change == "put":
            assert body(s3.get_object(Bucket=outside, Key=key)) == b"mine"
        else:
            with refused("NoSuchKey", 404):
                s3.get_object(Bucket=outside, Key=key)


@pytest.mark.parametrize("size", [1000, 3 * MIB, 12 * MIB])
@pytest.mark.parametrize("manner", ["500", "silent", "stalls", "truncated", "wrong md5"])
def test_a_bad_source_never_gives_wrong_bytes(s3, outside, faulty, manner, size):
    data = random_bytes(size)
    faulty.plans["k"] = (manner, data)
    with pytest.raises(BROKEN):
        got = body(s3.get_object(Bucket=outside, Key="k"))
        raise AssertionError(f"{len(got)} of {size} bytes were given as the object")
    time.sleep(0.5)
    assert not saved(s3, outside, "k")
    faulty.plans["k2"] = ("slow", data)
    assert body(s3.get_object(Bucket=outside, Key="k2")) == data, "slow is not bad"


def spoil(cluster, data):
    """Overwrites every copy of these bytes on the disks of a stopped cluster."""
    spoiled = 0
    for file in cluster.data.rglob("segments/*"):
        text = bytearray(file.read_bytes())
        at = text.find(data[:64])
        if at >= 0:
            text[at + 10 : at + 20] = b"\xff" * 10
            file.write_bytes(text)
            spoiled += 1
    return spoiled


def test_a_row_without_readable_copies_is_served_only_with_its_own_bytes(own_cluster):
    cluster = own_cluster(scale={"storage": 1})
    s3, bucket, server = s3_support.client(cluster.s3), unique(), Faulty()
    s3.create_bucket(Bucket=bucket)
    set_fallback(cluster, bucket)
    data = {key: random_bytes(200_000, seed=n) for n, key in enumerate(["right", "wrong"])}
    writer = s3_support.patient(cluster.s3)
    for key, value in data.items():
        writer.put_object(Bucket=bucket, Key=key, Body=value, Metadata={"n": key},
                          ContentType="text/x-mine")  # fmt: skip
    cluster.stop()
    assert all(spoil(cluster, value) == 1 for value in data.values())
    cluster.start()
    with refused({"SlowDown", "ServiceUnavailable", "InternalError"}):
        s3.get_object(Bucket=bucket, Key="right")
    with source(cluster, "faulty", "http", server.url):
        server.plans["right"] = ("good", data["right"])
        server.plans["wrong"] = ("good", data["wrong"][:-1] + b"x")
        got = s3.get_object(Bucket=bucket, Key="right")
        assert body(got) == data["right"]
        assert (got["ContentType"], got["Metadata"]) == ("text/x-mine", {"n": "right"})
        with refused({"SlowDown", "ServiceUnavailable", "InternalError"}):
            s3.get_object(Bucket=bucket, Key="wrong")
        get_saved = lambda: state_of_saves(cluster)  # noqa: E731
        wait_until("the save task is done", lambda: get_saved().get("completed"), 20)
    got = s3.get_object(Bucket=bucket, Key="right")  # mended, and the source is gone
    assert body(got) == data["right"] and got["Metadata"] == {"n": "right"}
    server.close()


def state_of_saves(cluster):
    """How many save tasks are in which state."""
    status, answer = api(cluster.url("queue"), "/api/v1/tasks?limit=1000")
    assert status == 200, answer
    states = {}
    for task in answer["tasks"]:
        if "save" in str(task.get("type", task.get("kind"))):
            state = task.get("status", task.get("state"))
            states[state] = states.get(state, 0) + 1
    return states


def test_the_json_api_shows_sources_and_objects(cluster, faulty):
    front, name = cluster.url("third-party"), unique("src")
    body_ = {"name": name, "type": "s3", "priority": 7, "enabled": False,
             "config": {"endpoint": "http://127.0.0.1:1", "access_key": "ak",
                        "secret_key": "top-secret", "timeout": 2_000_000_000}}  # fmt: skip
    assert api(front, "/api/v1/datasources", body_)[0] == 201
    status, shown = api(front, f"/api/v1/datasources/{name}")
    assert status == 200 and shown["config"]["timeout"] == "2s" and shown["priority"] == 7
    assert "top-secret" not in str(api(front, "/api/v1/datasources")[1])
    bad = {**body_, "config": {"endpoint": "nowhere"}}
    status, error = api(front, "/api/v1/datasources", bad)
    assert (status, error["field"], error["success"]) == (422, "config.endpoint", False)
    assert api(front, "/api/v1/datasources", {**body_, "type": "gcs"})[0] == 501
    assert api(front, f"/api/v1/datasources/{name}", method="DELETE")[0] == 204
    assert api(front, f"/api/v1/datasources/{name}")[0] == 404

    data = random_bytes(300_000)
    faulty.plans["x/y z"] = ("right md5", data)
    path = "/api/v1/objects/bucket/x/y%20z"
    for cache in ["miss", "hit"]:
        status, headers, got = get(front, path, timeout=10)
        assert (status, got == data, headers["x-cache"]) == (200, True, cache)
        assert headers["x-third-party-source"] == "true"
        assert headers["content-md5"] == hashlib.md5(data).hexdigest()
    status, shown = api(front, path.replace("objects", "metadata"))
    assert (status, shown["size"], shown["content_type"]) == (200, 300_000, "text/x-outside")
    assert api(front, path.replace("objects", "cache"), method="DELETE")[0] == 204
    assert api(front, path.replace("objects", "cache"), method="DELETE")[0] == 404
    assert api(front, path, method="DELETE")[0] == 501
    status, error = api(front, "/api/v1/objects/bucket/nothing")
    assert (status, error["bucket"], error["key"]) == (404, "bucket", "nothing")
    assert error["message"] and error["error"] and error["success"] is False
    assert api(front, "/api/v1/stats")[1]["total_requests"] >= 3


def test_sources_outlive_a_restart(own_cluster):
    cluster, server = own_cluster(), Faulty()
    server.plans["k"] = ("good", b"outside")
    with source(cluster, "kept", "http", server.url):
        cluster.kill()
        cluster.start()
        assert get(cluster.url("third-party"), "/api/v1/objects/bucket/k")[2] == b"outside"
    server.close()
