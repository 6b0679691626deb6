"""The real command-line clients, each set up for a cluster of ours by environment or file."""

import os
import shutil
import subprocess
import sys

from support.cluster import ACCESS_KEY, ENVIRONMENT, ROOT, SECRET_KEY
from support.s3 import REGION

# `make test` puts the programs here; PATH is for those who run pytest by hand.
PLACES = os.pathsep.join(
    [str(ROOT / ".deps" / "bin"), os.path.dirname(sys.executable), os.environ["PATH"]]
)


def find(name):
    found = shutil.which(name, path=PLACES)
    assert found, f"{name} is not installed: run `make deps`"
    return found


class Program:
    """A client program with its settings; calling it runs it and returns what it printed."""

    def __init__(self, name, env=None, arguments=()):
        self.command = [find(name), *arguments]
        # no settings of the caller: neither profiles nor proxies
        ours = {k: v for k, v in ENVIRONMENT.items() if not k.startswith(("AWS_", "RCLONE_"))}
        self.env = {**ours, "LC_ALL": "C.UTF-8", "NO_PROXY": "127.0.0.1", **(env or {})}

    def run(self, *arguments, timeout=100, text=True, **options):
        return subprocess.run(
            [*self.command, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=text,
            timeout=timeout,
            env=self.env,
            **options,
        )

    def __call__(self, *arguments, text=True, **options):
        done = self.run(*arguments, text=text, **options)
        assert done.returncode == 0, f"{arguments}: {done.stdout!r} {done.stderr!r}"
        return done.stdout

    def fails(self, *arguments, word=""):
        done = self.run(*arguments)
        assert done.returncode != 0, f"{arguments} succeeded: {done.stdout}"
        assert word in done.stdout + done.stderr, done
        return done


def aws(cluster):
    env = {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_PAGER": "",
        "AWS_MAX_ATTEMPTS": "1",
    }
    return Program("aws", env, ["--endpoint-url", cluster.s3])


def s3cmd(cluster, folder):
    address = cluster.s3.removeprefix("http://")
    config = folder / "s3cfg"
    config.write_text(
        f"[default]\naccess_key = {ACCESS_KEY}\nsecret_key = {SECRET_KEY}\n"
        f"host_base = {address}\nhost_bucket = {address}\nbucket_location = {REGION}\n"
        "use_https = False\nsignature_v2 = False\nmultipart_chunk_size_mb = 5\nmax_retries = 1\n"
        "progress_meter = False\nguess_mime_type = False\ndefault_mime_type = binary/octet-stream\n"
    )
    return Program("s3cmd", arguments=["--config", str(config)])


def rclone(cluster):
    settings = {
        "TYPE": "s3",
        "PROVIDER": "Other",
        "ACCESS_KEY_ID": ACCESS_KEY,
        "SECRET_ACCESS_KEY": SECRET_KEY,
        "ENDPOINT": cluster.s3,
        "REGION": REGION,
        "FORCE_PATH_STYLE": "true",
        "CHUNK_SIZE": "5Mi",
        "UPLOAD_CUTOFF": "16Mi",
    }
    env = {f"RCLONE_CONFIG_OURS_{name}": value for name, value in settings.items()}
    limits = ["--retries", "1", "--low-level-retries", "1", "--config", os.devnull]
    return Program("rclone", env, limits)


def make_tree(folder, files):
    """Writes files given as path -> bytes."""
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder


def read_tree(folder):
    """All files below a folder as path -> bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
