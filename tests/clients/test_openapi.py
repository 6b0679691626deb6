"""Step g. Each operation of each service is called with its own example, and the answer validated.

The examples of a service belong together (one object, one task), so they are called in the order
of life: what makes things, what shows them, what changes them, what removes them.
"""

import contextlib
import json
import re

import jsonschema
import pytest

from support.cluster import ACCESS_KEY, SECRET_KEY, SERVICES, get
from support.json_api import Api
from support.raw import quote, send
from support.s3 import client

ORDER = ["put", "post", "get", "head", "delete"]
# Those that do not follow the order of life by their method.
RANKS = {
    "post_workers_id_start": -2,  # while there is no task that a worker could take
    "post_workers_id_stop": -1,
    "post_tasks_id_cancel": 1.2,  # before a PUT calls the task completed
    "post_tasks_id_retry": 1.3,  # what was cancelled
    "delete_buckets_bucket": 9,  # when it is empty
}
# What is described as not offered.
NOT_OFFERED = {
    "storage/post_internal_objects",
    "storage/delete_internal_objects_bucket_key",
    "third-party/post_objects",
    "third-party/delete_objects_bucket_key",
}
# Honest refusals: the example names something that no cluster of ours can have.
HONEST = {"delete_nodes_instance": 404}  # taking a node out is tested where nodes are lost
BUCKET, KEY, DATA = "photos", "2026/a.jpg", b"an example"


def operations(document):
    found = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return sorted(found, key=lambda o: (rank(o), o[1]))


def rank(operation):
    method, path, described = operation
    if described["operationId"] in RANKS:
        return RANKS[described["operationId"]]
    if method == "put":  # changes what POST made
        return ORDER.index("post") + 0.5
    return ORDER.index(method)


def example(document, method, path, operation):
    """(path with query, headers, body) of the operation's own example."""
    query = []
    for parameter in operation["parameters"]:
        value = parameter["example"]
        value = json.dumps(value) if isinstance(value, bool) else str(value)
        if parameter["in"] == "path":
            path = path.replace("{%s}" % parameter["name"], quote(value, safe=""))
        elif value:
            query.append(f"{parameter['name']}={quote(value, safe='')}")
    headers, body = {"Accept": "application/json"}, None
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" in content:
        headers["Content-Type"] = "application/json"
        body = json.dumps(content["application/json"]["example"]).encode()
    return path + ("?" + "&".join(query) if query else ""), headers, body


def validate(document, schema, value):
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(
        value
    )


def document_of(url):
    status, _, body = get(url, "/openapi.json")
    assert status == 200
    return json.loads(body)


@pytest.mark.parametrize("service", SERVICES)
def test_every_operation_answers_its_own_example_as_described(own_openapi, service):
    """With success, but for what is described as not offered."""
    url = own_openapi.url(service)
    document = document_of(url)
    fresh_start(own_openapi, service)
    for method, path, operation in operations(document):
        if service == "third-party" and "datasources" not in path:
            live_source(own_openapi)
        asked, headers, body = example(document, method, path, operation)
        answer = send(url, method.upper(), asked, headers, body)
        name = operation["operationId"]
        described = operation["responses"].get(str(answer.status))
        assert described, f"{name}: {answer.status} is not described: {answer}"
        wanted = 501 if f"{service}/{name}" in NOT_OFFERED else HONEST.get(name)
        good = answer.status == wanted if wanted else answer.status < 400
        assert good, f"{name} refuses its own example: {answer}"
        content = described.get("content", {}).get("application/json")
        if content and method != "head":
            validate(document, content["schema"], json.loads(answer.body))
        elif "content" not in described:
            assert not answer.body, name


def fresh_start(cluster, service):
    """What the examples of a service need: a bucket, an object, workers that take nothing away."""
    s3 = client(cluster.s3)
    with contextlib.suppress(s3.exceptions.NoSuchBucket):
        s3.delete_object(Bucket=BUCKET, Key=KEY)
        s3.delete_bucket(Bucket=BUCKET)
    if service != "metadata":  # whose example makes it
        s3.create_bucket(Bucket=BUCKET)
    if service == "third-party":
        s3.put_object(Bucket=BUCKET, Key=KEY, Body=DATA)
    workers = Api(cluster.url("queue"))
    for worker in workers("GET", "/workers")["workers"]:
        workers("POST", f"/workers/{worker['id']}/stop")


def live_source(cluster):
    """The example's source, alive: our own S3 edge, which holds the example's object."""
    config = {"endpoint": cluster.s3, "access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
    body = {"name": "upstream", "type": "s3", "config": config}
    Api(cluster.url("third-party"))("POST", "/datasources", body, expect=201)


@pytest.mark.parametrize("service", SERVICES)
def test_every_example_of_an_answer_fits_its_schema(own_openapi, service):
    document = document_of(own_openapi.url(service))
    for _, path, operation in operations(document):
        assert operation["summary"], path
        named = set(re.findall(r"{(\w+)}", path))
        declared = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
        assert named == declared, path
        for described in operation["responses"].values():
            content = described.get("content", {}).get("application/json", {})
            if "example" in content:
                validate(document, content["schema"], content["example"])
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if body:
            validate(document, body["schema"], body["example"])


@pytest.fixture(scope="module")
def own_openapi(request):
    """A cluster of its own: the examples have fixed names."""
    from support.cluster import Cluster

    cluster = Cluster("openapi")
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close(keep=request.session.testsfailed > 0)
