"""The JSON APIs of the services: one call, and the one shape that every error has."""

import json

from support.cluster import get
from support.raw import quote, send

V1 = "application/vnd.mocks3.v1+json"
ERROR_FIELDS = {"error", "code", "success", "field", "reason", "example", "request_id"}


class Api:
    """One service's API, below /api/v1."""

    def __init__(self, url):
        self.url = url

    def raw(self, method, path, body=None, headers=None):
        """The answer as it is; a `body` that is not bytes is sent as JSON."""
        headers = {"Accept": "application/json", **(headers or {})}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        return send(self.url, method, f"/api/v1{path}", headers, body)

    def __call__(self, method, path, body=None, expect=200, headers=None):
        """The parsed body of an answer that must have the expected status."""
        answer = self.raw(method, path, body, headers)
        assert answer.status == expect, answer
        return json.loads(answer.body) if answer.body else None

    def refused(self, method, path, status, body=None, headers=None):
        """Asserts a refusal with the house's one error body, and gives it."""
        answer = self.raw(method, path, body, headers)
        assert answer.status == status, answer
        assert answer.headers["content-type"].startswith("application/json"), answer
        error = json.loads(answer.body)
        assert ERROR_FIELDS <= error.keys(), error
        assert error["success"] is False and error["error"] and error["request_id"]
        return error


def health(url):
    status, _, body = get(url, "/health")
    return status, json.loads(body)


def path_of(*parts):
    """A path of segments, each with its own slashes encoded."""
    return "".join("/" + quote(part, safe="") for part in parts)
