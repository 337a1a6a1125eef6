import runpy
import unittest

from .. import peers, plan, suite
from ..install import ROOT


class Suite(unittest.TestCase):
    def test_each_qos_has_a_row_at_the_same_rate(self):
        rates = {one.qos: [group["rate"] for group in one.groups if "rate" in group] for one in suite.SUITE if one.has_tail}
        self.assertEqual(rates, {0: [suite.RATE], 1: [suite.RATE], 2: [suite.RATE]})

    def test_a_quick_comparison_with_two_peers_takes_less_than_ten_minutes(self):
        compare = runpy.run_path(str(ROOT / "scripts/compare"))
        quick = compare["QUICK"]
        named = {one.name: one for one in suite.SUITE}
        three = [type("Entrant", (), {"peer": peer}) for peer in peers.ALL[:3]]
        seconds = sum((quick["tail_rounds"] if named[name].has_tail else quick["rounds"])
                      * plan.seconds_of(three, quick["warmup"], quick["duration"]) for name in suite.QUICK)
        self.assertLess(seconds, 60 * quick["minutes"])
        self.assertLess(quick["minutes"], 10)


class Clock(unittest.TestCase):
    def setUp(self):
        self.now = 100.0

    def test_the_estimate_follows_what_the_rounds_took(self):
        clock = plan.Clock(60, now=lambda: self.now)
        self.assertEqual(clock.left_s(), 60)
        self.now += 20
        clock.done(10)
        self.assertEqual(clock.left_s(), 100)
        self.now += 10
        clock.done(20)
        self.assertEqual(clock.left_s(), 30)

    def test_no_round_begins_that_would_not_end_in_time(self):
        clock = plan.Clock(60, 30, now=lambda: self.now)
        self.assertTrue(clock.allows(30))
        self.assertFalse(clock.allows(31))
        self.now += 20
        clock.done(10)
        self.assertTrue(clock.allows(5))
        self.assertFalse(clock.allows(6))

    def test_without_a_bound_all_is_allowed(self):
        self.assertTrue(plan.Clock(60, now=lambda: self.now).allows(1e9))

    def test_times_are_written_for_people(self):
        self.assertEqual([plan.written(seconds) for seconds in (40, 90, 600, 7200)], ["40 s", "2 min", "10 min", "2.0 h"])
