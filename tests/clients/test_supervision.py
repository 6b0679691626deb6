"""Step a. `up` keeps its children alive: health, metrics, restart of each kind after kill -9."""

import json
import os
import re
import signal
import time

import pytest

from support.cluster import SERVICES, get, wait_until

METRICS = [
    "system_cpu_usage_percent",
    "system_memory_usage_percent",
    "system_disk_usage_percent",
    "system_network_qps",
    "system_machine_online_status",
]


def test_every_instance_is_healthy(cluster):
    for member in cluster.members():
        status, headers, body = get(member["http_url"], "/health")
        assert status == 200 and headers["content-type"].startswith("application/json")
        answer = json.loads(body)
        assert (answer["status"], answer["service"]) == ("healthy", member["service"])


def test_every_instance_tells_its_own_metrics(cluster):
    for member in cluster.members():
        status, headers, body = get(member["http_url"], "/metrics")
        assert status == 200 and headers["content-type"].startswith("text/plain")
        series = parse(body.decode())
        for name in METRICS:
            labels, value = series[name]
            assert labels["service"] == member["service"], name
            assert labels["instance"] == member["instance"], name
            assert 0 <= value < 1e9, (name, value)
        assert series["system_machine_online_status"][1] == 1


def parse(text):
    """name -> (labels, value) of the last series of each name; every line must be well formed."""
    series = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        found = re.fullmatch(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)", line)
        assert found, line
        labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found[2] or ""))
        series[found[1]] = (labels, float(found[3].replace("Inf", "inf")))
    return series


def test_cpu_time_is_that_of_the_process_alone(cluster):
    """A second of CPU burned elsewhere (here) does not show in an idle node's own figure."""
    url = cluster.url("mock-error")
    before, burned = cpu_seconds(url), time.process_time() + 1.0
    while time.process_time() < burned:
        pass
    assert cpu_seconds(url) - before < 0.5


def cpu_seconds(url):
    return parse(get(url, "/metrics")[2].decode())["process_cpu_seconds_total"][1]


def test_a_frozen_child_is_lost_within_two_seconds_and_comes_back(own_cluster):
    cluster = own_cluster()
    frozen = cluster.members_of("storage")[2]

    def state():
        found = [m["state"] for m in cluster.members() if m["instance"] == frozen["instance"]]
        return found[0] if found else "gone"

    with cluster.frozen(frozen):
        started = time.monotonic()
        wait_until("the frozen one is no longer live", lambda: state() != "live", 3, 0.02)
        assert time.monotonic() - started < 2.5  # 2 s, and the time of one `status`
    wait_until("it is live again", lambda: state() == "live", 10)
    assert frozen["pid"] in [member["pid"] for member in cluster.members()], "it was not killed"


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_child_is_restarted_and_said_so(own_cluster, service):
    cluster = own_cluster(scale={"storage": 1})
    [victim] = cluster.members_of(service)
    cluster.kill_member(victim)

    def back():
        member = next(m for m in cluster.members() if m["instance"] == victim["instance"])
        return member["pid"] != victim["pid"] and cluster.healthy() and member

    member = wait_until(f"{service} is back", back, 10)
    assert member["http_url"] == victim["http_url"], "an instance keeps its id and its address"
    assert str(member["pid"]) in cluster.log.read_text(), "a restart is said on the terminal"


def test_a_child_that_keeps_dying_is_restarted_with_a_growing_wait(own_cluster):
    """Each end in a row doubles the wait, and each is said on the terminal."""
    cluster = own_cluster(scale={"storage": 1})
    [victim] = cluster.members_of("mock-error")
    name, pid, waits = re.escape(victim["instance"]), victim["pid"], []
    for _ in range(4):
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        ended = rf"{name} \(pid {pid}\) ended: signal: 9 .*; starts again in (\d+)ms"
        waits.append(int(said(cluster, ended)[1]))
        again = said(cluster, rf"{name} \(pid {pid}\) ended(?s:.*){name} started again, pid (\d+)")
        pid = int(again[1])
        assert waits[-1] / 1000 <= time.monotonic() - killed < waits[-1] / 1000 + 2
    assert waits == [100, 200, 400, 800]
    cluster.wait_healthy()
    [back] = cluster.members_of("mock-error")
    assert (back["pid"], back["instance"]) == (pid, victim["instance"])


def said(cluster, pattern):
    """What matches in the terminal's text, as soon as it is there."""
    find = lambda: re.search(pattern, cluster.log.read_text())  # noqa: E731
    return wait_until(f"`up` says {pattern}", find, 10, 0.01)
