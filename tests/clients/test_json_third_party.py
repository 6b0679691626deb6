"""Step g. The third-party service's JSON API: sources and stats (the fallback is step f)."""

import pytest

from support.data import unique
from support.json_api import Api


@pytest.fixture(scope="module")
def api(cluster):
    return Api(cluster.url("third-party"))


def source(**more):
    return {
        "name": unique("source"),
        "type": "http",
        "config": {"endpoint": "http://127.0.0.1:9", "timeout": "1s"},
        "priority": 5,
        "enabled": False,
        **more,
    }


def test_a_source_is_added_and_listed(api):
    wanted = source()
    made = api("POST", "/datasources", wanted, expect=201)
    listed = api("GET", "/datasources")["datasources"]
    found = next(entry for entry in listed if entry["name"] == wanted["name"])
    assert found["type"] == "http" and found["priority"] == 5 and found["enabled"] is False
    assert made["id"] == found["id"] and found["created_at"]


def test_secrets_of_a_source_are_not_told(api):
    config = {"endpoint": "http://127.0.0.1:9", "access_key": "ak", "secret_key": "hidden-secret"}
    api("POST", "/datasources", source(type="s3", config=config), expect=201)
    assert b"hidden-secret" not in api.raw("GET", "/datasources").body


def test_a_source_that_makes_no_sense_is_refused(api):
    assert (
        api.refused("POST", "/datasources", 422, source(type="carrier-pigeon"))["field"] == "type"
    )
    assert api.refused("POST", "/datasources", 422, {"type": "http"})["field"] in ("name", "config")


def test_an_object_that_no_source_has_is_a_404(api):
    error = api.refused("GET", f"/objects/{unique()}/k", 404)
    assert {"message", "bucket", "key"} <= error.keys()


def test_stats_are_there(api):
    assert isinstance(api("GET", "/stats"), dict)
