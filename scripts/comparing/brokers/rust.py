"""rumqttd and rmqttd, from crates.io."""

from ..install import PEERS, cargo_install, debian, lines, write
from ..peer import Peer, Start


class Rumqttd(Peer):
    name = "rumqttd"
    pinned = "0.20.0"
    lacks = {"mqtt5": "one listener speaks 3.1.1 or 5.0, not both"}

    def install(self):
        # Its lock file names versions that today's compiler refuses.
        cargo_install("rumqttd", self.pinned, is_locked=False)

    def is_there(self):
        return (PEERS / "bin/rumqttd").exists()

    def version(self):
        return f"rumqttd {self.pinned}"

    def start(self, place):
        tls = place.certificates
        keys = ["[v4.1.tls]", f'certpath = "{tls.certificate}"', f'keypath = "{tls.key}"'] if tls else []
        write(place.folder / "rumqttd.toml", f"""\
            id = 0
            [router]
            id = 0
            max_connections = 100000
            max_outgoing_packet_count = 200
            max_segment_size = 104857600
            max_segment_count = 10
            [v4.1]
            name = "v4-1"
            listen = "127.0.0.1:{place.port}"
            # 1 ms, the default, lets in 1,000 connections per second.
            next_connection_delay_ms = 0
            [v4.1.connections]
            connection_timeout_ms = 60000
            # The default refuses payloads above 20,480 bytes.
            max_payload_size = 268435455
            max_inflight_count = 65535
            dynamic_filters = true
            {lines(keys, 12)}
            """)
        return Start([[PEERS / "bin/rumqttd", "--config", "rumqttd.toml"]], settings=["rumqttd.toml"])


class Rmqttd(Peer):
    name = "rmqttd"
    pinned = "0.24.0"

    def install(self):
        debian("protobuf-compiler")
        cargo_install("rmqttd", self.pinned, is_locked=True)

    def is_there(self):
        return (PEERS / "bin/rmqttd").exists()

    def version(self):
        return f"rmqttd {self.pinned}"

    def start(self, place):
        (place.folder / "plugins").mkdir()
        tls = place.certificates
        keys = [f'cert = "{tls.certificate}"', f'key = "{tls.key}"'] if tls else []
        write(place.folder / "rmqtt.toml", f"""\
            # It refuses connections and messages on a machine that it believes to be busy.
            node.busy.check_enable = false
            rpc.server_addr = "127.0.0.1:{place.free_port()}"
            plugins.dir = "plugins"
            # Not measured, and it listens for all the world.
            plugins.disabled_default_startups = ["rmqtt-http-api"]
            log.to = "console"
            log.level = "warn"
            [listener.{"tls" if tls else "tcp"}.external]
            addr = "127.0.0.1:{place.port}"
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
            {lines(keys, 12)}
            """)
        return Start([[PEERS / "bin/rmqttd", "-f", "rmqtt.toml"]], settings=["rmqtt.toml"])
