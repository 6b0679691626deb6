"""Step a. A cut cable: both sides notice in time, refuse what they cannot promise, and join again."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

from support.cluster import wait_until
from support.namespace import Node, two_namespaces
from support.s3 import client

LEFT, RIGHT = "10.98.1.1", "10.98.1.2"
KEYS = ("other-key", "other-secret-key")
CLUSTER_PORT = 7081
CONFIG = f"""
[http]
trusted_networks = ["10.98.1.0/24"]
[s3]
default_user = false
[[s3.users]]
name = "other"
access_key = "{KEYS[0]}"
secret_key = "{KEYS[1]}"
"""
OUT_SECONDS = 2.0  # the promise
SECRET = {"MOCKS3_SECRET": "a secret for this test"}


def live(node):
    """The URLs of the members that a node holds for live."""
    status, body = node.curl(next(iter(node.urls.values())) + "/api/v1/cluster")
    assert status == 200
    return {m["http_url"] for m in json.loads(body)["members"] if m["state"] == "live"}


def out_within(node, url, begun):
    wait_until(f"{url} is out", lambda: url not in live(node), OUT_SECONDS + 2)
    took = time.monotonic() - begun
    assert took < OUT_SECONDS + 0.3, f"{took:.2f} s"  # asking takes its time, too


def test_a_cut_cable_is_noticed_in_time_by_both_sides_and_mended_without_help(tmp_path):
    (tmp_path / "l").mkdir(), (tmp_path / "r").mkdir()
    with two_namespaces(LEFT, RIGHT) as (left, right, cable):
        listen = ["--cluster-listen", f"{LEFT}:{CLUSTER_PORT}"]
        with Node(
            left, tmp_path / "l", CONFIG, ["metadata", "storage"], LEFT, listen, SECRET
        ) as one:
            listen = ["--cluster-listen", f"{RIGHT}:0", "--bootstrap", f"{LEFT}:{CLUSTER_PORT}"]
            with Node(right, tmp_path / "r", CONFIG, ["storage"], RIGHT, listen, SECRET) as two:
                both(one, two, cable)


def both(one, two, cable):
    urls = {one.urls["metadata"], two.urls["storage"]}
    for node in (one, two):
        wait_until("they are one cluster", lambda node=node: urls <= live(node), 10)
    s3 = {node: client(node.urls["storage"], *KEYS) for node in (one, two)}

    def ask(node, operation, *options, **parameters):
        url = s3[node].generate_presigned_url(operation, Params=parameters)
        begun = time.monotonic()
        status, body = node.curl(url, None, *options)
        return status, body, time.monotonic() - begun

    upload = ("-X", "PUT", "--data-binary", "some bytes", "-H", "Content-Type:")
    names = {"Bucket": "cut", "Key": "k"}
    assert ask(one, "create_bucket", "-X", "PUT", Bucket="cut")[0] == 200
    assert ask(two, "put_object", *upload, **names)[0] == 200

    cable("down")
    begun = time.monotonic()
    # two storage nodes: a majority is both; the right one has lost metadata as well
    asked = [(two, "get_object", ()), (two, "put_object", upload), (one, "put_object", upload)]
    with ThreadPoolExecutor() as pool:
        pending = [pool.submit(ask, node, what, *how, **names) for node, what, how in asked]
        out_within(one, two.urls["storage"], begun)
        out_within(two, one.urls["metadata"], begun)
    for (_, what, _), answer in zip(asked, pending, strict=True):
        status, body, took = answer.result()
        assert status == 503 and "SlowDown" in body, (what, status, body)
        assert took < OUT_SECONDS + 0.3, (what, took)
    status, body, _ = ask(one, "get_object", **names)
    assert (status, body) == (200, "some bytes"), "reads go on where metadata and a copy are"

    cable("up")
    for node in (one, two):
        wait_until("they are one cluster again", lambda node=node: urls <= live(node), 10)
    wait_until("it writes again", lambda: ask(two, "put_object", *upload, **names)[0] == 200, 5)
    assert ask(two, "get_object", **names)[:2] == (200, "some bytes")
