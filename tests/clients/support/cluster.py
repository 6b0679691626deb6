"""A cluster as a user starts it: `mocks3 up` as a child process, watched from outside.

Used by conftest.py and by the tests that start a cluster of their own. Knows nothing of the
program but its command line, its HTTP endpoints and its signals.

Invariants: a cluster that was started is stopped, whatever the test did; after stop no process
of it is left; the log of `up` (and of its children, which inherit it) stays in
target/client-tests, the data too unless every test that used it passed or they are very large.
"""

import contextlib
import fcntl
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
BINARY = pathlib.Path(os.environ.get("PROGRAM", ROOT / "target" / "release" / "mocks3"))
WORK = ROOT / "target" / "client-tests"
# Nothing of the caller's own settings may reach the program under test.
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("MOCKS3_")}
ACCESS_KEY = "mocks3"
SECRET_KEY = "mocks3-dev-secret"
SERVICES = ["metadata", "storage", "queue", "third-party", "mock-error"]
DEFAULT_SCALE = {"metadata": 1, "storage": 3, "queue": 1, "third-party": 1, "mock-error": 1}
READY_SECONDS = 30
HEAL_SECONDS = 10
STOP_SECONDS = 20
# Data of failed tests stay for a look at them, but must not fill the disk.
KEPT_AT_MOST = 1 << 30
# Blocks of ports for `--ports`, away from the default ones and from the ephemeral range.
# below those that `up` chooses from for further instances (20000 and more)
PORT_BLOCKS = range(12000, 20000, 20)


def wait_until(what, condition, seconds, interval=0.05):
    """Polls `condition` until it gives something true and returns that, or fails naming `what`.

    An exception in the condition counts as "not yet"; the last one is shown on failure.
    """
    deadline = time.monotonic() + seconds
    last = None
    while time.monotonic() < deadline:
        try:
            value = condition()
            if value:
                return value
            last = value
        except Exception as error:  # noqa: BLE001 - reported below if it is the last word
            last = error
        time.sleep(interval)
    raise AssertionError(f"not within {seconds} s: {what} (last: {last!r})")


class PortBlock:
    """Twenty ports of our own: held by a file lock, so that parallel workers never share one."""

    def __init__(self):
        # one place for all checkouts of this user
        folder = pathlib.Path(tempfile.gettempdir()) / f"mocks3-test-ports-{os.getuid()}"
        folder.mkdir(parents=True, exist_ok=True)
        for base in PORT_BLOCKS:
            lock = open(folder / str(base), "w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.close()
                continue
            if all(port_is_free(base + offset) for offset in range(len(SERVICES))):
                self.base, self._lock = base, lock
                return
            lock.close()
        raise AssertionError("no free block of ports")

    def release(self):
        self._lock.close()


def port_is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def mocks3(*arguments, timeout=20, env=None, cwd=None):
    """Runs a short mocks3 command to its end."""
    return subprocess.run(
        [BINARY, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**ENVIRONMENT, **(env or {})},
        cwd=cwd,
    )


def get(url, path="", timeout=2.0, method="GET", headers=None):
    """One unsigned request; gives (status, headers with lower-case names, body)."""
    host, port = url.removeprefix("http://").rstrip("/").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    try:
        connection.request(method, path or "/", headers=headers or {})
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def alive(pid):
    """Whether a process runs; a zombie that nobody has reaped yet counts as gone, but not before
    its last thread is: until then its ports are taken."""
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        threads = len(os.listdir(f"/proc/{pid}/task"))
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z" or threads > 1


def stopped(pid):
    """Whether all threads of a process stand still after a SIGSTOP."""
    states = [stat.read_text() for stat in pathlib.Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(stat.rpartition(")")[2].split()[0] == "T" for stat in states)


def descendants(pid):
    """The ids of all living processes below `pid`."""
    parents = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
    found, front = [], [pid]
    while front:
        front = [child for child, parent in parents.items() if parent in front]
        found += front
    return [child for child in found if alive(child)]


def size_on_disk(folder):
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class Cluster:
    """One `mocks3 up` and everything it started."""

    def __init__(self, name, scale=None, config=None, arguments=(), env=None, scale_suffix="",
                 disk=None):
        self.name = name
        self.scale = {**DEFAULT_SCALE, **(scale or {})}
        self.folder = WORK / f"{name}-{os.getpid()}-{time.time_ns() % 10**9:09}"
        self.data = self.folder / "data"
        self.log = self.folder / "up.log"
        self.scale_suffix = scale_suffix
        self.arguments = list(arguments)
        self.env = env or {}
        self.disk = disk  # a size such as "320m": its data are on a file system of their own
        self.ports = PortBlock()
        self.base = self.ports.base
        self.process = None
        self._log_start = 0
        self.unclean = False  # set where a test wants the data kept
        self.folder.mkdir(parents=True)
        if config is not None:
            (self.folder / "mocks3.toml").write_text(config)
            self.arguments += ["--config", str(self.folder / "mocks3.toml")]

    # -- addresses -------------------------------------------------------------------------

    def url(self, service):
        """The HTTP address of the first instance of a service."""
        return f"http://127.0.0.1:{self.base + SERVICES.index(service)}"

    @property
    def s3(self):
        return self.url("storage")

    # -- life ------------------------------------------------------------------------------

    def start(self, *arguments, wait=True):
        command = [BINARY, "up", "--data-dir", self.data, "--ports", str(self.base)]
        if self.disk:
            mount = f'mkdir -p "$0" && mount -t tmpfs -o size={self.disk} none "$0" && exec "$@"'
            command = ["unshare", "-m", "sh", "-c", mount, self.data, *command]
        if self.scale != DEFAULT_SCALE:
            command += ["--scale", ",".join(self.scale_texts())]
        command += [*self.arguments, *arguments]
        with open(self.log, "ab") as log:
            self._log_start = log.tell()
            log.write(f"$ {' '.join(map(str, command))}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**ENVIRONMENT, **self.env},
                # its own process group, so that a Ctrl-C on the test run reaches only pytest
                start_new_session=True,
            )
        if wait:
            self.wait_healthy(READY_SECONDS)
            # A death before `up` has said that all is well counts as a failed start, rightly so.
            wait_until("`up` prints the endpoint", self.said_endpoint, HEAL_SECONDS)
        return self

    def said_endpoint(self):
        return self.s3.encode() in self.log.read_bytes()[self._log_start :]

    def scale_texts(self):
        return [f"{name}{self.scale_suffix}={count}" for name, count in self.scale.items()]

    def wait_healthy(self, seconds=HEAL_SECONDS):
        """Until every service answers /health and every node sees every wanted instance."""
        return wait_until("cluster is healthy", self.healthy, seconds)

    def healthy(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"`up` ended with {self.process.returncode}: {self.log_tail(5)}")
        members = self.members()
        count = {service: 0 for service in SERVICES}
        for member in members:
            status, _, body = get(member["http_url"], "/health")
            if (
                member["state"] != "live"
                or status != 200
                or json.loads(body)["status"] != "healthy"
            ):
                return False
            count[short(member["service"])] += 1
        return members if count == self.scale and self.agreed(members) else False

    def agreed(self, members):
        """Whether each member sees all of them: a request may go to any."""
        wanted = {member["instance"] for member in members}
        for url in {member["http_url"] for member in members}:
            seen = json.loads(get(url, "/api/v1/cluster")[2])["members"]
            if not wanted <= {m["instance"] for m in seen if m["state"] == "live"}:
                return False
        return True

    def members(self):
        """The live members as `mocks3 status --json` sees them, asked of any node that answers."""
        for service in SERVICES:
            done = mocks3("status", "--json", "--url", self.url(service))
            if done.returncode == 0:
                return json.loads(done.stdout)["members"]
        raise RuntimeError(f"status: exit code {done.returncode}: {done.stderr.strip()}")

    def members_of(self, service):
        return [m for m in self.members() if short(m["service"]) == service]

    def s3_urls(self):
        """The S3 endpoints of all storage instances, the first instance's (8082's) first."""
        urls = [m["s3_url"].rstrip("/") for m in self.members_of("storage")]
        return sorted(urls, key=lambda url: (url != self.s3, url))

    def stop(self):
        """Ctrl-C: must end everything in order, with exit code 0 and nobody left."""
        if self.process is None:
            return
        family = descendants(self.process.pid)
        self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"`up` did not stop within {STOP_SECONDS} s after SIGINT"
            ) from None
        self.process = None
        left = [pid for pid in family if alive(pid)]
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert code == 0, f"`up` ended with {code} after SIGINT: {self.log_tail(20)}"
        assert not left, f"processes left after `up` had ended: {left}"

    def kill(self):
        """kill -9 of everything at once, as a power cut would."""
        if self.process is None:
            return
        family = descendants(self.process.pid)
        for pid in [self.process.pid, *family]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.process = None
        # their ports and locks are free only when they are gone
        wait_until("all are gone", lambda: not any(map(alive, family)), STOP_SECONDS, 0.005)

    def close(self, keep=False):
        """The end of a fixture: stops the cluster if it still runs, keeps or drops its data."""
        try:
            self.stop()
        except BaseException:
            keep = True
            raise
        finally:
            self.kill()
            self.ports.release()
            wanted = keep or self.unclean
            if not wanted or size_on_disk(self.data) > KEPT_AT_MOST:
                shutil.rmtree(self.data, ignore_errors=True)

    def log_tail(self, lines=40):
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    # -- damage ----------------------------------------------------------------------------

    def kill_member(self, member):
        os.kill(member["pid"], signal.SIGKILL)

    @contextlib.contextmanager
    def frozen(self, *members):
        """The members stopped with SIGSTOP for as long as the block runs."""
        for member in members:
            os.kill(member["pid"], signal.SIGSTOP)
        try:
            for member in members:  # a signal takes a moment to reach all threads
                wait_until("it stands still", lambda pid=member["pid"]: stopped(pid), 5, 0.002)
            yield
        finally:
            for member in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member["pid"], signal.SIGCONT)


class Foreground:
    """Runs a function again and again in threads until the block ends; collects what it did.

    The function gets a running number and returns nothing; exceptions are counted, not raised.
    """

    def __init__(self, work, threads=4):
        self.work, self.errors = work, []
        self._stop = threading.Event()
        self._next = iter(range(10**9))
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def _run(self):
        while not self._stop.is_set():
            with self._lock:
                number = next(self._next)
            try:
                self.work(number)
            except Exception as error:  # noqa: BLE001 - the cluster is being hurt on purpose
                self.errors.append(error)
                self._stop.wait(0.05)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=60)
        stuck = [thread for thread in self._threads if thread.is_alive()]
        assert not stuck, f"{len(stuck)} requests hang for more than 60 s"


def short(service):
    return service.removesuffix("-service")
