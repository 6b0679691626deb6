"""Step g. Bootstrap from a real Consul, which afterwards may stop, forget or restart at will."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
import uuid

import pytest

from support.cluster import BINARY, ENVIRONMENT, PortBlock, get, mocks3, short, wait_until
from support.data import unique
from support.programs import find
from support.s3 import body, client

pytestmark = pytest.mark.timeout(120)
SERVICES = ["metadata", "storage", "queue"]


class Consul:
    """`consul agent -dev` on loopback: it forgets everything when it is restarted."""

    def __init__(self, base, folder):
        self.url, self.log = f"http://127.0.0.1:{base}", folder / "consul.log"
        self.command = [
            find("consul"),
            "agent",
            "-dev",
            "-bind",
            "127.0.0.1",
            "-client",
            "127.0.0.1",
        ]
        self.command += ["-http-port", str(base), "-serf-lan-port", str(base + 1)]
        self.command += ["-server-port", str(base + 2), "-dns-port=-1", "-grpc-port=-1"]
        self.command += ["-serf-wan-port=-1", "-hcl", "disable_update_check=true"]

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=ENVIRONMENT
            )
        wait_until("consul has a leader", lambda: b":" in get(self.url, "/v1/status/leader")[2], 10)
        return self

    def stop(self):
        self.process.kill()
        self.process.wait()

    def healthy(self, service):
        return json.loads(get(self.url, f"/v1/health/service/{service}-service?passing")[2])

    def register(self, service, address):
        """An instance that is none of ours, as a node would register itself."""
        body = {
            "ID": f"{service}-{uuid.uuid4()}",
            "Name": service,
            "Port": 1,
            "Meta": {"cluster_address": address},
            "Check": {"TTL": "60s", "Status": "passing"},
        }
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=5)
        with contextlib.closing(connection):
            connection.request("PUT", "/v1/agent/service/register", json.dumps(body))
            assert connection.getresponse().status == 200

    def answered_queries(self):
        """How many blocking queries of the nodes have come to an end, by Consul's own log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return sum("/v1/health/service/" in line and "wait=" in line for line in lines)

    def all_registered(self):
        found = [self.healthy(service) for service in SERVICES]
        return found if all(len(entries) == 1 for entries in found) else None


class Nodes:
    """One `mocks3 node` per service, told of nothing but Consul and the secret."""

    def __init__(self, folder, base, consul):
        self.folder, self.consul = folder, consul
        self.urls, self.processes = {}, {}
        for n, service in enumerate(SERVICES):
            self.start(service, service, base + n)

    def start(self, name, service, port):
        self.urls[name] = f"http://127.0.0.1:{port}"
        command = [BINARY, "node", "--service", service, "--data-dir", self.folder / name]
        command += ["--http", f"127.0.0.1:{port}"]
        command += ["--bootstrap", self.consul.url.replace("http://", "consul://")]
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**ENVIRONMENT, "MOCKS3_SECRET": "a secret for this test"},
            )

    def joined(self, services=SERVICES):
        """Whether every node sees all of them."""
        for url in self.urls.values():
            done = mocks3("status", "--json", "--url", url)
            members = json.loads(done.stdout)["members"] if done.returncode == 0 else []
            live = sorted(short(m["service"]) for m in members if m["state"] == "live")
            if live != sorted(services):
                return False
        return True

    def stop(self):
        for process in self.processes.values():
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture
def around(tmp_path):
    block = PortBlock()
    consul = Consul(block.base + 10, tmp_path).start()
    nodes = Nodes(tmp_path, block.base, consul)
    try:
        wait_until("the nodes found each other through consul", nodes.joined, 20, 0.2)
        wait_until("all are registered", consul.all_registered, 10)
        yield consul, nodes
    finally:
        nodes.stop()
        consul.stop()
        block.release()


def test_nodes_register_with_id_tags_and_meta(around):
    consul, nodes = around
    for service, [entry] in zip(SERVICES, consul.all_registered(), strict=True):
        registered = entry["Service"]
        assert registered["ID"].startswith(f"{service}-service-") and len(registered["ID"]) > 40
        assert {"api", "http"} <= set(registered["Tags"])
        assert registered["Meta"]["version"] and registered["Meta"]["environment"]
        assert f"http://127.0.0.1:{registered['Port']}" == nodes.urls[service]


def test_every_request_to_consul_is_counted_and_so_is_its_death(around):
    consul, nodes = around

    def counted(outcome):
        text = get(nodes.urls["queue"], "/metrics")[2].decode()
        name = "mocks3_call_duration_seconds_count{"
        lines = [line for line in text.splitlines() if line.startswith(name)]
        return any('callee="consul"' in line and f'outcome="{outcome}"' in line for line in lines)

    assert counted("ok") and not counted("connect")
    consul.stop()
    wait_until("refused connections are counted", lambda: counted("connect"), 15)


def test_consul_may_stop_and_forget_everything(around):
    consul, nodes = around
    s3, bucket = client(nodes.urls["storage"]), unique("consul")
    s3.create_bucket(Bucket=bucket)
    consul.stop()
    s3.put_object(Bucket=bucket, Key="k", Body=b"without consul")
    assert nodes.joined()
    consul.start()
    wait_until("all have registered again", consul.all_registered, 15)
    assert nodes.joined()
    assert body(s3.get_object(Bucket=bucket, Key="k")) == b"without consul"


def test_a_node_that_stops_in_order_deregisters(around):
    consul, nodes = around
    nodes.processes["queue"].send_signal(signal.SIGTERM)
    assert nodes.processes["queue"].wait(20) == 0
    listed = json.loads(get(consul.url, "/v1/catalog/service/queue-service")[2])
    assert listed == [], "deregistered, not merely critical"


def test_a_node_that_dies_turns_critical(around):
    consul, nodes = around
    nodes.processes["queue"].kill()
    nodes.processes["queue"].wait()
    wait_until("its check has failed", lambda: consul.healthy("queue") == [], 30, 0.2)


def test_a_node_that_comes_after_consul_forgot_everything_joins(around):
    consul, nodes = around
    consul.stop()
    consul.start()
    wait_until("all have registered again", consul.all_registered, 15)
    block = PortBlock()
    try:
        nodes.start("fourth", "storage", block.base)
        four = [*SERVICES, "storage"]
        wait_until("the fourth and the others see each other", lambda: nodes.joined(four), 15, 0.2)
        s3, bucket = client(nodes.urls["fourth"]), unique("fourth")
        s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key="k", Body=b"over the new one")
        got = client(nodes.urls["storage"]).get_object(Bucket=bucket, Key="k")
        assert body(got) == b"over the new one"
    finally:
        nodes.processes["fourth"].kill()
        nodes.processes["fourth"].wait()
        block.release()


def test_a_change_in_consul_is_seen_at_once_without_polling(around):
    """A stranger that registers is called at once, though the nodes ask next to nothing."""
    consul, _ = around

    def quiet():
        before = consul.answered_queries()
        time.sleep(2)
        return consul.answered_queries() == before

    assert consul.answered_queries() > 0, "the log names the queries"
    wait_until("the nodes' queries wait at Consul", quiet, 15)
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        stranger.settimeout(5)
        started = time.monotonic()
        consul.register("queue-service", f"127.0.0.1:{stranger.getsockname()[1]}")
        stranger.accept()[0].close()
        took = time.monotonic() - started
    assert took < 1, f"called after {took:.2f} s"
