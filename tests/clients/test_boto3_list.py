"""Step b. ListObjects v1 and v2: prefix, delimiter, order, paging, start-after, encoding, owner."""

import concurrent.futures

import pytest

from support import raw
from support.data import md5_hex, unique
from support.s3 import client, keys, prefixes, refused

TREE = [
    "a",
    "a/1",
    "a/2",
    "a/b/3",
    "b",
    "b//4",
    "c-x",
    "c-y",
    "photos/2025/jan.jpg",
    "photos/2025/feb.jpg",
    "photos/2026/mar.jpg",
    "photos/index.html",
    "z",
]


def make_bucket(cluster, names):
    s3, name = client(cluster.s3), unique("list")
    s3.create_bucket(Bucket=name)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket=name, Key=key, Body=key.encode()), names))
    return name


@pytest.fixture(scope="module")
def tree(cluster):
    return make_bucket(cluster, TREE)


@pytest.fixture(scope="module")
def many(cluster):
    """1,005 keys: 1,000 in 10 folders of 100 and five beside them."""
    names = [f"dir-{n // 100}/key-{n:04}" for n in range(1000)]
    return make_bucket(cluster, [*names, "aaa", "dir-3", "dir-30", "mmm", "zzz"])


def pages(s3, operation, **arguments):
    return list(s3.get_paginator(operation).paginate(**arguments))


@pytest.mark.parametrize("operation", ["list_objects", "list_objects_v2"])
@pytest.mark.parametrize(
    ("prefix", "delimiter", "wanted", "common"),
    [
        ("", "/", ["a", "b", "c-x", "c-y", "z"], ["a/", "b/", "photos/"]),
        ("a/", "/", ["a/1", "a/2"], ["a/b/"]),
        ("a", "/", ["a"], ["a/"]),
        ("photos/", "/", ["photos/index.html"], ["photos/2025/", "photos/2026/"]),
        ("photos/2025", "/", [], ["photos/2025/"]),
        ("b/", "/", [], ["b//"]),
        ("", "-", sorted(set(TREE) - {"c-x", "c-y"}), ["c-"]),
        ("", "/2", sorted(k for k in TREE if "/2" not in k), ["a/2", "photos/2"]),
        ("photos/", "", sorted(k for k in TREE if k.startswith("photos/")), []),
        ("", "", sorted(TREE), []),
        ("no such", "/", [], []),
        ("z", "/", ["z"], []),
    ],
)
def test_prefix_and_delimiter(s3, tree, operation, prefix, delimiter, wanted, common):
    arguments = {"Prefix": prefix, "Delimiter": delimiter}
    listing = getattr(s3, operation)(Bucket=tree, **arguments)
    assert keys(listing) == wanted
    assert prefixes(listing) == common
    assert listing["IsTruncated"] is False
    # botocore asks for encoding-type=url, and forgets to decode the prefix of version 1
    encoded = raw.quote(prefix) if operation == "list_objects" else prefix
    assert listing.get("Prefix", "") == encoded
    assert listing.get("Delimiter", "") == delimiter


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("delimiter", ["", "/"])
@pytest.mark.parametrize("operation", ["list_objects", "list_objects_v2"])
def test_pages_of_any_size_join_to_the_whole(s3, tree, operation, delimiter, size):
    whole = getattr(s3, operation)(Bucket=tree, Delimiter=delimiter)
    found = pages(
        s3, operation, Bucket=tree, Delimiter=delimiter, PaginationConfig={"PageSize": size}
    )
    assert [key for page in found for key in keys(page)] == keys(whole)
    assert [prefix for page in found for prefix in prefixes(page)] == prefixes(whole)
    for page in found:
        count = len(keys(page)) + len(prefixes(page))
        assert count <= size
        assert page["MaxKeys"] == size
        if operation == "list_objects_v2":
            assert page["KeyCount"] == count
    assert all(page["IsTruncated"] for page in found[:-1]) and not found[-1]["IsTruncated"]


@pytest.mark.parametrize("operation", ["list_objects", "list_objects_v2"])
def test_a_page_holds_at_most_a_thousand_keys(s3, many, operation):
    first = getattr(s3, operation)(Bucket=many, MaxKeys=5000)
    assert len(keys(first)) == 1000 and first["IsTruncated"] is True
    names = [key for page in pages(s3, operation, Bucket=many) for key in keys(page)]
    assert len(names) == 1005 and names == sorted(names)


def test_a_delimiter_folds_a_thousand_keys(s3, many):
    listing = s3.list_objects_v2(Bucket=many, Delimiter="/")
    assert keys(listing) == ["aaa", "dir-3", "dir-30", "mmm", "zzz"]
    assert prefixes(listing) == [f"dir-{n}/" for n in range(10)]
    assert listing["IsTruncated"] is False


@pytest.mark.parametrize(
    ("after", "wanted"),
    [
        ("b", ["b//4", "c-x", "c-y"]),
        ("b/", ["b//4", "c-x", "c-y"]),
        ("c", ["c-x", "c-y"]),
        ("zz", []),
    ],
)
def test_start_after_and_marker_leave_out_what_comes_before(s3, tree, after, wanted):
    found = keys(s3.list_objects_v2(Bucket=tree, StartAfter=after))
    assert found[: len(wanted)] == wanted and all(key > after for key in found)
    assert keys(s3.list_objects(Bucket=tree, Marker=after)) == found


def test_start_after_inside_a_common_prefix_still_shows_the_prefix(s3, tree):
    listing = s3.list_objects_v2(Bucket=tree, Delimiter="/", StartAfter="photos/2025/zzz")
    assert (keys(listing), prefixes(listing)) == (["z"], ["photos/"])


def test_a_marker_that_is_a_common_prefix_goes_on_behind_it(s3, tree):
    listing = s3.list_objects(Bucket=tree, Delimiter="/", Marker="a/")
    assert (keys(listing), prefixes(listing)) == (["b", "c-x", "c-y", "z"], ["b/", "photos/"])


def test_v1_gives_a_next_marker_with_a_delimiter(s3, tree):
    page = s3.list_objects(Bucket=tree, Delimiter="/", MaxKeys=2)
    assert (keys(page), prefixes(page), page["NextMarker"]) == (["a"], ["a/"], "a/")


def test_no_keys_at_all_may_be_asked_for(s3, tree):
    listing = s3.list_objects_v2(Bucket=tree, MaxKeys=0)
    assert (keys(listing), listing["KeyCount"], listing["IsTruncated"]) == ([], 0, False)


def test_bad_arguments_are_refused(cluster, s3, tree):
    with refused("InvalidArgument", 400):
        s3.list_objects_v2(Bucket=tree, MaxKeys=-1)
    with refused("InvalidArgument", 400):
        s3.list_objects_v2(Bucket=tree, ContinuationToken="not one of ours")
    query = [("list-type", "2"), ("encoding-type", "other")]
    answer = raw.request(cluster.s3, "GET", f"/{tree}", query=query)
    assert (answer.status, answer.code) == (400, "InvalidArgument"), answer


def test_encoding_type_url_encodes_names_and_says_so(cluster, s3, bucket):
    key = "a b/é&<>+😀\x02"
    s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    for version in ([("list-type", "2")], []):
        query = [*version, ("encoding-type", "url"), ("prefix", "a b/")]
        answer = raw.request(cluster.s3, "GET", f"/{bucket}", query=query)
        assert answer.status == 200
        assert b"<EncodingType>url</EncodingType>" in answer.body
        encoded = answer.body.split(b"<Key>")[1].split(b"</Key>")[0].decode()
        assert encoded.isascii() and "%C3%A9" in encoded and "%02" in encoded
        assert raw.urllib.parse.unquote_plus(encoded) == key


def test_without_encoding_type_names_are_plain_xml(cluster, s3, bucket):
    s3.put_object(Bucket=bucket, Key="a b/é&<>😀", Body=b"x")
    answer = raw.request(cluster.s3, "GET", f"/{bucket}", query=[("list-type", "2")])
    assert "<Key>a b/é&amp;&lt;".encode() in answer.body
    assert b"EncodingType" not in answer.body


def test_entries_carry_size_etag_time_and_class(s3, tree):
    entry = next(
        e for e in s3.list_objects_v2(Bucket=tree)["Contents"] if e["Key"] == "photos/index.html"
    )
    assert entry["Size"] == len("photos/index.html")
    assert entry["ETag"] == f'"{md5_hex(b"photos/index.html")}"'
    assert entry["StorageClass"] == "STANDARD"
    assert abs((entry["LastModified"] - raw.now()).total_seconds()) < 600


def test_the_owner_is_listed_on_demand_in_v2_and_always_in_v1(s3, tree):
    assert "Owner" not in s3.list_objects_v2(Bucket=tree)["Contents"][0]
    asked = s3.list_objects_v2(Bucket=tree, FetchOwner=True)["Contents"][0]
    assert asked["Owner"]["ID"] == s3.list_buckets()["Owner"]["ID"]
    assert s3.list_objects(Bucket=tree)["Contents"][0]["Owner"]["ID"] == asked["Owner"]["ID"]


def test_paging_goes_on_while_keys_are_added_and_removed(s3, bucket):
    for n in range(20):
        s3.put_object(Bucket=bucket, Key=f"k-{n:02}", Body=b"")
    first = s3.list_objects_v2(Bucket=bucket, MaxKeys=10)
    s3.delete_object(Bucket=bucket, Key="k-09")  # the last one of the page
    s3.put_object(Bucket=bucket, Key="k-05-new", Body=b"")  # behind us
    s3.put_object(Bucket=bucket, Key="k-15-new", Body=b"")  # ahead
    second = s3.list_objects_v2(Bucket=bucket, ContinuationToken=first["NextContinuationToken"])
    assert keys(second) == [f"k-{n}" for n in range(10, 16)] + ["k-15-new"] + [
        f"k-{n}" for n in range(16, 20)
    ]


def test_every_node_lists_the_same(cluster, tree):
    for url in cluster.s3_urls():
        assert keys(client(url).list_objects_v2(Bucket=tree)) == sorted(TREE)
