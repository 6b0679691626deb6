"""Step b. The data are still there: after an orderly restart, and after kill -9 of everything."""

import shutil
import time

import pytest

from support.data import MIB, random_bytes, unique
from support.s3 import body, keys, patient

SIZES = [0, 1, 1000, 70_000, 3 * MIB]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_everything_acknowledged_is_there_after_a_restart(own_cluster, end):
    cluster = own_cluster()
    s3, bucket = patient(cluster.s3), unique()
    s3.create_bucket(Bucket=bucket)
    for round_ in range(2):
        for size in SIZES:
            data = random_bytes(size, seed=round_)
            s3.put_object(
                Bucket=bucket, Key=f"{round_}/{size}", Body=data, Metadata={"n": str(size)}
            )
        s3.put_object(Bucket=bucket, Key="overwritten", Body=b"%d" % round_)
        s3.put_object(Bucket=bucket, Key=f"gone-{round_}", Body=b"x")
        s3.delete_object(Bucket=bucket, Key=f"gone-{round_}")
        identities = {member["instance"] for member in cluster.members()}
        getattr(cluster, end)()
        cluster.start()
        assert {member["instance"] for member in cluster.members()} == identities
        check(s3, bucket, round_)


def check(s3, bucket, rounds):
    wanted = [f"{r}/{size}" for r in range(rounds + 1) for size in SIZES] + ["overwritten"]
    assert keys(s3.list_objects_v2(Bucket=bucket)) == sorted(wanted)
    for r in range(rounds + 1):
        for size in SIZES:
            got = s3.get_object(Bucket=bucket, Key=f"{r}/{size}")
            assert body(got) == random_bytes(size, seed=r) and got["Metadata"] == {"n": str(size)}
    assert body(s3.get_object(Bucket=bucket, Key="overwritten")) == b"%d" % rounds


CAREFUL = """
[storage]
orphan_check = "1s"
orphan_grace = "2s"
"""


def test_a_catalog_that_was_lost_takes_no_data_with_it(own_cluster, tmp_path):
    cluster = own_cluster(config=CAREFUL)
    s3, bucket = patient(cluster.s3), unique()
    s3.create_bucket(Bucket=bucket)
    data = random_bytes(MIB)
    s3.put_object(Bucket=bucket, Key="k", Body=data)
    cluster.stop()
    [catalog] = [path.parent for path in cluster.data.rglob("meta.db")]
    shutil.move(catalog, tmp_path / "metadata")
    cluster.start("--found-anew", "metadata")
    assert s3.list_buckets()["Buckets"] == [], "metadata knows of nothing"
    time.sleep(6)  # several rounds in which everything looks like an orphan
    logs = "".join(path.read_text() for path in cluster.data.rglob("*.log"))
    assert "another catalog" in logs
    cluster.stop()
    shutil.rmtree(catalog)
    shutil.move(tmp_path / "metadata", catalog)
    cluster.start()
    assert body(s3.get_object(Bucket=bucket, Key="k")) == data, "it was dropped as an orphan"
