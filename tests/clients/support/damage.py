"""What the chaos tests share: the dice with its seed, kills that are waited out, and what must be
true once the cluster had time to heal: no task open, all copies there, the disk within its bound.
"""

import contextlib
import json
import os
import random
import time

from support.cluster import HEAL_SECONDS, get, wait_until
from support.data import MIB
from support.json_api import Api

SEGMENT = 4 * MIB
# Small segments and short graces, so that the space of what was deleted comes back in a test.
CONFIG = f"""
[storage]
segment_size = "{SEGMENT // MIB}MiB"
delete_grace = "1s"
orphan_grace = "10s"
orphan_check = "2s"
"""
# Metadata, queue and logs of a cluster; and what each storage node reserves, so that it can still
# delete when its disk is full.
OVERHEAD, RESERVE = 16 * MIB, 4 * MIB
SETTLE_SECONDS = 60


def dice():
    """A generator whose seed is printed; `SEED=n` repeats a run."""
    seed = int(os.environ.get("SEED") or random.randrange(10**9))
    print(f"SEED={seed}")  # pytest shows it where the test fails
    return random.Random(seed)


def kill_and_wait(cluster, member):
    """kill -9, and how long it took until all were healthy again, with another process."""
    started = time.monotonic()
    cluster.kill_member(member)

    def back():
        now = cluster.healthy()
        return now and member["pid"] not in [other["pid"] for other in now]

    wait_until(f"healthy after {member['instance']} was killed", back, HEAL_SECONDS)
    return time.monotonic() - started


def open_tasks(cluster):
    """How many tasks are not at their end, by the queue's own count."""
    answer = json.loads(get(cluster.url("queue"), "/api/v1/stats")[2])
    return answer["total_queue_length"]


def used(folder, pattern="*"):
    """Bytes that a folder's files really occupy: blocks, not lengths."""
    total = 0
    for path in folder.rglob(pattern):
        with contextlib.suppress(FileNotFoundError):
            total += path.lstat().st_blocks * 512
    return total


def segments(cluster, member):
    """Bytes of one storage instance's segments, without the room it reserves (`RESERVE`)."""
    return used(cluster.data / "nodes" / member["instance"] / "segments", "seg-*")


def rows(cluster, bucket):
    """Metadata's rows of a bucket, with the storage nodes that hold each object."""
    api, found, query = Api(cluster.url("metadata")), [], f"/metadata?bucket={bucket}&limit=1000"
    page = api("GET", query)
    found += page["metadata"]
    assert page["next"] is None, "the test's buckets fit one page"
    return found


def lacking(cluster, bucket, copies=3):
    """Keys of objects that do not have all their copies, by metadata's word."""
    return [row["key"] for row in rows(cluster, bucket) if len(row["storage_nodes"]) != copies]


def wait_settled(cluster, ledger):
    """After the chaos: tasks done, copies made again, space given back. Started with CONFIG."""
    wait_until("all tasks are done", lambda: open_tasks(cluster) == 0, SETTLE_SECONDS, 0.2)
    wait_until(
        "all copies are there", lambda: not lacking(cluster, ledger.bucket), SETTLE_SECONDS, 0.2
    )
    living = sum(row["size"] for row in rows(cluster, ledger.bucket))
    bound = 1.1 * living + SEGMENT
    nodes = cluster.members_of("storage")

    def within():
        sizes = [segments(cluster, node) for node in nodes]
        return all(0 < size <= bound for size in sizes) or sizes

    def settled():
        return within() is True and used(cluster.data) <= len(nodes) * (bound + RESERVE) + OVERHEAD

    try:
        wait_until("disk use is within its bound", settled, 120, 0.5)
    except AssertionError as error:
        raise AssertionError(f"{error}; living {living}, bound {bound}, {within()}") from None
