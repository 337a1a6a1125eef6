import unittest

from .. import peers, promise, report, suite, table
from ..promise import Promise, Terms
from . import made


class Named:
    def __init__(self, name, *promises):
        self.name = name
        self.promises = {one: one.text for one in promises}


class Entrants(unittest.TestCase):
    BROKERS = (Named("a", Promise.MEMORY, Promise.KILL, Promise.POWER), Named("b", Promise.POWER, Promise.KILL), Named("c", Promise.MEMORY))

    def test_everybody_promises_as_little_as_it_can(self):
        found = promise.entrants(self.BROKERS, is_durable=False)
        self.assertEqual([(one.name, one.promise) for one in found], [("a", Promise.MEMORY), ("b", Promise.KILL), ("c", Promise.MEMORY)])

    def test_durable_ones_run_once_for_each_promise_that_outlives_the_process(self):
        found = promise.entrants(self.BROKERS, is_durable=True)
        self.assertEqual([one.name for one in found], ["a-kill", "a-power", "b-kill", "b-power"])

    def test_qos_0_promises_the_same_everywhere(self):
        one = promise.entrants(self.BROKERS[1:2], is_durable=True)[1]
        self.assertEqual((one.promise_at(0), one.promise_at(1), one.promise_at(None)), (Promise.MEMORY, Promise.POWER, Promise.MEMORY))

    def test_ringmq_has_an_equal_for_each_promise_of_a_peer_but_those_that_wait_for_nothing(self):
        own = set(peers.ALL[0].promises)
        others = {one for peer in peers.ALL for one in peer.promises}
        self.assertEqual(others - own, {Promise.LATER})


class Rows(unittest.TestCase):
    def test_each_row_says_what_it_promises(self):
        scenarios = [one for one in suite.SUITE if one.name in ("pairs-qos0", "pairs-qos1", "rate-qos1", "connect")]
        cells = {(one.name, broker): table.Cell([made.result()], Terms(Promise.KILL if broker == "b" and one.qos else Promise.MEMORY))
                 for one in scenarios for broker in "ab"}
        _, rows = report.promises(scenarios, cells, {"a": "a", "b": "b"})
        ends = "end with the connection"
        self.assertEqual(rows, [
            ["pairs-qos0", "0", ends, "there is none", "no", "no", "none", "a, b"],
            ["pairs-qos1, rate-qos1", "1", ends, Promise.MEMORY.text, "no", "no", "none", "a"],
            ["pairs-qos1, rate-qos1", "1", ends, Promise.KILL.text, "yes", "no", "none", "b"],
            ["connect", "-", ends, "-", "-", "-", "none", "a, b"]])

    def test_sessions_that_are_kept_are_told(self):
        one = next(one for one in suite.DURABLE if one.name == "pairs-qos1")
        self.assertEqual(report.acknowledged(one, Promise.POWER), ("1", "kept", Promise.POWER.text, "yes", "yes"))
