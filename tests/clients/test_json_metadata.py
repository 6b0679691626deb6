"""Step g. The metadata service's JSON API: both generations' requests, v2's answers."""

import pytest

from support.data import md5_hex, unique
from support.json_api import V1, Api, path_of


@pytest.fixture(scope="module")
def api(cluster):
    return Api(cluster.url("metadata"))


@pytest.fixture
def stored(s3, bucket):
    for key, data in (("a/one", b"1"), ("a/two", b"22"), ("b", b"333")):
        s3.put_object(
            Bucket=bucket,
            Key=key,
            Body=data,
            ContentType="text/plain",
            Metadata={"color": "vermilion"},
        )
    return bucket


def test_metadata_of_an_object_are_told(api, stored):
    row = api("GET", "/metadata" + path_of(stored, "a/one"))
    assert (row["bucket"], row["key"], row["size"]) == (stored, "a/one", 1)
    assert (row["md5_hash"], row["status"]) == (md5_hex(b"1"), "active")
    assert row["content_type"] == "text/plain" and row["created_at"].endswith("Z")
    assert api("GET", f"/metadata/{stored}/a/one") == row, "raw slashes are accepted, too"


def test_the_first_generation_gets_its_envelope(api, stored):
    answer = api("GET", "/metadata" + path_of(stored, "b"), headers={"Accept": V1})
    assert answer["success"] is True and answer["request_id"] and answer["timestamp"]
    assert answer["data"]["key"] == "b"
    answer = api.raw("GET", "/metadata" + path_of(stored, "no"), headers={"Accept": V1})
    assert answer.status == 404 and b'"success":false' in answer.body.replace(b" ", b"")


def test_missing_things_are_404(api, stored):
    api.refused("GET", "/metadata" + path_of(stored, "missing"), 404)
    api.refused("GET", "/metadata" + path_of(unique("missing"), "k"), 404)


def test_metadata_are_listed_by_prefix_and_page(api, stored):
    answer = api("GET", f"/metadata?bucket={stored}")
    assert [row["key"] for row in answer["metadata"]] == ["a/one", "a/two", "b"]
    assert (answer["count"], answer["bucket"], answer["limit"], answer["offset"]) == (
        3,
        stored,
        100,
        0,
    )
    answer = api("GET", f"/metadata?bucket={stored}&prefix=a/&limit=1&offset=1")
    assert [row["key"] for row in answer["metadata"]] == ["a/two"]
    api.refused("GET", "/metadata", 422)
    api.refused("GET", f"/metadata?bucket={stored}&limit=x", 400)


def test_a_page_larger_than_the_largest_is_cut_to_it_and_none_is_refused(api, cluster, stored):
    for path in (f"/metadata?bucket={stored}", f"/metadata/search?q=vermilion&bucket={stored}"):
        answer = api("GET", f"{path}&limit=5000")
        assert (answer["count"], answer["limit"]) == (3, 1000), path
        api.refused("GET", f"{path}&limit=0", 422)
    objects = Api(cluster.url("storage"))
    answer = objects("GET", f"/objects?bucket={stored}&max_keys=5000")
    assert (answer["count"], answer["max_keys"]) == (3, 1000)
    objects.refused("GET", f"/objects?bucket={stored}&max_keys=0", 422)


def test_a_search_finds_keys_tags_and_user_metadata(api, s3, stored):
    s3.put_object(Bucket=stored, Key="tagged", Body=b"x", Tagging="kind=quicksilver")
    for word, wanted in (("one", "a/one"), ("quicksilver", "tagged"), ("vermilion", "b")):
        found = api("GET", f"/metadata/search?q={word}&bucket={stored}")
        assert wanted in [row["key"] for row in found["metadata"]], word
        assert found["query"] == word and found["count"] == len(found["metadata"])
        for row in found["metadata"]:
            assert row == api("GET", "/metadata" + path_of(stored, row["key"])), "the whole row"
    assert api("GET", f"/metadata/search?q=nowhere&bucket={stored}")["metadata"] == []
    api.refused("GET", "/metadata/search", 422)


def test_a_deleted_object_is_no_longer_found(api, s3, stored):
    s3.delete_object(Bucket=stored, Key="b")
    api.refused("GET", "/metadata" + path_of(stored, "b"), 404)
    assert api("GET", f"/metadata?bucket={stored}")["count"] == 2
    found = api("GET", f"/metadata/search?q=vermilion&bucket={stored}")
    assert "b" not in [row["key"] for row in found["metadata"]]


def test_objects_are_counted(api, stored):
    answer = api("GET", f"/metadata/count?bucket={stored}&prefix=a/")
    assert answer["count"] == 2
    stats = api("GET", "/stats")
    assert stats["total_objects"] >= 3 and stats["total_size"] >= 6
    assert stats["last_updated"] and stats["total_size"] == stats["total_size_bytes"]


def test_metadata_can_be_deleted(api, s3, stored):
    api("DELETE", "/metadata" + path_of(stored, "b"), expect=204)
    assert [e["Key"] for e in s3.list_objects_v2(Bucket=stored)["Contents"]] == ["a/one", "a/two"]
