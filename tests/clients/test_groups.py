"""Metadata and queue in three instances each: any one may die at any time, and without two of three
everything is refused at once instead of hanging or lying.
"""

import contextlib
import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from support.cluster import Cluster, Foreground, get, mocks3, short, wait_until
from support.damage import CONFIG, open_tasks
from support.data import random_bytes, unique
from support.json_api import Api
from support.s3 import body, client, keys, patient

pytestmark = pytest.mark.timeout(120)
GROUPS = ["metadata", "queue"]
# The promises: an answer without a quorum, the gap at the death of a leader, full service again.
ANSWERED, GAP, HEALED = 2, 5, 10


def group(cluster, service):
    """How the group of a service stands, asked of any node that answers."""
    for member in ("storage", "third-party"):
        with contextlib.suppress(OSError):
            groups = json.loads(get(cluster.url(member), "/api/v1/groups", 3)[2])["groups"]
            return next(g for g in groups if short(g["service"]) == service)
    raise RuntimeError("no node answers")


def whole(cluster):
    """Whether both groups have a leader, three voters and no replica missing."""
    for service in GROUPS:
        now = group(cluster, service)
        if not now["leader"] or len(now["voters"]) != 3 or len(now["replicas"]) != 3:
            return False
        if now.get("warning"):
            return False
    return True


@pytest.fixture(scope="module")
def started(request):
    made = Cluster("groups", scale={"metadata": 3, "queue": 3}, config=CONFIG)
    try:
        made.start()
        yield made
    finally:
        made.close(keep=bool(request.session.testsfailed))  # also asserts an end with exit code 0


@pytest.fixture
def three(started):
    """Three instances of each, all well; a test may hurt any, `up` starts them again."""
    wait_until("all are healthy", started.healthy, 30)
    wait_until("three vote in each group", lambda: whole(started), 30)
    return started


def leader_first(cluster, service):
    """The members of a service, whoever leads its group first."""
    leader = group(cluster, service)["leader"]
    return sorted(cluster.members_of(service), key=lambda m: m["instance"] != leader)


def test_status_shows_the_groups(three):
    shown = json.loads(mocks3("status", "--json", "--url", three.s3).stdout)["groups"]
    shown = [now for now in shown if len(now["replicas"]) > 1]  # mock-error has one
    assert [short(now["service"]) for now in shown] == GROUPS
    for now in shown:
        assert len(now["group"]) == 32 and now["leader"] in now["voters"] and now["term"] > 0
        assert len(now["voters"]) == 3 and now["learners"] == []
        assert {r["instance"] for r in now["replicas"]} == set(now["voters"])
    text = mocks3("status", "--url", three.s3).stdout
    for now in shown:
        assert f"led by {now['leader']}" in text
    assert text.count("3 voters, 0 learners") == 2 and "warning" not in text


@pytest.mark.parametrize("how", ["killed", "frozen"])
@pytest.mark.parametrize("service", GROUPS)
def test_a_leader_that_is_hurt_fails_no_request_that_is_retried(three, service, how):
    """One that is killed is started again at once, and may lead on; one that is frozen is replaced."""
    s3s, bucket = [patient(url) for url in three.s3_urls()], unique(f"leader-{service}")
    s3s[0].create_bucket(Bucket=bucket)
    done, written = [time.monotonic()], {}

    def work(number):
        s3, key = s3s[number % len(s3s)], f"k-{number}"
        data = random_bytes(1000, seed=number)
        s3.put_object(Bucket=bucket, Key=key, Body=data)
        assert body(s3.get_object(Bucket=bucket, Key=key)) == data
        if number % 3 == 0:
            s3.delete_object(Bucket=bucket, Key=key)
        else:
            written[key] = data
        done.append(time.monotonic())

    leader = leader_first(three, service)[0]
    with Foreground(work) as load:
        wait_until("some are through", lambda: len(done) > 20, 20)
        hurt, before = time.monotonic(), len(done)
        if how == "killed":
            three.kill_member(leader)
            wait_until("it goes on", lambda: len(done) > before + 30, 20)
        else:
            with three.frozen(leader):
                wait_until(
                    "another leads",
                    lambda: group(three, service)["leader"] not in (None, leader["instance"]),
                    GAP,
                )
                wait_until("it goes on", lambda: len(done) > before + 30, 20)
    assert load.errors == [], load.errors[0]
    gap = max(b - a for a, b in itertools.pairwise(done) if b >= hurt)
    assert gap < GAP, f"nothing was done for {gap:.1f} s"
    assert keys(s3s[0].list_objects_v2(Bucket=bucket)) == sorted(written)
    wait_until("all tasks are done", lambda: open_tasks(three) == 0, 30, 0.2)


def within(seconds, call):
    started = time.monotonic()
    answer = call()
    took = time.monotonic() - started
    assert took < seconds, f"answered only after {took:.2f} s: {answer}"
    return answer


def test_without_two_of_three_metadata_all_is_slow_down_in_time_and_goes_on_after(three):
    s3, bucket = client(three.s3), unique("lost")
    patient(three.s3).create_bucket(Bucket=bucket)
    patient(three.s3).put_object(Bucket=bucket, Key="k", Body=b"v")
    first, second, third = leader_first(three, "metadata")
    calls = {
        "get": lambda: s3.get_object(Bucket=bucket, Key="k"),
        "get of none": lambda: s3.get_object(Bucket=bucket, Key="none"),
        "put": lambda: s3.put_object(Bucket=bucket, Key="new", Body=b"n"),
        "delete": lambda: s3.delete_object(Bucket=bucket, Key="k2"),
        "list": lambda: s3.list_objects_v2(Bucket=bucket),
        "buckets": lambda: s3.list_buckets(),
        "new bucket": lambda: s3.create_bucket(Bucket=unique("never")),
    }

    def slow_down(name):
        def refuse():
            with pytest.raises(ClientError) as caught:
                calls[name]()
            return caught.value.response

        answer = within(ANSWERED, refuse)
        assert answer["Error"]["Code"] == "SlowDown", (name, answer)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 503
        assert answer["ResponseMetadata"]["HTTPHeaders"]["retry-after"].isdigit()

    with three.frozen(first, second), ThreadPoolExecutor(len(calls)) as pool:
        for _ in range(2):  # the first of them meet a cluster that has not noticed yet
            list(pool.map(slow_down, calls))
        api = Api(third["http_url"])
        answer = within(ANSWERED, lambda: api.raw("GET", f"/buckets/{bucket}"))
        assert answer.status == 503 and answer.headers["retry-after"] == "1"
    wait_until("reads go on", lambda: body(s3.get_object(Bucket=bucket, Key="k")) == b"v", HEALED)
    wait_until(
        "writes go on", lambda: s3.put_object(Bucket=bucket, Key="after", Body=b"a"), HEALED
    )
    assert "after" in keys(patient(three.s3).list_objects_v2(Bucket=bucket))


def test_without_two_of_three_queues_tasks_are_refused_but_objects_are_not(three):
    s3, bucket = patient(three.s3), unique("queue")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="k", Body=b"v")
    first, second, third = leader_first(three, "queue")
    api = Api(third["http_url"])
    with three.frozen(first, second):
        new = {"object_key": f"{bucket}/none"}
        answer = within(ANSWERED, lambda: api.raw("POST", "/delete-tasks", new))
        assert answer.status == 503 and answer.headers["retry-after"] == "1", answer
        answer = within(ANSWERED, lambda: api.raw("GET", "/tasks"))
        assert answer.status == 503 and answer.headers["retry-after"] == "1", answer
        s3.delete_object(Bucket=bucket, Key="k")
        s3.put_object(Bucket=bucket, Key="k2", Body=b"w")
        assert keys(s3.list_objects_v2(Bucket=bucket)) == ["k2"]
    wait_until("tasks are taken", lambda: api("POST", "/delete-tasks", new, expect=201), HEALED)
    wait_until("all tasks are done", lambda: open_tasks(three) == 0, 30, 0.2)


def test_two_of_three_killed_at_once_come_back_and_nothing_is_lost(three):
    s3, bucket = patient(three.s3), unique("two")
    s3.create_bucket(Bucket=bucket)
    for n in range(20):
        s3.put_object(Bucket=bucket, Key=f"k-{n:02}", Body=b"%d" % n)
    victims = [m for service in GROUPS for m in leader_first(three, service)[:2]]
    for victim in victims:
        three.kill_member(victim)
    wait_until("writes go on", lambda: s3.put_object(Bucket=bucket, Key="z", Body=b"z"), HEALED)
    assert len(keys(s3.list_objects_v2(Bucket=bucket))) == 21
    assert body(s3.get_object(Bucket=bucket, Key="k-07")) == b"7"


def test_all_stop_in_order_and_come_back_as_they_were(three):
    s3, bucket = patient(three.s3), unique("all")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="k", Body=b"v")
    before = {service: group(three, service) for service in GROUPS}
    began = time.monotonic()
    three.stop()  # asserts exit code 0 and that nobody is left
    took = time.monotonic() - began
    assert took < 10, f"the end took {took:.1f} s"
    three.start()
    assert body(s3.get_object(Bucket=bucket, Key="k")) == b"v"
    wait_until("three vote in each group", lambda: whole(three), 30)
    for service in GROUPS:
        now = group(three, service)
        assert now["group"] == before[service]["group"]
        ids = [{r["instance"]: r["id"] for r in g["replicas"]} for g in (now, before[service])]
        assert ids[0] == ids[1]
