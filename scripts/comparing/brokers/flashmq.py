"""FlashMQ, as somebody built or installed it."""

from ..install import Missing, find, first_line, lines, write
from ..peer import Peer, Start
from ..promise import Promise


class FlashMq(Peer):
    name = "flashmq"
    promises = {
        Promise.MEMORY: "the broker has it",
        Promise.LATER: "the broker has it; everything is written to files each five minutes, which it allows at the soonest",
    }

    def install(self):
        if not self.is_there():
            raise Missing("it is in none of the registries: build it from https://www.flashmq.org, and put it into the PATH")

    def is_there(self):
        return find("flashmq") is not None

    def version(self):
        return first_line("flashmq", "--version")

    def start(self, place):
        (place.folder / "state").mkdir()
        tls = place.certificates
        keys = [f"fullchain {tls.certificate}", f"privkey {tls.key}", "minimum_tls_version tlsv1.3"] if tls else []
        write(place.folder / "flashmq.conf", f"""\
            storage_dir state
            save_state_interval {300 if place.promise is Promise.LATER else 3600}
            log_level warning
            allow_anonymous true
            thread_count {len(place.cores)}
            # The defaults are 512 messages and 64 KiB; above, it drops.
            max_qos_msg_pending_per_client 65535
            max_qos_bytes_pending_per_client 1073741824
            listen {{
                protocol mqtt
                inet4_bind_address 127.0.0.1
                inet_protocol ip4
                port {place.port}
                # By default it waits for acknowledgements of TCP before it sends small packets: 44 ms at QoS 1 and 2.
                tcp_nodelay true
                {lines(keys, 16)}
            }}
            """)
        return Start([["flashmq", "--config-file", "flashmq.conf"]], settings=["flashmq.conf"])
