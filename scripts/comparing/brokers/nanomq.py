"""NanoMQ, as somebody built or installed it."""

import re
import subprocess

from ..install import Missing, find, lines, write
from ..peer import Peer, Start

# It refuses to have fewer threads for its tasks.
TASK_THREADS_MIN = 2


class NanoMq(Peer):
    name = "nanomq"

    def install(self):
        if not self.is_there():
            raise Missing("it is in none of the registries: build it from https://nanomq.io, and put it into the PATH")

    def is_there(self):
        return self.program() is not None

    def program(self):
        return find("nanomq")

    def version(self):
        # Without a command it says how to call it, and its version, and fails.
        said = subprocess.run([self.program()], capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout
        found = re.search(r"\bv(\d+\.\d+\.\d+\S*)", said)
        return f"NanoMQ {found[1] if found else 'unknown'}"

    def start(self, place):
        threads, tls = max(TASK_THREADS_MIN, len(place.cores)), place.certificates
        listens = ["listeners.tcp {", f'    bind = "127.0.0.1:{place.port}"', "}"]
        if tls:
            listens = ["listeners.ssl {", f'    bind = "127.0.0.1:{place.port}"', f'    keyfile = "{tls.key}"', f'    certfile = "{tls.certificate}"',
                       f'    cacertfile = "{tls.authority}"', "    verify_peer = false", "    fail_if_no_peer_cert = false", "}"]
        write(place.folder / "nanomq.conf", f"""\
            system {{
                # By default, twice as many as the machine has cores.
                num_taskq_thread = {threads}
                max_taskq_thread = {threads}
                hook_ipc_url = "ipc://{place.folder}/hook.ipc"
                cmd_ipc_url = "ipc://{place.folder}/cmd.ipc"
            }}
            mqtt {{
                max_packet_size = 256MB
                # In flight and waiting for each client; above, it drops.
                max_mqueue_len = 65535
                # It sends again what is not acknowledged by then.
                retry_interval = 3600s
            }}
            {lines(listens, 12)}
            auth {{
                allow_anonymous = true
                no_match = allow
                deny_action = ignore
            }}
            log {{
                to = [console]
                level = error
            }}
            """)
        # Without a file of its own it takes one in /tmp, and does not start beside another one.
        environment = {"NANOMQ_PID_FILE": str(place.folder / "nanomq.pid")}
        return Start([[self.program(), "start", "--conf", "nanomq.conf"]], environment, ["nanomq.conf"])
