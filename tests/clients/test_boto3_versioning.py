"""Step e. Versioning: enable, suspend, delete markers, version ids, ListObjectVersions."""

import pytest

from support.data import MIB, random_bytes
from support.s3 import body, header, refused


def versioning(s3, bucket, state):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": state})


def put(s3, bucket, data, key="k"):
    return s3.put_object(Bucket=bucket, Key=key, Body=data)["VersionId"]


def history(s3, bucket, **arguments):
    """(key, version id, is latest, is delete marker) in the order of the answer's two lists."""
    listing = s3.list_object_versions(Bucket=bucket, **arguments)
    found = [(v["Key"], v["VersionId"], v["IsLatest"], False) for v in listing.get("Versions", [])]
    markers = listing.get("DeleteMarkers", [])
    return found + [(v["Key"], v["VersionId"], v["IsLatest"], True) for v in markers]


@pytest.fixture
def suspended(s3, versioned):
    """A versioned bucket with one real version of `k`, then suspended."""
    version = put(s3, versioned, b"kept")
    versioning(s3, versioned, "Suspended")
    return versioned, version


def test_a_bucket_starts_without_versioning(s3, bucket):
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    assert "VersionId" not in s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert history(s3, bucket) == [("k", "null", True, False)]


def test_the_state_is_told(s3, versioned):
    assert s3.get_bucket_versioning(Bucket=versioned)["Status"] == "Enabled"
    versioning(s3, versioned, "Suspended")
    assert s3.get_bucket_versioning(Bucket=versioned)["Status"] == "Suspended"


def test_every_write_makes_a_version_and_all_stay_readable(s3, versioned):
    data = [b"one", b"two", random_bytes(2 * MIB)]
    ids = [put(s3, versioned, piece) for piece in data]
    assert len(set(ids)) == 3 and "null" not in ids
    for version, piece in zip(ids, data, strict=True):
        got = s3.get_object(Bucket=versioned, Key="k", VersionId=version)
        assert (body(got), got["VersionId"]) == (piece, version)
        head = s3.head_object(Bucket=versioned, Key="k", VersionId=version)
        assert (head["ContentLength"], head["VersionId"]) == (len(piece), version)
    got = s3.get_object(Bucket=versioned, Key="k")
    assert (body(got), got["VersionId"]) == (data[2], ids[2])
    assert [entry[1] for entry in history(s3, versioned)] == ids[::-1]
    assert [entry[2] for entry in history(s3, versioned)] == [True, False, False]


def test_a_delete_puts_a_marker_on_top(s3, versioned):
    version = put(s3, versioned, b"data")
    done = s3.delete_object(Bucket=versioned, Key="k")
    marker = done["VersionId"]
    assert done["DeleteMarker"] is True and marker != version
    with pytest.raises(s3.exceptions.NoSuchKey) as caught:
        s3.get_object(Bucket=versioned, Key="k")
    assert header(caught.value.response, "x-amz-delete-marker") == "true"
    assert header(caught.value.response, "x-amz-version-id") == marker
    assert "Contents" not in s3.list_objects_v2(Bucket=versioned)
    assert history(s3, versioned) == [("k", version, False, False), ("k", marker, True, True)]
    assert body(s3.get_object(Bucket=versioned, Key="k", VersionId=version)) == b"data"


def test_a_delete_marker_cannot_be_read(s3, versioned):
    put(s3, versioned, b"data")
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    with refused("MethodNotAllowed", 405):
        s3.get_object(Bucket=versioned, Key="k", VersionId=marker)
    with refused("405", 405):
        s3.head_object(Bucket=versioned, Key="k", VersionId=marker)


def test_removing_the_marker_brings_the_object_back(s3, versioned):
    put(s3, versioned, b"data")
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    done = s3.delete_object(Bucket=versioned, Key="k", VersionId=marker)
    assert (done["DeleteMarker"], done["VersionId"]) == (True, marker)
    assert body(s3.get_object(Bucket=versioned, Key="k")) == b"data"


def test_deleting_a_key_that_never_was_makes_a_marker_too(s3, versioned):
    marker = s3.delete_object(Bucket=versioned, Key="never")["VersionId"]
    assert history(s3, versioned) == [("never", marker, True, True)]


def test_deleting_a_version_is_for_good(s3, versioned):
    first, second = put(s3, versioned, b"one"), put(s3, versioned, b"two")
    done = s3.delete_object(Bucket=versioned, Key="k", VersionId=second)
    assert done["VersionId"] == second and "DeleteMarker" not in done
    assert body(s3.get_object(Bucket=versioned, Key="k")) == b"one"
    assert history(s3, versioned) == [("k", first, True, False)]
    with refused("NoSuchVersion", 404):
        s3.get_object(Bucket=versioned, Key="k", VersionId=second)
    s3.delete_object(Bucket=versioned, Key="k", VersionId=second)  # again: no error


def test_an_unknown_version_is_told(s3, versioned):
    version = put(s3, versioned, b"data")
    other = put(s3, versioned, b"data", key="other")
    with refused("NoSuchVersion", 404):
        s3.get_object(Bucket=versioned, Key="k", VersionId=other)
    with refused(("NoSuchVersion", "InvalidArgument")):
        s3.get_object(Bucket=versioned, Key="k", VersionId="not-a-version")
    assert body(s3.get_object(Bucket=versioned, Key="k", VersionId=version)) == b"data"


def test_what_was_there_before_is_the_null_version(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    versioning(s3, bucket, "Enabled")
    version = put(s3, bucket, b"new")
    assert history(s3, bucket) == [("k", version, True, False), ("k", "null", False, False)]
    assert body(s3.get_object(Bucket=bucket, Key="k", VersionId="null")) == b"old"
    s3.delete_object(Bucket=bucket, Key="k", VersionId="null")
    s3.delete_object(Bucket=bucket, Key="k", VersionId=version)
    assert history(s3, bucket) == []


def test_suspended_writes_replace_only_the_null_version(s3, suspended):
    bucket, version = suspended
    for data in (b"null 1", b"null 2"):
        answer = s3.put_object(Bucket=bucket, Key="k", Body=data)
        assert answer.get("VersionId", "null") == "null"
    assert history(s3, bucket) == [("k", "null", True, False), ("k", version, False, False)]
    assert body(s3.get_object(Bucket=bucket, Key="k")) == b"null 2"
    assert body(s3.get_object(Bucket=bucket, Key="k", VersionId=version)) == b"kept"


def test_a_suspended_delete_leaves_a_null_marker(s3, suspended):
    bucket, version = suspended
    s3.put_object(Bucket=bucket, Key="k", Body=b"null")
    done = s3.delete_object(Bucket=bucket, Key="k")
    assert (done["DeleteMarker"], done["VersionId"]) == (True, "null")
    assert history(s3, bucket) == [("k", version, False, False), ("k", "null", True, True)]
    s3.delete_object(Bucket=bucket, Key="k", VersionId="null")
    assert body(s3.get_object(Bucket=bucket, Key="k")) == b"kept"


def test_multi_delete_knows_versions_and_markers(s3, versioned):
    one, two = put(s3, versioned, b"1"), put(s3, versioned, b"2")
    put(s3, versioned, b"x", key="other")
    wanted = [{"Key": "k", "VersionId": one}, {"Key": "other"}]
    done = s3.delete_objects(Bucket=versioned, Delete={"Objects": wanted})
    by_key = {entry["Key"]: entry for entry in done["Deleted"]}
    assert by_key["k"]["VersionId"] == one and not by_key["k"].get("DeleteMarker")
    assert by_key["other"]["DeleteMarker"] is True and by_key["other"]["DeleteMarkerVersionId"]
    assert [entry[1] for entry in history(s3, versioned, Prefix="k")] == [two]


def test_a_version_can_be_copied(s3, versioned):
    first = put(s3, versioned, b"one")
    put(s3, versioned, b"two")
    source = {"Bucket": versioned, "Key": "k", "VersionId": first}
    done = s3.copy_object(Bucket=versioned, Key="k", CopySource=source)
    assert done["CopySourceVersionId"] == first and done["VersionId"] != first
    assert body(s3.get_object(Bucket=versioned, Key="k")) == b"one"
    assert len(history(s3, versioned)) == 3


def test_a_multipart_upload_makes_a_version(s3, versioned):
    first = put(s3, versioned, b"old")
    made = s3.create_multipart_upload(Bucket=versioned, Key="k")
    names = {"Bucket": versioned, "Key": "k", "UploadId": made["UploadId"]}
    part = s3.upload_part(**names, PartNumber=1, Body=b"new")
    parts = [{"PartNumber": 1, "ETag": part["ETag"]}]
    done = s3.complete_multipart_upload(**names, MultipartUpload={"Parts": parts})
    assert [entry[1] for entry in history(s3, versioned)] == [done["VersionId"], first]


def test_a_bucket_with_only_markers_or_old_versions_is_not_empty(s3, versioned):
    put(s3, versioned, b"x")
    s3.delete_object(Bucket=versioned, Key="k")
    with refused("BucketNotEmpty", 409):
        s3.delete_bucket(Bucket=versioned)


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_versions_are_listed_in_pages_of_any_size(s3, versioned, size):
    for key in ("a", "b", "b/c", "d"):
        for n in range(3):
            put(s3, versioned, b"%d" % n, key=key)
    s3.delete_object(Bucket=versioned, Key="b")
    whole = s3.list_object_versions(Bucket=versioned)
    assert not whole["IsTruncated"] and len(whole["Versions"]) == 12
    assert [v["Key"] for v in whole["Versions"]] == sorted(["a", "b", "b/c", "d"] * 3)
    paginator = s3.get_paginator("list_object_versions")
    pages = list(paginator.paginate(Bucket=versioned, PaginationConfig={"PageSize": size}))
    for name in ("Versions", "DeleteMarkers"):
        joined = [v["VersionId"] for page in pages for v in page.get(name, [])]
        assert joined == [v["VersionId"] for v in whole[name]]
    for page in pages:
        assert len(page.get("Versions", [])) + len(page.get("DeleteMarkers", [])) <= size


def test_versions_are_listed_by_prefix_and_delimiter(s3, versioned):
    for key in ("a/1", "a/1", "a/2", "b", "c/3"):
        put(s3, versioned, b"x", key=key)
    listing = s3.list_object_versions(Bucket=versioned, Delimiter="/")
    assert [v["Key"] for v in listing["Versions"]] == ["b"]
    assert [p["Prefix"] for p in listing["CommonPrefixes"]] == ["a/", "c/"]
    listing = s3.list_object_versions(Bucket=versioned, Prefix="a/")
    assert [v["Key"] for v in listing["Versions"]] == ["a/1", "a/1", "a/2"]


def test_a_plain_listing_shows_only_the_newest_living_version(s3, versioned):
    for key in ("a", "b", "c"):
        put(s3, versioned, b"old", key=key)
    put(s3, versioned, b"newer", key="b")
    s3.delete_object(Bucket=versioned, Key="a")
    listing = s3.list_objects_v2(Bucket=versioned)
    assert [(e["Key"], e["Size"]) for e in listing["Contents"]] == [("b", 5), ("c", 3)]
