"""Step g. What all five services share: one error body, OpenAPI, limits, and S3 beside JSON."""

import json

import pytest

from support import raw
from support.cluster import SERVICES, get
from support.json_api import Api

MALFORMED = [b"{", b"[1,", b'{"a": }', b"\xff\xfe"]
POSTS = {
    "metadata": "/metadata",
    "storage": "/objects",
    "queue": "/delete-tasks",
    "third-party": "/datasources",
}


@pytest.mark.parametrize("service", SERVICES)
def test_openapi_describes_the_service(cluster, service):
    status, headers, body = get(cluster.url(service), "/openapi.json")
    assert status == 200 and headers["content-type"].startswith("application/json")
    described = json.loads(body)
    assert described["openapi"].startswith("3.")
    assert "/health" in described["paths"] and "/metrics" in described["paths"]
    assert any(path.startswith("/api/v1/") for path in described["paths"])
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            if method in ("get", "post", "put", "delete"):
                assert operation["responses"], (method, path)


@pytest.mark.parametrize("service", SERVICES)
def test_an_unknown_path_is_a_404_with_the_error_body(cluster, service):
    Api(cluster.url(service)).refused("GET", "/no-such-thing", 404)


@pytest.mark.parametrize(("service", "path"), POSTS.items())
def test_a_body_that_is_no_json_is_a_400(cluster, service, path):
    for body in MALFORMED:
        headers = {"Content-Type": "application/json"}
        error = Api(cluster.url(service)).refused("POST", path, 400, body, headers)
        assert error["reason"]


@pytest.mark.parametrize(("service", "path"), POSTS.items())
def test_a_body_without_what_is_needed_is_a_422_that_names_the_field(cluster, service, path):
    error = Api(cluster.url(service)).refused("POST", path, 422, {})
    assert error["field"] and error["example"]


@pytest.mark.parametrize(("service", "path"), POSTS.items())
def test_an_endless_body_is_refused(cluster, service, path):
    """The limit differs per service; what is never right is to buffer 300 MiB of announced JSON."""
    headers = {"Content-Type": "application/json", "Content-Length": str(300 * 1024 * 1024)}
    answer = raw.send(cluster.url(service), "POST", f"/api/v1{path}", headers, b"{")
    assert answer.status in (400, 413), answer


@pytest.mark.parametrize("service", SERVICES)
def test_huge_headers_are_refused_and_the_service_lives_on(cluster, service):
    url = cluster.url(service)
    answer = raw.send(url, "GET", "/health", {"X-Large": "x" * 2_000_000})
    assert 400 <= answer.status < 500, answer
    assert get(url, "/health")[0] == 200


def test_a_wrong_method_is_a_405(cluster):
    for service in SERVICES:
        assert Api(cluster.url(service)).raw("DELETE", "/events").status == 405


def test_on_the_storage_port_a_signature_decides(cluster):
    """Unsigned /api/v1/... is JSON; the same path with a signature is S3, bucket `api`."""
    unsigned = Api(cluster.s3).raw("GET", "/stats")
    assert unsigned.status == 200 and json.loads(unsigned.body)
    signed = raw.request(cluster.s3, "GET", "/api/v1/stats")
    assert (signed.status, signed.code) == (404, "NoSuchBucket"), signed


def test_the_actors_of_the_whole_cluster_are_shown_by_every_service(cluster):
    instances = {member["instance"] for member in cluster.members()}
    for service in SERVICES:
        tree = json.dumps(Api(cluster.url(service))("GET", "/actors"))
        assert all(instance in tree for instance in instances), service
