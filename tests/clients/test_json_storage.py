"""Step g. The storage service's JSON API: the same objects as S3 sees, by base64 and raw bytes."""

import base64

import pytest

from support.data import md5_hex, random_bytes
from support.json_api import Api, path_of
from support.s3 import body


@pytest.fixture(scope="module")
def api(cluster):
    return Api(cluster.s3)


def upload(bucket, key, data, **more):
    encoded = base64.b64encode(data).decode()
    return {"bucket": bucket, "key": key, "data": encoded, "content_type": "text/plain", **more}


def test_an_object_goes_in_by_json_and_comes_out_by_s3(api, s3, bucket):
    data = random_bytes(100_000)
    answer = api("POST", "/objects", upload(bucket, "a/b", data, tags={"n": "1"}), expect=201)
    assert (answer["success"], answer["bucket"], answer["key"]) == (True, bucket, "a/b")
    assert (answer["size"], answer["md5_hash"]) == (len(data), md5_hex(data))
    assert (
        answer["etag"].strip('"') == md5_hex(data) and answer["object_id"] and answer["timestamp"]
    )
    got = s3.get_object(Bucket=bucket, Key="a/b")
    assert body(got) == data and got["ContentType"] == "text/plain"


def test_an_object_goes_in_by_s3_and_comes_out_raw(api, s3, bucket):
    data = random_bytes(100_000)
    s3.put_object(Bucket=bucket, Key="a/b", Body=data, ContentType="image/png")
    for path in (path_of(bucket, "a/b"), f"/{bucket}/a/b"):
        answer = api.raw("GET", "/objects" + path)
        assert (answer.status, answer.body) == (200, data)
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["etag"].strip('"') == md5_hex(data)
        assert answer.headers["content-length"] == str(len(data))


def test_put_takes_json_and_raw_bytes(api, s3, bucket):
    path = "/objects" + path_of(bucket, "k")
    assert api.raw("PUT", path, upload(bucket, "other", b"json")).status in (200, 201)
    assert body(s3.get_object(Bucket=bucket, Key="k")) == b"json", "the URL wins over the body"
    answer = api.raw(
        "PUT", path, b"raw bytes", headers={"Content-Type": "application/octet-stream"}
    )
    assert answer.status in (200, 201)
    assert body(s3.get_object(Bucket=bucket, Key="k")) == b"raw bytes"
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1


def test_objects_are_deleted_and_listed(api, s3, bucket):
    for key in ("a/1", "a/2", "b", "c/3"):
        api("POST", "/objects", upload(bucket, key, b"x"), expect=201)
    listing = api("GET", f"/objects?bucket={bucket}&delimiter=/")
    assert [entry["key"] for entry in listing["objects"]] == ["b"]
    assert listing["common_prefixes"] == ["a/", "c/"] and listing["is_truncated"] is False
    listing = api("GET", f"/objects?bucket={bucket}&prefix=a/&max_keys=1")
    assert [entry["key"] for entry in listing["objects"]] == ["a/1"]
    assert listing["is_truncated"] is True and listing["next_marker"]
    rest = api("GET", f"/objects?bucket={bucket}&start_after=a/1")
    assert [entry["key"] for entry in rest["objects"]] == ["a/2", "b", "c/3"]
    api("DELETE", "/objects" + path_of(bucket, "a/1"), expect=204)
    assert len(api("GET", f"/objects?bucket={bucket}")["objects"]) == 3


def test_refusals(api, bucket):
    api.refused("GET", "/objects" + path_of(bucket, "missing"), 404)
    api.refused("GET", "/objects", 422)
    error = api.refused("POST", "/objects", 422, {"bucket": bucket, "data": ""})
    assert error["field"] == "key"
    wrong = {**upload(bucket, "k", b""), "data": "not base64!"}
    assert api.refused("POST", "/objects", 422, wrong)["field"] == "data"
    api.refused("POST", "/objects", 404, upload("missing-bucket-for-json", "k", b"x"))


def test_a_key_does_not_climb_out(api, s3, bucket):
    api("POST", "/objects", upload(bucket, "../../up", b"x"), expect=201)
    assert body(s3.get_object(Bucket=bucket, Key="../../up")) == b"x"
    assert api.raw("GET", "/objects" + path_of(bucket, "../../up")).body == b"x"


def test_stats_name_every_node(api, cluster):
    stats = api("GET", "/stats")
    assert (stats["total_nodes"], stats["healthy_nodes"]) == (3, 3)
    assert {node["id"] for node in stats["nodes"]} == {
        member["instance"] for member in cluster.members_of("storage")
    }
    assert all(node["status"] == "healthy" and node["used_space"] >= 0 for node in stats["nodes"])
