"""How brokers and our own programs get onto the machine, and where they are looked for."""

import os
import shutil
import subprocess
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PEERS = TARGET / "peers"
RINGLOAD = TARGET / "release/ringload"


class Missing(Exception):
    """A broker that cannot be installed, and why."""


def cargo(*words):
    attempt(["cargo", *words], cwd=ROOT, is_shown=True)


def build_release(*programs):
    """Builds programs of ours as they are released."""
    missing = [name for name in programs if not (TARGET / "release" / name).exists()]
    if missing:
        say(f"building {' and '.join(missing)} with optimisation across all crates: about four minutes the first time")
    for name in programs:
        cargo("build", "--release", "--package", name, "--bin", name)


def cargo_install(name, version, is_locked):
    if first_line("cargo", "install", "--list", "--root", PEERS, all_lines=True).find(f"{name} v{version}:") >= 0:
        return
    say(f"building {name} {version}, which takes some minutes")
    locked = ["--locked"] * is_locked
    attempt(["cargo", "install", *locked, "--root", PEERS, "--target-dir", PEERS / "build", f"{name}@{version}"], is_shown=True)


def debian(*packages):
    """Installs packages without starting the services in them: those would stand in our way."""
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status} "]
    missing = [p for p in packages
               if subprocess.run(query + [p], capture_output=True, text=True).stdout.strip() != "installed"]
    if not missing:
        return
    say(f"installing {' '.join(missing)}")
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    script = """
        policy=/usr/sbin/policy-rc.d
        if [ ! -e $policy ]; then
            trap "rm -f $policy" EXIT
            printf '#!/bin/sh\\nexit 101\\n' >$policy && chmod 755 $policy
        fi
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
        """
    attempt([*as_root, "sh", "-c", script, "sh", *missing])


def attempt(command, cwd=None, is_shown=False):
    """Runs a step of an installation; what it says is shown when it fails."""
    output = None if is_shown else subprocess.PIPE
    try:
        done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output and subprocess.STDOUT)
    except FileNotFoundError as error:
        raise Missing(f"there is no {error.filename}") from None
    if done.returncode != 0:
        text = (done.stdout or b"").decode(errors="replace").strip()
        raise Missing(f"`{' '.join(map(str, command[:3]))} …` ended with {done.returncode}: {text[-1500:]}")


def first_line(*command, code=0, all_lines=False):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode not in (0, code):
        return "unknown"
    return done.stdout if all_lines else done.stdout.partition("\n")[0].strip()


def find(name, *places):
    """A program, in the PATH or at one of these places; nothing if it is nowhere."""
    if found := shutil.which(name):
        return Path(found)
    return next((Path(place) for place in places if os.access(place, os.X_OK)), None)


def which(name):
    return find(name) is not None


def write(path, text):
    path.write_text(textwrap.dedent(text))


def lines(texts, indentation):
    """More of them for `write`, from a place with this indentation on."""
    return ("\n" + " " * indentation).join(texts)


def say(text):
    print(f"   {text}", flush=True)
