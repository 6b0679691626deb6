"""Step e. 100 MiB and tags by the real programs: multipart uploads, downloads in parts."""

import json

import pytest

from support import programs
from support.data import MIB, md5_hex, random_bytes

SIZE = 100 * MIB
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "up"
    path.write_bytes(random_bytes(SIZE))
    return path


def same(path):
    return md5_hex(path.read_bytes()) == md5_hex(random_bytes(SIZE))


def test_aws_cli_moves_100_mebibytes(cluster, bucket, file, tmp_path):
    aws = programs.aws(cluster)
    aws("s3", "cp", file, f"s3://{bucket}/k")
    head = json.loads(aws("s3api", "head-object", "--bucket", bucket, "--key", "k"))
    assert head["ContentLength"] == SIZE and head["ETag"].endswith('-13"')
    aws("s3", "cp", f"s3://{bucket}/k", f"s3://{bucket}/copied")
    aws("s3", "cp", f"s3://{bucket}/copied", tmp_path / "down")
    assert same(tmp_path / "down")


def test_s3cmd_moves_100_mebibytes(cluster, bucket, file, tmp_path):
    s3cmd = programs.s3cmd(cluster, tmp_path)
    s3cmd("put", file, f"s3://{bucket}/k")
    s3cmd("get", f"s3://{bucket}/k", tmp_path / "down")
    assert same(tmp_path / "down")
    assert s3cmd("multipart", f"s3://{bucket}").strip().count("\n") <= 1, "no upload is left open"


def test_rclone_moves_100_mebibytes(cluster, bucket, file, tmp_path):
    rclone = programs.rclone(cluster)
    rclone("copyto", file, f"ours:{bucket}/k")
    rclone("copyto", f"ours:{bucket}/k", tmp_path / "down")
    assert same(tmp_path / "down")


def test_aws_cli_sets_and_reads_tags(cluster, bucket, tmp_path):
    aws = programs.aws(cluster)
    programs.make_tree(tmp_path, {"up": b"x"})
    names = ["--bucket", bucket, "--key", "k"]
    aws("s3api", "put-object", *names, "--body", tmp_path / "up", "--tagging", "a=1&b=2")
    tags = json.loads(aws("s3api", "get-object-tagging", *names))["TagSet"]
    assert sorted((tag["Key"], tag["Value"]) for tag in tags) == [("a", "1"), ("b", "2")]
    aws("s3api", "put-object-tagging", *names, "--tagging", "TagSet=[{Key=c,Value=3}]")
    tags = json.loads(aws("s3api", "get-object-tagging", *names))["TagSet"]
    assert tags == [{"Key": "c", "Value": "3"}]
    aws("s3api", "delete-object-tagging", *names)
    assert json.loads(aws("s3api", "get-object-tagging", *names))["TagSet"] == []


def test_aws_cli_uses_versions(cluster, versioned, tmp_path):
    aws = programs.aws(cluster)
    for text in (b"one", b"two"):
        programs.make_tree(tmp_path, {"up": text})
        aws("s3", "cp", tmp_path / "up", f"s3://{versioned}/k")
    listing = json.loads(aws("s3api", "list-object-versions", "--bucket", versioned))
    old = next(v for v in listing["Versions"] if not v["IsLatest"])
    aws(
        "s3api",
        "get-object",
        "--bucket",
        versioned,
        "--key",
        "k",
        "--version-id",
        old["VersionId"],
        tmp_path / "down",
    )
    assert (tmp_path / "down").read_bytes() == b"one"
