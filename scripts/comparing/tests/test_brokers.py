import os
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile
from pathlib import Path
from unittest import mock

from .. import peers, ready
from ..brokers import hivemq, mosquitto
from ..brokers.erlang import Emqx, VerneMq
from ..brokers.flashmq import FlashMq
from ..brokers.given import Given
from ..brokers.nanomq import NanoMq
from ..brokers.nats import Nats
from ..comparison import settings_text
from ..install import Missing
from ..peer import TLS_CIPHER
from ..process import Broker, NoStart, free_port, session_pids
from ..promise import Promise

STAND_IN = Path(__file__).with_name("stand_in.py")
# More than one, so that a broker that takes one by itself is found.
CORES = (0, 1)
# What is called what in the PATH, and the stand-in's name for it.
PROGRAMS = {"mosquitto-9.9": "mosquitto", "flashmq": "flashmq", "nanomq": "nanomq", "nats-server": "nats", "emqx": "emqx", "vernemq": "vernemq"}


# The settings of a release whose licence somebody has accepted.
RELEASE = "# of the release\naccept_eula = yes\n"


def executable(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def stand_in(path, kind):
    executable(path, f'#!/bin/sh\nexec {sys.executable} -B {STAND_IN} {kind} "$(cd "$(dirname "$0")" && pwd -P)" "$@"\n')


class WithBrokers(unittest.TestCase):
    """A machine with stand-ins for the brokers that it does not have."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="compare-test-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        for name, kind in PROGRAMS.items():
            stand_in(self.folder / f"{name}/bin/{name}", kind)
        for name, file, text in (("emqx", "emqx_vars", '# of relx\nREL_VSN="5.8.1"\n'), ("vernemq", "start_erl.data", "14.2.5 2.2.0\n")):
            (self.folder / name / "releases").mkdir()
            (self.folder / name / "releases" / file).write_text(text)
        (self.folder / "vernemq/etc").mkdir()
        (self.folder / "vernemq/etc/vernemq.conf").write_text(RELEASE)
        self.home = self.folder / "hivemq"
        stand_in(self.home / "bin/run.sh", "hivemq")
        with zipfile.ZipFile(self.home / "bin/hivemq.jar", "w") as archive:
            archive.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\nImplementation-Version: 2026.5\r\n")
        executable(self.folder / "java/bin/java", '#!/bin/sh\necho \'openjdk version "17.0.9"\' >&2\n')
        path = ":".join([*(f"{self.folder}/{name}/bin" for name in (*PROGRAMS, "java")), "/usr/bin", "/bin"])
        for patch in (mock.patch.dict(os.environ, {"PATH": path, "HIVEMQ_HOME": str(self.home)}),
                      mock.patch("comparing.brokers.nats.PEERS", self.folder / "none")):
            patch.start()
            self.addCleanup(patch.stop)

    def brokers(self):
        named = {one.name: one for one in mosquitto.versions()}
        return [named["mosquitto-9.9"], FlashMq(), NanoMq(), Nats(), Emqx(), VerneMq(), hivemq.HiveMq()]

    def place(self, name, certificates=None):
        folder = self.folder / f"run-{name}"
        folder.mkdir()
        return peers.Place(folder, free_port(), CORES, certificates=certificates)

    def serve(self, peer, place, more=None):
        """Starts it, asks it, and stops it; gives what ready.wait says."""
        peer.install()
        peer.look()
        start = peer.start(place)
        for name in start.settings:
            self.assertTrue((place.folder / name).exists(), f"{peer.name} has no {name}")
        authority = place.certificates and place.certificates.authority
        cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        with Broker(start.commands, place.port, cores, place.folder, start.environment | (more or {})) as broker:
            session = broker.pids()[0]
            said = ready.wait(broker, authority, 10)
        self.assertEqual(session_pids(session), [])
        return said


class Started(WithBrokers):
    def test_each_starts_with_settings_that_it_can_read_and_stops(self):
        for peer in self.brokers():
            with self.subTest(peer.name):
                self.assertTrue(peer.is_there())
                self.assertEqual(self.serve(peer, self.place(peer.name)), "")

    @unittest.skipUnless(shutil.which("openssl"), "there is no openssl")
    def test_each_listens_for_tls_with_the_certificate_it_is_given(self):
        certificate, key = self.folder / "server.pem", self.folder / "server.key"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=here",
                        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate], check=True, capture_output=True)
        certificates = peers.Certificates(certificate, key, certificate)
        more = {"STAND_IN_CERTIFICATE": str(certificate), "STAND_IN_KEY": str(key)}
        for peer in self.brokers():
            with self.subTest(peer.name):
                self.assertEqual(self.serve(peer, self.place(peer.name, certificates), more), f"TLSv1.3 {TLS_CIPHER}")

    def test_versions_are_read_without_starting_anything(self):
        found = {peer.name: peer.version() for peer in self.brokers() if peer.name in ("nats", "emqx", "vernemq", "hivemq")}
        self.assertEqual(found, {"nats": "nats-server: v2.99.1", "emqx": "EMQX 5.8.1", "vernemq": "VerneMQ 2.2.0", "hivemq": "HiveMQ CE 2026.5, Java 17.0.9"})

    def test_the_release_of_vernemq_stays_as_it_is(self):
        place = self.place("vernemq")
        VerneMq().start(place)
        self.assertEqual((self.folder / "vernemq/etc/vernemq.conf").read_text(), RELEASE)
        self.assertTrue((place.folder / "vernemq/releases").is_symlink())

    def test_a_vernemq_with_its_settings_elsewhere_is_not_taken(self):
        (self.folder / "vernemq/etc/vernemq.conf").unlink()
        with self.assertRaisesRegex(Missing, "make rel"):
            VerneMq().install()

    def test_an_emqx_that_changes_the_user_is_not_taken(self):
        (self.folder / "emqx/releases/emqx_vars").write_text('REL_VSN="5.8.1"\nRUNNER_USER="emqx"\n')
        with self.assertRaisesRegex(Missing, "starts it as emqx"):
            Emqx().install()

    def test_what_is_not_there_says_where_to_get_it(self):
        with mock.patch.dict(os.environ, {"PATH": "/nowhere", "HIVEMQ_HOME": "/nowhere"}):
            for peer in (FlashMq(), NanoMq(), Emqx(), VerneMq(), hivemq.HiveMq(), mosquitto.MosquittoNamed("mosquitto-9.9")):
                if not peer.is_there():
                    with self.subTest(peer.name), self.assertRaisesRegex(Missing, "https://"):
                        peer.install()


class Answers(WithBrokers):
    def test_a_broker_that_refuses_its_settings_is_told_with_its_log(self):
        place = self.place("nanomq")
        start = NanoMq().start(place)
        (place.folder / "nanomq.conf").write_text("system {\n")
        with self.assertRaisesRegex(NoStart, "ended with 1; its log ends with:\nstand-in"), Broker(start.commands, place.port, "0", place.folder, start.environment):
            pass

    def test_a_broker_that_listens_and_does_not_answer_is_not_ready(self):
        place = self.place("deaf")
        deaf = "import socket, time; s = socket.create_server(('127.0.0.1', {port})); c = s.accept(), s.accept(); time.sleep(600)"
        start = Given(f"deaf={sys.executable} -c \"{deaf}\"").start(place)
        with Broker(start.commands, place.port, "0", place.folder) as broker, mock.patch.object(ready, "ANSWER_MAX_S", 0.2):
            with self.assertRaisesRegex(NoStart, "does not let clients connect"):
                ready.wait(broker, time_max_s=0.3)

    def test_a_command_of_the_user_gets_port_cores_and_certificates(self):
        one = Given("mine=./mine --port {port} --threads {cores} --pair {certificate}:{key}")
        place = self.place("mine", peers.Certificates(Path("a.pem"), Path("a.key"), Path("ca.pem")))
        self.assertEqual(one.start(place).commands, [["sh", "-c", f"exec ./mine --port {place.port} --threads 2 --pair a.pem:a.key"]])
        self.assertIn("tls", Given("mine=./mine {port}").lacks)
        for text in ("mine", "mine=./mine", "=x {port}", "a b=x {port}"):
            with self.assertRaises(ValueError):
                Given(text)


class Shown(WithBrokers):
    def test_settings_are_shown_without_where_things_lie(self):
        for peer in self.brokers():
            with self.subTest(peer.name):
                place = self.place(peer.name)
                text = settings_text(peer.start(place), place.folder)
                self.assertNotIn(str(self.folder), text)
                self.assertIn(f":{place.port}" if peer.name in ("nanomq", "nats", "emqx", "vernemq") else str(place.port), text)


class Durable(WithBrokers):
    def test_settings_follow_the_promise(self):
        for peer, promise, name, expected in (
                (FlashMq(), Promise.MEMORY, "flashmq.conf", "save_state_interval 3600"), (FlashMq(), Promise.LATER, "flashmq.conf", "save_state_interval 300"),
                (mosquitto.Mosquitto(), Promise.MEMORY, "mosquitto.conf", "persistence false"), (mosquitto.Mosquitto(), Promise.LATER, "mosquitto.conf", "persistence true"),
                (Nats(), Promise.POWER, "nats.conf", 'sync_interval: "always"'), (Nats(), Promise.KILL, "nats.conf", "consumer_memory_storage: false"), (Nats(), Promise.KILL, "nats.conf", 'jetstream { store_dir: "jetstream" }')):
            with self.subTest(f"{peer.name} {promise.key}"), tempfile.TemporaryDirectory() as folder:
                peer.start(peers.Place(Path(folder), 1, CORES, promise, is_durable=promise is not Promise.MEMORY))
                self.assertIn(expected, Path(folder, name).read_text())

    def test_ringmq_keeps_what_it_promises(self):
        words = {promise: list(map(str, peers.Ringmq().start(peers.Place(Path("."), 1, CORES, promise)).commands[0])) for promise in peers.Ringmq.promises}
        self.assertNotIn("--data-dir", words[Promise.MEMORY])
        self.assertEqual((words[Promise.KILL][-1], words[Promise.POWER][-1]), ("interval", "always"))


class Chosen(WithBrokers):
    def test_a_quick_comparison_takes_two_that_are_here(self):
        every = [peers.Ringmq(), NanoMq(), FlashMq(), Emqx(), *mosquitto.versions()]
        self.assertEqual([peer.name for peer in peers.quick(every)], ["ringmq", "flashmq", "nanomq"])
