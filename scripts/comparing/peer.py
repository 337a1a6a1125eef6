"""What a broker is to these scripts: where it is, how it is started, and what it promises.

Settings take away what would throttle a broker in a measurement and nothing else: bounds on messages in flight and in
queues, rate limits, delays of small packets, logging of every connection. Each gets as many threads as it has cores.
Whatever is set is written to a file or handed over in the environment, and the report shows both.
"""

from dataclasses import dataclass, field
from pathlib import Path

from .process import free_port
from .promise import Promise

# What is promised without any files.
IN_MEMORY = {Promise.MEMORY: "the broker has it"}
# The versions of TLS that is measured: the same for all, where a broker lets it be chosen.
TLS_CIPHER = "TLS_AES_256_GCM_SHA384"


@dataclass(frozen=True)
class Certificates:
    """Paths of PEM files: the broker's, its key, and the authority that clients trust."""

    certificate: Path
    key: Path
    authority: Path


@dataclass(frozen=True)
class Place:
    """Where a broker is to run, and as what."""

    folder: Path
    port: int
    cores: tuple
    promise: Promise = Promise.MEMORY
    # Whether there will be sessions that are kept; without, what would be stored for them may be in memory.
    is_durable: bool = False
    # With them it listens for TLS alone.
    certificates: Certificates | None = None

    def free_port(self):
        """One more, for what a broker does not do without."""
        return free_port()


@dataclass
class Start:
    """What to start in a folder of its own. The broker is the last command; what it needs beside it stands before it."""

    commands: list
    environment: dict = field(default_factory=dict)
    # Names of the files with settings in that folder.
    settings: list = field(default_factory=list)


class Peer:
    """A broker. It is stopped by SIGTERM, to all its processes, and SIGKILL if they stay."""

    name = ""
    # What it does not do, by feature, so that it is not asked to.
    lacks = {}
    # What an acknowledgement says, by the promises that it can be set up for.
    promises = IN_MEMORY
    # Until it answers a CONNECT, about.
    start_s = 1.0

    def install(self):
        """Makes sure that it is there, or raises Missing."""

    def is_there(self):
        """Without installing anything."""
        return True

    def look(self):
        """What it lacks and promises in the version that is there."""

    def version(self):
        raise NotImplementedError

    def start(self, place):
        """Writes the settings into the folder of the place and says what to start."""
        raise NotImplementedError
