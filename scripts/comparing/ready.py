"""Whether a broker serves: it answers a CONNECT, over TLS if that is asked for."""

import socket
import ssl
import time

from .process import NoStart

READY_MAX_S = 60
ANSWER_MAX_S = 5
# 3.1.1, clean session, a keep alive of a minute.
CONNECT = b"\x10\x13\x00\x04MQTT\x04\x02\x00\x3c\x00\x07compare"
CONNACK_ACCEPTED = b"\x20\x02\x00\x00"
DISCONNECT = b"\xe0\x00"
# What ringload offers, in its order, to a broker that has no TLS 1.3.
TLS_12_CIPHERS = ":".join(f"ECDHE-{key}-{cipher}" for key in ("ECDSA", "RSA")
                          for cipher in ("AES256-GCM-SHA384", "AES128-GCM-SHA256", "CHACHA20-POLY1305"))


def wait(broker, authority=None, time_max_s=READY_MAX_S):
    """Gives version and cipher of TLS, or an empty text without it. NoStart if it ends, or does not answer in time."""
    why, deadline = "", time.monotonic() + time_max_s
    while time.monotonic() < deadline and broker.is_alive():
        try:
            return ask(broker.port, authority)
        except OSError as error:  # Also of TLS.
            why = str(error)
            time.sleep(0.1)
    state = "does not let clients connect" if broker.is_alive() else "ended"
    raise NoStart(f"it {state}: {why}; its log ends with:\n{broker.said()}")


def ask(port, authority=None):
    with socket.create_connection(("127.0.0.1", port), ANSWER_MAX_S) as plain:
        if authority is None:
            connect(plain)
            return ""
        context = ssl.create_default_context(cafile=authority)
        context.set_ciphers(TLS_12_CIPHERS)
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as secured:
            connect(secured)
            return f"{secured.version()} {secured.cipher()[0]}"


def connect(stream):
    stream.settimeout(ANSWER_MAX_S)
    stream.sendall(CONNECT)
    answer = b""
    while len(answer) < len(CONNACK_ACCEPTED):
        more = stream.recv(len(CONNACK_ACCEPTED) - len(answer))
        if not more:
            raise OSError("it closes the connection in place of a CONNACK")
        answer += more
    if answer[0] != CONNACK_ACCEPTED[0] or answer[3] != 0:
        raise OSError(f"it answers a CONNECT with {answer.hex(' ')}")
    stream.sendall(DISCONNECT)
