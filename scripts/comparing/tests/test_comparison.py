import contextlib
import io
import os
import tempfile
import types
import unittest
from pathlib import Path
from unittest import mock

from .. import plan
from ..comparison import Comparison
from ..probe import Reading
from . import made

QUIET = Reading(230, (1.4, 1.4))
CORE = str(min(os.sched_getaffinity(0)))


class Rounds(unittest.TestCase):
    """Runs that do not take place: of each broker it is given what disturbs its tries, one after the other."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.ran = []

    def comparison(self, strangers, readings=None, rounds=1, minutes=None, **more):
        arguments = types.SimpleNamespace(
            out=self.folder, durable=False, tls=False, quick=False, scenario=["pairs-qos1"], only=list(strangers), given=[], rounds=rounds,
            tail_rounds=rounds, duration=1.0, warmup=1.0, tries=3, minutes=minutes, broker_cores=CORE, load_cores=CORE, **more)
        one = Comparison(arguments)
        one._clock = plan.Clock(60, minutes and 60 * minutes, now=lambda: 0.0)
        given = {name: iter(shares) for name, shares in strangers.items()}
        places = iter(readings or [])

        def measure(entrant, scenario, path):
            share = next(given[entrant.name])
            self.ran.append(entrant.name)
            if isinstance(share, BaseException):
                raise share
            return made.run(path.parent, path.stem, share, ways=())

        one._measure_once = measure
        one._read = lambda: next(places, QUIET)
        return one

    def run_it(self, one):
        with contextlib.redirect_stdout(io.StringIO()) as said:
            one.run()
        return said.getvalue()

    def counted(self, one):
        return {broker: [(run.strangers, run.tries) for run in runs] for (_, broker), runs in one.runs.items()}

    def test_who_was_disturbed_tries_again_and_the_least_disturbed_try_counts(self):
        one = self.comparison({"ringmq": [0.0], "mosquitto": [0.3, 0.1, 0.2]})
        said = self.run_it(one)
        self.assertEqual(self.ran, ["ringmq", "mosquitto", "mosquitto", "mosquitto"])
        self.assertEqual(self.counted(one), {"ringmq": [(0.0, 1)], "mosquitto": [(0.1, 3)]})
        self.assertIn("disturbed: mosquitto (strangers): once more", said)
        self.assertEqual(sorted(path.name for path in (self.folder / "raw").iterdir()), ["pairs-qos1-mosquitto-1.json", "pairs-qos1-ringmq-1.json"])

    def test_who_ran_elsewhere_tries_again(self):
        elsewhere = Reading(36, (1.4, 1.4))
        one = self.comparison({"ringmq": [0.0], "flashmq": [0.0] * 2, "mosquitto": [0.0] * 2}, [QUIET, QUIET, elsewhere, QUIET])
        self.run_it(one)
        # The reading in between belongs to both of them.
        self.assertEqual(self.ran, ["ringmq", "flashmq", "mosquitto", "flashmq", "mosquitto"])
        self.assertEqual(self.counted(one), {"ringmq": [(0.0, 1)], "flashmq": [(0.0, 2)], "mosquitto": [(0.0, 2)]})

    def test_brokers_take_turns_in_going_first(self):
        one = self.comparison({"ringmq": [0.0] * 4, "mosquitto": [0.0] * 4}, rounds=4)
        self.run_it(one)
        self.assertEqual(self.ran[::2], ["ringmq", "mosquitto", "mosquitto", "ringmq"])

    def test_ctrl_c_loses_no_run_that_came_to_its_end(self):
        one = self.comparison({"ringmq": [0.2], "mosquitto": [KeyboardInterrupt()]})
        with self.assertRaises(KeyboardInterrupt):
            self.run_it(one)
        self.assertEqual(self.counted(one), {"ringmq": [(0.2, 1)]})
        self.assertEqual([path.name for path in (self.folder / "raw").iterdir()], ["pairs-qos1-ringmq-1.json"])

    def test_nothing_is_repeated_for_which_there_is_no_time(self):
        one = self.comparison({"ringmq": [0.3]}, minutes=0.15)
        self.run_it(one)
        self.assertEqual(self.ran, ["ringmq"])

    def test_no_round_begins_without_the_time_for_it(self):
        one = self.comparison({"ringmq": [0.3]}, minutes=0.01)
        self.run_it(one)
        self.assertEqual(self.ran, [])
        self.assertIn("would not have ended within 0.01 minutes", one.cut)
