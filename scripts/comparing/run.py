"""One run of ringload against a broker."""

import subprocess

from .machine import parse_cores
from .install import RINGLOAD, ROOT
from .process import pinned


class Failed(Exception):
    """A run without a result, and why."""


def load(cores, scenario, path, label, broker, authority=None):
    """Runs the scenario file; afterwards the result is at `path`, and the histograms beside it. With an authority, whose
    certificate is in that file, over TLS."""
    scheme, trust = ("mqtts://", ["--tls", authority]) if authority else ("", [])
    command = pinned(cores, [
        RINGLOAD, "run", scenario, "--target", f"{scheme}127.0.0.1:{broker.port}", *trust, "--label", label, "--no-sys", "--quiet",
        "--threads", len(parse_cores(cores)), "--cores", cores, "--pid", ",".join(map(str, broker.pids())),
        "--json", path, "--histograms", path.with_suffix(".hlog")])
    # A run that is repeated leaves nothing of the one before.
    path.unlink(missing_ok=True)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if not path.exists():
        raise Failed(f"ringload ended with {done.returncode}: {done.stdout.strip()[-500:]}")
    # Where the repository lies on this machine is nobody's business.
    path.write_text(path.read_text().replace(f"{ROOT}/", ""))
