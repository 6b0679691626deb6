"""Step b. The aws cli as a real program: mb, cp, ls, range, presign, sync, rm, rb."""

import json

import pytest

from support import raw
from support.data import MIB, random_bytes, unique
from support.programs import aws as aws_program
from support.programs import make_tree, read_tree


@pytest.fixture(scope="module")
def aws(cluster):
    return aws_program(cluster)


@pytest.fixture
def uri(aws):
    name = unique("aws")
    aws("s3", "mb", f"s3://{name}")
    yield f"s3://{name}"
    aws("s3", "rb", "--force", f"s3://{name}")
    aws.fails("s3", "ls", f"s3://{name}", word="NoSuchBucket")


@pytest.mark.parametrize("size", [0, 1, 5 * MIB - 1, 5 * MIB])
def test_a_file_goes_up_and_comes_down(aws, uri, tmp_path, size):
    make_tree(tmp_path, {"up": random_bytes(size)})
    aws("s3", "cp", tmp_path / "up", f"{uri}/dir/file name é.bin")
    assert f"{size} dir/file name é.bin" in aws("s3", "ls", "--recursive", uri)
    aws("s3", "cp", f"{uri}/dir/file name é.bin", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == random_bytes(size)


def test_a_stream_goes_up_and_comes_down(aws, uri, tmp_path):
    make_tree(tmp_path, {"up": random_bytes(100_000)})
    aws("s3", "cp", tmp_path / "up", f"{uri}/k")
    assert aws("s3", "cp", f"{uri}/k", "-", text=False) == random_bytes(100_000)


def test_ls_shows_folders(aws, uri, tmp_path):
    make_tree(tmp_path, {"a/b": b"1", "c": b"22"})
    aws("s3", "cp", "--recursive", tmp_path, uri)
    lines = [line.split() for line in aws("s3", "ls", f"{uri}/").splitlines()]
    assert lines[0] == ["PRE", "a/"] and lines[1][2:] == ["2", "c"] and len(lines) == 2
    assert uri.removeprefix("s3://") in aws("s3", "ls")


def test_a_range_is_read(aws, uri, tmp_path):
    make_tree(tmp_path, {"up": b"0123456789"})
    aws("s3", "cp", tmp_path / "up", f"{uri}/k")
    bucket = uri.removeprefix("s3://")
    for asked, wanted in (("bytes=2-4", b"234"), ("bytes=7-", b"789"), ("bytes=-2", b"89")):
        aws(
            "s3api",
            "get-object",
            "--bucket",
            bucket,
            "--key",
            "k",
            "--range",
            asked,
            tmp_path / "part",
        )
        assert (tmp_path / "part").read_bytes() == wanted


def test_a_presigned_url_is_good_for_anybody(aws, cluster, uri, tmp_path):
    make_tree(tmp_path, {"up": b"shared"})
    aws("s3", "cp", tmp_path / "up", f"{uri}/k")
    url = aws("s3", "presign", f"{uri}/k", "--expires-in", "60").strip()
    answer = raw.send(cluster.s3, "GET", url.removeprefix(cluster.s3))
    assert (answer.status, answer.body) == (200, b"shared"), answer


def test_sync_copies_what_changed_and_deletes_what_went(aws, uri, tmp_path):
    files = {f"d{n % 3}/f{n}": random_bytes(2000 + n, seed=n) for n in range(9)}
    source = make_tree(tmp_path / "source", files)
    aws("s3", "sync", source, f"{uri}/tree")
    assert aws("s3", "sync", source, f"{uri}/tree") == "", "a second sync finds nothing to do"
    (source / "d0/f0").write_bytes(b"changed, and of another size")
    (source / "d1/f1").unlink()
    done = aws("s3", "sync", "--delete", source, f"{uri}/tree")
    assert done.count("upload:") == 1 and done.count("delete:") == 1
    aws("s3", "sync", f"{uri}/tree", tmp_path / "back")
    assert read_tree(tmp_path / "back") == read_tree(source)


def test_copy_move_and_remove_inside_the_bucket(aws, uri, tmp_path):
    make_tree(tmp_path, {"up": b"data"})
    aws("s3", "cp", tmp_path / "up", f"{uri}/a/one")
    aws("s3", "cp", f"{uri}/a/one", f"{uri}/b/two")
    aws("s3", "mv", f"{uri}/a/one", f"{uri}/c/three")
    names = aws("s3", "ls", "--recursive", uri)
    assert "b/two" in names and "c/three" in names and "a/one" not in names
    aws("s3", "rm", f"{uri}/b/two")
    aws("s3", "rm", "--recursive", f"{uri}/c")
    assert aws("s3", "ls", "--recursive", uri) == ""


def test_s3api_tells_head_and_errors(aws, uri, tmp_path):
    make_tree(tmp_path, {"up": b"data"})
    bucket = uri.removeprefix("s3://")
    aws(
        "s3api",
        "put-object",
        "--bucket",
        bucket,
        "--key",
        "k",
        "--body",
        tmp_path / "up",
        "--metadata",
        "color=red",
        "--content-type",
        "text/x",
    )
    head = json.loads(aws("s3api", "head-object", "--bucket", bucket, "--key", "k"))
    assert (head["Metadata"], head["ContentType"]) == ({"color": "red"}, "text/x")
    assert head["ContentLength"] == 4
    aws.fails(
        "s3api", "get-object", "--bucket", bucket, "--key", "no", tmp_path / "x", word="NoSuchKey"
    )
    aws.fails("s3", "rb", uri, word="BucketNotEmpty")
