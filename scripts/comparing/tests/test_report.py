import contextlib
import io
import json
import sys
import tempfile
import types
import unittest
from pathlib import Path
from unittest import mock

from .. import promise, report, suite
from ..promise import Promise, Terms
from . import made

# Draws plots that hold nothing but the names of the results in them.
RINGLOAD = f"""#!{sys.executable}
import pathlib, sys
words = sys.argv[1:]
results = [pathlib.Path(word).stem for word in words if word.endswith(".json")]
out = pathlib.Path(words[words.index("--out") + 1])
out.write_text("\\n".join(results))
if "--svg" in words:
    for name in ("cpu", "rate", "p99", "load-1"):
        (pathlib.Path(words[words.index("--svg") + 1]) / f"overview-{{name}}.svg").write_text("\\n".join(results))
"""


class Broker:
    def __init__(self, name, *promises):
        self.name = name
        self.promises = {one: one.text for one in promises}


class Reports(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.folder = self.root / "out"
        (self.folder / "raw").mkdir(parents=True)
        program = self.root / "ringload"
        program.write_text(RINGLOAD)
        program.chmod(0o755)
        (self.root / "README.md").write_text(f"before\n{report.README_BEGIN}\nreplaced\n{report.README_END}\nafter\n")
        for patch in (mock.patch.object(report, "RINGLOAD", program), mock.patch.object(report, "ROOT", self.root),
                      mock.patch.object(report, "PUBLISHED", self.root / "results/compare"),
                      mock.patch.object(report.machine, "commit", lambda root: "0000000")):
            patch.start()
            self.addCleanup(patch.stop)
        self.runs = {}

    def ran(self, scenario, broker, **numbers):
        rounds = self.runs.setdefault((scenario, broker), [])
        rounds.append(made.run(self.folder / "raw", f"{scenario}-{broker}-{len(rounds) + 1}", **numbers))

    def facts(self, *brokers, cut=""):
        every = promise.entrants(brokers, is_durable=False)
        scenarios = [one for one in suite.SUITE if any(name == one.name for name, _ in self.runs)]

        def terms(key):
            entrant = next(one for one in every if one.name == key[1])
            return Terms(entrant.promise_at(next(one for one in scenarios if one.name == key[0]).qos), self.runs[key][0].tls)

        arguments = types.SimpleNamespace(rounds=2, tail_rounds=3, duration=2, warmup=1, broker_cores="0", load_cores="0")
        return types.SimpleNamespace(
            folder=self.folder, began="2026-01-01 00:00", arguments=arguments, scenarios=scenarios, every=every, runs=self.runs,
            versions={one.name: f"{one.name} version 1.2.3" for one in every}, absent={}, left_out={"gone": "cannot be installed: it is not there"},
            failures=[], settings={"a": "$ a --fast"}, cut=cut, why_no_probe="", terms=terms, toml=lambda one: one.toml(1, 2))

    def write(self, *brokers, **more):
        one = report.Report(self.facts(*brokers, **more))
        with contextlib.redirect_stdout(io.StringIO()):
            one.write()
        return one

    def drawn(self, where="plots"):
        return set((self.folder / where / "overview-cpu.svg").read_text().split())

    def test_plots_show_nothing_that_the_tables_call_invalid(self):
        a, b = Broker("a", Promise.MEMORY), Broker("b", Promise.MEMORY)
        self.ran("pairs-qos1", "a")
        self.ran("pairs-qos1", "a", strangers=0.3)
        self.ran("pairs-qos1", "a", ways=(60, 100))
        self.ran("pairs-qos1", "a", checks=("cpu",))
        for checks in ((), ("cpu",)):
            self.ran("pairs-qos1", "b", strangers=0.1, checks=checks)
        one = self.write(a, b)
        self.assertEqual(self.drawn(), {"pairs-qos1-a-1"})
        self.assertIn("Not in the plots, because no run was valid: b in pairs-qos1.", (self.folder / "README.md").read_text())
        self.assertIn("not valid (cpu, strangers)", one.tables)
        # The page marks what ringload found by itself, and leaves out what it knows nothing of.
        self.assertEqual(set((self.folder / "page.html").read_text().split()), {"pairs-qos1-a-1", "pairs-qos1-a-4"})

    def test_without_any_valid_run_there_is_no_plot(self):
        self.ran("pairs-qos1", "a", strangers=0.3)
        self.write(Broker("a", Promise.MEMORY))
        self.assertEqual(list(self.folder.glob("plots*/*")), [])

    def test_plots_show_equal_promises(self):
        for scenario in ("pairs-qos0", "pairs-qos1", "rate-qos1"):
            for broker in "abc":
                self.ran(scenario, broker)
        self.write(Broker("a", Promise.MEMORY), Broker("b", Promise.MEMORY), Broker("c", Promise.KILL))
        self.assertEqual(self.drawn(),
                         {f"{scenario}-{broker}-1" for scenario in ("pairs-qos0", "pairs-qos1", "rate-qos1") for broker in "ab"} | {"pairs-qos0-c-1"})
        self.assertEqual(self.drawn("plots-kill"), {"pairs-qos1-c-1", "rate-qos1-c-1"})

    def test_the_share_of_strangers_is_stored_with_each_run(self):
        self.ran("pairs-qos1", "a", strangers=0.0213)
        self.ran("pairs-qos1", "a", strangers=0.3)
        self.write(Broker("a", Promise.MEMORY))
        runs = json.loads((self.folder / "runs.json").read_text())["runs"]
        self.assertEqual([(one["disturbance"]["strangers"], one["validity"]["valid"], one["promise"]) for one in runs],
                         [(0.0213, True, "memory"), (0.3, False, "memory")])

    def test_versions_stand_in_the_head_of_each_table(self):
        self.ran("pairs-qos1", "a")
        self.ran("pairs-qos1", "b")
        one = self.write(Broker("a", Promise.MEMORY), Broker("b", Promise.MEMORY))
        self.assertIn("| scenario | a (1.2.3) | b (1.2.3) |", one.tables)

    def test_the_report_names_what_is_missing(self):
        self.ran("pairs-qos1", "a")
        self.write(Broker("a", Promise.MEMORY), cut="Ended early: it is about the runs up to there.")
        text = (self.folder / "README.md").read_text()
        for part in ("- gone: cannot be installed", "Ended early", "## What each row promises", "$ a --fast", "0.0% of a core at most"):
            self.assertIn(part, text)

    def test_what_is_published_replaces_all_that_was_there(self):
        for _ in range(2):
            self.ran("pairs-qos1", "a")
        for _ in range(3):
            self.ran("rate-qos1", "a")
        (self.root / "results/compare").mkdir(parents=True)
        (self.root / "results/compare/old.txt").write_text("old")
        with contextlib.redirect_stdout(io.StringIO()):
            one = report.Report(self.facts(Broker("a", Promise.MEMORY)))
            one.write()
            one.publish()
        self.assertEqual(sorted(str(path.relative_to(self.root / "results/compare")) for path in (self.root / "results/compare").rglob("*.*")),
                         ["README.md", "plots/overview-cpu.svg", "plots/overview-p99.svg", "plots/overview-rate.svg", "runs.json"])
        readme = (self.root / "README.md").read_text()
        self.assertTrue(readme.startswith(f"before\n{report.README_BEGIN}\nMeasured on 2026-01-01") and readme.endswith(f"{report.README_END}\nafter\n"))
        self.assertIn("![CPU per delivery](results/compare/plots/overview-cpu.svg)", readme)
        self.assertIn("medians (rounds: 2, at a given rate 3)", readme)
        self.assertNotIn("replaced", readme)
