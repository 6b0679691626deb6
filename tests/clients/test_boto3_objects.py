"""Step b. Objects by boto3: sizes, overwrite, head, delete, errors, through all nodes."""

import concurrent.futures
import io

import pytest

from support import raw
from support.data import KIB, MIB, md5_base64, md5_hex, random_bytes
from support.s3 import body, client, refused, status

SIZES = [0, 1, 1000, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, MIB, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1]


@pytest.mark.parametrize("size", [*SIZES, pytest.param(100 * MIB, id="100MiB")])
def test_an_object_comes_back_byte_for_byte(s3, bucket, size):
    data = random_bytes(size)
    put = s3.put_object(Bucket=bucket, Key="object", Body=data)
    assert put["ETag"] == f'"{md5_hex(data)}"'
    got = s3.get_object(Bucket=bucket, Key="object")
    assert got["ContentLength"] == size
    assert got["ETag"] == put["ETag"]
    assert body(got) == data
    head = s3.head_object(Bucket=bucket, Key="object")
    assert (head["ContentLength"], head["ETag"]) == (size, put["ETag"])


def test_an_object_written_through_one_node_is_read_through_every_other(cluster, s3, bucket):
    small, large = random_bytes(100), random_bytes(3 * MIB)
    nodes = [client(url) for url in cluster.s3_urls()]
    assert len(nodes) == 3
    for number, writer in enumerate(nodes):
        writer.put_object(Bucket=bucket, Key=f"small-{number}", Body=small)
        writer.put_object(Bucket=bucket, Key=f"large-{number}", Body=large)
        for reader in nodes:
            assert body(reader.get_object(Bucket=bucket, Key=f"small-{number}")) == small
            assert body(reader.get_object(Bucket=bucket, Key=f"large-{number}")) == large


def test_the_last_write_wins(s3, bucket):
    for size in (10, 3 * MIB, 0, 100 * KIB):
        data = random_bytes(size, seed="overwrite")
        s3.put_object(Bucket=bucket, Key="k", Body=data)
        assert body(s3.get_object(Bucket=bucket, Key="k")) == data


def test_concurrent_writes_of_one_key_leave_one_of_them_whole(s3, bucket):
    versions = [random_bytes(200 * KIB, seed=n) for n in range(12)]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda v: s3.put_object(Bucket=bucket, Key="contended", Body=v), versions))
    assert body(s3.get_object(Bucket=bucket, Key="contended")) in versions


def test_a_reader_of_an_overwritten_object_gets_one_version_whole(s3, bucket):
    versions = [random_bytes(2 * MIB, seed=n) for n in range(6)]
    s3.put_object(Bucket=bucket, Key="k", Body=versions[0])

    def read(_):
        got = s3.get_object(Bucket=bucket, Key="k")
        data = body(got)
        assert got["ETag"] == f'"{md5_hex(data)}"'
        return data

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        reads = [pool.submit(read, n) for n in range(20)]
        for version in versions[1:]:
            s3.put_object(Bucket=bucket, Key="k", Body=version)
        assert all(reading.result() in versions for reading in reads)


def test_a_stream_of_known_length_is_stored(s3, bucket):
    data = random_bytes(2 * MIB + 17)
    s3.put_object(Bucket=bucket, Key="k", Body=io.BytesIO(data), ContentLength=len(data))
    assert body(s3.get_object(Bucket=bucket, Key="k")) == data


def test_a_missing_key_is_told_by_get_and_head(s3, bucket):
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="nothing")
    with refused("404", 404):
        s3.head_object(Bucket=bucket, Key="nothing")


def test_an_error_names_the_resource_and_the_request(cluster, bucket):
    answer = raw.request(cluster.s3, "GET", f"/{bucket}/nothing")
    assert (answer.status, answer.code) == (404, "NoSuchKey")
    assert answer.headers["content-type"].startswith("application/xml")
    assert b"<RequestId>" in answer.body or "x-amz-request-id" in answer.headers


def test_a_deleted_object_is_gone_everywhere(cluster, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x" * 100_000)
    assert status(s3.delete_object(Bucket=bucket, Key="k")) == 204
    for url in cluster.s3_urls():
        with refused("NoSuchKey", 404):
            client(url).get_object(Bucket=bucket, Key="k")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_deleting_a_missing_key_succeeds(s3, bucket):
    assert status(s3.delete_object(Bucket=bucket, Key="never-there")) == 204


def test_content_md5_is_checked(s3, bucket):
    data = random_bytes(200 * KIB)
    s3.put_object(Bucket=bucket, Key="right", Body=data, ContentMD5=md5_base64(data))
    assert body(s3.get_object(Bucket=bucket, Key="right")) == data
    for size in (10, 200 * KIB, 2 * MIB):
        with refused("BadDigest", 400):
            s3.put_object(
                Bucket=bucket, Key="wrong", Body=random_bytes(size), ContentMD5=md5_base64(b"other")
            )
        with refused("404", 404):
            s3.head_object(Bucket=bucket, Key="wrong")


def test_a_refused_overwrite_leaves_the_old_object(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    with refused("BadDigest"):
        s3.put_object(Bucket=bucket, Key="k", Body=b"new", ContentMD5=md5_base64(b"other"))
    assert body(s3.get_object(Bucket=bucket, Key="k")) == b"old"


def test_a_malformed_content_md5_is_refused(cluster, bucket):
    answer = raw.request(
        cluster.s3, "PUT", f"/{bucket}/k", headers={"Content-MD5": "not base64!"}, body=b"x"
    )
    assert (answer.status, answer.code) == (400, "InvalidDigest"), answer


def test_an_upload_broken_off_in_the_middle_leaves_nothing(cluster, s3, bucket):
    import http.client

    data = random_bytes(4 * MIB)
    path = raw.presign(cluster.s3, "PUT", f"/{bucket}/broken")
    host, port = cluster.s3.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.putrequest("PUT", path)
    connection.putheader("Content-Length", str(len(data)))
    connection.endheaders(data[: 3 * MIB])
    connection.close()
    with refused("404", 404):
        s3.head_object(Bucket=bucket, Key="broken")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_the_last_modified_time_is_now(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    stamp = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    assert abs((stamp - raw.now()).total_seconds()) < 30
