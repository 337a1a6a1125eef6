"""One paho-mqtt connection whose events can be awaited, each with a deadline and a name of what is missing."""

import os
import socket
import threading
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

V311, V5 = mqtt.MQTTv311, mqtt.MQTTv5
WAIT_S = 12
# The listener that scripts/test-clients describes in the environment.
SCHEME = os.environ.get("MQTT_SCHEME", "mqtt")
TRANSPORTS = {"ws": "websockets", "wss": "websockets", "unix": "unix"}


def check(holds, what):
    """`assert` for scenarios: survives `python -O` and says what was expected."""
    if not holds:
        raise AssertionError(what)


def check_equal(actual, expected, what):
    check(actual == expected, f"{what}: {brief(actual)} instead of {brief(expected)}")


def brief(value):
    text = repr(value)
    return text if len(text) < 200 else f"{text[:120]}...{text[-60:]}"


def properties(packet_type, **values):
    """`properties(PacketTypes.PUBLISH, MessageExpiryInterval=3)`; None when there is nothing to say."""
    if not values:
        return None
    result = Properties(packet_type)
    for name, value in values.items():
        setattr(result, name, value)
    return result


class Place:
    """Where one run of a scenario happens: the broker, the version, and client ids and topics of its own."""

    def __init__(self, host, port, version, tag):
        self.host, self.port, self.version, self.tag = host, port, version, tag
        self._clients = []

    def client(self, name, **options):
        return self.open(f"{self.tag}-{name}", **options)

    def open(self, client_id, **options):
        client = Client(self, client_id, **options)
        self._clients.append(client)
        return client

    def topic(self, rest):
        return f"{self.tag}/{rest}"

    def close_all(self):
        for client in self._clients:
            client.close()


class Client:
    """A connection that is open (CONNACK 0 arrived) once constructed."""

    def __init__(self, place, client_id, clean=True, will=None, keepalive=60, expiry=None, connect=None, token=None,
                 user=None):
        self.place = place
        self.messages = []
        self.connack = None  # (flags, reason code, properties)
        self.closed = None  # (reason code, properties) once the connection ended
        self._acks = {}  # packet id -> reason codes
        self._changed = threading.Condition()
        v5 = place.version == V5
        self._paho = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=place.version,
            clean_session=None if v5 else clean,
            reconnect_on_failure=False,
            transport=TRANSPORTS.get(SCHEME, "tcp"),
        )
        if SCHEME in ("mqtts", "wss"):
            self._paho.tls_set(os.environ["MQTT_CA"], os.environ.get("MQTT_CERT"), os.environ.get("MQTT_KEY"))
        user = user or (os.environ.get("MQTT_USER"), os.environ.get("MQTT_PASSWORD"))
        if user[0]:
            self._paho.username_pw_set(*user)
        self._install_callbacks()
        if will:
            self._paho.will_set(**will)
        if token:
            self._paho.username_pw_set("", token)  # MQTT 3.1.1 has no password without a user name.
        extra = {}
        if v5:
            values = dict(connect or {})
            if expiry is None:
                expiry = 0 if clean else 300
            values["SessionExpiryInterval"] = expiry
            extra = {"clean_start": clean, "properties": properties(PacketTypes.CONNECT, **values)}
        host = os.environ["MQTT_SOCKET"] if SCHEME == "unix" else place.host
        self._paho.connect(host, place.port, keepalive, **extra)
        self._paho.loop_start()
        self.wait(lambda: self.connack or self.closed, "CONNACK")
        check(self.connack and self.connack[1] == 0, f"CONNECT refused: {self.connack or self.closed}")

    @property
    def session_present(self):
        return self.connack[0].session_present

    def _install_callbacks(self):
        def note(change):
            with self._changed:
                change()
                self._changed.notify_all()

        paho = self._paho
        paho.on_connect = lambda _c, _u, flags, code, props: note(
            lambda: setattr(self, "connack", (flags, code, props)))
        paho.on_disconnect = lambda _c, _u, _flags, code, props: note(lambda: setattr(self, "closed", (code, props)))
        paho.on_message = lambda _c, _u, message: note(lambda: self.messages.append(message))
        paho.on_subscribe = lambda _c, _u, mid, codes, _p: note(lambda: self._acks.update({mid: codes}))
        paho.on_unsubscribe = lambda _c, _u, mid, codes, _p: note(lambda: self._acks.update({mid: codes}))
        paho.on_publish = lambda _c, _u, mid, code, _p: note(lambda: self._acks.update({mid: [code]}))

    def wait(self, condition, what, seconds=WAIT_S):
        with self._changed:
            check(self._changed.wait_for(condition, seconds), f"no {what} within {seconds} s")

    def subscribe(self, *filters, **values):
        """Subscribes to `(filter, qos or SubscribeOptions)` pairs; returns the reason codes of the SUBACK."""
        packet = properties(PacketTypes.SUBSCRIBE, **values)
        _, mid = self._paho.subscribe(list(filters), properties=packet)
        return self._acknowledged(mid, "SUBACK")

    def unsubscribe(self, *filters):
        _, mid = self._paho.unsubscribe(list(filters))
        return self._acknowledged(mid, "UNSUBACK")

    def publish(self, topic, payload, qos=0, retain=False, **values):
        """Publishes without waiting; give what it returns to `acknowledged`."""
        packet = properties(PacketTypes.PUBLISH, **values)
        return self._paho.publish(topic, payload, qos, retain, properties=packet).mid

    def publish_settled(self, topic, payload, qos=1, retain=False, **values):
        """Publishes and waits for the last acknowledgement; returns its reason code."""
        return self._acknowledged(self.publish(topic, payload, qos, retain, **values), "PUBACK/PUBCOMP")[0]

    def settle(self, mids):
        for mid in mids:
            self._acknowledged(mid, "PUBACK/PUBCOMP")

    def _acknowledged(self, mid, kind):
        self.wait(lambda: mid in self._acks or self.closed, f"{kind} for packet {mid}")
        check(mid in self._acks, f"connection closed ({self.closed}) before {kind} for packet {mid}")
        return self._acks.pop(mid)

    def receive(self, count, what="messages"):
        """Waits for `count` messages and takes everything that is there."""
        try:
            self.wait(lambda: len(self.messages) >= count or self.closed, what)
        except AssertionError as error:
            got = brief([(m.topic, m.payload[:20]) for m in self.messages])
            raise AssertionError(f"{error}; {len(self.messages)} of {count} are here: {got}") from None
        with self._changed:
            check(len(self.messages) >= count, f"closed ({self.closed}) with {len(self.messages)} of {count} {what}")
            taken, self.messages = self.messages, []
            return taken

    def receive_until(self, payload):
        """Waits for a message with this payload; returns the payloads and messages before it."""
        self.wait(lambda: any(m.payload == payload for m in self.messages) or self.closed, f"marker {payload}")
        with self._changed:
            check(self.messages or not self.closed, f"closed ({self.closed}) before marker {payload}")
            check(self.messages and self.messages[-1].payload == payload, f"marker {payload} is not the last message")
            taken, self.messages = self.messages[:-1], []
            return taken

    def cut(self):
        """Ends the connection without DISCONNECT."""
        connection = self._paho.socket()
        # What the library puts around it for WebSocket has no `shutdown`.
        getattr(connection, "_socket", connection).shutdown(socket.SHUT_RDWR)
        self.wait(lambda: self.closed, "end of the cut connection")

    def close(self, reason=None, expiry=None):
        """Sends DISCONNECT and waits for the end of the connection. Does nothing on a closed one."""
        if self._paho is None:
            return
        connection = self._paho.socket()
        if self.closed is None and connection is not None:
            packet = properties(PacketTypes.DISCONNECT, **({} if expiry is None else {"SessionExpiryInterval": expiry}))
            # The library closes its socket behind DISCONNECT. A second descriptor tells when the broker has read it.
            with socket.socket(fileno=os.dup(connection.fileno())) as twin:
                self._paho.disconnect(reasoncode=reason, properties=packet)
                self.wait(lambda: self.closed, "DISCONNECT that is written")
                wait_end(twin)
        self._paho.loop_stop()
        # The library keeps a socket pair until it is freed, and its select() takes descriptors below 1024 only.
        self._paho = None


def wait_end(connection):
    """Reads until the other side closes."""
    connection.settimeout(WAIT_S)
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        raise AssertionError(f"the broker kept the connection for {WAIT_S} s after DISCONNECT") from None


def wait_past(seconds, why):
    """The only sleep: for rules that speak of time itself (keep alive, expiry, delay)."""
    check(bool(why), "say why")
    time.sleep(seconds)
