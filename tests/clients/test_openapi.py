"""Step g. Each operation of each service is called with its own example, and the answer validated.

The examples of a service belong together (one object, one task), so they are called in the order
of life: what makes things, what shows them, what changes them, what removes them.
"""

import json
import re

import jsonschema
import pytest

from support.cluster import SERVICES, get
from support.raw import quote, send

ORDER = ["put", "post", "get", "head", "delete"]
# The example uploads' bucket is made by the upload; these must see it before it is removed.
LATE = {"post_tasks_id_retry", "post_tasks_id_cancel"}
# Honest refusals that an example can meet, by operation: the state that it asks for is not there.
CONFLICTS = {
    "post_tasks_id_retry": {409},  # the example's task has not failed
    "post_tasks_id_cancel": {409},  # the workers may be faster
    "put_delete_tasks_id_status": {409},
    "put_save_tasks_id_status": {409},
    "post_buckets": {409},  # another service's example made it
    "delete_buckets_bucket": {409},  # the same example is stored by other services
    "delete_metadata_bucket_key": {404},  # the delete task of the queue's example
    "delete_objects_bucket_key": {404},
    "post_internal_objects": {501},
    "delete_internal_objects_bucket_key": {501},
    # the example's source is not there, and sources are read only
    "third-party/post_objects": {501},
    "third-party/delete_objects_bucket_key": {501},
    "third-party/post_cache": {404, 503},
    "third-party/delete_cache_bucket_key": {404},
    "third-party/get_objects": {404, 503},
    "third-party/get_objects_bucket_key": {404, 503},
    "third-party/head_objects_bucket_key": {404, 503},
    "third-party/get_metadata_bucket_key": {404, 503},
}


def operations(document):
    found = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return sorted(found, key=lambda o: (rank(o), o[1]))


def rank(operation):
    method, path, described = operation
    if described["operationId"] in LATE:
        return ORDER.index("get")
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
    url = own_openapi.url(service)
    document = document_of(url)
    for method, path, operation in operations(document):
        asked, headers, body = example(document, method, path, operation)
        answer = send(url, method.upper(), asked, headers, body)
        name = operation["operationId"]
        described = operation["responses"].get(str(answer.status))
        assert described, f"{name}: {answer.status} is not described: {answer}"
        honest = CONFLICTS.get(f"{service}/{name}", CONFLICTS.get(name, ()))
        good = answer.status < 400 or answer.status in honest
        assert good, f"{name} refuses its own example: {answer}"
        content = described.get("content", {}).get("application/json")
        if content and method != "head":
            validate(document, content["schema"], json.loads(answer.body))
        elif "content" not in described:
            assert not answer.body, name


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
