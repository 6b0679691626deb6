"""Step g. The queue's JSON API: delete and save tasks of v2, tasks and workers of v1."""

import pytest

from support.cluster import wait_until
from support.data import unique
from support.json_api import Api

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
    from support.s3 import client

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
