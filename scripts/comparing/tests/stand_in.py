"""A stand-in for brokers that are not on every machine: checks how it is called and what its settings say, as far as the
broker would, and answers each CONNECT. `stand_in.py KIND FOLDER-OF-THE-PROGRAM ARGUMENT...`"""

import os
import re
import socket
import ssl
import sys
import xml.etree.ElementTree
from pathlib import Path

CONNACK = b"\x20\x02\x00\x00"


def main():
    kind, home, *words = sys.argv[1:]
    port, certificate, key = KINDS[kind](Path(home), words)
    listener = socket.create_server(("127.0.0.1", int(port)))
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
    while True:
        connection, _ = listener.accept()
        try:
            with context.wrap_socket(connection, server_side=True) if context else connection as client:
                if client.recv(100):
                    client.sendall(CONNACK)
                    client.recv(100)
        except OSError:
            pass  # Somebody only looked whether it listens.


def expect(found, expected):
    if found != expected:
        sys.exit(f"stand-in: {found!r} in place of {expected!r}")


def one(pattern, text):
    """The only match; none is nothing."""
    found = re.findall(pattern, text, re.MULTILINE)
    if len(found) > 1:
        sys.exit(f"stand-in: {pattern} is there {len(found)} times")
    return found[0] if found else None


def mosquitto(_, words):
    expect(words, ["-c", "mosquitto.conf"])
    lines = [line.strip() for line in Path("mosquitto.conf").read_text().splitlines()]
    settings = dict(line.split(None, 1) for line in lines if line and not line.startswith("#"))
    expect((settings["allow_anonymous"], settings["set_tcp_nodelay"], settings["max_inflight_messages"]), ("true", "true", "1000"))
    return settings["listener"].split()[0], settings.get("certfile"), settings.get("keyfile")


def flashmq(_, words):
    expect(words, ["--config-file", "flashmq.conf"])
    text = Path("flashmq.conf").read_text()
    expect((text.count("{"), text.count("}")), (1, 1))
    expect((one(r"^ *tcp_nodelay (.*)$", text), one(r"^thread_count (.*)$", text)), ("true", "2"))
    return one(r"^ *port (\d+)$", text), one(r"^ *fullchain (.*)$", text), one(r"^ *privkey (.*)$", text)


def nanomq(_, words):
    expect(words, ["start", "--conf", "nanomq.conf"])
    text = Path("nanomq.conf").read_text()
    expect(text.count("{"), text.count("}"))
    expect(os.environ["NANOMQ_PID_FILE"], str(Path("nanomq.pid").absolute()))
    expect((one(r"num_taskq_thread = (\d+)", text), one(r"allow_anonymous = (\w+)", text)), ("2", "true"))
    return one(r'bind = "127\.0\.0\.1:(\d+)"', text), one(r'\bcertfile = "(.*)"', text), one(r'keyfile = "(.*)"', text)


def nats(_, words):
    if words == ["--version"]:
        print("nats-server: v2.99.1")
        sys.exit(0)
    expect(words, ["--config", "nats.conf"])
    text = Path("nats.conf").read_text()
    expect(text.count("{"), text.count("}"))
    mqtt = text[text.index("mqtt {"):]
    return one(r'listen: "127\.0\.0\.1:(\d+)"', mqtt), one(r'cert_file: "([^"]*)"', mqtt), one(r'key_file: "([^"]*)"', mqtt)


def emqx(_, words):
    expect(words, ["foreground"])
    given = os.environ
    on = [kind for kind in ("TCP", "SSL", "WS", "WSS") if given[f"EMQX_LISTENERS__{kind}__DEFAULT__ENABLE"] == "true"]
    expect(len(on), 1)
    expect(given["ERL_FLAGS"].split()[:2], ["+S", "2:2"])
    expect((given["EMQX_MQTT__MAX_MQUEUE_LEN"], given["EMQX_NODE__DATA_DIR"]), ("infinity", str(Path("data").absolute())))
    options = f"EMQX_LISTENERS__{on[0]}__DEFAULT__"
    return given[f"{options}BIND"].removeprefix("127.0.0.1:"), given.get(f"{options}SSL_OPTIONS__CERTFILE"), given.get(f"{options}SSL_OPTIONS__KEYFILE")


def vernemq(home, words):
    expect(words, ["console", "-noshell", "-noinput"])
    lines = [line for line in (home.parent / "etc/vernemq.conf").read_text().splitlines() if line.strip() and not line.startswith("#")]
    settings = dict(line.split(" = ", 1) for line in lines)
    expect((settings["allow_anonymous"], settings.get("accept_eula"), settings["max_inflight_messages"]), ("on", "yes", "0"))
    expect((home.parent / "releases/start_erl.data").read_text().split()[-1], "2.2.0")
    listens = settings.get("listener.tcp.default") or settings["listener.ssl.default"]
    return listens.removeprefix("127.0.0.1:"), settings.get("listener.ssl.default.certfile"), settings.get("listener.ssl.default.keyfile")


def hivemq(home, words):
    expect(words, [])
    given = os.environ
    expect(Path(given["HIVEMQ_HOME"]), home.parent)
    expect(given["JAVA_OPTS"], "-XX:ActiveProcessorCount=2")
    root = xml.etree.ElementTree.parse(Path(given["HIVEMQ_CONFIG_FOLDER"], "config.xml")).getroot()
    expect((root.tag, root.findtext("persistence/mode")), ("hivemq", "in-memory"))
    plain, secured = root.find("listeners/tcp-listener"), root.find("listeners/tls-tcp-listener")
    if plain is not None:
        return plain.findtext("port"), None, None
    # It reads the store of keys; the stand-in is told by the test where they came from.
    expect(Path(secured.findtext("tls/keystore/path")).stat().st_size > 0, True)
    return secured.findtext("port"), given["STAND_IN_CERTIFICATE"], given["STAND_IN_KEY"]


KINDS = {"mosquitto": mosquitto, "flashmq": flashmq, "nanomq": nanomq, "nats": nats, "emqx": emqx, "vernemq": vernemq, "hivemq": hivemq}

if __name__ == "__main__":
    main()
