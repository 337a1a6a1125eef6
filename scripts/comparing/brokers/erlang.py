"""Brokers in Erlang: RabbitMQ of Debian, and EMQX and VerneMQ as somebody has installed them."""

import getpass
import os
import re
import shutil
import subprocess
from pathlib import Path

from ..install import Missing, debian, find, lines, write
from ..peer import TLS_CIPHER, Peer, Start
from ..promise import Promise

# A release from nothing: code is loaded and compiled, and the database made.
START_S = 8.0


def flags(place):
    """As many schedulers as it has cores. They sleep when there is nothing to do: by default they turn for a while, which
    is CPU that no message costs. Other nodes are not listened for but on this machine."""
    count = len(place.cores)
    return f"+S {count}:{count} +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {{127,0,0,1}}"


class RabbitMq(Peer):
    name = "rabbitmq"
    start_s = START_S
    lacks = {
        "mqtt5": "speaks 3.1.1 alone before 3.13",
        "qos2": "answers QoS 2 with QoS 1",
        "shared": "has no shared subscriptions",
    }
    promises = {
        Promise.MEMORY: "the broker has it, in a classic queue",
        Promise.POWER: "in the log of a quorum queue with one member, flushed, many messages with one flush",
    }

    def install(self):
        debian("rabbitmq-server")

    def is_there(self):
        return Path("/usr/lib/rabbitmq/bin/rabbitmq-server").exists()

    def version(self):
        shown = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"], capture_output=True, text=True)
        return f"RabbitMQ {shown.stdout}"

    def start(self, place):
        folder, amqp, epmd = place.folder, place.free_port(), place.free_port()
        tls = place.certificates
        listens = [f"mqtt.listeners.tcp.1 = 127.0.0.1:{place.port}"]
        if tls:
            listens = ["mqtt.listeners.tcp = none", f"mqtt.listeners.ssl.1 = 127.0.0.1:{place.port}",
                       f"ssl_options.cacertfile = {tls.authority}", f"ssl_options.certfile = {tls.certificate}",
                       f"ssl_options.keyfile = {tls.key}", "ssl_options.verify = verify_none",
                       "ssl_options.fail_if_no_peer_cert = false", "ssl_options.versions.1 = tlsv1.3"]
        write(folder / "rabbitmq.conf", f"""\
            listeners.tcp.1 = 127.0.0.1:{amqp}
            {lines(listens, 12)}
            mqtt.allow_anonymous = true
            # The default is 10 in flight.
            mqtt.prefetch = 65535
            mqtt.durable_queue_type = {"quorum" if place.promise is Promise.POWER else "classic"}
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
            "RABBITMQ_DIST_PORT": str(place.free_port()),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": flags(place),
            "ERL_EPMD_PORT": str(epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        # The wrapper that is in the path changes to a user of its own. Without an epmd beside it, Erlang would leave one
        # behind.
        return Start([["epmd", "-port", str(epmd)], ["/usr/lib/rabbitmq/bin/rabbitmq-server"]], environment,
                     ["rabbitmq.conf", "enabled_plugins"])


class Emqx(Peer):
    """Set up by the environment, so that its own folder stays as it is."""

    name = "emqx"
    start_s = 15.0

    def install(self):
        if not self.is_there():
            raise Missing("it is in none of the registries: unpack an archive of https://www.emqx.com, and put its `emqx` into the PATH")
        user = variable(self.program(), "RUNNER_USER")
        if user and user != getpass.getuser():
            raise Missing(f"it is a package, which starts it as {user} without our settings: unpack an archive of https://www.emqx.com instead")

    def is_there(self):
        return self.program() is not None

    def program(self):
        return find("emqx", "/opt/emqx/bin/emqx")

    def version(self):
        return f"EMQX {variable(self.program(), 'REL_VSN') or 'unknown'}"

    def start(self, place):
        folder, tls = place.folder, place.certificates
        listener = "SSL" if tls else "TCP"
        settings = {
            "NODE__NAME": "emqx@127.0.0.1",
            "NODE__COOKIE": "compare",
            "NODE__DATA_DIR": folder / "data",
            "LOG_DIR": folder / "log",
            "LOG__CONSOLE__LEVEL": "warning",
            "LOG__FILE__ENABLE": "false",
            "RPC__LISTEN_ADDRESS": "127.0.0.1",
            "RPC__PORT_DISCOVERY": "manual",
            "RPC__TCP_SERVER_PORT": place.free_port(),
            "DASHBOARD__LISTENERS__HTTP__BIND": 0,
            **{f"LISTENERS__{kind}__DEFAULT__ENABLE": str(kind == listener).lower() for kind in ("TCP", "SSL", "WS", "WSS")},
            f"LISTENERS__{listener}__DEFAULT__BIND": f"127.0.0.1:{place.port}",
            f"LISTENERS__{listener}__DEFAULT__TCP_OPTIONS__NODELAY": "true",
            f"LISTENERS__{listener}__DEFAULT__TCP_OPTIONS__BACKLOG": 4096,
            # The defaults are 32 in flight and 1,000 waiting, above which it drops; 100 of QoS 2 from a client.
            "MQTT__MAX_INFLIGHT": 65535,
            "MQTT__MAX_MQUEUE_LEN": "infinity",
            "MQTT__MAX_AWAITING_REL": "infinity",
            # It ends clients with more than 1,000 messages in the mailbox of their process.
            "FORCE_SHUTDOWN__ENABLE": "false",
            "SYSMON__VM__LONG_SCHEDULE": "disabled",
        }
        if tls:
            settings |= {f"LISTENERS__SSL__DEFAULT__SSL_OPTIONS__{key}": value for key, value in (
                ("CACERTFILE", tls.authority), ("CERTFILE", tls.certificate), ("KEYFILE", tls.key),
                ("VERIFY", "verify_none"), ("VERSIONS", "[tlsv1.3]"), ("CIPHERS", f"[{TLS_CIPHER}]"))}
        environment = {f"EMQX_{key}": str(value) for key, value in settings.items()} | {"ERL_FLAGS": flags(place)}
        return Start([[self.program(), "foreground"]], environment)


class VerneMq(Peer):
    """Takes its settings from its own folder alone: a copy of that, in which all that is large is a link."""

    name = "vernemq"
    start_s = 12.0

    def install(self):
        program = self.program()
        if program is None:
            raise Missing("it is in none of the registries: build a release (`make rel`) of https://vernemq.com, and put its `vernemq` into the PATH")
        if not (root_of(program) / "etc/vernemq.conf").exists():
            raise Missing(f"{program} has its settings elsewhere, as packages do: it has to be a release of `make rel`, which may lie anywhere")

    def is_there(self):
        return self.program() is not None

    def program(self):
        return find("vernemq", "/opt/vernemq/bin/vernemq", "/vernemq/bin/vernemq")

    def version(self):
        """`14.2.5 2.2.0`: the version of Erlang and that of the release."""
        try:
            return f"VerneMQ {(root_of(self.program()) / 'releases/start_erl.data').read_text().split()[-1]}"
        except (OSError, IndexError):
            return "VerneMQ unknown"

    def start(self, place):
        root, home, tls = root_of(self.program()), place.folder / "vernemq", place.certificates
        home.mkdir()
        for entry in root.iterdir():
            if entry.name == "bin":
                # The script finds its folder by its own place.
                shutil.copytree(entry, home / "bin", symlinks=True)
            elif entry.name not in ("etc", "data", "log"):
                (home / entry.name).symlink_to(entry)
        for name in ("etc", "data", "log"):
            (home / name).mkdir()
        listens = [f"listener.tcp.default = 127.0.0.1:{place.port}"]
        if tls:
            listens = [f"listener.ssl.default = 127.0.0.1:{place.port}", f"listener.ssl.default.cafile = {tls.authority}",
                       f"listener.ssl.default.certfile = {tls.certificate}", f"listener.ssl.default.keyfile = {tls.key}",
                       "listener.ssl.default.tls_version = tlsv1.3"]
        write(home / "etc/vernemq.conf", f"""\
            nodename = compare@127.0.0.1
            distributed_cookie = compare
            {lines(accepted(root) + listens, 12)}
            listener.vmq.clustering = 127.0.0.1:{place.free_port()}
            listener.http.default = 127.0.0.1:{place.free_port()}
            listener.max_connections = infinity
            allow_anonymous = on
            plugins.vmq_passwd = off
            plugins.vmq_acl = off
            # The defaults are 20 in flight and 1,000 waiting, above which it drops.
            max_inflight_messages = 0
            max_online_messages = -1
            max_offline_messages = -1
            tcp_listen_options = [{{nodelay, true}}, {{backlog, 4096}}]
            log.console = console
            log.console.level = warning
            """)
        environment = {"ERL_FLAGS": flags(place), "HOME": str(place.folder)}
        return Start([[home / "bin/vernemq", "console", "-noshell", "-noinput"]], environment, ["vernemq/etc/vernemq.conf"])


def variable(program, name):
    """Of those that the start script of EMQX reads; nothing if it is not set."""
    try:
        said = (root_of(program) / "releases/emqx_vars").read_text()
    except OSError:
        return None
    found = re.search(rf'^{name}="?([^"\s]+)', said, re.MULTILINE)
    return found and found[1]


def accepted(root):
    """Packages of VerneMQ need their licence accepted, which nobody but the user can do; others do not know the setting."""
    return re.findall(r"^ *accept_eula *= *\S+", (root / "etc/vernemq.conf").read_text(), re.MULTILINE)


def root_of(program):
    return Path(os.path.realpath(program)).parent.parent
