"""Step g. Bootstrap from a real Consul, which afterwards may stop, forget or restart at will."""

import json
import os
import signal
import subprocess

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

    def all_registered(self):
        found = [self.healthy(service) for service in SERVICES]
        return found if all(len(entries) == 1 for entries in found) else None


class Nodes:
    """One `mocks3 node` per service, told of nothing but Consul and the secret."""

    def __init__(self, folder, base, consul):
        self.urls = {service: f"http://127.0.0.1:{base + n}" for n, service in enumerate(SERVICES)}
        env = {**ENVIRONMENT, "MOCKS3_SECRET": "a secret for this test"}
        self.processes = {}
        for service, url in self.urls.items():
            command = [BINARY, "node", "--service", service, "--data-dir", folder / service]
            command += ["--http", url.removeprefix("http://")]
            command += ["--bootstrap", consul.url.replace("http://", "consul://")]
            with open(folder / f"{service}.log", "ab") as log:
                self.processes[service] = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env
                )

    def joined(self):
        """Whether every node sees all three."""
        for url in self.urls.values():
            done = mocks3("status", "--json", "--url", url)
            members = json.loads(done.stdout)["members"] if done.returncode == 0 else []
            live = sorted(short(m["service"]) for m in members if m["state"] == "live")
            if live != sorted(SERVICES):
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
