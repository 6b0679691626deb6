"""Step b. Range requests: closed, open, suffix, clipped, refused; over every size class."""

import pytest

from support import raw
from support.data import KIB, MIB, random_bytes
from support.s3 import body, header, refused, status


@pytest.fixture(
    scope="module", params=[1000, 64 * KIB + 5, 3 * MIB + 7], ids=["1000B", "64KiB", "3MiB"]
)
def stored(request, s3, cluster):
    from support.data import unique

    name, data = unique(), random_bytes(request.param)
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="k", Body=data)
    yield name, data
    s3.delete_object(Bucket=name, Key="k")
    s3.delete_bucket(Bucket=name)


def expectations(size):
    """Range header -> first and last byte of the answer."""
    return {
        "bytes=0-0": (0, 0),
        "bytes=0-9": (0, 9),
        "bytes=500-": (500, size - 1),
        "bytes=-1": (size - 1, size - 1),
        "bytes=-500": (size - 500, size - 1),
        f"bytes=-{size + 100}": (0, size - 1),
        f"bytes=10-{size + 1000}": (10, size - 1),
        f"bytes={size - 1}-{size - 1}": (size - 1, size - 1),
        f"bytes={size // 2 - 1}-{size // 2 + 100}": (size // 2 - 1, size // 2 + 100),
    }


def test_a_range_gives_exactly_those_bytes(s3, stored):
    bucket, data = stored
    for asked, (first, last) in expectations(len(data)).items():
        got = s3.get_object(Bucket=bucket, Key="k", Range=asked)
        assert status(got) == 206, asked
        assert got["ContentRange"] == f"bytes {first}-{last}/{len(data)}", asked
        assert got["ContentLength"] == last - first + 1, asked
        assert body(got) == data[first : last + 1], asked


def test_head_answers_a_range_too(s3, stored):
    bucket, data = stored
    head = s3.head_object(Bucket=bucket, Key="k", Range="bytes=1-4")
    assert (status(head), head["ContentLength"]) == (206, 4)
    assert header(head, "content-range") == f"bytes 1-4/{len(data)}"


def test_a_range_past_the_end_is_not_satisfiable(s3, stored):
    bucket, data = stored
    for asked in (f"bytes={len(data)}-", f"bytes={len(data) + 5}-{len(data) + 9}", "bytes=-0"):
        with refused("InvalidRange", 416):
            s3.get_object(Bucket=bucket, Key="k", Range=asked)


def test_the_refusal_of_a_range_names_the_size(cluster, stored):
    bucket, data = stored
    headers = {"Range": f"bytes={len(data)}-"}
    answer = raw.request(cluster.s3, "GET", f"/{bucket}/k", headers=headers)
    assert (answer.status, answer.code) == (416, "InvalidRange")
    assert answer.headers["content-range"] == f"bytes */{len(data)}"


def test_a_range_that_makes_no_sense_is_ignored_or_refused(cluster, stored):
    bucket, data = stored
    for asked in ("bytes=9-5", "lines=1-2", "bytes=a-b", "bytes="):
        answer = raw.request(cluster.s3, "GET", f"/{bucket}/k", headers={"Range": asked})
        whole = answer.status == 200 and answer.body == data
        assert whole or answer.code in ("InvalidRange", "InvalidArgument"), (asked, answer.status)


def test_ranges_are_announced(s3, stored):
    assert s3.head_object(Bucket=stored[0], Key="k")["AcceptRanges"] == "bytes"


def test_an_empty_object_has_no_range(s3, bucket):
    s3.put_object(Bucket=bucket, Key="empty", Body=b"")
    for asked in ("bytes=0-0", "bytes=0-", "bytes=-1"):
        with refused("InvalidRange", 416):
            s3.get_object(Bucket=bucket, Key="empty", Range=asked)
