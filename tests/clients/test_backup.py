"""`mocks3 backup` of a running cluster, and `mocks3 restore` into a stopped one."""

import json
import shutil
import threading

import pytest

from support.cluster import get, mocks3, wait_until
from support.data import KIB, MIB, random_bytes, unique
from support.json_api import Api
from support.s3 import body, client, keys, patient, refused

SIZES = [0, 1, 5 * KIB, 64 * KIB, 200 * KIB, MIB + 1]
# Bytes of deleted objects go at once, and what lies apart is looked for all the time.
QUICK = """
[storage]
delete_grace = "0s"
orphan_check = "1s"
"""
SCALE = {"metadata": 3, "queue": 3}
SERVICES = ["metadata", "queue", "mock-error"]


def write(s3, bucket, key):
    s3.put_object(Bucket=bucket, Key=key, Body=content(key))
    return key


def content(key):
    return random_bytes(SIZES[int(key.rpartition("-")[2]) % len(SIZES)], seed=key)


class Writers:
    """Writes and deletes in a bucket while a backup runs; knows what was acknowledged."""

    def __init__(self, cluster, bucket):
        self.s3, self.bucket, self.acknowledged = patient(cluster.s3), bucket, []
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        number = 0
        while not self.stopped.is_set():
            key = write(self.s3, self.bucket, f"during-{number}")
            self.acknowledged.append(key)
            if number % 4 == 3:
                self.s3.delete_object(Bucket=self.bucket, Key=f"during-{number - 2}")
            number += 1

    def __enter__(self):
        self.thread.start()
        wait_until("writers are at work", lambda: len(self.acknowledged) > 5, 20)
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join(30)
        assert not self.thread.is_alive()


def backup(cluster, to, expect=0):
    done = mocks3("backup", to, "--url", cluster.url("storage"), timeout=60)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def restore(*arguments, expect=0):
    done = mocks3("restore", *arguments, timeout=60)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


def manifest_of(folder):
    manifest = json.loads((folder / "backup.json").read_text())
    assert manifest["format"] == 1 and int(manifest["cluster_id"], 16)
    listed = {row["service"]: row for row in manifest["services"]}
    assert set(listed) >= {f"{service}-service" for service in SERVICES}
    names = {f"{name.removesuffix('-service')}.image" for name in listed}
    assert {path.name for path in folder.iterdir()} == {"backup.json", *names}
    for name, row in listed.items():
        image = folder / f"{name.removesuffix('-service')}.image"
        assert image.stat().st_size == row["bytes"] > 0
        assert row["digest"].startswith(f"{row['applied']}-")
    return manifest


def groups(cluster, digest=True):
    _, _, answer = get(
        cluster.url("storage"), f"/api/v1/groups?digest={str(digest).lower()}", timeout=40
    )
    return {group["service"]: group for group in json.loads(answer)["groups"]}


def whole(cluster, service, count):
    """The replicas of a group, when all of them vote and their states are equal."""
    group = groups(cluster)[f"{service}-service"]
    digests = {replica["digest"] for replica in group["replicas"]}
    voters = len(group["voters"])
    return group if (len(group["replicas"]), voters, len(digests)) == (count, count, 1) else None


def settled(cluster):
    """The figures of the queue when it has nothing left to do; fails with what it has."""
    queue = Api(cluster.url("queue"))
    figures = queue("GET", "/stats")
    if figures["total_queue_length"] == 0:
        return figures
    tasks = queue("GET", "/tasks?limit=100")["tasks"]
    raise RuntimeError([t for t in tasks if t["status"] not in ("completed", "cancelled")])


def test_what_was_acknowledged_before_a_backup_is_there_after_a_restore(own_cluster, tmp_path):
    cluster = own_cluster(scale=SCALE, config=QUICK)
    s3, bucket, to = patient(cluster.s3), unique(), tmp_path / "monday"
    s3.create_bucket(Bucket=bucket)
    before = [write(s3, bucket, f"before-{n}") for n in range(12)]
    with Writers(cluster, bucket) as writers:
        acknowledged = set(writers.acknowledged)
        said = backup(cluster, to)
    assert "metadata" in said and "checked" in said
    manifest = manifest_of(to)
    assert not list(tmp_path.glob("*.partial"))
    assert "is not empty" in backup(cluster, to, expect=2)

    s3.put_object(Bucket=bucket, Key="after", Body=b"after the backup")
    lost = "before-5"  # of more than a MiB: its bytes are on storage nodes, and go
    wait_until("the queue is done", lambda: settled(cluster), 20)
    processed = settled(cluster)["processed_tasks"]
    s3.delete_object(Bucket=bucket, Key=lost)
    more = lambda: settled(cluster)["processed_tasks"] > processed  # noqa: E731
    wait_until("its bytes are gone", more, 20)
    assert "in use" in restore(to, "--data-dir", cluster.data, "--replace", expect=2)
    old = {service: groups(cluster, False)[f"{service}-service"]["group"] for service in SERVICES}
    cluster.stop()
    assert "--replace" in restore(to, "--data-dir", cluster.data, expect=2)
    restore(to, "--data-dir", cluster.data, "--replace")
    cluster.start()

    for service in SERVICES:
        count = SCALE.get(service, 1)
        new = wait_until(
            f"{service} is whole", lambda s=service, n=count: whole(cluster, s, n), 30
        )
        assert new["group"] != old[service]
    deleted = {f"during-{n - 2}" for n in range(3, 10_000, 4)}
    listed = set(keys(s3.list_objects_v2(Bucket=bucket)))
    assert set(before) | (acknowledged - deleted) <= listed
    assert "after" not in listed
    for key in set(before) - {lost} | (acknowledged - deleted):
        assert body(s3.get_object(Bucket=bucket, Key=key)) == content(key), key
    write(s3, bucket, "again-3")
    assert body(s3.get_object(Bucket=bucket, Key="again-3")) == content("again-3")
    with refused({"SlowDown", "InternalError", "ServiceUnavailable"}):
        client(cluster.s3).get_object(Bucket=bucket, Key=lost)
    for key in {lost} | deleted & listed:
        s3.delete_object(Bucket=bucket, Key=key)  # copies were wanted of what nobody has any more
    wait_until("the queue is done", lambda: settled(cluster), 60)
    assert manifest["services"][0]["service"] == "metadata-service"


def test_a_restore_can_be_turned_back_and_one_elsewhere_has_the_same_state(own_cluster, tmp_path):
    cluster = own_cluster(scale={"metadata": 3})
    s3, bucket, to = patient(cluster.s3), unique(), tmp_path / "backup"
    s3.create_bucket(Bucket=bucket)
    write(s3, bucket, "a-5")
    backup(cluster, to)
    rows = {row["service"]: row for row in manifest_of(to)["services"]}
    write(s3, bucket, "b-5")
    cluster.stop()

    # By hand, node by node: one of each service, to which the others come.
    nodes = [path for s in SERVICES for path in (cluster.data / "nodes").glob(f"{s}-*")]
    assert len(nodes) == 5
    first, second, *rest = nodes
    each = [argument for node in [first, *rest[1:]] for argument in ("--node-dir", node)]
    restore(to, *each, "--replace")
    restore(to, "--node-dir", second, "--node-dir", rest[0], "--replace", "--join")
    assert not (second / "metadata").exists()
    cluster.start()
    wait_until("metadata is whole", lambda: whole(cluster, "metadata", 3), 30)
    assert keys(s3.list_objects_v2(Bucket=bucket)) == ["a-5"]
    with refused("NoSuchKey"):
        client(cluster.s3).get_object(Bucket=bucket, Key="b-5")
    cluster.stop()
    for node in nodes:
        service = node.name.partition("-service")[0]
        [aside] = node.glob(f"{service}.replaced-*")
        shutil.rmtree(node / service)
        aside.rename(node / service)
    cluster.start()
    for key in ["a-5", "b-5"]:
        assert body(s3.get_object(Bucket=bucket, Key=key)) == content(key), "it was put aside"

    # A new cluster of another size, beside the old one that runs.
    other = own_cluster(scale={"metadata": 3}, start=False)
    restore(to, "--data-dir", other.data)
    other.start()
    group = wait_until("metadata is whole", lambda: whole(other, "metadata", 3), 30)
    assert group["group"] != rows["metadata-service"]["group"]
    there = patient(other.s3)
    assert keys(there.list_objects_v2(Bucket=bucket)) == ["a-5"]
    with refused({"SlowDown", "InternalError", "ServiceUnavailable"}):
        client(other.s3).get_object(Bucket=bucket, Key="a-5")  # its bytes are not here


def test_a_damaged_or_foreign_backup_is_refused_and_changes_nothing(own_cluster, tmp_path):
    cluster = own_cluster()
    s3, bucket, to = patient(cluster.s3), unique(), tmp_path / "backup"
    s3.create_bucket(Bucket=bucket)
    backup(cluster, to)
    cluster.stop()
    other = tmp_path / "other"
    shutil.copytree(to, other)
    image = other / "queue.image"
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 1
    image.write_bytes(data)
    assert "damaged" in restore(other, "--data-dir", cluster.data, "--replace", expect=2)
    shutil.copy(to / "queue.image", image)
    foreign = json.loads((other / "backup.json").read_text()) | {"cluster_id": "1" * 32}
    (other / "backup.json").write_text(json.dumps(foreign))
    said = restore(other, "--data-dir", cluster.data, "--replace", expect=2)
    assert "belongs to cluster" in said
    assert "no backup" in restore(tmp_path, "--data-dir", cluster.data, "--replace", expect=2)
    assert not list(cluster.data.rglob("*.replaced-*"))
    cluster.start()
    assert [b["Name"] for b in s3.list_buckets()["Buckets"]] == [bucket]


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_comes_with_its_checksum_and_says_of_which_cluster_it_is(cluster, service):
    url = cluster.url(service)
    status, headers, image = get(url, "/api/v1/replica/image", timeout=20)
    assert status == 200 and int(headers["content-length"]) == len(image) > 0
    assert len(headers["x-mocks3-crc64nvme"]) == 16 and int(headers["x-mocks3-cluster-id"], 16)
    status, _, _ = get(url, f"/api/v1/replica/image?service={service}", timeout=20)
    assert status == 200
    Api(url).refused("GET", "/replica/image?service=storage", 404)
    Api(cluster.s3).refused("GET", "/replica/image", 404)


def test_without_a_cluster_there_is_no_backup_and_nothing_is_left(tmp_path):
    done = mocks3("backup", tmp_path / "b", "--url", "http://127.0.0.1:1")
    assert done.returncode == 1 and "no node answers" in done.stderr
    assert list(tmp_path.iterdir()) == []
    done = mocks3("restore", tmp_path / "b")
    assert done.returncode == 2, "somewhere is needed"
