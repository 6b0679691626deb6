"""Step b. rclone as a real program: mkdir, copy, lsf, cat, check, sync, move, link, purge."""

import pytest

from support import raw
from support.data import MIB, random_bytes, unique
from support.programs import make_tree, read_tree
from support.programs import rclone as rclone_program


@pytest.fixture(scope="module")
def rclone(cluster):
    return rclone_program(cluster)


@pytest.fixture
def remote(rclone):
    name = unique("rclone")
    rclone("mkdir", f"ours:{name}")
    yield f"ours:{name}"
    rclone("purge", f"ours:{name}")
    assert f"{name}/" not in rclone("lsf", "ours:").split()


@pytest.mark.parametrize("size", [0, 1, 5 * MIB - 1, 5 * MIB])
def test_a_file_goes_up_and_comes_down(rclone, remote, tmp_path, size):
    make_tree(tmp_path, {"up": random_bytes(size)})
    rclone("copyto", tmp_path / "up", f"{remote}/dir/file name é.bin")
    assert (
        rclone("lsf", "-R", "--files-only", "--format", "sp", remote).strip()
        == f"{size};dir/file name é.bin"
    )
    rclone("copyto", f"{remote}/dir/file name é.bin", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == random_bytes(size)


def test_a_range_is_read(rclone, remote, tmp_path):
    make_tree(tmp_path, {"up": b"0123456789"})
    rclone("copyto", tmp_path / "up", f"{remote}/k")
    assert rclone("cat", "--offset", "2", "--count", "3", f"{remote}/k") == "234"
    assert rclone("cat", "--tail", "2", f"{remote}/k") == "89"


def test_sync_makes_both_sides_equal_and_check_agrees(rclone, remote, tmp_path):
    files = {f"d{n % 3}/f {n}": random_bytes(2000 + n, seed=n) for n in range(9)}
    source = make_tree(tmp_path / "source", files)
    rclone("sync", source, f"{remote}/tree")
    rclone("check", source, f"{remote}/tree")
    (source / "d0/f 0").write_bytes(b"changed")
    (source / "d1/f 1").unlink()
    rclone.fails("check", source, f"{remote}/tree")
    rclone("sync", source, f"{remote}/tree")
    rclone("check", "--download", source, f"{remote}/tree")
    rclone("copy", f"{remote}/tree", tmp_path / "back")
    assert read_tree(tmp_path / "back") == read_tree(source)


def test_modification_times_survive(rclone, remote, tmp_path):
    import os

    make_tree(tmp_path, {"up": b"x"})
    os.utime(tmp_path / "up", (1_600_000_000, 1_600_000_000))
    rclone("copyto", tmp_path / "up", f"{remote}/k")
    rclone("copyto", f"{remote}/k", tmp_path / "down")
    assert int((tmp_path / "down").stat().st_mtime) == 1_600_000_000


def test_move_and_delete_inside_the_bucket(rclone, remote, tmp_path):
    make_tree(tmp_path, {"up": b"data"})
    rclone("copyto", tmp_path / "up", f"{remote}/a/one")
    rclone("copyto", f"{remote}/a/one", f"{remote}/b/two")
    rclone("moveto", f"{remote}/a/one", f"{remote}/c/three")
    assert rclone("lsf", "-R", "--files-only", remote).split() == ["b/two", "c/three"]
    rclone("deletefile", f"{remote}/b/two")
    assert rclone("lsf", "-R", "--files-only", remote).split() == ["c/three"]


def test_a_link_is_good_for_anybody(rclone, cluster, remote, tmp_path):
    make_tree(tmp_path, {"up": b"shared"})
    rclone("copyto", tmp_path / "up", f"{remote}/k")
    url = rclone("link", "--expire", "1h", f"{remote}/k").strip()
    answer = raw.send(cluster.s3, "GET", url.removeprefix(cluster.s3))
    assert (answer.status, answer.body) == (200, b"shared"), answer
