"""Step e. x-amz-checksum-*: right ones kept, wrong ones refused, on every upload path."""

import base64
import hashlib
import zlib

import awscrt.checksums
import pytest

from support import raw
from support.data import MIB, random_bytes
from support.s3 import body, refused


def number(value, size):
    return base64.b64encode(value.to_bytes(size, "big")).decode()


SUMS = {
    "CRC32": lambda data: number(zlib.crc32(data), 4),
    "CRC32C": lambda data: number(awscrt.checksums.crc32c(data), 4),
    "CRC64NVME": lambda data: number(awscrt.checksums.crc64nvme(data), 8),
    "SHA1": lambda data: base64.b64encode(hashlib.sha1(data).digest()).decode(),
    "SHA256": lambda data: base64.b64encode(hashlib.sha256(data).digest()).decode(),
}
ALGORITHMS = sorted(SUMS)
PART = 5 * MIB


def composite(algorithm, parts):
    sums = b"".join(base64.b64decode(SUMS[algorithm](part)) for part in parts)
    return f"{SUMS[algorithm](sums)}-{len(parts)}"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("size", [0, 10, 100_000, 2 * MIB + 1])
def test_a_right_checksum_is_kept_and_given_back_on_demand(s3, bucket, algorithm, size):
    data, field = random_bytes(size), f"Checksum{algorithm}"
    put = s3.put_object(Bucket=bucket, Key="k", Body=data, **{field: SUMS[algorithm](data)})
    assert put[field] == SUMS[algorithm](data)
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert body(got) == data and got[field] == SUMS[algorithm](data)
    assert got["ChecksumType"] == "FULL_OBJECT"
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head[field] == SUMS[algorithm](data)
    assert field not in s3.head_object(Bucket=bucket, Key="k")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_wrong_checksum_is_refused(s3, bucket, algorithm):
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    for size in (10, 2 * MIB):
        wrong = {f"Checksum{algorithm}": SUMS[algorithm](b"other")}
        with refused("BadDigest", 400):
            s3.put_object(Bucket=bucket, Key="k", Body=random_bytes(size), **wrong)
        assert body(s3.get_object(Bucket=bucket, Key="k")) == b"old"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
def test_a_checksum_in_the_trailer_is_checked(cluster, s3, bucket, algorithm, signed):
    name = f"x-amz-checksum-{algorithm.lower()}"
    for size in (0, 5, 300_000):
        data = random_bytes(size)
        trailer = (name, SUMS[algorithm](data))
        answer = raw.put_chunked(cluster.s3, f"/{bucket}/k", data, trailer=trailer, signed=signed)
        assert answer.status == 200, answer
        got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
        assert body(got) == data and got[f"Checksum{algorithm}"] == trailer[1]
    wrong = (name, SUMS[algorithm](b"other"))
    answer = raw.put_chunked(cluster.s3, f"/{bucket}/k", b"new", trailer=wrong, signed=signed)
    assert (answer.status, answer.code) == (400, "BadDigest"), answer
    assert body(s3.get_object(Bucket=bucket, Key="k")) == random_bytes(300_000)


def test_a_checksum_that_is_no_checksum_is_refused(cluster, bucket):
    for value in ("AAAA", "not base64!", ""):
        answer = raw.request(
            cluster.s3, "PUT", f"/{bucket}/k", headers={"x-amz-checksum-sha256": value}, body=b"x"
        )
        assert (answer.status, answer.code) in ((400, "InvalidRequest"), (400, "BadDigest")), answer


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "SHA1", "SHA256"])
def test_a_multipart_upload_has_a_composite_checksum(s3, bucket, algorithm):
    pieces = [random_bytes(PART, seed=1), random_bytes(9, seed=2)]
    names, parts = start(s3, bucket, algorithm, "COMPOSITE"), []
    for i, piece in enumerate(pieces):
        parts.append(put_part(s3, names, i + 1, piece, algorithm))
    done = s3.complete_multipart_upload(**names, MultipartUpload={"Parts": parts})
    assert done[f"Checksum{algorithm}"] == composite(algorithm, pieces)
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head[f"Checksum{algorithm}"] == composite(algorithm, pieces)
    assert head["ChecksumType"] == "COMPOSITE"


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME"])
def test_a_multipart_upload_can_have_a_checksum_of_the_whole(s3, bucket, algorithm):
    pieces = [random_bytes(PART, seed=1), random_bytes(9, seed=2)]
    field, whole = f"Checksum{algorithm}", SUMS[algorithm](b"".join(pieces))
    names = start(s3, bucket, algorithm, "FULL_OBJECT")
    parts = [put_part(s3, names, i + 1, piece, algorithm) for i, piece in enumerate(pieces)]
    wrong = {field: SUMS[algorithm](b"other"), "ChecksumType": "FULL_OBJECT"}
    with refused("BadDigest", 400):
        s3.complete_multipart_upload(**names, MultipartUpload={"Parts": parts}, **wrong)
    right = {field: whole, "ChecksumType": "FULL_OBJECT"}
    done = s3.complete_multipart_upload(**names, MultipartUpload={"Parts": parts}, **right)
    assert done[field] == whole
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (head[field], head["ChecksumType"]) == (whole, "FULL_OBJECT")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_part_with_a_wrong_checksum_is_refused(s3, bucket, algorithm):
    kind = "FULL_OBJECT" if algorithm == "CRC64NVME" else "COMPOSITE"
    names = start(s3, bucket, algorithm, kind)
    with refused("BadDigest", 400):
        wrong = {f"Checksum{algorithm}": SUMS[algorithm](b"other")}
        s3.upload_part(**names, PartNumber=1, Body=b"data", **wrong)
    assert "Parts" not in s3.list_parts(**names)
    part = put_part(s3, names, 1, b"data", algorithm)
    part[f"Checksum{algorithm}"] = SUMS[algorithm](b"other")
    with refused(("InvalidPart", "BadDigest"), 400):
        s3.complete_multipart_upload(**names, MultipartUpload={"Parts": [part]})
    s3.abort_multipart_upload(**names)


def start(s3, bucket, algorithm, kind):
    made = s3.create_multipart_upload(
        Bucket=bucket, Key="k", ChecksumAlgorithm=algorithm, ChecksumType=kind
    )
    assert made["ChecksumAlgorithm"] == algorithm
    return {"Bucket": bucket, "Key": "k", "UploadId": made["UploadId"]}


def put_part(s3, names, part, data, algorithm):
    field = f"Checksum{algorithm}"
    done = s3.upload_part(**names, PartNumber=part, Body=data, **{field: SUMS[algorithm](data)})
    assert done[field] == SUMS[algorithm](data)
    return {"PartNumber": part, "ETag": done["ETag"], field: done[field]}


def test_a_copy_keeps_the_checksum_or_makes_the_asked_one(s3, bucket):
    data, source = random_bytes(100_000), {"Bucket": bucket, "Key": "k"}
    s3.put_object(Bucket=bucket, Key="k", Body=data, ChecksumSHA256=SUMS["SHA256"](data))
    s3.copy_object(Bucket=bucket, Key="kept", CopySource=source)
    head = s3.head_object(Bucket=bucket, Key="kept", ChecksumMode="ENABLED")
    assert head["ChecksumSHA256"] == SUMS["SHA256"](data)
    s3.copy_object(Bucket=bucket, Key="made", CopySource=source, ChecksumAlgorithm="CRC32")
    head = s3.head_object(Bucket=bucket, Key="made", ChecksumMode="ENABLED")
    assert head["ChecksumCRC32"] == SUMS["CRC32"](data)
