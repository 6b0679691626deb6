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
# A fresh node waits 10 s for those that Consul may have forgotten before it founds a group.
START_SECONDS = 30


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

    def forget(self):
        """Started anew, it knows of nobody."""
        self.stop()
        return self.start()

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
        self.folder, self.base, self.consul = folder, base, consul
        self.urls, self.processes = {}, {}

    def start_each(self):
        for n, service in enumerate(SERVICES):
            self.start(service, service, self.base + n)

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

    def group(self, service, at):
        """How the group of a service stands, as a node sees it."""
        groups = json.loads(get(self.urls[at], "/api/v1/groups")[2])["groups"]
        [group] = [group for group in groups if short(group["service"]) == service]
        return group

    def led(self):
        """Whether metadata and queue are ready to work."""
        return all(self.group(service, service)["leader"] for service in ("metadata", "queue"))

    def founded(self):
        """How many groups of metadata came to be, by the logs of all nodes and their lives."""
        logs = [log.read_text(errors="replace") for log in self.folder.glob("*.log")]
        lines = [line for log in logs for line in log.splitlines() if "group founded" in line]
        return sum('group="metadata"' in line for line in lines)

    def end(self, name):
        """SIGTERM, and the end in order of a node that is not one of the first three."""
        self.processes[name].send_signal(signal.SIGTERM)
        assert self.processes.pop(name).wait(20) == 0
        del self.urls[name]

    def signal(self, number):
        for process in self.processes.values():
            process.send_signal(number)

    def mend(self):
        """Starts those of the first three again that a test ended."""
        for n, service in enumerate(SERVICES):
            if self.processes[service].poll() is not None:
                self.start(service, service, self.base + n)

    def stop(self):
        for process in self.processes.values():
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    folder, block = tmp_path_factory.mktemp("consul"), PortBlock()
    consul = Consul(block.base + 10, folder).start()
    nodes = Nodes(folder, block.base, consul)
    try:
        nodes.start_each()
        wait_until("both groups are founded", nodes.led, START_SECONDS, 0.2)
        yield consul, nodes
    finally:
        nodes.stop()
        consul.stop()
        block.release()


@pytest.fixture
def around(started):
    """Consul and the nodes, all well; a test may end any of them, but leaves only these."""
    consul, nodes = started
    if consul.process.poll() is not None:
        consul.start()
    nodes.mend()
    wait_until("the nodes found each other through consul", nodes.joined, START_SECONDS, 0.2)
    wait_until("all are registered", consul.all_registered, START_SECONDS)
    wait_until("both groups are led", nodes.led, START_SECONDS)
    return consul, nodes


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
        lines = [line for line in lines if 'callee="consul"' in line]
        return sum(float(line.split()[-1]) for line in lines if f'outcome="{outcome}"' in line)

    before = counted("ok")
    wait_until("a further request is counted", lambda: counted("ok") > before, 15)
    before = counted("connect")
    consul.stop()
    wait_until("refused connections are counted", lambda: counted("connect") > before, 15)


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
    consul.forget()
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
        nodes.end("fourth")
        block.release()


def test_a_fresh_replica_that_registers_first_after_consul_forgot_everything_joins(around):
    """It finds nobody, and waits; the others, which stood still, come back and take it in."""
    consul, nodes = around
    before, block = nodes.group("metadata", "metadata"), PortBlock()
    nodes.signal(signal.SIGSTOP)
    try:
        consul.forget()
        nodes.start("fresh", "metadata", block.base)
        wait_until("it has registered", lambda: len(consul.healthy("metadata")) == 1, 10)
    finally:
        nodes.signal(signal.SIGCONT)
    try:

        def learns():
            now = nodes.group("metadata", "fresh")
            assert now["group"] in (None, before["group"]), "it founded a group of its own"
            return now["voters"] == before["voters"] and len(now["learners"]) == 1

        wait_until("it learns", learns, START_SECONDS)
        assert nodes.founded() == 1
    finally:
        nodes.end("fresh")
        block.release()


def test_fresh_replicas_that_meet_only_through_consul_found_one_group(tmp_path):
    block = PortBlock()
    consul = Consul(block.base + 10, tmp_path).start()
    nodes = Nodes(tmp_path, block.base, consul)
    try:
        for n in range(3):
            nodes.start(f"m{n}", "metadata", block.base + n)

        def one_group():
            groups = [nodes.group("metadata", f"m{n}") for n in range(3)]
            assert len({group["group"] for group in groups} - {None}) <= 1, groups
            return all(len(group["voters"]) == 3 for group in groups) or groups

        wait_until("all vote in one group", lambda: one_group() is True, START_SECONDS)
        assert nodes.founded() == 1
    finally:
        nodes.stop()
        consul.stop()
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
