import unittest

from .. import table
from ..promise import Promise, Terms
from . import made

MEMORY, KILL = Terms(Promise.MEMORY), Terms(Promise.KILL)


def cell(*rounds, terms=MEMORY):
    return table.Cell([made.result(**numbers) for numbers in rounds], terms)


def cpu(cells, absent=None, names=("pairs-qos1",)):
    """The rows of the table of CPU, and the notes."""
    heads = {broker: broker for _, broker in cells} | {broker: broker for _, broker in absent or {}}
    lines = table.tables(cells, names, heads, absent or {}, (table.CPU,)).splitlines()
    return [line for line in lines if line.startswith("| ")], [line.strip() for line in lines if line.startswith("[")]


class Cells(unittest.TestCase):
    def test_a_round_that_is_not_valid_does_not_count_beside_one_that_is(self):
        one = cell({"cpu_ns": 1000}, {"cpu_ns": 3000}, {"cpu_ns": 90, "checks": ("strangers",)})
        self.assertTrue(one.is_valid)
        self.assertEqual(one.median(table.cpu_ns), 2000)

    def test_without_a_valid_round_all_count_and_the_cell_is_not_valid(self):
        one = cell({"cpu_ns": 1000, "checks": ("cpu",)}, {"cpu_ns": 3000, "checks": ("strangers",)})
        self.assertFalse(one.is_valid)
        self.assertEqual(one.median(table.cpu_ns), 2000)

    def test_losses_count_in_all_rounds(self):
        self.assertEqual(cell({"lost": 2}, {"lost": 3, "checks": ("cpu",)}).lost(), 5)

    def test_a_range_needs_three_rounds(self):
        two, three = cell({"p99_us": 90}, {"p99_us": 110}), cell({"p99_us": 90}, {"p99_us": 110}, {"p99_us": 1200})
        self.assertEqual(two.range_text(table.latency("p99_us"), table.micros), "")
        self.assertEqual(three.range_text(table.latency("p99_us"), table.micros), " (90 us to 1.2 ms)")


class Tables(unittest.TestCase):
    def test_the_best_is_bold_among_the_valid_ones_that_lost_nothing(self):
        rows, notes = cpu({("pairs-qos1", "a"): cell({"cpu_ns": 3000}), ("pairs-qos1", "b"): cell({"cpu_ns": 2000}),
                           ("pairs-qos1", "c"): cell({"cpu_ns": 1000, "checks": ("strangers",)}), ("pairs-qos1", "d"): cell({"cpu_ns": 900, "lost": 1})})
        self.assertEqual(rows, ["| scenario | a | b | c | d |", "| pairs-qos1 | 3 us | **2 us** | 1 us [1] | 900 ns [2] |"])
        self.assertEqual(notes, ["[1] not valid (strangers): other programs ran on the cores of the broker", "[2] lost 1 messages"])

    def test_alone_nobody_is_the_best(self):
        rows, _ = cpu({("pairs-qos1", "a"): cell({"cpu_ns": 3000}), ("pairs-qos1", "b"): cell({"cpu_ns": 2000, "checks": ("cpu",)})})
        self.assertNotIn("**", "".join(rows))

    def test_few_valid_rounds_are_told(self):
        _, notes = cpu({("pairs-qos1", "a"): cell({}, {"checks": ("cpus-moved",)}, {"checks": ("cpus-moved",)})})
        self.assertEqual(notes, ["[1] 1 of 3 rounds are valid"])

    def test_only_equal_promises_stand_in_one_table(self):
        cells = {("pairs-qos0", "a"): cell({"cpu_ns": 1000}), ("pairs-qos1", "a"): cell({"cpu_ns": 3000}),
                 ("pairs-qos0", "b"): cell({"cpu_ns": 2000}), ("pairs-qos1", "b"): cell({"cpu_ns": 50}, terms=KILL)}
        rows, notes = cpu(cells, names=("pairs-qos0", "pairs-qos1"))
        self.assertEqual(rows, ["| scenario | a | b |", "| pairs-qos0 | **1 us** | 2 us |", "| pairs-qos1 | 3 us | - [1] |",
                                "| scenario | b |", "| pairs-qos1 | 50 ns |"])
        self.assertEqual(notes, [f"[1] {table.ELSEWHERE}"])

    def test_other_ciphers_are_other_promises(self):
        cells = {("pairs-qos1", name): cell({}, terms=Terms(Promise.MEMORY, tls)) for name, tls in
                 (("a", "TLSv1.3 AES"), ("b", "TLSv1.2 AES"), ("c", "TLSv1.3 AES"))}
        rows, _ = cpu(cells)
        self.assertEqual([line for line in rows if "scenario" in line], ["| scenario | b |", "| scenario | a | c |"])

    def test_what_is_not_there_says_why(self):
        cells = {("pairs-qos1", "a"): cell({}), ("pairs-qos2", "a"): cell({}), ("pairs-qos1", "b"): cell({})}
        rows, notes = cpu(cells, {("pairs-qos2", "b"): "b has no QoS 2"}, ("pairs-qos1", "pairs-qos2"))
        self.assertIn("- [1] |", rows[2])
        self.assertEqual(notes, ["[1] b has no QoS 2"])

    def test_a_measure_that_nobody_has_has_no_table(self):
        self.assertEqual(table.tables({("connect", "a"): cell({})}, ("connect",), {"a": "a"}, {}, (table.CPU,)), "")


class Texts(unittest.TestCase):
    def test_versions_are_found_in_what_brokers_say_of_themselves(self):
        for said, version in (("mosquitto version 2.0.11", "2.0.11"), ("FlashMQ Version 1.26.2 with SSE4.2 support", "1.26.2"),
                              ("nats-server: v2.9.10", "2.9.10"), ("RabbitMQ 3.10.8-1.1+deb12u1", "3.10.8"), ("ringmq 0.1.0 (57e0788106)", "0.1.0"),
                              ("aedes 1.2.0, Node v18.20.4", "1.2.0"), ("HiveMQ CE 2026.5, Java 17.0.9", "2026.5"), ("./mine --port {port}", ""), ("unknown", "")):
            self.assertEqual(table.short_version(said), version, said)

    def test_a_summary_names_what_is_not_valid(self):
        said = table.summary(made.result(rate=120000.0, cpu_ns=1500.0, p99_us=90, lost=3, checks=("cpu-wait", "cpu")))
        self.assertEqual(said, "120 k/s, 1.5 us CPU per delivery, p99 90 us, 3 lost; NOT VALID: cpu, cpu-wait")
