"""The brokers that are compared: how each is installed, configured and started.

Settings take away what would throttle a broker in a measurement and nothing else: bounds on messages in flight and in
queues, rate limits, delays of small packets, logging of every connection. Whatever is set is written to a file, which the
report shows.
"""

import getpass
import json
import os
import re
import subprocess
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PEERS = TARGET / "peers"
RINGLOAD = TARGET / "release/ringload"


class Missing(Exception):
    """A broker that cannot be installed, and why."""


@dataclass(frozen=True)
class Promise:
    """What a broker says with an acknowledgement, if it is set up to keep messages."""

    text: str
    # Survives a loss of power; only those that say so are compared with each other.
    is_flushed: bool = False


@dataclass
class Start:
    """What to start in a folder of its own."""

    commands: list
    environment: dict = field(default_factory=dict)
    # Names of the files with settings in that folder.
    settings: list = field(default_factory=list)


class Peer:
    """A broker. `lacks`: what it does not do, by feature, so that it is not asked to. `promise`: none if nothing survives
    its end. `is_durable`: whether it is to be started so that it keeps that promise."""

    lacks = {}
    promise = None
    is_durable = False

    def install(self):
        """Makes sure that it is there, or raises Missing."""

    def version(self):
        raise NotImplementedError

    def start(self, folder, port, cores, free_port):
        """Writes the settings into `folder` and says what to start."""
        raise NotImplementedError


class Ringmq(Peer):
    name = "ringmq"
    promise = Promise("written and flushed for each session that is kept, many messages with one flush", is_flushed=True)

    def install(self):
        build_release("ringmq")

    def version(self):
        return first_line(TARGET / "release/ringmq", "--version")

    def start(self, folder, port, cores, free_port):
        # Nothing but where it listens, and that it has as many shards as cores.
        kept = ["--data-dir", "data"] * self.is_durable
        return Start([[TARGET / "release/ringmq", "--listen", f"127.0.0.1:{port}", "--shards", str(len(cores)), *kept]])


class Mosquitto(Peer):
    name = "mosquitto"
    promise = Promise("the broker has it; everything is written to a file each second, which nobody waits for")

    def install(self):
        debian("mosquitto")

    def program(self):
        return "mosquitto"

    def version(self):
        return first_line(self.program(), "-h", code=3)

    def start(self, folder, port, cores, free_port):
        write(folder / "mosquitto.conf", f"""\
            listener {port} 127.0.0.1
            allow_anonymous true
            # Changing the user, as it does for root, would let it outlive this script if that is killed.
            user {getpass.getuser()}
            # The defaults are 20 in flight and 1,000 waiting, above which it drops. Far more in flight makes it slower: it
            # goes through them for each acknowledgement.
            max_inflight_messages 1000
            max_queued_messages 0
            set_tcp_nodelay true
            persistence {str(self.is_durable).lower()}
            autosave_interval 1
            log_type error
            log_type warning
            """)
        return Start([[self.program(), "-c", "mosquitto.conf"]], settings=["mosquitto.conf"])


class MosquittoCurrent(Mosquitto):
    """A newer release than Debian's: it takes five times the memory for each connection, and less CPU in some scenarios."""

    name = "mosquitto-2.1"

    def install(self):
        if not which(self.name):
            raise Missing(f"it is in none of the registries: build 2.1 from https://mosquitto.org, and put it into the PATH as {self.name}")

    def program(self):
        return self.name


class Rumqttd(Peer):
    name = "rumqttd"
    pinned = "0.20.0"
    lacks = {"mqtt5": "one listener speaks 3.1.1 or 5.0, not both"}

    def install(self):
        # Its lock file names versions that today's compiler refuses.
        cargo_install("rumqttd", self.pinned, is_locked=False)

    def version(self):
        return f"rumqttd {self.pinned}"

    def start(self, folder, port, cores, free_port):
        write(folder / "rumqttd.toml", f"""\
            id = 0
            [router]
            id = 0
            max_connections = 100000
            max_outgoing_packet_count = 200
            max_segment_size = 104857600
            max_segment_count = 10
            [v4.1]
            name = "v4-1"
            listen = "127.0.0.1:{port}"
            # 1 ms, the default, lets in 1,000 connections per second.
            next_connection_delay_ms = 0
            [v4.1.connections]
            connection_timeout_ms = 60000
            # The default refuses payloads above 20,480 bytes.
            max_payload_size = 268435455
            max_inflight_count = 65535
            dynamic_filters = true
            """)
        return Start([[PEERS / "bin/rumqttd", "--config", "rumqttd.toml"]], settings=["rumqttd.toml"])


class Rmqttd(Peer):
    name = "rmqttd"
    pinned = "0.24.0"

    def install(self):
        debian("protobuf-compiler")
        cargo_install("rmqttd", self.pinned, is_locked=True)

    def version(self):
        return f"rmqttd {self.pinned}"

    def start(self, folder, port, cores, free_port):
        (folder / "plugins").mkdir()
        write(folder / "rmqtt.toml", f"""\
            # It refuses connections and messages on a machine that it believes to be busy.
            node.busy.check_enable = false
            rpc.server_addr = "127.0.0.1:{free_port()}"
            plugins.dir = "plugins"
            # Not measured, and it listens for all the world.
            plugins.disabled_default_startups = ["rmqtt-http-api"]
            log.to = "console"
            log.level = "warn"
            [listener.tcp.external]
            addr = "127.0.0.1:{port}"
            allow_anonymous = true
            max_connections = 1024000
            max_handshaking_limit = 100000
            nodelay = true
            backlog = 4096
            # The defaults are 16 in flight, 1,000 waiting, and 1,000 per second out of the queue.
            max_inflight = 65535
            max_mqueue_len = 1000000
            mqueue_rate_limit = "1000000000,1s"
            max_packet_size = "1M"
            # The default forgets messages after 5 minutes.
            message_expiry_interval = "0s"
            """)
        return Start([[PEERS / "bin/rmqttd", "-f", "rmqtt.toml"]], settings=["rmqtt.toml"])


class Nats(Peer):
    name = "nats"
    promise = Promise("written and flushed, one message at a time", is_flushed=True)
    lacks = {"mqtt5": "speaks 3.1.1 alone", "shared": "has no shared subscriptions for MQTT"}

    def install(self):
        if not which("nats-server"):
            debian("nats-server")
        if self.number() < (2, 10):
            self.lacks = self.lacks | {"qos2": "has no QoS 2 before 2.10"}
        if self.is_durable and self.number() < (2, 10):
            raise Missing("it has no `sync_interval: always` before 2.10: put a newer nats-server into the PATH")

    def number(self):
        found = re.search(r"(\d+)\.(\d+)", self.version())
        return tuple(map(int, found.groups()))

    def version(self):
        return first_line("nats-server", "--version")

    def start(self, folder, port, cores, free_port):
        # Before 2.10 the key is not known.
        sync = ', sync_interval: "always"' if self.is_durable else ""
        write(folder / "nats.conf", f"""\
            listen: "127.0.0.1:{free_port()}"
            server_name: compare
            max_connections: 100000
            # Sessions and QoS 1 messages are in JetStream, in files; it waits for the disk with `always` alone.
            jetstream {{ store_dir: "jetstream"{sync} }}
            mqtt {{
              listen: "127.0.0.1:{port}"
              # In flight for each subscription, 1,024 by default. All of a client together may have 65,535, and one with
              # a wildcard counts twice.
              max_ack_pending: 16000
              consumer_memory_storage: {str(not self.is_durable).lower()}
            }}
            """)
        return Start([["nats-server", "--config", "nats.conf"]], settings=["nats.conf"])


class RabbitMq(Peer):
    name = "rabbitmq"
    promise = Promise("in the log of a quorum queue with one member, flushed, many messages with one flush", is_flushed=True)
    lacks = {
        "mqtt5": "speaks 3.1.1 alone before 3.13",
        "qos2": "answers QoS 2 with QoS 1",
        "shared": "has no shared subscriptions",
    }

    def install(self):
        debian("rabbitmq-server")

    def version(self):
        shown = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"], capture_output=True, text=True)
        return f"RabbitMQ {shown.stdout}"

    def start(self, folder, port, cores, free_port):
        amqp, epmd, distribution = free_port(), free_port(), free_port()
        write(folder / "rabbitmq.conf", f"""\
            listeners.tcp.1 = 127.0.0.1:{amqp}
            mqtt.listeners.tcp.1 = 127.0.0.1:{port}
            mqtt.allow_anonymous = true
            # The default is 10 in flight.
            mqtt.prefetch = 65535
            mqtt.durable_queue_type = {"quorum" if self.is_durable else "classic"}
            mqtt.tcp_listen_options.nodelay = true
            mqtt.tcp_listen_options.backlog = 4096
            log.console.level = warning
            """)
        write(folder / "enabled_plugins", "[rabbitmq_mqtt].\n")
        environment = {
            "HOME": str(folder),
            "RABBITMQ_NODENAME": "compare@localhost",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_NODE_PORT": str(amqp),
            "RABBITMQ_DIST_PORT": str(distribution),
            "ERL_EPMD_PORT": str(epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        # The wrapper that is in the path changes to a user of its own. Without an epmd beside it, Erlang would leave one
        # behind.
        return Start([["epmd", "-port", str(epmd)], ["/usr/lib/rabbitmq/bin/rabbitmq-server"]], environment,
                     ["rabbitmq.conf", "enabled_plugins"])


class Aedes(Peer):
    name = "aedes"
    pinned = "1.2.0"
    lacks = {"mqtt5": "speaks 3.1.1 alone", "shared": "has no shared subscriptions"}

    def install(self):
        if not which("node") or not which("npm"):
            debian("nodejs", "npm")
        folder = PEERS / "aedes"
        installed = folder / "node_modules/aedes/package.json"
        if installed.exists() and json.loads(installed.read_text())["version"] == self.pinned:
            return
        say(f"installing aedes {self.pinned}")
        folder.mkdir(parents=True, exist_ok=True)
        attempt(["npm", "install", "--prefix", folder, "--silent", "--no-audit", "--no-fund", f"aedes@{self.pinned}"])

    def version(self):
        return f"aedes {self.pinned}, Node {first_line('node', '--version')}"

    def start(self, folder, port, cores, free_port):
        write(folder / "aedes.mjs", f"""\
            import {{ createRequire }} from "node:module";
            import net from "node:net";
            const require = createRequire({json.dumps(str(PEERS / "aedes") + "/")});
            const {{ Aedes }} = require("aedes");
            // The default delivers 100 messages at a time.
            const broker = await Aedes.createBroker({{ concurrency: 100000 }});
            net.createServer({{ noDelay: true }}, broker.handle).listen({port}, "127.0.0.1", 4096);
            """)
        return Start([["node", "aedes.mjs"]], settings=["aedes.mjs"])


class FlashMq(Peer):
    name = "flashmq"
    promise = Promise("the broker has it; everything is written to files each five minutes, which it allows at the soonest")

    def install(self):
        if not which("flashmq"):
            raise Missing("it is in none of the registries: build it from https://www.flashmq.org, and put it into the PATH")

    def version(self):
        return first_line("flashmq", "--version")

    def start(self, folder, port, cores, free_port):
        (folder / "state").mkdir()
        write(folder / "flashmq.conf", f"""\
            storage_dir state
            save_state_interval {300 if self.is_durable else 3600}
            log_level warning
            allow_anonymous true
            thread_count {len(cores)}
            # The defaults are 512 messages and 64 KiB; above, it drops.
            max_qos_msg_pending_per_client 65535
            max_qos_bytes_pending_per_client 1073741824
            listen {{
                protocol mqtt
                inet4_bind_address 127.0.0.1
                inet_protocol ip4
                port {port}
                # By default it waits for acknowledgements of TCP before it sends small packets: 44 ms at QoS 1 and 2.
                tcp_nodelay true
            }}
            """)
        return Start([["flashmq", "--config-file", "flashmq.conf"]], settings=["flashmq.conf"])


class Given(Peer):
    """A broker that the user has; starts with a command that has {port} in it."""

    def __init__(self, text):
        self.name, separator, self.command = text.partition("=")
        if not separator or "{port}" not in self.command or not re.fullmatch(r"[\w.+-]+", self.name):
            raise ValueError(f"`{text}` is not NAME=COMMAND with {{port}} in the command")

    def version(self):
        return self.command

    def start(self, folder, port, cores, free_port):
        command = self.command.replace("{port}", str(port)).replace("{cores}", str(len(cores)))
        return Start([["sh", "-c", f"exec {command}"]])


ALL = [Ringmq(), FlashMq(), Mosquitto(), MosquittoCurrent(), Rumqttd(), Rmqttd(), Nats(), RabbitMq(), Aedes()]


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


def which(name):
    return any(Path(folder, name).exists() for folder in os.environ["PATH"].split(":"))


def write(path, text):
    path.write_text(textwrap.dedent(text))


def say(text):
    print(f"   {text}", flush=True)
