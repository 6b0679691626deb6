"""Step g. Beyond loopback: refused with the public keys, otherwise token, trusted networks, S3.

All of it runs in a network namespace of its own, with addresses that are not 127.x on its `lo`:
nothing here listens on a real network. Where namespaces cannot be made (no privileges), only the
refusals are tested; see "privileged" in tests/README.md.
"""

import json

import pytest

from support.cluster import mocks3, wait_until
from support.namespace import SERVICES, Node, namespace
from support.s3 import client

OWN, TRUSTED, STRANGER = "10.99.1.1", "10.99.2.2", "10.99.3.3"
TOKEN = "a-token-of-24-characters"
KEYS = ("other-key", "other-secret-key")
CONFIG = f"""
[storage]
replicas = 1
[http]
token = "{TOKEN}"
trusted_networks = ["{TRUSTED}/32"]
[s3]
default_user = false
[[s3.users]]
name = "other"
access_key = "{KEYS[0]}"
secret_key = "{KEYS[1]}"
"""
CLUSTER_PORT = 7081
SECRET = {"MOCKS3_SECRET": "a secret for this test"}


@pytest.mark.parametrize("address", ["0.0.0.0:0", "10.99.1.1:8082", "[::]:0"])
@pytest.mark.parametrize("service", SERVICES)
def test_a_node_beyond_loopback_with_the_public_keys_is_refused(tmp_path, service, address):
    command = ["node", "--service", service, "--data-dir", tmp_path / "data", "--http", address]
    done = mocks3(*command, env=SECRET)
    assert done.returncode == 2, done
    [line] = done.stderr.strip().splitlines()
    assert "default keys" in line and "s3.default_user" in line and address in line
    assert not (tmp_path / "data").exists()


def test_one_address_of_several_beyond_loopback_is_enough_for_the_refusal(tmp_path):
    command = ["node", "--service", "queue,storage", "--data-dir", tmp_path / "data"]
    done = mocks3(*command, "--http", "127.0.0.1:0,0.0.0.0:0", env=SECRET)
    assert done.returncode == 2 and "default keys" in done.stderr


@pytest.mark.parametrize("listen", ["--http", "--cluster-listen", "--data-listen"])
def test_a_wildcard_needs_an_address_that_others_can_call(tmp_path, listen):
    (tmp_path / "mocks3.toml").write_text(CONFIG)
    command = ["node", "--service", "storage", "--data-dir", tmp_path / "data"]
    command += ["--config", tmp_path / "mocks3.toml", "--http", "127.0.0.1:0", listen, "0.0.0.0:0"]
    if listen == "--http":
        command.remove("127.0.0.1:0"), command.remove("--http")
    done = mocks3(*command, env=SECRET)
    assert done.returncode == 2, done
    [line] = done.stderr.strip().splitlines()
    assert "0.0.0.0:0" in line and "--advertise" in line
    done = mocks3(*command, "--advertise", "0.0.0.0", env=SECRET)
    assert done.returncode == 2 and "--advertise" in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    wild = ["--cluster-listen", f"0.0.0.0:{CLUSTER_PORT}", "--advertise", OWN]
    folder = tmp_path_factory.mktemp("outside")
    with namespace(OWN, TRUSTED, STRANGER) as inside, node(inside, folder, SERVICES, OWN, wild) as n:
        yield n


def node(inside, folder, services, own, arguments):
    return Node(inside, folder, CONFIG, services, own, arguments, SECRET)


def bearer(token):
    return ("-H", f"Authorization: Bearer {token}")


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("path", ["/api/v1/stats", "/api/v1/actors", "/metrics", "/openapi.json"])
def test_json_from_outside_needs_the_token_unless_the_network_is_trusted(outside, service, path):
    url = outside.urls[service] + path
    there = outside.curl(url, STRANGER, *bearer(TOKEN))[0]
    assert there in (200, 404), "404 where the service has no such path"
    for source in (STRANGER, OWN):
        status, body = outside.curl(url, source)
        assert status == 401 and json.loads(body)["success"] is False, "no token"
        for wrong in ("", TOKEN[:-1], TOKEN + "x"):
            assert outside.curl(url, source, *bearer(wrong))[0] in (401, 403), repr(wrong)
    assert outside.curl(url, TRUSTED)[0] == there, "a trusted network needs none"
    assert outside.curl(outside.urls[service] + "/health", STRANGER)[0] == 200


def test_json_writes_from_outside_need_the_token_too(outside):
    data = '{"name": "by-json"}'
    url = outside.urls["metadata"] + "/api/v1/buckets"
    post = ("-X", "POST", "-H", "Content-Type: application/json", "-d", data)
    assert outside.curl(url, STRANGER, *post)[0] == 401
    assert outside.curl(url, STRANGER, *post, *bearer(TOKEN))[0] == 201


def test_signed_s3_works_from_outside_and_unsigned_does_not(outside):
    s3 = client(outside.urls["storage"], *KEYS)  # signs only: from here it is out of reach
    names = {"Bucket": "outside", "Key": "k"}

    def presigned(operation, by=s3, **parameters):
        return by.generate_presigned_url(operation, Params=parameters)

    put = ("-X", "PUT", "--data-binary", "some bytes", "-H", "Content-Type:")
    made = presigned("create_bucket", Bucket="outside")
    assert outside.curl(made, STRANGER, "-X", "PUT")[0] == 200
    assert outside.curl(presigned("put_object", **names), STRANGER, *put)[0] == 200
    assert outside.curl(presigned("get_object", **names), STRANGER) == (200, "some bytes")
    plain = outside.urls["storage"] + "/outside/k"
    public = presigned("get_object", by=client(outside.urls["storage"]), **names)
    for url, options in ((plain, ()), (plain, bearer(TOKEN)), (public, ())):
        status, body = outside.curl(url, STRANGER, *options)
        assert status in (400, 403) and "some bytes" not in body, (url, options)


def test_a_node_that_listens_everywhere_is_reached_at_the_address_it_advertises(outside, tmp_path):
    arguments = ["--cluster-listen", "0.0.0.0:0", "--advertise", TRUSTED]
    arguments += ["--bootstrap", f"{OWN}:{CLUSTER_PORT}"]

    def storage_members():
        status, body = outside.curl(outside.urls["metadata"] + "/api/v1/cluster", TRUSTED)
        assert status == 200
        rows = [m for m in json.loads(body)["members"] if m["service"] == "storage-service"]
        live = [m for m in rows if m["state"] == "live"]
        return {m["s3_url"].split("/")[2].split(":")[0]: m for m in live}

    with node(outside.inside, tmp_path, ["storage"], TRUSTED, arguments) as other:
        wait_until("it is a member", lambda: TRUSTED in storage_members(), 10)
        for own, member in storage_members().items():
            for field in ("cluster_address", "data_address"):
                assert member[field].startswith(f"{own}:"), (own, member)
        # written and read through the one and the other: bodies cross between them in both ways
        s3, far = (client(n.urls["storage"], *KEYS) for n in (outside, other))
        (tmp_path / "large").write_bytes(b"0" * 200_000)
        upload = ("-X", "PUT", "-T", str(tmp_path / "large"))
        made = s3.generate_presigned_url("create_bucket", Params={"Bucket": "advertised"})
        assert outside.curl(made, STRANGER, "-X", "PUT")[0] == 200
        for number in range(8):
            names = {"Bucket": "advertised", "Key": str(number)}
            put = s3.generate_presigned_url("put_object", Params=names)
            assert outside.curl(put, STRANGER, *upload)[0] == 200
            get = far.generate_presigned_url("get_object", Params=names)
            assert outside.curl(get, STRANGER) == (200, "0" * 200_000)
    gone = outside.urls["metadata"] + "/api/v1/nodes"
    nodes = json.loads(outside.curl(gone, TRUSTED)[1])["nodes"]
    [absent] = [n["instance"] for n in nodes if not n["live"]]
    assert outside.curl(f"{gone}/{absent}", TRUSTED, "-X", "DELETE")[0] == 204
