"""TLS between nodes: `mocks3 up` with the three files of [cluster.tls], made as README.md says."""

import re
import socket
import subprocess

import pytest

from support import s3 as s3_support
from support.cluster import HEAL_SECONDS, ROOT, mocks3, wait_until
from support.data import MIB, random_bytes, unique


def certificates(folder):
    """Runs the openssl lines of README.md in a folder, as a reader would."""
    block = re.search(r"```sh\n(openssl req -x509.*?)```", (ROOT / "README.md").read_text(), re.S)
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["sh", "-ec", block.group(1)], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return folder


def config(folder):
    return (
        f'[cluster.tls]\nca = "{folder}/ca.pem"\ncert = "{folder}/node.pem"\n'
        f'key = "{folder}/node.key"\n'
    )


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    return certificates(tmp_path_factory.mktemp("papers"))


def test_objects_move_through_a_cluster_whose_nodes_talk_tls(own_cluster, papers):
    cluster = own_cluster(config=config(papers))
    s3 = s3_support.client(cluster.s3)
    bucket = unique()
    s3.create_bucket(Bucket=bucket)
    for size in (1, 64 * 1024, 5 * MIB, 20 * MIB):
        data = random_bytes(size)
        s3.put_object(Bucket=bucket, Key=str(size), Body=data)
        for url in cluster.s3_urls():
            other = s3_support.client(url)
            assert other.get_object(Bucket=bucket, Key=str(size))["Body"].read() == data
    # the loss of a storage node is noticed and made up for under TLS as without
    victim = cluster.members_of("storage")[-1]
    cluster.kill_member(victim)
    data = random_bytes(5 * MIB)

    def put():
        s3.put_object(Bucket=bucket, Key="after", Body=data)
        return True

    wait_until("an upload goes through", put, HEAL_SECONDS)
    assert s3.get_object(Bucket=bucket, Key="after")["Body"].read() == data
    cluster.wait_healthy()


def test_the_ports_between_nodes_answer_nothing_in_clear(own_cluster, papers):
    cluster = own_cluster(config=config(papers), scale={"storage": 1})
    for member in cluster.members():
        for address in filter(None, (member["cluster_address"], member["data_address"])):
            host, port = address.split(":")
            with socket.create_connection((host, int(port)), timeout=4) as plain:
                plain.sendall(b"GET /data/x HTTP/1.1\r\nHost: x\r\n\r\n")
                answer = b""
                while chunk := plain.recv(4096):
                    answer += chunk
            assert answer[:1] == b"\x15" and len(answer) == 7, (address, answer)  # a TLS alert


def test_files_that_do_not_fit_are_one_line_and_exit_code_2(tmp_path, papers):
    other = certificates(tmp_path / "other")
    rows = {
        "does not stand up to": config(papers).replace(f"{papers}/ca.pem", f"{other}/ca.pem"),
        "do not belong together": config(papers).replace(f"{papers}/node.key", f"{other}/node.key"),
        "cannot use": config(papers).replace("node.pem", "absent.pem"),
        "key missing": "\n".join(config(papers).splitlines()[:-1]),
    }
    for reason, text in rows.items():
        file = tmp_path / "mocks3.toml"
        file.write_text(text)
        for command in (
            ["config", "check", file],
            ["up", "--config", file, "--data-dir", tmp_path / "data"],
        ):
            done = mocks3(*command)
            assert done.returncode == 2, (command, done.stdout, done.stderr)
            assert reason in done.stderr and "cluster.tls" in done.stderr, done.stderr
            assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not (tmp_path / "data").exists(), "something was half-started"


def test_paths_count_from_the_folder_of_the_file(tmp_path, papers):
    (tmp_path / "m.toml").write_text(config(papers).replace(f"{papers}/", "keys/"))
    (tmp_path / "keys").symlink_to(papers)
    done = mocks3("config", "check", tmp_path / "m.toml", cwd="/")
    assert done.returncode == 0, done.stderr
