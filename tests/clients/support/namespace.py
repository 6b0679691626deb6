"""Networks of our own: addresses that are not loopback, and a cable that can be pulled.

Nothing in here listens on a real network. Where namespaces cannot be made (no privileges), what
needs them is skipped, and says so; see "privileged" in tests/README.md.
"""

import contextlib
import os
import signal
import subprocess

import pytest

from support.cluster import BINARY, ENVIRONMENT, SERVICES, wait_until

PORT = 8081  # a namespace is ours alone


@contextlib.contextmanager
def namespace(*addresses):
    """A network with these addresses on its `lo`; gives the words that run a command in it."""
    script = "ip link set lo up" + "".join(
        f" && ip addr add {address}/32 dev lo" for address in addresses
    )
    holder = subprocess.Popen(
        ["unshare", "-n", "sh", "-c", f"{script} && echo ready && exec sleep 600"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        if holder.stdout.readline().strip() != "ready":
            pytest.skip("privileged: this machine cannot make network namespaces")
        yield ["nsenter", "-t", str(holder.pid), "-n"]
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


@contextlib.contextmanager
def two_namespaces(one, other):
    """Two networks with a cable between; gives their words, and `cable("down" | "up")`."""
    with namespace() as left, namespace() as right:

        def run(inside, *command):
            done = subprocess.run([*inside, "ip", *command], capture_output=True, text=True)
            if done.returncode != 0:
                pytest.skip(f"privileged: this machine cannot lay a cable: {done.stderr.strip()}")

        run(left, "link", "add", "cable", "type", "veth", "peer", "cable", "netns", right[2])
        for inside, address in ((left, one), (right, other)):
            run(inside, "addr", "add", f"{address}/24", "dev", "cable")
            run(inside, "link", "set", "cable", "up")

        def cable(state):
            # what is sent goes to a station that is not there: silence, as with a cut wire
            for inside, far in ((left, other), (right, one)):
                entry = [far, "dev", "cable"]
                if state == "down":
                    nowhere = ["lladdr", "02:00:00:00:00:99", "nud", "permanent"]
                    run(inside, "neigh", "replace", *entry, *nowhere)
                else:
                    run(inside, "neigh", "del", *entry)

        yield left, right, cable


class Node:
    """A node with some services that listens on one address inside of a network."""

    def __init__(self, inside, folder, config, services, own, arguments, env):
        self.inside, self.folder, self.own = inside, folder, own
        (folder / "mocks3.toml").write_text(config)
        ports = {s: PORT + SERVICES.index(s) for s in services}
        self.urls = {s: f"http://{own}:{port}" for s, port in ports.items()}
        http = ",".join(f"{own}:{port}" for port in ports.values())
        command = [*inside, BINARY, "node", "--service", ",".join(services), "--http", http]
        command += ["--data-dir", folder / "data", "--config", folder / "mocks3.toml"]
        with open(folder / "node.log", "ab") as log:
            self.process = subprocess.Popen(
                [*command, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**ENVIRONMENT, **env},
            )  # fmt: skip

    def __enter__(self):
        url = next(iter(self.urls.values())) + "/health"
        try:
            wait_until("it is healthy", lambda: self.curl(url)[0] == 200, 10)
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.process.send_signal(signal.SIGTERM)
                assert self.process.wait(20) == 0, self.log()[-2000:]
        finally:
            self.kill()

    def kill(self):
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def log(self):
        return (self.folder / "node.log").read_text()

    def curl(self, url, source=None, *options):
        """(status, body) of a request that comes from one of the network's addresses; status 0
        where nobody listens."""
        command = ["curl", "-s", "-m", "5", "-w", "\n%{http_code}"]
        command += ["--interface", source or self.own, *options, url]
        done = subprocess.run([*self.inside, *command], capture_output=True, text=True, timeout=10)
        assert done.returncode in (0, 7), done  # 7: refused
        body, _, status = done.stdout.rpartition("\n")
        return int(status), body
