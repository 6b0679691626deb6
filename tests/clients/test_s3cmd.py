"""Step b. s3cmd as a real program: mb, put, ls, get, sync, cp, del, rb."""

import pytest

from support.data import MIB, md5_hex, random_bytes, unique
from support.programs import make_tree, read_tree
from support.programs import s3cmd as s3cmd_program


@pytest.fixture(scope="module")
def s3cmd(cluster, tmp_path_factory):
    return s3cmd_program(cluster, tmp_path_factory.mktemp("s3cmd"))


@pytest.fixture
def uri(s3cmd):
    name = unique("s3cmd")
    s3cmd("mb", f"s3://{name}")
    yield f"s3://{name}"
    s3cmd("rb", "--recursive", "--force", f"s3://{name}")
    assert f"s3://{name}" not in s3cmd("ls")


@pytest.mark.parametrize("size", [0, 1, 5 * MIB - 1, 5 * MIB])
def test_a_file_goes_up_and_comes_down(s3cmd, uri, tmp_path, size):
    make_tree(tmp_path, {"up": random_bytes(size)})
    s3cmd("put", tmp_path / "up", f"{uri}/dir/file name é.bin")
    listing = s3cmd("ls", "--recursive", uri)
    assert str(size) in listing and f"{uri}/dir/file name é.bin" in listing
    s3cmd("get", f"{uri}/dir/file name é.bin", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == random_bytes(size)


def test_ls_shows_folders_sizes_and_sums(s3cmd, uri, tmp_path):
    make_tree(tmp_path, {"a/b": b"1", "c": b"22"})
    s3cmd("put", "--recursive", f"{tmp_path}/", f"{uri}/")
    listing = s3cmd("ls", "--list-md5", f"{uri}/")
    assert "DIR" in listing and f"{uri}/a/" in listing and f"{uri}/a/b" not in listing
    assert md5_hex(b"22") in listing
    assert s3cmd("du", uri).split()[0] == "3"


def test_an_interrupted_download_goes_on_where_it_was(s3cmd, uri, tmp_path):
    data = random_bytes(300_000)
    make_tree(tmp_path, {"up": data, "down": data[:100_000]})
    s3cmd("put", tmp_path / "up", f"{uri}/k")
    s3cmd("get", "--continue", f"{uri}/k", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == data


def test_sync_goes_both_ways(s3cmd, uri, tmp_path):
    files = {f"d{n % 3}/f{n}": random_bytes(2000 + n, seed=n) for n in range(9)}
    source = make_tree(tmp_path / "source", files)
    s3cmd("sync", f"{source}/", f"{uri}/tree/")
    (source / "d0/f0").write_bytes(b"changed")
    (source / "d1/f1").unlink()
    s3cmd("sync", "--delete-removed", f"{source}/", f"{uri}/tree/")
    (tmp_path / "back").mkdir()
    s3cmd("sync", f"{uri}/tree/", f"{tmp_path / 'back'}/")
    assert read_tree(tmp_path / "back") == read_tree(source)


def test_copy_move_and_delete_inside_the_bucket(s3cmd, uri, tmp_path):
    make_tree(tmp_path, {"up": b"data"})
    s3cmd("put", tmp_path / "up", f"{uri}/one")
    s3cmd("cp", f"{uri}/one", f"{uri}/two")
    s3cmd("mv", f"{uri}/one", f"{uri}/three")
    listing = s3cmd("ls", uri)
    assert f"{uri}/two" in listing and f"{uri}/three" in listing and f"{uri}/one" not in listing
    s3cmd("del", f"{uri}/two", f"{uri}/three")
    assert s3cmd("ls", uri) == ""


def test_errors_are_told(s3cmd, uri, tmp_path):
    s3cmd.fails("get", f"{uri}/missing", tmp_path / "x", word="does not exist")
    s3cmd.fails("ls", f"s3://{unique('missing')}", word="NoSuchBucket")
