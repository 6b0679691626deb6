"""Step e. Multipart uploads: the AWS ETag rule, part copy, listing, refusals, conditions."""

import concurrent.futures
import contextlib

import pytest

from support import raw
from support.data import MIB, md5_base64, md5_hex, multipart_etag, random_bytes
from support.s3 import body, client, header, refused, status

PART = 5 * MIB


@pytest.fixture
def upload(s3, bucket):
    """Starts an upload of key `k`; whatever is still open at the end is aborted."""
    started = []

    def start(key="k", **options):
        made = s3.create_multipart_upload(Bucket=bucket, Key=key, **options)
        started.append({"Bucket": bucket, "Key": key, "UploadId": made["UploadId"]})
        return started[-1]

    yield start
    for names in started:
        with contextlib.suppress(s3.exceptions.NoSuchUpload):
            s3.abort_multipart_upload(**names)


def put_part(s3, names, number, data, **options):
    done = s3.upload_part(**names, PartNumber=number, Body=data, **options)
    return {"PartNumber": number, "ETag": done["ETag"]}


def complete(s3, names, parts, **options):
    return s3.complete_multipart_upload(**names, MultipartUpload={"Parts": parts}, **options)


def test_parts_become_one_object(cluster, s3, bucket, upload):
    pieces = [random_bytes(PART, seed=1), random_bytes(PART + 3, seed=2), random_bytes(10, seed=3)]
    names = upload(ContentType="text/plain", Metadata={"color": "red"}, CacheControl="no-store")
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        parts = list(pool.map(lambda i: put_part(s3, names, i + 1, pieces[i]), range(3)))
    assert [part["ETag"] for part in parts] == [f'"{md5_hex(piece)}"' for piece in pieces]
    done = complete(s3, names, parts)
    assert done["ETag"] == multipart_etag(pieces)
    assert (done["Bucket"], done["Key"]) == (bucket, "k")
    for url in cluster.s3_urls():
        got = client(url).get_object(Bucket=bucket, Key="k")
        assert body(got) == b"".join(pieces)
    assert got["ETag"] == multipart_etag(pieces)
    assert (got["ContentType"], got["Metadata"], got["CacheControl"]) == (
        "text/plain",
        {"color": "red"},
        "no-store",
    )


def test_ranges_cross_the_borders_of_parts(s3, bucket, upload):
    pieces = [random_bytes(PART, seed=1), random_bytes(PART, seed=2), random_bytes(1000, seed=3)]
    names, whole = upload(), b"".join(pieces)
    complete(s3, names, [put_part(s3, names, i + 1, piece) for i, piece in enumerate(pieces)])
    for first, last in (
        (PART - 1, PART),
        (PART - 10, 2 * PART + 10),
        (2 * PART - 1, len(whole) - 1),
        (0, 0),
    ):
        got = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={first}-{last}")
        assert body(got) == whole[first : last + 1]


def test_a_part_can_be_read_by_its_number(s3, bucket, upload):
    pieces = [random_bytes(PART, seed=1), random_bytes(77, seed=2)]
    names = upload()
    complete(s3, names, [put_part(s3, names, i + 1, piece) for i, piece in enumerate(pieces)])
    got = s3.get_object(Bucket=bucket, Key="k", PartNumber=2)
    assert (status(got), body(got), got["PartsCount"]) == (206, pieces[1], 2)
    assert got["ContentRange"] == f"bytes {PART}-{PART + 76}/{PART + 77}"
    assert s3.head_object(Bucket=bucket, Key="k", PartNumber=1)["ContentLength"] == PART
    with refused(("InvalidPartNumber", "416"), 416):
        s3.get_object(Bucket=bucket, Key="k", PartNumber=3)


def test_nothing_is_visible_before_completion(s3, bucket, upload):
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    names = upload()
    part = put_part(s3, names, 1, b"new")
    assert body(s3.get_object(Bucket=bucket, Key="k")) == b"old"
    complete(s3, names, [part])
    assert body(s3.get_object(Bucket=bucket, Key="k")) == b"new"


def test_a_part_sent_again_replaces_the_first(s3, bucket, upload):
    names = upload()
    first = put_part(s3, names, 1, b"first")
    second = put_part(s3, names, 1, b"second")
    with refused("InvalidPart", 400):
        complete(s3, names, [first])
    complete(s3, names, [second])
    assert body(s3.get_object(Bucket=bucket, Key="k")) == b"second"


def test_parts_may_be_left_out_and_numbers_may_have_gaps(s3, bucket, upload):
    names = upload()
    put_part(s3, names, 3, b"left out")
    parts = [put_part(s3, names, 7, b"x" * PART), put_part(s3, names, 10_000, b"end")]
    done = complete(s3, names, parts)
    assert done["ETag"] == multipart_etag([b"x" * PART, b"end"])
    assert body(s3.get_object(Bucket=bucket, Key="k")) == b"x" * PART + b"end"


@pytest.mark.parametrize("number", [0, 10_001, -1])
def test_part_numbers_go_from_1_to_10000(cluster, bucket, upload, number):
    names = upload()
    query = [("partNumber", str(number)), ("uploadId", names["UploadId"])]
    answer = raw.request(cluster.s3, "PUT", f"/{bucket}/k", query=query, body=b"x")
    assert (answer.status, answer.code) == (400, "InvalidArgument"), answer


def test_a_completion_that_is_wrong_is_refused_and_can_be_repeated_right(s3, bucket, upload):
    names = upload()
    one, two = put_part(s3, names, 1, b"a" * PART), put_part(s3, names, 2, b"b" * PART)
    three = put_part(s3, names, 3, b"c")
    with refused("InvalidPartOrder", 400):
        complete(s3, names, [two, one])
    with refused("InvalidPart", 400):
        complete(s3, names, [one, {"PartNumber": 2, "ETag": one["ETag"]}])
    with refused("InvalidPart", 400):
        complete(s3, names, [one, {"PartNumber": 9, "ETag": one["ETag"]}])
    with refused("MalformedXML", 400):
        complete(s3, names, [])
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="k")
    complete(s3, names, [one, two, three])
    assert s3.head_object(Bucket=bucket, Key="k")["ContentLength"] == 2 * PART + 1


def test_a_small_part_that_is_not_the_last_is_refused(s3, upload):
    names = upload()
    parts = [put_part(s3, names, 1, b"a" * (PART - 1)), put_part(s3, names, 2, b"b")]
    with refused("EntityTooSmall", 400):
        complete(s3, names, parts)


def test_a_repeated_completion_gives_the_same_answer(s3, bucket, upload):
    names = upload()
    parts = [put_part(s3, names, 1, b"data")]
    assert complete(s3, names, parts)["ETag"] == complete(s3, names, parts)["ETag"]
    assert body(s3.get_object(Bucket=bucket, Key="k")) == b"data"


def test_an_aborted_upload_is_gone(s3, bucket, upload):
    names = upload()
    part = put_part(s3, names, 1, b"data")
    assert status(s3.abort_multipart_upload(**names)) == 204
    for call in (
        lambda: put_part(s3, names, 2, b"late"),
        lambda: s3.list_parts(**names),
        lambda: complete(s3, names, [part]),
        lambda: s3.abort_multipart_upload(**names),
    ):
        with refused("NoSuchUpload", 404):
            call()
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="k")


def test_an_unknown_upload_is_told(s3, bucket, upload):
    names = {**upload(), "UploadId": "00000000-0000-4000-8000-000000000000"}
    with refused("NoSuchUpload", 404):
        put_part(s3, names, 1, b"x")
    other = {**upload("other"), "Key": "k"}  # the right id under the wrong key
    with refused("NoSuchUpload", 404):
        s3.list_parts(**other)


def test_parts_are_listed_in_pages(s3, upload):
    names = upload()
    for number in (5, 1, 3, 2, 4):
        put_part(s3, names, number, b"x" * number)
    listed = s3.list_parts(**names)
    assert [(p["PartNumber"], p["Size"]) for p in listed["Parts"]] == [(n, n) for n in range(1, 6)]
    assert listed["Parts"][2]["ETag"] == f'"{md5_hex(b"xxx")}"'
    assert listed["IsTruncated"] is False
    first = s3.list_parts(**names, MaxParts=2)
    assert (len(first["Parts"]), first["IsTruncated"], first["NextPartNumberMarker"]) == (
        2,
        True,
        2,
    )
    rest = s3.list_parts(**names, PartNumberMarker=2)
    assert [p["PartNumber"] for p in rest["Parts"]] == [3, 4, 5]


def test_uploads_are_listed_by_key_with_prefix_delimiter_and_pages(s3, bucket, upload):
    for key in ("a/1", "a/2", "b", "b"):
        upload(key)
    listed = s3.list_multipart_uploads(Bucket=bucket)
    assert [entry["Key"] for entry in listed["Uploads"]] == ["a/1", "a/2", "b", "b"]
    assert all(entry["Initiated"] and entry["UploadId"] for entry in listed["Uploads"])
    assert [e["Key"] for e in s3.list_multipart_uploads(Bucket=bucket, Prefix="a/")["Uploads"]] == [
        "a/1",
        "a/2",
    ]
    folded = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [p["Prefix"] for p in folded["CommonPrefixes"]] == ["a/"]
    assert [e["Key"] for e in folded["Uploads"]] == ["b", "b"]
    found = s3.get_paginator("list_multipart_uploads").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": 1}
    )
    ids = [entry["UploadId"] for page in found for entry in page.get("Uploads", [])]
    assert sorted(ids) == sorted(entry["UploadId"] for entry in listed["Uploads"])


def test_parts_can_be_copied_from_objects(s3, bucket, upload):
    data = random_bytes(2 * PART)
    s3.put_object(Bucket=bucket, Key="source", Body=data)
    names, source = upload(), {"Bucket": bucket, "Key": "source"}
    parts = []
    for number, span in ((1, f"bytes=0-{PART - 1}"), (2, f"bytes={PART + 5}-{PART + 104}")):
        done = s3.upload_part_copy(
            **names, PartNumber=number, CopySource=source, CopySourceRange=span
        )
        parts.append({"PartNumber": number, "ETag": done["CopyPartResult"]["ETag"]})
    assert parts[0]["ETag"] == f'"{md5_hex(data[:PART])}"'
    complete(s3, names, parts)
    s3.delete_object(Bucket=bucket, Key="source")
    assert body(s3.get_object(Bucket=bucket, Key="k")) == data[:PART] + data[PART + 5 : PART + 105]


def test_a_whole_object_can_be_copied_as_a_part(s3, bucket, upload):
    s3.put_object(Bucket=bucket, Key="source é", Body=b"data")
    names = upload()
    done = s3.upload_part_copy(
        **names, PartNumber=1, CopySource={"Bucket": bucket, "Key": "source é"}
    )
    complete(s3, names, [{"PartNumber": 1, "ETag": done["CopyPartResult"]["ETag"]}])
    assert body(s3.get_object(Bucket=bucket, Key="k")) == b"data"


def test_a_part_copy_that_is_wrong_is_refused(s3, bucket, upload):
    s3.put_object(Bucket=bucket, Key="source", Body=b"data")
    names, source = upload(), {"Bucket": bucket, "Key": "source"}
    with refused("NoSuchKey", 404):
        s3.upload_part_copy(**names, PartNumber=1, CopySource={"Bucket": bucket, "Key": "no"})
    with refused(("InvalidArgument", "InvalidRange", "InvalidRequest")):
        s3.upload_part_copy(**names, PartNumber=1, CopySource=source, CopySourceRange="bytes=0-100")
    with refused("PreconditionFailed", 412):
        s3.upload_part_copy(**names, PartNumber=1, CopySource=source, CopySourceIfMatch='"other"')
    assert "Parts" not in s3.list_parts(**names)


def test_a_multipart_object_can_be_copied(s3, bucket, upload):
    pieces = [random_bytes(PART, seed=1), b"tail"]
    names = upload()
    complete(s3, names, [put_part(s3, names, i + 1, piece) for i, piece in enumerate(pieces)])
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "k"})
    s3.delete_object(Bucket=bucket, Key="k")
    assert body(s3.get_object(Bucket=bucket, Key="copy")) == b"".join(pieces)


def test_a_completion_can_be_conditional(s3, bucket, upload):
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    names = upload()
    parts = [put_part(s3, names, 1, b"new")]
    with refused("PreconditionFailed", 412):
        complete(s3, names, parts, IfNoneMatch="*")
    with refused("PreconditionFailed", 412):
        complete(s3, names, parts, IfMatch=f'"{md5_hex(b"other")}"')
    assert body(s3.get_object(Bucket=bucket, Key="k")) == b"old"
    complete(s3, names, parts, IfMatch=f'"{md5_hex(b"old")}"')
    assert body(s3.get_object(Bucket=bucket, Key="k")) == b"new"


def test_a_part_with_a_wrong_content_md5_is_refused(s3, upload):
    names = upload()
    for size in (10, MIB):
        with refused("BadDigest", 400):
            put_part(s3, names, 1, random_bytes(size), ContentMD5=md5_base64(b"other"))
    assert "Parts" not in s3.list_parts(**names)


def test_boto3_moves_a_file_of_100_mebibytes(s3, bucket, tmp_path):
    data = random_bytes(100 * MIB)
    (tmp_path / "up").write_bytes(data)
    s3.upload_file(str(tmp_path / "up"), bucket, "file", ExtraArgs={"ContentType": "text/x"})
    head = s3.head_object(Bucket=bucket, Key="file")
    assert (head["ContentLength"], head["ContentType"]) == (len(data), "text/x")
    assert header(head, "etag").endswith('-13"')  # boto3's parts are 8 MiB
    s3.download_file(bucket, "file", str(tmp_path / "down"))
    assert (tmp_path / "down").read_bytes() == data


def test_a_hundred_parts_are_joined_in_order(s3, bucket, upload):
    """Many parts by copying one, so that the test moves little data."""
    s3.put_object(Bucket=bucket, Key="source", Body=b"s" * PART)
    names = upload()

    def copy(number):
        done = s3.upload_part_copy(
            **names, PartNumber=number, CopySource={"Bucket": bucket, "Key": "source"}
        )
        return {"PartNumber": number, "ETag": done["CopyPartResult"]["ETag"]}

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(copy, range(1, 101)))
    parts.append(put_part(s3, names, 101, b"end"))
    done = complete(s3, names, parts)
    assert done["ETag"] == multipart_etag([b"s" * PART] * 100 + [b"end"])
    size = 100 * PART + 3
    assert s3.head_object(Bucket=bucket, Key="k")["ContentLength"] == size
    tail = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={size - 10}-")
    assert body(tail) == b"s" * 7 + b"end"
