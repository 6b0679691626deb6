"""Step e. 10,000 parts, S3's most, make one object."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.data import unique
from support.s3 import client

pytestmark = pytest.mark.timeout(600)
COUNT = 10_000


def part(number):
    """Bytes of a part: a length and content of its own."""
    return bytes([number % 251]) * (number % 97 + 1)


def test_ten_thousand_parts_make_one_object(own_cluster):
    cluster, bucket = own_cluster(config='[s3]\nmin_part_size = "0B"\n'), unique("parts")
    s3 = client(cluster.s3, read_timeout=600)
    s3.create_bucket(Bucket=bucket)
    names = {"Bucket": bucket, "Key": "k"}
    names["UploadId"] = s3.create_multipart_upload(**names)["UploadId"]

    def upload(number):
        done = s3.upload_part(**names, PartNumber=number, Body=part(number))
        return {"PartNumber": number, "ETag": done["ETag"]}

    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(upload, range(1, COUNT + 1)))
    pages = s3.get_paginator("list_parts").paginate(**names)
    listed = [p["PartNumber"] for page in pages for p in page["Parts"]]
    assert listed == list(range(1, COUNT + 1))
    done = s3.complete_multipart_upload(**names, MultipartUpload={"Parts": parts})
    digests = b"".join(bytes.fromhex(p["ETag"].strip('"')) for p in parts)
    assert done["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-{COUNT}"'
    head = s3.head_object(Bucket=bucket, Key="k", PartNumber=9_999)
    assert (head["ContentLength"], head["PartsCount"]) == (len(part(9_999)), COUNT)
    whole = b"".join(part(number) for number in range(1, COUNT + 1))
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == whole
    middle = s3.get_object(Bucket=bucket, Key="k", Range="bytes=100000-300000")["Body"].read()
    assert middle == whole[100_000:300_001]
    with pytest.raises(s3.exceptions.ClientError) as refused:
        names["UploadId"] = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
        s3.upload_part(**names, PartNumber=COUNT + 1, Body=b"x")
    assert refused.value.response["Error"]["Code"] == "InvalidArgument"
