"""HiveMQ Community Edition, as somebody has unpacked it."""

import os
import re
import subprocess
import zipfile
from pathlib import Path

from ..install import Missing, attempt, find, lines, write
from ..peer import TLS_CIPHER, Peer, Start

PASSWORD = "compare"
# Folders, one for each version, in which people unpack it.
PLACES = ("/opt/hivemq", "/opt/hivemq-ce")


class HiveMq(Peer):
    name = "hivemq"
    start_s = 10.0

    def install(self):
        if not self.is_there():
            raise Missing("it is in none of the registries: unpack a release of https://www.hivemq.com and set HIVEMQ_HOME to its folder")
        if not find("java"):
            raise Missing("it needs Java 11 or later, as `java` in the PATH")

    def is_there(self):
        return home() is not None

    def version(self):
        """As its archive says."""
        try:
            with zipfile.ZipFile(home() / "bin/hivemq.jar") as archive:
                manifest = archive.read("META-INF/MANIFEST.MF").decode(errors="replace")
        except (OSError, KeyError, zipfile.BadZipFile):
            return "HiveMQ CE unknown"
        found = re.search(r"^(?:HiveMQ|Implementation)-Version: (\S+)", manifest, re.MULTILINE)
        return f"HiveMQ CE {found[1] if found else 'unknown'}, {java_version()}"

    def start(self, place):
        for name in ("conf", "data", "log"):
            (place.folder / name).mkdir()
        listener = f"<tcp-listener><port>{place.port}</port><bind-address>127.0.0.1</bind-address></tcp-listener>"
        if place.certificates:
            listener = self._tls_listener(place)
        write(place.folder / "conf/config.xml", f"""\
            <?xml version="1.0"?>
            <hivemq>
                <listeners>
                    {listener}
                </listeners>
                <mqtt>
                    <!-- The defaults are 10 in flight from a client and 1,000 waiting for one. -->
                    <receive-maximum><server-receive-maximum>65535</server-receive-maximum></receive-maximum>
                    <queued-messages><max-queue-size>1000000</max-queue-size></queued-messages>
                    <packets><max-packet-size>268435460</max-packet-size></packets>
                </mqtt>
                <!-- By default sessions and retained messages are on the disk, which acknowledgements do not wait for. -->
                <persistence><mode>in-memory</mode></persistence>
                <anonymous-usage-statistics><enabled>false</enabled></anonymous-usage-statistics>
            </hivemq>
            """)
        environment = {
            "HIVEMQ_HOME": str(home()),
            "HIVEMQ_CONFIG_FOLDER": str(place.folder / "conf"),
            "HIVEMQ_DATA_FOLDER": str(place.folder / "data"),
            "HIVEMQ_LOG_FOLDER": str(place.folder / "log"),
            "HIVEMQ_HEAPDUMP_FOLDER": str(place.folder),
            # It would listen for all the world; older versions know the port alone.
            "HIVEMQ_JMX_ENABLED": "false",
            "HIVEMQ_JMX_PORT": str(place.free_port()),
            "JAVA_OPTS": f"-XX:ActiveProcessorCount={len(place.cores)}",
        }
        return Start([[home() / "bin/run.sh"]], environment, ["conf/config.xml"])

    def _tls_listener(self, place):
        """Java has stores of its own for keys."""
        tls, store = place.certificates, place.folder / "conf/keys.p12"
        attempt(["openssl", "pkcs12", "-export", "-in", tls.certificate, "-inkey", tls.key, "-out", store, "-passout", f"pass:{PASSWORD}"])
        return lines([
            f"<tls-tcp-listener><port>{place.port}</port><bind-address>127.0.0.1</bind-address><tls>",
            "    <protocols><protocol>TLSv1.3</protocol></protocols>",
            f"    <cipher-suites><cipher-suite>{TLS_CIPHER}</cipher-suite></cipher-suites>",
            f"    <keystore><path>{store}</path><password>{PASSWORD}</password><private-key-password>{PASSWORD}</private-key-password></keystore>",
            "    <client-authentication-mode>NONE</client-authentication-mode>",
            "</tls></tls-tcp-listener>"], 20)


def home():
    """The folder of the release; nothing if there is none."""
    places = [Path(place) for place in (os.environ.get("HIVEMQ_HOME"), *PLACES) if place]
    if program := find("hivemq"):
        places.append(Path(os.path.realpath(program)).parent.parent)
    return next((place for place in places if (place / "bin/run.sh").exists()), None)


def java_version():
    said = subprocess.run(["java", "-version"], capture_output=True, text=True)
    found = re.search(r'version "([^"]+)"', said.stderr + said.stdout)
    return f"Java {found[1] if found else 'unknown'}"
