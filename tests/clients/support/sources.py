"""Sources outside of the cluster for the third-party tests: SeaweedFS, and a server with faults."""

import contextlib
import hashlib
import http.server
import json
import subprocess
import sys
import threading
import time
import urllib.parse
import pathlib

from support.cluster import ENVIRONMENT, PortBlock, get, wait_until

WEED = pathlib.Path(sys.executable).with_name("weed")
SEAWEED_KEYS = ("seaweed-key", "seaweed-secret-key")


def api(url, path, body=None, method=None, timeout=20):
    """One call of a JSON API; gives (status, answer)."""
    import http.client

    host, port = url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    with contextlib.closing(connection):
        data = None if body is None else json.dumps(body)
        headers = {"content-type": "application/json"} if data else {}
        connection.request(method or ("POST" if data else "GET"), path, data, headers)
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None


@contextlib.contextmanager
def source(cluster, name, kind, endpoint, **config):
    """A source that the cluster has for as long as the block runs."""
    keys = {"timeout": "1s", "max_retries": 1, "retry_interval": "20ms"}
    body = {"name": name, "type": kind, "config": {"endpoint": endpoint, **keys, **config}}
    front = cluster.url("third-party")
    status, answer = api(front, "/api/v1/datasources", body)
    assert (status, answer.get("instances")) == (201, 1), answer
    try:
        yield
    finally:
        status, answer = api(front, f"/api/v1/datasources/{name}", method="DELETE")
        assert status == 204, answer


def set_fallback(cluster, bucket, on=True):
    path = f"/api/v1/buckets/{bucket}/fallback"
    status, answer = api(cluster.url("metadata"), path, {"enabled": on}, method="PUT")
    assert status == 200, answer


@contextlib.contextmanager
def seaweedfs(folder):
    """A SeaweedFS server with one S3 user; gives its S3 endpoint."""
    ports = PortBlock()
    # all of them said: it would take gRPC ports 10000 higher, where those of a cluster may be
    parts = ("master", "volume", "filer", "s3")
    names = [f"{part}.port{kind}" for part in parts for kind in ("", ".grpc")]
    given = [f"-{name}={ports.base + n}" for n, name in enumerate(names)]
    folder.mkdir(parents=True, exist_ok=True)
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": SEAWEED_KEYS[0], "secretKey": SEAWEED_KEYS[1]}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    command = [
        WEED, "server", f"-dir={folder}", "-ip=127.0.0.1", "-s3", f"-s3.config={folder / 's3.json'}",
        "-master.volumeSizeLimitMB=64", "-volume.max=20", *given,
    ]  # fmt: skip
    with open(folder / "weed.log", "ab") as log:
        process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=ENVIRONMENT,
        )
    endpoint = f"http://127.0.0.1:{ports.base + names.index('s3.port')}"
    try:
        wait_until("SeaweedFS answers", lambda: get(endpoint)[0] < 500, 40)
        yield endpoint
    finally:
        process.kill()
        process.wait()
        ports.release()


class Faulty:
    """An HTTP source that does with each key what was said in `plans[key] = (manner, data)`."""

    def __init__(self):
        self.plans, self.asked = {}, []
        self.release = threading.Event()  # what "held" answers wait for
        faulty = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                faulty.answer(self)

            do_HEAD = do_GET

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request):
        key = urllib.parse.unquote(request.path.split("?")[0]).split("/", 2)[2]
        manner, data = self.plans.get(key, ("missing", b""))
        self.asked.append((request.command, key))
        request.close_connection = True
        if manner in ("missing", "500"):
            request.send_response(404 if manner == "missing" else 500)
            request.send_header("Content-Length", "0")
            return request.end_headers()
        if manner == "silent":
            return time.sleep(5)
        request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.send_header("Content-Type", "text/x-outside")
        if manner == "wrong md5":
            request.send_header("Content-MD5", hashlib.md5(b"other").hexdigest())
        if manner == "right md5":
            request.send_header("Content-MD5", hashlib.md5(data).hexdigest())
        request.end_headers()
        if request.command == "HEAD":
            return None
        half = len(data) // 2
        request.wfile.write(data[:half])
        request.wfile.flush()
        if manner == "truncated":
            return None
        if manner == "stalls":
            return time.sleep(5)
        if manner == "slow":
            time.sleep(0.7)
        if manner == "held":
            self.release.wait(60)
        return request.wfile.write(data[half:])

    def close(self):
        self.release.set()
        self.server.shutdown()
        self.server.server_close()
