"""What stands beside each other has to promise the same: what an acknowledgement is worth, and how the bytes are protected."""

import enum
from dataclasses import dataclass


class Promise(enum.Enum):
    """What an acknowledgement of QoS 1 or 2 says, the weakest first."""

    MEMORY = ("memory", "the broker has it, in memory", "no", "no")
    LATER = ("later", "the broker has it; a file is written later, which nobody waits for", "what the file has", "what the file has")
    KILL = ("kill", "written to a file, not flushed", "yes", "no")
    POWER = ("power", "written to a file and flushed", "yes", "yes")

    def __init__(self, key, text, survives_kill, survives_power):
        self.key = key
        self.text = text
        self.survives_kill = survives_kill
        self.survives_power = survives_power

    @property
    def rank(self):
        return list(Promise).index(self)


@dataclass(frozen=True)
class Terms:
    """Runs are compared if these are equal. `tls`: version and cipher, empty without TLS."""

    promise: Promise
    tls: str = ""

    @property
    def order(self):
        return self.promise.rank, self.tls

    def text(self):
        said = f"acknowledged when {self.promise.text}" if self.promise is not Promise.MEMORY else "acknowledged in memory"
        return f"{said}; {self.tls}" if self.tls else said


@dataclass(frozen=True)
class Entrant:
    """A broker, set up to keep a promise."""

    peer: object
    promise: Promise
    name: str

    def promise_at(self, qos):
        """QoS 0 has no acknowledgements: it promises the same everywhere."""
        return self.promise if qos else Promise.MEMORY


def entrants(peers, is_durable):
    """Without `is_durable` each broker promises as little as it can, as fast brokers do by default; with it, all that
    outlives the process, each promise by itself."""
    found = []
    for peer in peers:
        kept = sorted(peer.promises, key=lambda promise: promise.rank)
        if not is_durable:
            found.append(Entrant(peer, kept[0], peer.name))
            continue
        found += [Entrant(peer, promise, f"{peer.name}-{promise.key}") for promise in kept if promise is not Promise.MEMORY]
    return found
