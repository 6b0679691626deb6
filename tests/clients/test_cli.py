"""Step a. The command line: help, config check, what `up` refuses, status."""

import json
import signal
import socket

import pytest

from support.cluster import PortBlock, alive, descendants, mocks3, short, wait_until


def refused(done, *words):
    """Exit code 2 and one line on stderr that names the trouble."""
    assert done.returncode == 2, done
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    for word in words:
        assert str(word).lower() in lines[0].lower(), lines[0]


# -- help and config -----------------------------------------------------------------------


@pytest.mark.parametrize("command", ["up", "node", "status"])
def test_help_has_examples(command):
    done = mocks3(command, "--help")
    assert done.returncode == 0
    assert "example" in done.stdout.lower() and f"mocks3 {command}" in done.stdout


def test_help_names_all_commands():
    done = mocks3("--help")
    assert done.returncode == 0
    for command in ("up", "node", "status", "config"):
        assert command in done.stdout


def test_the_version_is_told():
    done = mocks3("--version")
    assert done.returncode == 0 and done.stdout.startswith("mocks3 ")


def test_an_unknown_argument_is_refused():
    for arguments in (["up", "--no-such-thing"], ["no-such-command"], ["node"]):
        done = mocks3(*arguments)
        assert done.returncode == 2 and done.stderr


def test_a_good_config_passes_the_check(tmp_path):
    good = tmp_path / "good.toml"
    good.write_text(
        '[storage]\nreplicas = 2\nwrite_quorum = "all"\ndurability = "os"\nsegment_size = "64MiB"\n'
        '[[s3.users]]\nname = "a"\naccess_key = "a-key"\nsecret_key = "a-long-secret"\n'
    )
    done = mocks3("config", "check", good)
    assert done.returncode == 0, done


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[storage]\nreplica = 2\n", "replica"),
        ("[no_such_section]\n", "no_such_section"),
        ("[storage]\nreplicas = 0\n", "replicas"),
        ('[storage]\nsegment_size = "12 parsecs"\n', "segment_size"),
        ("[storage\n", "line"),
        ("[s3]\ndefault_user = false\n", "user"),
    ],
)
def test_a_bad_config_is_refused_by_name(tmp_path, text, word):
    bad = tmp_path / "bad.toml"
    bad.write_text(text)
    done = mocks3("config", "check", bad)
    assert done.returncode == 2, done
    assert word in done.stderr and "bad.toml" in done.stderr


def test_the_documented_config_passes_the_check():
    from support.cluster import ROOT

    assert mocks3("config", "check", ROOT / "config" / "mocks3.toml").returncode == 0


def test_a_missing_config_file_is_refused(tmp_path):
    done = mocks3("config", "check", tmp_path / "nothing.toml")
    assert done.returncode == 2 and "nothing.toml" in done.stderr


def test_up_refuses_an_unknown_key_before_it_starts_anything(tmp_path, free_base):
    bad, data = tmp_path / "bad.toml", tmp_path / "data"
    bad.write_text("[storage]\nreplica = 2\n")
    done = mocks3("up", "--config", bad, "--data-dir", data, "--ports", free_base)
    assert done.returncode == 2 and "replica" in done.stderr
    assert not data.exists()


def test_the_environment_is_checked_too(tmp_path, free_base):
    done = mocks3(
        "up",
        "--data-dir",
        tmp_path / "data",
        "--ports",
        free_base,
        env={"MOCKS3_STORAGE__REPLICA": "2"},
    )
    assert done.returncode == 2 and "MOCKS3_STORAGE__REPLICA" in done.stderr


# -- what `up` refuses ---------------------------------------------------------------------


@pytest.fixture
def free_base():
    block = PortBlock()
    yield block.base
    block.release()


@pytest.mark.parametrize("offset", range(5))
def test_a_taken_port_is_one_line_and_exit_code_2(tmp_path, free_base, offset):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", free_base + offset))
        taken.listen()
        done = mocks3("up", "--data-dir", tmp_path / "data", "--ports", free_base)
    refused(done, free_base + offset)
    assert not (tmp_path / "data").exists(), "a refusal leaves nothing behind"


def test_a_bad_scale_is_refused(tmp_path, free_base):
    for scale in ("storge=1", "storage=-1", "storage=x", "storage", "metadata=65", "queue=-1"):
        done = mocks3("up", "--data-dir", tmp_path / "data", "--ports", free_base, "--scale", scale)
        assert done.returncode == 2 and done.stderr, scale
    for scale in ("storage=0", "metadata=0"):
        done = mocks3("up", "--data-dir", tmp_path / "data", "--ports", free_base, "--scale", scale)
        refused(done, "--scale")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("base", [0, -1, 65532, 65535, 65536, "x"])
def test_a_base_without_five_ports_is_refused(tmp_path, base):
    done = mocks3("up", "--data-dir", tmp_path / "data", f"--ports={base}")
    assert done.returncode == 2 and "--ports" in done.stderr and str(base) in done.stderr
    assert "65531" in done.stderr or base == "x", "it says what would be right"
    assert not (tmp_path / "data").exists()


def test_variables_that_look_like_numbers_are_text_where_text_is_wanted(tmp_path):
    empty = tmp_path / "empty.toml"
    empty.write_text("")
    good = {"MOCKS3_HTTP__TOKEN": "1234567890123456", "MOCKS3_S3__REGION": "true"}
    done = mocks3("config", "check", empty, env=good)
    assert done.returncode == 0, done
    done = mocks3("config", "check", empty, env={"MOCKS3_HTTP__TOKEN": "12345"})
    assert done.returncode == 2 and "at least 16" in done.stderr


def test_a_data_dir_in_use_is_refused_and_its_owner_unharmed(own_cluster, free_base):
    cluster = own_cluster(scale={"storage": 1})
    before = sorted(member["pid"] for member in cluster.members())
    done = mocks3("up", "--data-dir", cluster.data, "--ports", free_base)
    refused(done, cluster.data)
    assert sorted(member["pid"] for member in cluster.wait_healthy()) == before


def test_a_data_dir_of_another_version_is_refused(own_cluster):
    cluster = own_cluster(scale={"storage": 1})
    cluster.stop()
    stamp = cluster.data / "cluster.json"
    other = {**json.loads(stamp.read_text()), "format": 9999}
    stamp.write_text(json.dumps(other))
    done = mocks3("up", "--data-dir", cluster.data, "--ports", cluster.base)
    refused(done, "9999", cluster.data)
    assert json.loads(stamp.read_text()) == other


# -- status --------------------------------------------------------------------------------

FIELDS = {
    "service": str,
    "instance": str,
    "node": str,
    "pid": int,
    "state": str,
    "http_url": str,
    "cluster_address": str,
    "actors": list,
}


def test_status_as_json_has_the_documented_shape(cluster):
    members = cluster.members()
    assert len(members) == 7
    for member in members:
        for field, kind in FIELDS.items():
            assert isinstance(member[field], kind), (field, member)
        assert member["service"].endswith("-service")
        assert member["instance"].startswith(member["service"] + "-")
        assert alive(member["pid"]) and "lag" in member
        assert (member["s3_url"] is not None) == (short(member["service"]) == "storage")
        assert "data_address" in member
    assert len({member["pid"] for member in members}) == 7
    assert len({member["instance"] for member in members}) == 7


def test_first_instances_have_the_first_ports(cluster):
    urls = {member["http_url"].rstrip("/") for member in cluster.members()}
    for service in ("metadata", "storage", "queue", "third-party", "mock-error"):
        assert cluster.url(service) in urls


def test_status_as_a_table_names_every_instance(cluster):
    done = mocks3("status", "--url", cluster.url("queue"))
    assert done.returncode == 0
    for member in cluster.members():
        assert member["instance"] in done.stdout and str(member["pid"]) in done.stdout


def test_status_takes_its_address_from_the_environment(cluster):
    done = mocks3("status", "--json", env={"MOCKS3_URL": cluster.url("storage")})
    assert len(json.loads(done.stdout)["members"]) == 7


def test_status_of_nobody_says_so(free_base):
    done = mocks3("status", "--url", f"http://127.0.0.1:{free_base}")
    assert done.returncode != 0 and str(free_base) in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


# -- up itself -----------------------------------------------------------------------------


def test_up_prints_what_one_needs_to_begin(cluster):
    wait_until("the keys are printed", lambda: "mocks3-dev-secret" in cluster.log.read_text(), 10)
    text = cluster.log.read_text()
    for word in (cluster.s3, "mocks3-dev-secret", "aws ", "--endpoint-url"):
        assert word in text, word
    for member in cluster.members():
        assert str(member["pid"]) in text and member["instance"] in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_in_order(own_cluster, number):
    cluster = own_cluster(scale={"storage": 1})
    family = descendants(cluster.process.pid)
    assert len(family) >= 5
    cluster.process.send_signal(number)
    assert cluster.process.wait(20) == 0
    cluster.process = None
    assert not [pid for pid in family if alive(pid)]


def test_a_signal_during_the_start_leaves_nobody_behind(own_cluster):
    cluster = own_cluster(start=False, scale={"storage": 1})
    cluster.start(wait=False)
    wait_until("the first child is there", lambda: descendants(cluster.process.pid), 10, 0.01)
    cluster.stop()


def test_the_children_do_not_outlive_a_killed_parent(own_cluster):
    cluster = own_cluster(scale={"storage": 1})
    family = descendants(cluster.process.pid)
    cluster.process.kill()
    cluster.process.wait()
    cluster.process = None
    wait_until("all children ended", lambda: not [p for p in family if alive(p)], 10)


def test_scale_starts_as_many_as_asked(own_cluster):
    cluster = own_cluster(scale={"storage": 5, "third-party": 2})
    assert len(cluster.members_of("storage")) == 5
    assert len({member["http_url"] for member in cluster.members()}) == 10


def test_service_names_may_carry_the_suffix(own_cluster):
    cluster = own_cluster(scale={"storage": 1}, scale_suffix="-service")
    assert len(cluster.members()) == 5


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_are_printed(shell):
    done = mocks3("completions", shell)
    assert done.returncode == 0 and "mocks3" in done.stdout and "status" in done.stdout
