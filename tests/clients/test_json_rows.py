"""Step g. What the JSON APIs add to the original's: rows without uploads, buckets, tasks by hand."""

import base64

import pytest

from support.cluster import wait_until
from support.data import md5_hex, unique
from support.json_api import V1, Api, path_of
from support.s3 import body


@pytest.fixture(scope="module")
def metadata(cluster):
    return Api(cluster.url("metadata"))


@pytest.fixture(scope="module")
def storage(cluster):
    return Api(cluster.s3)


@pytest.fixture(scope="module")
def queue(cluster):
    return Api(cluster.url("queue"))


def test_a_row_of_an_object_changes_type_headers_and_tags_but_never_bytes(metadata, s3, bucket):
    s3.put_object(Bucket=bucket, Key="a/k", Body=b"abc", ContentType="text/plain")
    path = "/metadata" + path_of(bucket, "a/k")
    change = {
        "bucket": bucket,
        "key": "a/k",
        "size": 3,
        "content_type": "image/png",
        "headers": {"Cache-Control": "no-cache", "x-amz-meta-color": "red"},
        "tags": {"kind": "test"},
    }
    assert metadata("POST", "/metadata", change, expect=201)["success"] is True
    got = s3.get_object(Bucket=bucket, Key="a/k")
    assert body(got) == b"abc" and got["ContentType"] == "image/png"
    assert (got["CacheControl"], got["Metadata"]) == ("no-cache", {"color": "red"})
    assert s3.get_object_tagging(Bucket=bucket, Key="a/k")["TagSet"] == [
        {"Key": "kind", "Value": "test"}
    ]
    assert metadata("PUT", path, {"key": "ignored", "content_type": "a/b"})["success"] is True
    row = metadata("GET", path)
    assert (row["content_type"], row["tags"]) == ("a/b", {"kind": "test"})
    assert (row["headers"]["x-amz-meta-color"], row["md5_hash"]) == ("red", md5_hex(b"abc"))
    error = metadata.refused("PUT", path, 409, {"size": 4})
    assert (error["field"], error["example"]) == ("size", "3")


def test_a_row_without_an_object_is_made_only_where_something_can_serve_it(metadata, s3, bucket):
    path = "/metadata" + path_of(bucket, "k")
    row = {"size": 3, "md5_hash": md5_hex(b"abc")}
    assert metadata.refused("PUT", path, 422, row)["field"] == "size"
    metadata("PUT", f"/buckets/{bucket}/fallback", {"enabled": True})
    assert metadata("GET", f"/buckets/{bucket}")["fallback"] is True
    metadata("PUT", path, row)
    assert metadata("GET", path)["size"] == 3
    metadata("PUT", f"/buckets/{bucket}/fallback", {"enabled": False})
    metadata("POST", "/metadata", {"bucket": bucket, "key": "empty"}, expect=201)
    assert body(s3.get_object(Bucket=bucket, Key="empty")) == b""
    metadata("DELETE", path, expect=204)
    metadata.refused("DELETE", path, 404)


def test_a_json_upload_makes_its_bucket_where_the_switch_is_on(own_cluster):
    cluster = own_cluster(config="[http]\ncreate_buckets = true\n", scale={"storage": 1})
    metadata, storage, name = Api(cluster.url("metadata")), Api(cluster.s3), unique()
    upload = {"bucket": name, "key": "k", "data": base64.b64encode(b"x").decode()}
    storage("POST", "/objects", upload, expect=201)
    assert name in [line["name"] for line in metadata("GET", f"/buckets?prefix={name}")["buckets"]]
    assert metadata.refused("DELETE", f"/buckets/{name}", 409)["error"] == "bucket not empty"
    storage("DELETE", "/objects" + path_of(name, "k"), expect=204)
    storage.refused("DELETE", "/objects" + path_of(name, "k"), 404)
    metadata("DELETE", f"/buckets/{name}", expect=204)


def test_a_raw_upload_with_a_wrong_md5_is_refused(storage, bucket):
    path = "/objects" + path_of(bucket, "k")
    headers = {"Content-Type": "text/plain", "Content-MD5": md5_hex(b"other")}
    assert storage.refused("PUT", path, 422, b"bytes", headers)["field"] == "Content-MD5"
    assert storage.raw("GET", path).status == 404
    headers["Content-MD5"] = md5_hex(b"bytes")
    assert storage.raw("PUT", path, b"bytes", headers).status == 201
    answer = storage.raw("GET", path)
    assert (answer.body, answer.headers["content-md5"]) == (b"bytes", md5_hex(b"bytes"))
    head = storage.raw("HEAD", path)
    assert (head.status, head.headers["content-length"], head.body) == (200, "5", b"")


def test_json_bytes_are_stored_as_they_are_with_raw(storage, bucket):
    path = "/objects" + path_of(bucket, "doc.json") + "?raw=true"
    kind = {"Content-Type": "application/json"}
    assert storage.raw("PUT", path, b'{"a": 1}', kind).status == 201
    answer = storage.raw("GET", path)
    assert (answer.body, answer.headers["content-type"]) == (b'{"a": 1}', "application/json")


def test_the_routes_between_the_originals_nodes_are_refused_honestly(storage):
    storage.refused("POST", "/internal/objects", 501, {})
    storage.refused("DELETE", "/internal/objects/photos/k", 501)


def test_a_save_task_with_bytes_is_done_when_it_is_answered(queue, s3, bucket):
    data = base64.b64encode(b"hello").decode()
    task = {"object_key": f"{bucket}/a/b", "object": {"size": 5, "data": data}}
    made = queue("POST", "/save-tasks", task, expect=201)
    assert made["task_id"].startswith("save_")
    assert body(s3.get_object(Bucket=bucket, Key="a/b")) == b"hello"
    assert queue("GET", f"/tasks/{made['task_id']}")["status"] == "completed"


def test_tasks_of_types_without_a_worker_are_refused_honestly(queue):
    task = {"type": "generate_thumbnail", "object_key": "photos/k"}
    queue.refused("POST", "/tasks", 501, task)
    assert queue.refused("POST", "/tasks", 422, {**task, "type": "odd"})["field"] == "type"


def test_an_outside_worker_takes_and_finishes_a_task(own_cluster):
    api = Api(own_cluster(scale={"storage": 1}).url("queue"))
    workers = [worker["id"] for worker in api("GET", "/workers")["workers"]]
    for worker in workers:
        assert api("POST", f"/workers/{worker}/stop")["status"] in ("stopped", "running")
    stopped = lambda: {w["status"] for w in api("GET", "/workers")["workers"]} == {"stopped"}  # noqa: E731
    wait_until("the workers stopped", stopped, 10)
    assert api("GET", "/delete-tasks/dequeue?wait=0", expect=204) is None
    made = api("POST", "/delete-tasks", {"object_key": "photos/k", "id": "del_1"}, expect=201)
    taken = api("GET", "/delete-tasks/dequeue?worker=me")
    assert (taken["id"], taken["object_key"]) == (made["task_id"], "photos/k")
    assert api("GET", "/tasks/del_1")["worker_id"] == "http/me"
    assert api("GET", "/delete-tasks/dequeue?wait=0", expect=204) is None, "it is leased"
    api.refused("PUT", "/save-tasks/del_1/status", 404, {"status": "completed"})
    for _ in range(2):  # said twice is said once
        api("PUT", "/delete-tasks/del_1/status", {"status": "completed"})
    assert api("GET", "/tasks/del_1")["completed_at"]
    api.refused("PUT", "/delete-tasks/del_1/status", 409, {"status": "failed"})


def test_the_first_generation_gets_204_as_an_envelope(metadata, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    path = "/metadata" + path_of(bucket, "k")
    answer = metadata("DELETE", path, headers={"Accept": V1})
    assert answer["success"] is True and answer["data"] is None
