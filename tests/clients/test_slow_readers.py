"""Step g. Clients that take their answer slowly, or not at all."""

import socket
import time
import urllib.parse

import pytest

from support.cluster import get, wait_until
from support.data import MIB, random_bytes, unique
from support.s3 import client, refused

STALL_SECONDS = 2
CONFIG = f'[http]\nmax_in_flight = 1\nwrite_stall = "{STALL_SECONDS}s"\n'
SIZE = 64 * MIB  # more than all socket buffers hold


@pytest.fixture(scope="module")
def stored(tmp_path_factory, request):
    from support.cluster import Cluster

    cluster = Cluster("slow-readers", scale={"storage": 1}, config=CONFIG).start()
    try:
        s3, bucket = client(cluster.s3), unique()
        s3.create_bucket(Bucket=bucket)
        data = random_bytes(SIZE)
        s3.put_object(Bucket=bucket, Key="large", Body=data)
        names = {"Bucket": bucket, "Key": "large"}
        yield cluster, s3, s3.generate_presigned_url("get_object", Params=names), data
    finally:
        cluster.close(keep=request.session.testsfailed > 0)


def begin(url):
    """Asks for an object and reads nothing; gives the socket."""
    parts = urllib.parse.urlsplit(url)
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    reader.connect((parts.hostname, parts.port))
    path = f"{parts.path}?{parts.query}"
    reader.sendall(f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
    return reader


def served(s3):
    try:
        s3.list_buckets()
    except s3.exceptions.ClientError:
        return False
    return True


def test_a_client_that_stops_reading_keeps_its_place_until_it_is_given_up(stored):
    cluster, s3, url, data = stored
    with begin(url) as reader:
        time.sleep(0.5)
        with refused("SlowDown", 503):
            s3.list_buckets()  # its answer is not over: the one place is taken
        assert get(cluster.url("metadata"), "/health")[0] == 200
        begun = time.monotonic()
        wait_until("it is given up", lambda: served(s3), STALL_SECONDS + 5, 0.1)
        assert time.monotonic() - begun > STALL_SECONDS - 1
        reader.settimeout(10)
        got = 0
        try:
            while block := reader.recv(MIB):
                got += len(block)
        except ConnectionResetError:
            pass
        assert got < len(data), "the answer was cut off"


def test_a_slow_but_steady_reader_gets_everything(stored):
    cluster, s3, url, data = stored
    with begin(url) as reader:
        reader.settimeout(10)
        got, end = bytearray(), time.monotonic() + 2 * STALL_SECONDS
        while time.monotonic() < end:
            got += reader.recv(64 * 1024)
            time.sleep(0.2)
        while b"\r\n\r\n" not in got or len(got) - got.index(b"\r\n\r\n") - 4 < SIZE:
            block = reader.recv(MIB)
            assert block, f"cut off after {len(got)} bytes"
            got += block
    head, _, body = bytes(got).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200") and body == data
    wait_until("its place is free", lambda: served(s3), 5)
