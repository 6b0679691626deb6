"""Step g. The queue's JSON API: delete and save tasks of v2, tasks and workers of v1."""

import threading
import time

import pytest

from support.cluster import wait_until
from support.damage import kill_and_wait
from support.data import MIB, random_bytes, unique
from support.json_api import Api
from support.s3 import body, client
from support.sources import Faulty, set_fallback, source

STATES = {"pending", "running", "completed", "failed", "retrying", "cancelled"}


@pytest.fixture(scope="module")
def api(cluster):
    return Api(cluster.url("queue"))


def test_a_delete_task_deletes(api, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    answer = api("POST", "/delete-tasks", {"object_key": f"{bucket}/k"}, expect=201)
    assert answer["success"] is True and answer["task_id"] and answer["message"]
    wait_until("the object is gone", lambda: s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0, 10)
    wait_until(
        "the task says so",
        lambda: api("GET", f"/tasks/{answer['task_id']}")["status"] == "completed",
        10,
    )


def test_a_task_given_twice_is_one_task(api, bucket):
    task = {"id": f"del_{unique()}", "object_key": f"{bucket}/none"}
    for _ in range(2):
        assert api("POST", "/delete-tasks", task, expect=201)["task_id"] == task["id"]
    listed = [t for t in api("GET", "/tasks?limit=1000")["tasks"] if t["id"] == task["id"]]
    assert len(listed) == 1 and listed[0]["status"] in STATES


def test_tasks_are_told_one_by_one(api, bucket):
    made = api("POST", "/delete-tasks", {"object_key": f"{bucket}/none"}, expect=201)
    task = api("GET", f"/tasks/{made['task_id']}")
    assert task["id"] == made["task_id"] and task["status"] in STATES
    api.refused("GET", "/tasks/del_no-such-task", 404)
    api.refused("PUT", "/delete-tasks/del_no-such-task/status", 404, {"status": "completed"})
    error = api.refused("PUT", f"/delete-tasks/{made['task_id']}/status", 422, {"status": "odd"})
    assert error["field"] == "status"


def test_refusals_name_the_field(api):
    assert api.refused("POST", "/delete-tasks", 422, {})["field"] == "object_key"
    assert api.refused("POST", "/save-tasks", 422, {})["field"] == "object_key"


def test_stats_count_the_queues(api):
    stats = api("GET", "/stats")
    for name in ("delete_queue_length", "save_queue_length", "total_queue_length"):
        assert isinstance(stats[name], int) and stats[name] >= 0
    assert stats["service"] == "queue-service" and stats["timestamp"]


def test_workers_are_stopped_and_started(own_cluster):
    """A stopped worker takes nothing; a started one goes on where it was."""
    cluster = own_cluster(scale={"storage": 1})
    api, s3, bucket = Api(cluster.url("queue")), client(cluster.s3), unique()
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    workers = [worker["id"] for worker in api("GET", "/workers")["workers"]]
    assert workers
    for worker in workers:
        api("POST", f"/workers/{worker}/stop")
    made = api("POST", "/delete-tasks", {"object_key": f"{bucket}/k"}, expect=201)
    assert api("GET", f"/tasks/{made['task_id']}")["status"] == "pending"
    for worker in workers:
        api("POST", f"/workers/{worker}/start")
    wait_until("the object is gone", lambda: s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0, 10)
    api.refused("POST", "/workers/no-such-worker/stop", 404)


@pytest.fixture
def faulty(cluster):
    server = Faulty()
    with source(cluster, unique("faulty"), "http", server.url, max_retries=0):
        yield server
    server.close()


def test_a_task_that_fails_for_good_is_a_dead_letter_until_it_is_retried(
    api, cluster, s3, bucket, faulty
):
    set_fallback(cluster, bucket)
    faulty.plans["k"] = ("500", b"")
    new = {"type": "save_file", "object_key": f"{bucket}/k", "max_retries": 1}
    task = api("POST", "/tasks", new, expect=201)["id"]
    api.refused("POST", f"/tasks/{task}/retry", 409)  # it has not failed yet
    wait_until("it failed", lambda: api("GET", f"/tasks/{task}")["status"] == "failed", 15)
    failed = api("GET", f"/tasks/{task}")
    assert failed["retry_count"] == 1 and failed["failed_at"] and failed["error"]
    assert failed["worker_id"] is None
    assert task in dead_letters(api)
    asked = len(faulty.asked)
    time.sleep(1.5)
    assert len(faulty.asked) == asked, "a dead letter is not tried again by itself"
    faulty.plans["k"] = ("good", b"outside")
    api("POST", f"/tasks/{task}/retry")
    wait_until("it is done", lambda: api("GET", f"/tasks/{task}")["status"] == "completed", 15)
    assert task not in dead_letters(api)
    set_fallback(cluster, bucket, on=False)
    assert body(s3.get_object(Bucket=bucket, Key="k")) == b"outside"
    api.refused("POST", f"/tasks/{task}/retry", 409)  # completed is for ever


def dead_letters(api):
    return [task["id"] for task in api("GET", "/tasks?status=failed&limit=1000")["tasks"]]


@pytest.fixture
def idle(own_cluster):
    """A cluster whose own workers are stopped, and its queue's API."""
    cluster = own_cluster(scale={"storage": 1})
    api = Api(cluster.url("queue"))
    stop_workers(api)
    return cluster, api


def stop_workers(api):
    for worker in api("GET", "/workers")["workers"]:
        api("POST", f"/workers/{worker['id']}/stop")


def test_tasks_are_given_out_by_priority_and_then_by_age(idle):
    _, api = idle
    made = {}
    for number, priority in enumerate([100, 0, 255, 100, 7, 255, None]):
        new = {"id": f"t{number}", "type": "delete_file", "object_key": "photos/none"}
        if priority is not None:
            new["priority"] = priority
        made[new["id"]] = api("POST", "/tasks", new, expect=201)["priority"]
    assert made["t6"] == 100, "the default"
    order = sorted(made, key=lambda task: (-made[task], task))
    given = [api("GET", "/delete-tasks/dequeue?wait=0&worker=outside")["id"] for _ in made]
    assert given == order
    assert api.raw("GET", "/delete-tasks/dequeue?wait=0").status == 204, "none is left"
    for task in given:
        assert api("GET", f"/tasks/{task}")["worker_id"] == "http/outside"
        api("PUT", f"/delete-tasks/{task}/status", {"status": "completed"})
        assert api("GET", f"/tasks/{task}")["status"] == "completed"


def test_a_worker_outside_keeps_its_task_over_the_death_of_the_queue(idle):
    """It is not the queue's death that ends its work; what it reports afterwards counts."""
    cluster, api = idle
    task = api("POST", "/delete-tasks", {"object_key": "photos/none"}, expect=201)["task_id"]
    assert api("GET", "/delete-tasks/dequeue?wait=0&worker=outside")["id"] == task
    kill_and_wait(cluster, *cluster.members_of("queue"))
    found = api("GET", f"/tasks/{task}")
    assert (found["status"], found["worker_id"]) == ("running", "http/outside")
    assert api.raw("GET", "/delete-tasks/dequeue?wait=0").status == 204, "nobody else gets it"
    api("PUT", f"/delete-tasks/{task}/status", {"status": "completed"})
    assert api("GET", f"/tasks/{task}")["status"] == "completed"


def test_work_of_a_killed_queue_is_taken_over_within_ten_seconds(own_cluster):
    """kill -9 in the middle of a save that waits for its source: somebody begins it again."""
    cluster, bucket, faulty = own_cluster(scale={"storage": 1}), unique("takeover"), Faulty()
    api, s3, data = Api(cluster.url("queue")), client(cluster.s3), random_bytes(3 * MIB)
    s3.create_bucket(Bucket=bucket)
    set_fallback(cluster, bucket)
    faulty.plans["k"] = ("held", data)
    slow = {"timeout": "50s", "max_retries": 0}
    with source(cluster, unique("held"), "http", faulty.url, **slow):
        task = api("POST", "/save-tasks", {"object_key": f"{bucket}/k"}, expect=201)["task_id"]

        def begun(times):
            return faulty.asked.count(("GET", "k")) >= times

        wait_until("the save reads its source", lambda: begun(1), 10)
        assert api("GET", f"/tasks/{task}")["status"] == "running"
        time.sleep(2.5)  # its lease is fresh: it was renewed
        started = time.monotonic()
        kill_and_wait(cluster, *cluster.members_of("queue"))
        wait_until("the source is read again", lambda: begun(2), 12, 0.02)
        took = time.monotonic() - started
        print(f"taken over after {took:.2f} s")
        assert took < 10, f"taken over after {took:.1f} s"
        again = api("GET", f"/tasks/{task}")
        assert again["status"] == "running" and again["retry_count"] == 1
        faulty.release.set()
        wait_until("it is done", lambda: api("GET", f"/tasks/{task}")["status"] == "completed", 20)
        set_fallback(cluster, bucket, on=False)
        assert body(s3.get_object(Bucket=bucket, Key="k")) == data
    faulty.close()


def test_more_requests_than_allowed_at_once_are_503_with_retry_after(own_cluster):
    cluster = own_cluster(scale={"storage": 1}, config="[http]\nmax_in_flight = 8\n")
    api = Api(cluster.url("queue"))
    stop_workers(api)
    waiting, statuses = "/delete-tasks/dequeue?wait=4", []
    ask = lambda: statuses.append(api.raw("GET", waiting).status)  # noqa: E731
    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()

    def refused():
        answer = api.raw("GET", "/stats")
        return answer.status == 503 and answer

    answer = wait_until("it is full", refused, 3, 0.01)
    assert int(answer.headers["retry-after"]) >= 1
    error = api.refused("GET", "/stats", 503)
    assert "too many requests" in error["error"]
    for thread in threads:
        thread.join()
    assert set(statuses) == {204, 503} and statuses.count(204) <= 8
    wait_until("it serves again", lambda: api("GET", "/stats"), 5)
