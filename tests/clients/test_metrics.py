"""Step g. `/metrics`: what the process uses and serves. Dependencies: test_call_metrics."""

import re
import time

from support.cluster import get, wait_until
from support.data import MIB, random_bytes, unique
from support.json_api import Api
from support.s3 import client, refused

LINE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Series:
    """The samples of one scrape."""

    def __init__(self, url):
        status, _, text = get(url, "/metrics")
        assert status == 200
        lines = [LINE.match(line) for line in text.decode().splitlines() if line[:1] != "#"]
        assert all(lines), "every line is a comment or a sample"
        self.samples = [(m[1], dict(LABEL.findall(m[2] or "")), float(m[3])) for m in lines]

    def sum(self, name, **labels):
        """The sum over all series of that name with these labels (a value may be a set)."""
        found = [value for n, had, value in self.samples if n == name and fits(had, labels)]
        return sum(found) if found else None


def fits(had, wanted):
    sets = {k: v if isinstance(v, set) else {v} for k, v in wanted.items()}
    return all(had.get(key) in values for key, values in sets.items())


PROCESS = [
    "system_cpu_usage_percent",
    "system_memory_usage_percent",
    "system_disk_usage_percent",
    "system_network_qps",
    "system_machine_online_status",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
]


def test_every_service_tells_what_its_process_uses(cluster):
    pids = {m["instance"]: m["pid"] for m in cluster.members()}
    for member in cluster.members():
        seen = Series(member["http_url"])
        for name in PROCESS:
            value = seen.sum(name, service=member["service"], instance=member["instance"])
            assert value is not None and value >= 0, (name, member)
        assert seen.sum("system_machine_online_status") == 1
        rss = seen.sum("process_resident_memory_bytes")
        with open(f"/proc/{pids[member['instance']]}/statm") as statm:
            now = int(statm.read().split()[1]) * 4096
        assert abs(rss - now) < 32 * MIB, (rss, now)


def test_the_network_figure_is_that_of_the_own_process_and_not_of_the_machine(own_cluster):
    cluster = own_cluster(scale={"storage": 1})
    idle, busy = cluster.url("mock-error"), cluster.s3
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        get(busy, "/health")
    rates = {url: Series(url).sum("system_network_qps") for url in (idle, busy)}
    assert rates[busy] > 50 and rates[idle] < rates[busy] / 5, rates


def test_what_an_edge_refuses_or_cannot_do_is_counted(own_cluster):
    cluster, bucket = own_cluster(), unique()
    s3 = client(cluster.s3)
    s3.create_bucket(Bucket=bucket)
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="missing")
    [metadata] = cluster.members_of("metadata")
    with cluster.frozen(metadata):
        with refused("SlowDown", 503):
            s3.put_object(Bucket=bucket, Key="k", Body=b"x")
        seen = Series(cluster.s3)
    for status in ("404", "503"):
        errors = seen.sum("errors_total", edge="s3", status=status)
        assert errors == 1 == seen.sum("http_requests_total", edge="s3", status=status), status
    cluster.wait_healthy()


def test_objects_bytes_and_tasks_are_counted_by_their_own_services(own_cluster):
    cluster, bucket = own_cluster(scale={"storage": 1}), unique()
    s3 = client(cluster.s3)
    s3.create_bucket(Bucket=bucket)

    def value(service, name, **labels):
        return Series(cluster.url(service)).sum(name, **labels)

    wait_until("figures are there", lambda: value("queue", "queue_length") is not None, 5)
    wait_until("space", lambda: value("storage", "storage_usage_bytes") is not None, 5)
    empty = value("storage", "storage_usage_bytes")
    for number in range(3):
        s3.put_object(Bucket=bucket, Key=str(number), Body=random_bytes(MIB))
    wait_until("objects are counted", lambda: value("metadata", "objects_total") == 3, 6)
    wait_until(
        "bytes are", lambda: value("storage", "storage_usage_bytes") >= empty + 3 * MIB * 0.9, 6
    )
    assert value("storage", "objects_total") is None, "only metadata knows"
    queue = Api(cluster.url("queue"))
    for worker in queue("GET", "/workers")["workers"]:
        queue("POST", f"/workers/{worker['id'].replace('/', '%2F')}/stop")
    queue("POST", "/tasks", {"type": "save_file", "object_key": f"{bucket}/later"}, expect=201)
    wait_until("a task waits", lambda: value("queue", "queue_length", queue="save") == 1, 6)
    assert value("queue", "queue_length", queue="delete") == 0
