"""aedes, from npm."""

import json

from ..install import PEERS, attempt, debian, first_line, say, which, write
from ..peer import Peer, Start


class Aedes(Peer):
    name = "aedes"
    pinned = "1.2.0"
    lacks = {"mqtt5": "speaks 3.1.1 alone", "shared": "has no shared subscriptions"}

    def install(self):
        if not which("node") or not which("npm"):
            debian("nodejs", "npm")
        if self.is_there():
            return
        folder = PEERS / "aedes"
        say(f"installing aedes {self.pinned}")
        folder.mkdir(parents=True, exist_ok=True)
        attempt(["npm", "install", "--prefix", folder, "--silent", "--no-audit", "--no-fund", f"aedes@{self.pinned}"])

    def is_there(self):
        installed = PEERS / "aedes/node_modules/aedes/package.json"
        return installed.exists() and json.loads(installed.read_text())["version"] == self.pinned

    def version(self):
        return f"aedes {self.pinned}, Node {first_line('node', '--version')}"

    def start(self, place):
        tls = place.certificates
        server = "net.createServer({ noDelay: true }, broker.handle)"
        if tls:
            server = (f"tls.createServer({{ noDelay: true, minVersion: 'TLSv1.3', cert: fs.readFileSync({json.dumps(str(tls.certificate))}), "
                      f"key: fs.readFileSync({json.dumps(str(tls.key))}) }}, broker.handle)")
        write(place.folder / "aedes.mjs", f"""\
            import {{ createRequire }} from "node:module";
            import fs from "node:fs";
            import net from "node:net";
            import tls from "node:tls";
            const require = createRequire({json.dumps(str(PEERS / "aedes") + "/")});
            const {{ Aedes }} = require("aedes");
            // The default delivers 100 messages at a time.
            const broker = await Aedes.createBroker({{ concurrency: 100000 }});
            {server}.listen({place.port}, "127.0.0.1", 4096);
            """)
        return Start([["node", "aedes.mjs"]], settings=["aedes.mjs"])
