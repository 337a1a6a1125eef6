"""Ringmq, from this repository."""

from ..install import TARGET, build_release, first_line
from ..peer import Peer, Start
from ..promise import Promise

POLICIES = {Promise.KILL: "interval", Promise.POWER: "always"}


class Ringmq(Peer):
    name = "ringmq"
    promises = {
        Promise.MEMORY: "the broker has it",
        Promise.KILL: "written for each session that is kept; flushed each second, which nobody waits for",
        Promise.POWER: "written and flushed for each session that is kept, many messages with one flush",
    }

    def install(self):
        build_release("ringmq")

    def is_there(self):
        return (TARGET / "release/ringmq").exists()

    def version(self):
        return first_line(TARGET / "release/ringmq", "--version")

    def start(self, place):
        # Nothing but where it listens, and that it has as many shards as cores.
        scheme, more = "", []
        if place.certificates:
            scheme = "mqtts://"
            more += ["--certificate", place.certificates.certificate, "--key", place.certificates.key, "--tls-version-min", "1.3"]
        if place.promise in POLICIES:
            more += ["--data-dir", "data", "--store-policy", POLICIES[place.promise]]
        return Start([[TARGET / "release/ringmq", "--listen", f"{scheme}127.0.0.1:{place.port}", "--shards", str(len(place.cores)), *more]])
