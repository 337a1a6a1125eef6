"""Processes that end: brokers and load generators, pinned to cores, gone whatever happens to the script."""

import os
import random
import resource
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

START_MAX_S = 60
STOP_MAX_S = 10
LOG_SHOWN = 2000


class NoStart(Exception):
    """A broker that does not listen; says why, as far as its log knows."""


class Broker:
    """A broker of our own: listens when the block begins, has ended with all its processes when it ends."""

    def __init__(self, commands, port, cores, folder, environment=None):
        """`commands`: the broker is the last one, what it needs beside it stands before it."""
        self.port = port
        self._commands = [pinned(cores, command) for command in commands]
        self._folder = folder
        self._environment = os.environ | (environment or {})
        self._processes = []
        self.log = folder / "broker.log"

    def __enter__(self):
        try:
            with self.log.open("wb") as log:
                for command in self._commands:
                    # A session of its own: everything that it starts is found by it, and ended with it.
                    self._processes.append(subprocess.Popen(
                        command, cwd=self._folder, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                        start_new_session=True))
            self._wait_until_it_listens()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait_until_it_listens(self):
        deadline = time.monotonic() + START_MAX_S
        while time.monotonic() < deadline and self._processes[-1].poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)  # There is no event for "listens".
        code = self._processes[-1].poll()
        why = f"ended with {code}" if code is not None else f"does not listen after {START_MAX_S} s"
        raise NoStart(f"{shlex.join(self._commands[-1])}\n{why}; its log ends with:\n{self.said()}")

    def pids(self):
        """All processes of the broker, what it started included, without what stands beside it."""
        return session_pids(self._processes[-1].pid)

    def is_alive(self):
        return self._processes[-1].poll() is None

    def said(self):
        """The end of its log."""
        return self.log.read_text(errors="replace").strip()[-LOG_SHOWN:] or "(nothing)"

    def __exit__(self, *_):
        sessions = [process.pid for process in self._processes]
        for how, wait_s in ((signal.SIGTERM, STOP_MAX_S), (signal.SIGKILL, STOP_MAX_S)):
            for pid in [pid for session in sessions for pid in session_pids(session)]:
                end(pid, how)
            deadline = time.monotonic() + wait_s
            while time.monotonic() < deadline and any(map(session_pids, sessions)):
                for process in self._processes:
                    process.poll()
                time.sleep(0.02)
        for process in self._processes:
            process.wait()


def end(pid, how):
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        pass


def session_pids(session):
    """Processes of a session that have not ended; its leader first."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            found.append(int(pid))
    return sorted(found, key=lambda pid: (pid != session, pid))


def pinned(cores, command):
    """The command on these cores alone. Dies with this script, even if that is killed."""
    return ["setpriv", "--pdeathsig", "KILL", "taskset", "--cpu-list", cores, *map(str, command)]


def free_port():
    """A port that no connection gets by itself: whoever asks again and again whether somebody listens on an ephemeral port
    may be connected to itself, and then nobody can listen there."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(lowest // 2, lowest)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def end_like_ctrl_c():
    """SIGTERM and SIGHUP unwind the script as Ctrl-C does, so that every block ends what it started."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


def run(main):
    """Runs the script; Ctrl-C ends it without a trace of the stack."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nended early", file=sys.stderr)
        sys.exit(130)


def open_many_files():
    """As many files for this script and its children as the system lets us have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
