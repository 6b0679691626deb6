"""The power goes while objects are written: what was acknowledged is there afterwards.

All data of the cluster are on an ext4 file system of their own (a loop mount). `FS_IOC_SHUTDOWN` with
`NOLOGFLUSH` ends it at once: what was not forced to the disk is gone with page cache and journal.
It cannot reorder what a disk's own cache holds; that is for the simulated disk of `tests/replica`.

Privileged: skipped, and said so, where the machine cannot mount.
"""

import concurrent.futures
import contextlib
import fcntl
import os
import struct
import subprocess
import time

import botocore.exceptions
import pytest

from support.damage import CONFIG, SETTLE_SECONDS, dice, open_tasks
from support.cluster import Cluster, wait_until
from support.data import unique
from support.ledger import Ledger
from support.s3 import patient

pytestmark = pytest.mark.timeout(180)
FS_IOC_SHUTDOWN, NOLOGFLUSH = 0x8004587D, 2
SIZE = "2G"
WRITERS = 4


def run(*command):
    return subprocess.run(command, capture_output=True, text=True)


class Disk:
    """An ext4 file system in a file, mounted where the cluster keeps its data."""

    def __init__(self, image, place):
        self.image, self.place = image, place
        place.mkdir(parents=True, exist_ok=True)
        for command in (["truncate", "-s", SIZE, image], ["mkfs.ext4", "-q", image]):
            done = run(*command)
            if done.returncode != 0:
                pytest.skip(f"privileged: {command[0]}: {done.stderr.strip()}")
        self.mount(first=True)

    def mount(self, first=False):
        done = run("mount", "-o", "loop", self.image, self.place)
        if done.returncode != 0 and first:
            pytest.skip(f"privileged: this machine cannot mount: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr

    def power_off(self):
        place = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(place, FS_IOC_SHUTDOWN, struct.pack("I", NOLOGFLUSH))
        finally:
            os.close(place)

    def unmount(self):
        done = run("umount", self.place)
        assert done.returncode == 0, done.stderr

    def power_on(self):
        self.unmount()
        self.mount()


@pytest.fixture
def power(request, tmp_path):
    """A cluster whose data are on a disk that can lose its power; and that disk."""
    with contextlib.ExitStack() as stack:

        def make(**options):
            cluster = Cluster(request.node.name.split("[")[0], config=CONFIG, **options)
            disk = Disk(tmp_path / "disk.img", cluster.data)
            stack.callback(disk.unmount)
            stack.callback(cluster.close, keep=True)  # its data go with the disk
            return cluster.start(), disk

        yield make


def write_until_it_ends(ledger, first, ended):
    """Writes, reads and deletes until nothing is served any more."""
    number = first
    while not ended():
        with contextlib.suppress(
            botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError
        ):
            ledger.work(number)
        number += WRITERS


@pytest.mark.parametrize("scale", [{}, {"metadata": 3, "queue": 3}], ids=["one", "three"])
def test_nothing_acknowledged_is_lost_when_the_power_goes(power, scale):
    random = dice()
    cluster, disk = power(scale=scale)
    bucket = unique()
    patient(cluster.s3).create_bucket(Bucket=bucket)
    ledger = Ledger(bucket, cluster.s3_urls())
    for ledger_round in range(2):
        off = False
        with concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
            first = ledger_round * 100_000
            writers = [
                pool.submit(write_until_it_ends, ledger, first + n, lambda: off)
                for n in range(WRITERS)
            ]
            time.sleep(random.uniform(2, 4))
            disk.power_off()
            off = True
            cluster.kill()
            for writer in writers:
                writer.result()
        disk.power_on()
        cluster.start()
        ledger.clients = [patient(url) for url in cluster.s3_urls()]  # they are at other ports
        ledger.check()
    assert len(ledger.written) > 20, "hardly anything was written"
    wait_until("no open task", lambda: open_tasks(cluster) == 0, SETTLE_SECONDS)
    ledger.check()
