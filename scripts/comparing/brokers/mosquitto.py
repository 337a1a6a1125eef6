"""Eclipse Mosquitto: Debian's, and any other version that lies beside it under a name of its own."""

import getpass
import os
import re
from pathlib import Path

from ..install import Missing, debian, find, first_line, lines, write
from ..peer import TLS_CIPHER, Peer, Start
from ..promise import Promise

# Debian puts it where only root looks for programs.
PLACE = "/usr/sbin/mosquitto"
CURRENT = "mosquitto-2.1"


class Mosquitto(Peer):
    name = "mosquitto"
    promises = {
        Promise.MEMORY: "the broker has it",
        Promise.LATER: "the broker has it; everything is written to a file each second, which nobody waits for",
    }

    def install(self):
        debian("mosquitto")

    def is_there(self):
        return self.program() is not None

    def program(self):
        return find("mosquitto", PLACE)

    def version(self):
        return first_line(self.program(), "-h", code=3)

    def start(self, place):
        tls = place.certificates
        keys = [f"certfile {tls.certificate}", f"keyfile {tls.key}", "tls_version tlsv1.3", f"ciphers_tls1.3 {TLS_CIPHER}"] if tls else []
        # Changing the user, as it does for root, would let it outlive this script if that is killed.
        write(place.folder / "mosquitto.conf", f"""\
            listener {place.port} 127.0.0.1
            allow_anonymous true
            user {getpass.getuser()}
            # The defaults are 20 in flight and 1,000 waiting, above which it drops. Far more in flight makes it slower: it
            # goes through them for each acknowledgement.
            max_inflight_messages 1000
            max_queued_messages 0
            set_tcp_nodelay true
            persistence {str(place.promise is Promise.LATER).lower()}
            autosave_interval 1
            log_type error
            log_type warning
            {lines(keys, 12)}
            """)
        return Start([[self.program(), "-c", "mosquitto.conf"]], settings=["mosquitto.conf"])


class MosquittoNamed(Mosquitto):
    """Of another version, `mosquitto-VERSION` in the PATH. 2.1 takes five times the memory of 2.0.11 for each connection,
    and less CPU in some scenarios."""

    def __init__(self, name):
        self.name = name

    def install(self):
        if not self.program():
            raise Missing(f"it is in none of the registries: build it from https://mosquitto.org, and put it into the PATH as {self.name}")

    def program(self):
        return find(self.name)


def versions():
    """All that are in the PATH, and the current one, which everybody should know of."""
    found = {CURRENT}
    for folder in os.environ.get("PATH", "").split(":"):
        found.update(path.name for path in Path(folder or ".").glob("mosquitto-[0-9]*")
                     if re.fullmatch(r"mosquitto-\d[\w.]*", path.name) and os.access(path, os.X_OK))
    return [MosquittoNamed(name) for name in sorted(found)]
