"""Heavy: a 5 GiB upload needs at most 64 MiB in any process."""

import base64
import hashlib
import http.client
import pathlib
import threading
import zlib

import pytest

from support import raw
from support.data import MIB, unique
from support.s3 import client

pytestmark = pytest.mark.timeout(3600)
GIB = 1024 * MIB


class Zeros:
    """A body of any length that takes no memory; not quite zeros, so that blocks differ."""

    def __init__(self, size):
        self.size, self.at = size, 0

    def __len__(self):
        return self.size

    def read(self, amount=-1):
        left = self.size - self.at
        amount = left if amount is None or amount < 0 else min(amount, left, MIB)
        block = (self.at // MIB).to_bytes(8, "big") * (amount // 8 + 1)
        self.at += amount
        return block[:amount]

    def seek(self, offset, whence=0):
        self.at = {0: 0, 1: self.at, 2: self.size}[whence] + offset
        return self.at

    def tell(self):
        return self.at


def resident(pid):
    """Peak of resident memory, without file pages, in bytes."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return (
        int(next(line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")))
        * 1024
    )


class Peak:
    """Watches the memory of the members from a thread."""

    def __init__(self, members):
        self.pids, self.peak, self._stop = [m["pid"] for m in members], {}, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self._stop.wait(0.1):
            for pid in self.pids:
                self.peak[pid] = max(self.peak.get(pid, 0), resident(pid))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def test_five_gibibytes_need_little_memory(own_cluster):
    cluster, bucket = own_cluster(), unique("huge")
    s3 = client(cluster.s3, read_timeout=3000, request_checksum_calculation="when_required")
    s3.create_bucket(Bucket=bucket)
    before = {m["pid"]: resident(m["pid"]) for m in cluster.members()}
    with Peak(cluster.members()) as watch:
        s3.put_object(Bucket=bucket, Key="k", Body=Zeros(5 * GIB))
        digest, stream = hashlib.md5(), s3.get_object(Bucket=bucket, Key="k")["Body"]
        for block in iter(lambda: stream.read(MIB), b""):
            digest.update(block)
    assert s3.head_object(Bucket=bucket, Key="k")["ETag"] == f'"{digest.hexdigest()}"'
    grown = {pid: peak - before[pid] for pid, peak in watch.peak.items()}
    print("grown, MiB:", sorted(value // MIB for value in grown.values()))
    assert max(grown.values()) <= 64 * MIB, grown


def test_a_single_chunk_of_any_size_needs_little_memory(own_cluster):
    """The Go and Rust SDKs send an unsigned body as one chunk."""
    cluster, bucket, size = own_cluster(), unique("chunk"), 512 * MIB
    client(cluster.s3).create_bucket(Bucket=bucket)
    crc, body = 0, Zeros(size)
    for block in iter(body.read, b""):
        crc = zlib.crc32(block, crc)
    trailer = b"x-amz-checksum-crc32:" + base64.b64encode(crc.to_bytes(4, "big"))
    head, tail = b"%x\r\n" % size, b"\r\n0\r\n" + trailer + b"\r\n\r\n"
    signer, kind = raw.Signer(), "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    headers = {
        "Host": cluster.s3.removeprefix("http://"),
        "X-Amz-Date": signer.date,
        "X-Amz-Content-Sha256": kind,
        "X-Amz-Decoded-Content-Length": str(size),
        "X-Amz-Trailer": "x-amz-checksum-crc32",
    }
    signature, names = signer.signature("PUT", f"/{bucket}/k", (), headers, kind)
    headers["Authorization"] = (
        f"{raw.ALGORITHM} Credential={signer.access_key}/{signer.scope},"
        f"SignedHeaders={names},Signature={signature}"
    )
    headers["Content-Length"] = str(len(head) + size + len(tail))
    before = {m["pid"]: resident(m["pid"]) for m in cluster.members()}
    with Peak(cluster.members()) as watch:
        connection = http.client.HTTPConnection(headers["Host"], timeout=600)
        connection.request("PUT", f"/{bucket}/k", headers=headers, body=framed(head, size, tail))
        answer = raw.Answer(connection.getresponse())
    assert answer.status == 200, answer
    grown = {pid: peak - before[pid] for pid, peak in watch.peak.items()}
    assert max(grown.values()) <= 64 * MIB, grown


def framed(head, size, tail):
    yield head
    yield from iter(Zeros(size).read, b"")
    yield tail
