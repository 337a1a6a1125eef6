#!/usr/bin/env python3
"""Checks an MQTT broker with mosquitto_pub, mosquitto_sub and mosquitto_rr, speaking 3.1.1 and 5.0.

Usage: main.py HOST PORT [SCENARIO...]

Prints one line per scenario, `ok NAME` or `FAIL NAME: why`, and exits with 1 if one failed. Every scenario runs
with PAIRS pairs of client ids at once, so that publishers and subscribers meet on every shard of a broker that
places clients by a hash of their id.
"""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

PAIRS = 8
WAIT_S = 12
LINES = [str(index) for index in range(100)]
MARKER = "end"


class Place:
    """Where one run of a scenario happens: the broker, the version, and client ids and topics of its own."""

    def __init__(self, host, port, version, tag):
        self.version, self.tag, self.address = version, tag, (host, port)
        self.common_version = "mqttv5" if version == "5.0" else "mqttv311"
        self._ready_topics = []
        self._common = [*way(host, port), "-V", self.common_version]
        self._programs = []

    def topic(self, rest):
        return f"{self.tag}/{rest}"

    def publish(self, topic, lines, *options, name="pub"):
        """One message per line, in order, by one client; returns when all are acknowledged."""
        command = ["mosquitto_pub", *self._common, "-i", f"{self.tag}-{name}", "-t", topic, "-l", *options]
        text = "".join(f"{line}\n" for line in lines)
        try:
            done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=WAIT_S)
        except subprocess.TimeoutExpired:
            # One in some hundred times, beside any broker, mosquitto_pub 2.0.11 does not see that its last message of
            # QoS 0 is out, and stays. Whether the messages are there is for their subscribers to say.
            if "-q" in options and options[options.index("-q") + 1] != "0":
                raise
            return
        check(done.returncode == 0, f"mosquitto_pub ended with {done.returncode}: {done.stderr.strip()}")

    def publish_empty_retained(self, topic):
        command = ["mosquitto_pub", *self._common, "-i", f"{self.tag}-clear", "-t", topic, "-n", "-r", "-q", "1"]
        subprocess.run(command, check=True, timeout=WAIT_S)

    def subscribe(self, *filters, options=(), name="sub", form="%q %r %p"):
        """Starts a subscriber; its subscriptions are in place when this returns."""
        # A retained message on a topic of its own, last in the SUBSCRIBE, arrives only after all are in place.
        ready = self.topic(f"ready-{name}")
        self._ready_topics.append(ready)
        self.publish(ready, ["ready"], "-q", "1", "-r", name=f"{name}-ready")
        program = self.start(*filters, ready, options=options, name=name, form=form)
        while not (line := program.line("ready message")).endswith("ready"):
            program.early.append(line)
        return program

    def start(self, *filters, options=(), name="sub", form="%q %r %p"):
        topics = [word for each in filters for word in ("-t", each)]
        command = ["mosquitto_sub", *self._common, "-i", f"{self.tag}-{name}", "-F", form, *topics, *options]
        self._programs.append(Program(command))
        return self._programs[-1]

    def request(self, topic, response_topic, payload):
        command = ["mosquitto_rr", *self._common, "-i", f"{self.tag}-requester", "-t", topic, "-e", response_topic,
                   "-m", payload, "-W", str(WAIT_S)]
        self._programs.append(Program(command))
        return self._programs[-1]

    def close_all(self):
        for program in self._programs:
            program.end(signal.SIGKILL)
        for topic in self._ready_topics:
            self.publish_empty_retained(topic)


def way(host, port):
    """The options of the listener that scripts/test-clients describes in the environment."""
    scheme = os.environ.get("MQTT_SCHEME", "mqtt")
    if scheme == "unix":
        return ["--unix", os.environ["MQTT_SOCKET"]]
    options = ["-h", host, "-p", port]
    if scheme == "mqtts":
        options += ["--cafile", os.environ["MQTT_CA"], "--tls-alpn", "mqtt"]
    if "MQTT_CERT" in os.environ:
        options += ["--cert", os.environ["MQTT_CERT"], "--key", os.environ["MQTT_KEY"]]
    if "MQTT_USER" in os.environ:
        options += ["-u", os.environ["MQTT_USER"], "-P", os.environ["MQTT_PASSWORD"]]
    return options


class Program:
    """A running client whose output lines can be awaited."""

    def __init__(self, command):
        self.name, self.early = command[0], []
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def line(self, what="line"):
        line = self.line_or_end(what)
        check(line is not None, f"{self.name} ended before {what}")
        return line

    def line_or_end(self, what):
        """The next line, or None when the client has ended."""
        try:
            return self._lines.get(timeout=WAIT_S)
        except queue.Empty:
            raise AssertionError(f"{self.name}: no {what} within {WAIT_S} s") from None

    def lines_until_marker(self):
        lines = []
        while not (line := self.line(f"marker after {lines[-3:]}")).endswith(MARKER):
            lines.append(line)
        return lines

    def end(self, how):
        """Ends the client; returns its exit code."""
        if self._process.poll() is None:
            self._process.send_signal(how)
        return self._process.wait(WAIT_S)

    def wait_end(self, what):
        try:
            return self._process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name}: {what} not within {WAIT_S} s") from None


def in_order(place, qos):
    subscriber = place.subscribe(place.topic("t"), options=["-q", "2"])
    place.publish(place.topic("t"), [*LINES, MARKER], "-q", str(qos))
    check_equal(subscriber.lines_until_marker(), [f"{qos} 0 {line}" for line in LINES], "messages")


def wildcards(place):
    topics = ["a", "a/b", "a/b/c", "a/c", "/a"]
    for index, (pattern, expected) in enumerate([
        ("a/+", ["a/b", "a/c"]), ("a/#", ["a", "a/b", "a/b/c", "a/c"]), ("+/b/+", ["a/b/c"]), ("+", ["a"]),
    ]):
        marker = f"{place.tag}-marker{index}"
        subscriber = place.subscribe(place.topic(pattern), marker, options=["-q", "1"], name=f"sub{index}")
        for topic in topics:
            place.publish(place.topic(topic), [topic], "-q", "1")
        place.publish(marker, [MARKER], "-q", "1")
        got = [line.split()[2] for line in subscriber.lines_until_marker() if not line.endswith("ready")]
        check_equal(sorted(got), sorted(expected), f"filter {pattern}")


def retained(place):
    topic = place.topic("r/x")
    live = place.subscribe(place.topic("r/#"), options=["-q", "1"], name="live")
    place.publish(topic, ["old", "new"], "-q", "1", "-r")
    # [MQTT-3.3.1-9] a message for an existing subscription carries retain = 0.
    check_equal([live.line(), live.line()], ["1 0 old", "1 0 new"], "live messages")
    for name, pattern in (("exact", "r/x"), ("plus", "r/+"), ("hash", "r/#")):
        late = place.start(place.topic(pattern), options=["-q", "1"], name=name)
        check_equal(late.line("retained message"), "1 1 new", f"retained message of {pattern}")
    place.publish_empty_retained(topic)
    after = place.subscribe(place.topic("r/#"), options=["-q", "1"], name="after")
    place.publish(place.topic("r/z"), [MARKER], "-q", "1")
    check_equal(after.early + after.lines_until_marker(), [], "retained messages after their deletion")


def shared(place):
    topic = place.topic("t")
    ends = [place.topic(f"end/{index}") for index in range(2)]
    members = [place.subscribe(f"$share/g/{topic}", end, options=["-q", "1"], name=f"member{index}")
               for index, end in enumerate(ends)]
    place.publish(topic, LINES, "-q", "1")
    got = []
    for end, member in zip(ends, members):
        place.publish(end, [MARKER], "-q", "1")
        part = [line.split()[2] for line in member.lines_until_marker()]
        check(part, "a member got nothing")
        got += part
    check_equal(sorted(got), sorted(LINES), "messages of the group")


def will(place):
    topic = place.topic("will")
    watcher = place.subscribe(topic, options=["-q", "2"])
    packet = ["--will-topic", topic, "--will-payload", "gone", "--will-qos", "1"]
    place.subscribe(place.topic("x"), options=packet, name="killed").end(signal.SIGKILL)
    check_equal(watcher.line("will of a killed client"), "1 0 gone", "will")
    place.subscribe(place.topic("x"), options=packet, name="polite").end(signal.SIGTERM)
    # The same id once more: by its CONNACK the earlier connection has been dealt with.
    place.publish(topic, [MARKER], "-q", "1", name="polite")
    # On SIGTERM mosquitto_sub sends DISCONNECT, in 5.0 with reason 0x04: with will message.
    expected = ["1 0 gone"] if place.version == "5.0" else []
    check_equal(watcher.lines_until_marker(), expected, "will after DISCONNECT")


def session(place):
    for qos in ("1", "2"):
        topic, name = place.topic(f"s{qos}"), f"kept{qos}"
        options = ["-c", "-q", "2"] + (["-x", "300"] if place.version == "5.0" else [])
        # -E: ends as soon as the subscription is acknowledged.
        check_equal(place.start(topic, options=[*options, "-E"], name=name).wait_end("SUBACK"), 0, "exit code")
        place.publish(topic, [*LINES, MARKER], "-q", qos)
        back = place.start(topic, options=options, name=name)
        check_equal(back.lines_until_marker(), [f"{qos} 0 {line}" for line in LINES], "queued messages")


def takeover(place):
    first = place.subscribe(place.topic("t"), options=["-q", "1", "-d"], name="twin", form="got %p")
    # A publisher with the subscriber's id: the subscriber loses its connection. It ends if it is told the reason (0x8E
    # in 5.0), and connects again otherwise.
    place.publish(place.topic("other"), ["x"], "-q", "1", name="twin")
    while (line := first.line_or_end("notice that the client was taken over")) is not None:
        if "sending CONNECT" in line:
            break


def large(place):
    payload = "0123456789abcdef" * (200 * 1024 // 16)
    subscriber = place.subscribe(place.topic("large"), options=["-q", "2"])
    for qos in (0, 1, 2):
        place.publish(place.topic("large"), [payload], "-q", str(qos))
        check(subscriber.line("large message") == f"{qos} 0 {payload}", f"200 KiB at QoS {qos} came back different")


def message_properties(place):
    subscriber = place.subscribe(place.topic("p"), options=["-q", "1"], form="%C|%R|%D|%P|%p")
    words = ["content-type", "text/plain", "response-topic", "answer/here", "correlation-data", "tag",
             "user-property", "b", "1"]
    options = [words[:2], words[2:4], words[4:6], words[6:], ["user-property", "a", "2"]]
    place.publish(place.topic("p"), ["x"], "-q", "1", *[w for each in options for w in ("-D", "publish", *each)])
    check_equal(subscriber.line(), "text/plain|answer/here|tag|b:1 a:2|x", "properties")


def request_response(place):
    responder = place.subscribe(place.topic("ask"), options=["-q", "1"], form="%R|%D|%p")
    requester = place.request(place.topic("ask"), place.topic("answers"), "question")
    target, tag, payload = responder.line("request").split("|")
    check_equal((target, payload), (place.topic("answers"), "question"), "request")
    options = ["-D", "publish", "correlation-data", tag] if tag else []
    place.publish(target, ["answer"], "-q", "1", *options)
    check_equal(requester.line("response"), "answer", "response")


def message_expiry(place):
    topic, gone = place.topic("e"), place.topic("gone")
    watcher = place.subscribe(gone, options=["-q", "1"], name="watcher")
    options = ["-c", "-x", "300", "-q", "1"]
    will = ["--will-topic", gone, "--will-payload", "gone"]
    place.subscribe(topic, options=[*options, *will], name="kept").end(signal.SIGTERM)
    # With the will that DISCONNECT 0x04 asks for, it is sure that the broker has read it, and delivers nothing more.
    watcher.line("will of the subscriber")
    place.publish(topic, ["short"], "-q", "1", "-D", "publish", "message-expiry-interval", "1")
    place.publish(topic, ["long"], "-q", "1", "-D", "publish", "message-expiry-interval", "60")
    time.sleep(2.2)  # The rule speaks of time: past the expiry of the first message.
    subscriber = place.start(topic, options=options, name="kept", form="%E %p")
    # The message that told that it is subscribed may come again, if it was not yet acknowledged.
    while (line := subscriber.line("message that has not expired")).endswith("ready"):
        pass
    left, payload = line.split()
    check(payload == "long" and 55 <= int(left) <= 59, f"{payload} with {left} s left after 2 of 60 s")


def topic_alias(place):
    subscriber = place.subscribe(place.topic("one"), options=["-q", "1"])
    place.publish(place.topic("one"), [*LINES, MARKER], "-q", "1", "-D", "publish", "topic-alias", "1")
    check_equal(subscriber.lines_until_marker(), [f"1 0 {line}" for line in LINES], "messages")


def subscription_identifiers(place):
    options = ["-q", "1", "-D", "subscribe", "subscription-identifier", "268435455"]
    subscriber = place.subscribe(place.topic("i"), options=options, form="%S %p")
    place.publish(place.topic("i"), ["x"], "-q", "1")
    check_equal(subscriber.line(), "268435455 x", "identifier")


def retain_as_published(place):
    subscriber = place.subscribe(place.topic("r"), options=["-q", "1", "--retain-as-published"])
    place.publish(place.topic("r"), ["x"], "-q", "1", "-r")
    check_equal(subscriber.line(), "1 1 x", "retain as published")
    place.publish_empty_retained(place.topic("r"))


def sys_topics(place):
    # Retained, so there at once; a load has two decimals, the rest are whole numbers.
    wanted = ["clients/connected", "clients/total", "messages/received", "bytes/sent", "subscriptions/count",
              "retained messages/count", "publish/messages/dropped", "load/messages/received/1min", "uptime", "version"]
    watcher = place.start("$SYS/broker/#", options=["-q", "1"], name="sys", form="%t=%p")
    seen = {}
    while not all(name in seen for name in wanted):
        topic, text = watcher.line(f"$SYS topics beside {sorted(seen)}").split("=", 1)
        seen[topic.removeprefix("$SYS/broker/")] = text
    for name in wanted[:7]:
        check(seen[name].isdigit(), f"{name} is {seen[name]}")
    whole, _, decimals = seen["load/messages/received/1min"].partition(".")
    check(whole.isdigit() and len(decimals) == 2, f"load is {seen['load/messages/received/1min']}")
    check(seen["uptime"].endswith(" seconds"), f"uptime is {seen['uptime']}")
    check(" version " in seen["version"], f"version is {seen['version']}")
    place.publish("$SYS/broker/uptime", ["forged"])
    while not (line := watcher.line("the next uptime")).startswith("$SYS/broker/uptime="):
        pass
    check(line.endswith(" seconds"), f"a client wrote {line}")


def rights(place):
    """Where users log in: a wrong password, and topics that the rules close."""
    host = [*way(*place.address), "-V", place.common_version]
    for user, password in [(os.environ["MQTT_USER"], "wrong"), ("nobody", os.environ["MQTT_PASSWORD"])]:
        command = ["mosquitto_pub", *host, "-u", user, "-P", password, "-t", place.topic("t"), "-m", "x"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S)
        check(done.returncode != 0, f"{user} was let in")
    denied = place.start("forbidden/closed", options=["-q", "1"], name="denied")
    line = denied.line("a word about the refusal")
    check("denied" in line, f"a closed topic was granted: {line}")
    subscriber = place.subscribe(place.topic("t"), "+/closed", options=["-q", "1"], form="%t %p")
    place.publish("forbidden/closed", ["closed"], "-q", "0")
    place.publish(place.topic("t"), [MARKER], "-q", "1")
    lines = subscriber.lines_until_marker()
    check(not [line for line in lines if line.startswith("forbidden/")], "a message came that the rules close")


BOTH = {
    "qos0": lambda place: in_order(place, 0),
    "qos1": lambda place: in_order(place, 1),
    "qos2": lambda place: in_order(place, 2),
    "wildcards": wildcards,
    "retained": retained,
    "shared": shared,
    "will": will,
    "session": session,
    "takeover": takeover,
    "large": large,
    "sys_topics": sys_topics,
} | ({"rights": rights} if "MQTT_USER" in os.environ else {})
ONLY_V5 = {
    "message_properties": message_properties,
    "request_response": request_response,
    "message_expiry": message_expiry,
    "topic_alias": topic_alias,
    "subscription_identifiers": subscription_identifiers,
    "retain_as_published": retain_as_published,
}


def main(host, port, wanted):
    plan = [
        (f"{version}/{name}", body, version)
        for version, bodies in (("3.1.1", BOTH), ("5.0", BOTH | ONLY_V5))
        for name, body in bodies.items()
        if not wanted or name in wanted
    ]
    failed = 0
    with ThreadPoolExecutor(4) as pool:
        runs = [(name, pool.submit(run_pairs, name, body, version, host, port)) for name, body, version in plan]
        for name, run in runs:
            problem = run.result()
            failed += problem is not None
            print(f"ok {name}" if problem is None else f"FAIL {name}: {problem}", flush=True)
    return 1 if failed else 0


def run_pairs(name, body, version, host, port):
    """Runs one scenario for every pair of client ids; the first problem, or None."""
    with ThreadPoolExecutor(PAIRS) as pool:
        tag = f"cli-{os.getpid()}-{name.replace('/', '-')}"
        places = [Place(host, port, version, f"{tag}-{index}") for index in range(PAIRS)]
        return next((problem for problem in pool.map(lambda place: run_one(body, place), places) if problem), None)


def run_one(body, place):
    try:
        body(place)
        return None
    except Exception as error:  # Whatever went wrong is the scenario's result.
        return f"{place.tag}: {type(error).__name__}: {error}"
    finally:
        place.close_all()


def check(holds, what):
    if not holds:
        raise AssertionError(what)


def check_equal(actual, expected, what):
    check(actual == expected, f"{what}: {repr(actual)[:150]} instead of {repr(expected)[:150]}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
