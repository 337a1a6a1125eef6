"""A broker with a data directory that is killed."""

import os
import subprocess
import time

from comparing.process import free_port

from .clients import DISCONNECT, Client, Gone

READY_MAX_S = 30
LOG_SHOWN = 4000


class NoStart(Exception):
    """It ended, or does not listen; says why, as far as its log knows."""


class Broker:
    """Answers clients when it is made."""

    def __init__(self, program, data_dir, log, shards, options=(), environment=None):
        self.port, self.shards, self.log = free_port(), shards, log
        command = [program, "--listen", f"127.0.0.1:{self.port}", "--data-dir", data_dir, "--shards", shards,
                   "--queued-messages-max", "1000000", "--queued-bytes-max", "1GiB", *options]
        with log.open("ab") as file:
            # Dies with this script, and not before it by a Ctrl-C that is meant for the script.
            self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *map(str, command)], stdin=subprocess.DEVNULL,
                                            stdout=file, stderr=file, env=os.environ | (environment or {}), start_new_session=True)
        try:
            self.ready_s = self.wait_until_ready()
        except BaseException:
            self.kill()
            raise

    def wait_until_ready(self):
        began = time.monotonic()
        while time.monotonic() < began + READY_MAX_S:
            if self.process.poll() is not None:
                raise NoStart(f"the broker ended with {self.process.returncode}:\n{self.last_words()}")
            try:
                probe = Client("probe", clean=True)
                probe.connect(self.port)
                probe.send(DISCONNECT)
                probe.close()
                return time.monotonic() - began
            except Gone:
                time.sleep(0.01)  # There is no event for "listens".
        raise NoStart(f"not ready after {READY_MAX_S} s:\n{self.last_words()}")

    def last_words(self):
        return self.log.read_text(errors="replace")[-LOG_SHOWN:]

    def kill(self):
        self.process.kill()
        self.process.wait()

