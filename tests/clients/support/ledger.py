"""What a client was promised: every write and delete with its outcome, checked against the cluster.

Used by the tests that hurt the cluster while requests run. Keys are written once each, so that a
key's bytes follow from its name; an operation whose answer never came counts as *unknown*, and
then either state is right, but never a third.
"""

import concurrent.futures
import threading

import botocore.exceptions

from support.data import KIB, MIB, md5_hex, random_bytes
from support.s3 import patient

SIZES = [0, 1, 5 * KIB, 64 * KIB, 200 * KIB, MIB + 1, 3 * MIB]


class Ledger:
    """Uploads, downloads and deletes in one bucket, through all S3 endpoints in turn."""

    def __init__(self, bucket, endpoints):
        self.bucket = bucket
        self.clients = [patient(endpoint) for endpoint in endpoints]
        self.written, self.deleted, self.unknown = set(), set(), set()
        self.wrong_reads = []
        self._lock = threading.Lock()

    @staticmethod
    def content(key):
        number = int(key.rpartition("-")[2])
        return random_bytes(SIZES[number % len(SIZES)], seed=key)

    def client(self, number):
        return self.clients[number % len(self.clients)]

    def write(self, number, prefix="k"):
        key = f"{prefix}-{number:06}"
        data = self.content(key)
        with self._lock:
            self.unknown.add(key)
        answer = self.client(number).put_object(Bucket=self.bucket, Key=key, Body=data)
        assert answer["ETag"] == f'"{md5_hex(data)}"'
        with self._lock:
            self.unknown.discard(key)
            self.written.add(key)
        return key

    def delete(self, number, key):
        with self._lock:
            self.written.discard(key)
            self.unknown.add(key)
        self.client(number).delete_object(Bucket=self.bucket, Key=key)
        with self._lock:
            self.unknown.discard(key)
            self.deleted.add(key)

    def read(self, number, key):
        """Reads an acknowledged key: wrong bytes count at once, a refusal does not."""
        data = self.client(number).get_object(Bucket=self.bucket, Key=key)["Body"].read()
        if data != self.content(key):
            self.wrong_reads.append(key)

    def work(self, number):
        """One step of a mixed load: write, and every so often read and delete older keys."""
        key = self.write(number)
        if number % 3 == 0:
            self.read(number + 1, key)
        if number % 5 == 0:
            self.delete(number + 2, key)

    def check(self, endpoints=None):
        """The promise: what was acknowledged is so, and nothing else is visible."""
        clients = [patient(endpoint) for endpoint in endpoints] if endpoints else self.clients
        assert not self.wrong_reads, f"wrong bytes while the cluster was hurt: {self.wrong_reads}"
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            jobs = [(self._check_there, key) for key in self.written]
            jobs += [(self._check_gone, key) for key in self.deleted]
            jobs += [(self._check_either, key) for key in self.unknown]
            done = [
                pool.submit(job, clients[n % len(clients)], key)
                for n, (job, key) in enumerate(jobs)
            ]
            broken = [text for text in (future.result() for future in done) if text]
        assert not broken, broken
        self._check_listing(clients[0])

    def _get(self, s3, key):
        try:
            return s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        except s3.exceptions.NoSuchKey:
            return None

    def _check_there(self, s3, key):
        try:
            data = self._get(s3, key)
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
            return f"{key}: acknowledged, but {error}"
        if data is None:
            return f"{key}: acknowledged, but gone"
        return None if data == self.content(key) else f"{key}: wrong bytes ({len(data)})"

    def _check_gone(self, s3, key):
        return f"{key}: deleted, but there" if self._get(s3, key) is not None else None

    def _check_either(self, s3, key):
        data = self._get(s3, key)
        return None if data in (None, self.content(key)) else f"{key}: half written ({len(data)})"

    def _check_listing(self, s3):
        listed = {}
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket):
            listed.update({entry["Key"]: entry for entry in page.get("Contents", [])})
        assert self.written <= listed.keys() <= self.written | self.unknown
        for key, entry in listed.items():
            data = self.content(key)
            assert (entry["Size"], entry["ETag"]) == (len(data), f'"{md5_hex(data)}"'), key
