"""The folder that a comparison leaves: tables, plots, every run, and how each broker was set up."""

import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from . import machine, record, table
from .install import RINGLOAD, ROOT
from .promise import Promise
from .rounds import STRANGERS_MAX

PUBLISHED = ROOT / "results/compare"
# The plots over all scenarios that are shown, by the name of their file.
PLOTS = {"cpu": "CPU per delivery", "rate": "deliveries per second", "p99": "p99 latency"}
README_BEGIN, README_END = "<!-- compare: begin -->", "<!-- compare: end -->"


class Report:
    """`facts` are those of the comparison: its arguments, scenarios, entrants and their versions, the settings they got, the
    runs by scenario and broker, and why others are not there."""

    def __init__(self, facts):
        self.facts = facts
        self.folder = facts.folder
        self.results = {key: [run.result() for run in runs] for key, runs in facts.runs.items()}
        self.cells = {key: table.Cell(results, facts.terms(key)) for key, results in self.results.items()}
        self.names = [one.name for one in facts.scenarios]
        self.heads = self._heads()
        self.plotted = {}

    def _heads(self):
        """Brokers with a result, also those that stopped in the middle, with the version: in the order of the list."""
        measured = {name for _, name in self.cells}
        return {name: table.head(name, version) for name, version in self.facts.versions.items() if name in measured}

    def write(self):
        self.draw()
        self.tables = self.make_tables()
        (self.folder / "README.md").write_text(self.text())
        record.write(self.folder / "runs.json", {
            "command": command(), "began": self.facts.began, "scenarios": {one.name: self.facts.toml(one) for one in self.facts.scenarios},
        }, [
            {"scenario": scenario, "name": broker, "round": number, "promise": cell.terms.promise.key, "tls": cell.terms.tls, **record.compact(one)}
            for (scenario, broker), cell in self.cells.items() for number, one in enumerate(cell.rounds, 1)])
        print(f"\n{self.tables}\n\nwritten: {self.folder}", flush=True)

    def make_tables(self, titles=None):
        return table.tables(self.cells, self.names, self.heads, self.facts.absent, titles)

    def draw(self):
        """The page shows every run that others did not disturb. The plots show what the tables call valid, and nothing else;
        each of them, only what promises the same."""
        if undisturbed := self._paths(lambda cell, run, one: not run.doubts()):
            self._report(undisturbed, "--out", self.folder / "page.html")
        groups = plot_groups(self.cells)
        for number, terms in enumerate(groups):
            paths = self._paths(lambda cell, run, one: cell.terms == terms and one["validity"]["valid"])
            where = "plots" if number == 0 else f"plots-{terms.promise.key}" + (f"-{number}" if terms.tls else "")
            (self.folder / where).mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory() as name:
                # Its page would be one without the runs that are not valid.
                self._report(paths, "--out", Path(name) / "page.html", "--svg", self.folder / where)
            self.plotted[where] = terms

    def _paths(self, is_shown):
        """Of the runs, scenario by scenario."""
        return [run.path for name in self.names for broker in self.heads for run, one in zip(
            self.facts.runs.get((name, broker), []), self.results.get((name, broker), [])) if is_shown(self.cells[name, broker], run, one)]

    def _report(self, paths, *options):
        title = f"Ringmq beside other brokers, {self.facts.began[:10]}"
        subprocess.run([RINGLOAD, "report", "--title", title, *paths, *options], check=True, stdout=subprocess.DEVNULL)

    def drawn(self, where="plots"):
        """The files of the plots that are shown, below the folder, by what they show."""
        files = {f"{where}/overview-{name}.svg": about for name, about in PLOTS.items()}
        return {name: about for name, about in files.items() if (self.folder / name).exists()}

    def plots(self, prefix, every=True):
        """As pictures of a page from which the folder is at `prefix`."""
        lines = []
        for where, terms in list(self.plotted.items())[: None if every else 1]:
            pictures = [line for name, about in self.drawn(where).items() for line in (f"![{about}]({prefix}{name})", "")]
            lines += [*([f"Of what is {terms.text()}:", ""] if len(self.plotted) > 1 and pictures else []), *pictures]
        left_out = [f"{broker} in {scenario}" for (scenario, broker), cell in self.cells.items() if not cell.is_valid]
        if lines and left_out:
            lines += [f"Not in the plots, because no run was valid: {', '.join(left_out)}.", ""]
        return lines or ["There are no plots, because no run was valid.", ""]

    def publish(self):
        """Replaces what the repository shows: the folder of the results, as a whole, and the tables of README.md."""
        path, where = ROOT / "README.md", PUBLISHED.relative_to(ROOT)
        before, begin, rest = path.read_text().partition(README_BEGIN)
        _, end, after = rest.partition(README_END)
        if not begin or not end:
            sys.exit(f"README.md has no {README_BEGIN} … {README_END}: nothing was published")
        shutil.rmtree(PUBLISHED, ignore_errors=True)
        PUBLISHED.mkdir(parents=True)
        for name in ("README.md", "runs.json", *(name for folder in self.plotted for name in self.drawn(folder))):
            (PUBLISHED / name).parent.mkdir(exist_ok=True)
            shutil.copy(self.folder / name, PUBLISHED / name)
        cores = machine.parse_cores(self.facts.arguments.broker_cores)
        text = [
            f"Measured on {self.facts.began[:10]}: {machine.cpu_model()}, kernel {platform.release()}, every broker alone on {len(cores)} "
            f"{'core' if len(cores) == 1 else 'cores'}, payloads of 64 bytes, medians ({self.rounds_text()}). {self.facts.cut}{' ' if self.facts.cut else ''}Bold is best among the "
            f"valid ones that lost nothing. [The whole run]({where}/README.md) has the settings, the promises and all other numbers.",
            "", *self.plots(f"{where}/", every=False), self.make_tables((table.CPU, table.P99, table.MEMORY))]
        path.write_text("\n".join([before + begin, *text, end + after]))
        print(f"replaced: {PUBLISHED} and the tables of README.md")

    def rounds_text(self):
        """As many as there were: time may have been over before all."""
        def of(has_tail):
            names = {one.name for one in self.facts.scenarios if one.has_tail == has_tail}
            counts = sorted(len(cell.rounds) for (name, _), cell in self.cells.items() if name in names)
            return "" if not counts else f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
        few, many = of(False), of(True)
        return f"rounds: {few or many}" + (f", at a given rate {many}" if few and many and few != many else "")

    def text(self):
        facts = self.facts
        missing = [f"- {name}: {why.splitlines()[0]}" for name, why in facts.left_out.items()]
        settings = [f"### {name}\n\n```\n{text}\n```\n" for name, text in facts.settings.items()]
        parts = [
            f"# Comparison of {facts.began[:10]}", "", f"    {command()}", "",
            "Medians over the rounds, and the range of latencies. Every broker ran on the same cores, each run with a fresh process, brokers in turn. Bold is "
            "best among the valid ones that lost nothing and kept the order. [runs.json](runs.json) has the scenarios and every run; "
            "[comparing.md](../../docs/comparing.md) says how to read it, and what was wrong in earlier tables.",
            "", *([facts.cut, ""] if facts.cut else []), *self.plots(""), "", self.tables, "",
            "## What each row promises", "", "Only brokers that promise the same stand in one table.", "",
            table.markdown(*promises(facts.scenarios, self.cells, self.heads)), "",
            "## Machine", "", table.markdown(["", ""], [list(pair) for pair in self.machine().items()]), "",
            "## Versions", "", table.markdown(["broker", "version", "what an acknowledgement of QoS 1 says"], self.versions()), ""]
        if missing:
            parts += ["Not compared:", "", *missing, ""]
        if facts.failures:
            parts += ["Runs without a result:", "", *facts.failures, ""]
        return "\n".join([*parts, "## Settings", "", *settings])

    def versions(self):
        rows = []
        for entrant in self.facts.every:
            if version := self.facts.versions.get(entrant.name):
                rows.append([entrant.name, f"`{version}`", entrant.peer.promises[entrant.promise]])
        return rows

    def machine(self):
        arguments = self.facts.arguments
        return machine.facts(ROOT) | {
            "began": self.facts.began, "cores of the broker": arguments.broker_cores, "cores of the load": arguments.load_cores,
            "rounds": self.rounds_text().removeprefix("rounds: "),
            "measured": f"{arguments.duration:g} s after {arguments.warmup:g} s",
            **quiet(self.results, self.facts.why_no_probe)}


def plot_groups(cells):
    """The terms of plots, those of which the most was measured first."""
    counts = {}
    for cell in cells.values():
        if cell.is_valid:
            counts[cell.terms] = counts.get(cell.terms, 0) + 1
    return sorted(counts, key=lambda terms: (-counts[terms], terms.order))


def promises(scenarios, cells, heads):
    """Head and rows of the table of promises; scenarios of which all is the same share a row."""
    found = {}
    for scenario in scenarios:
        for terms in table.groups_of(cells, [scenario.name]):
            brokers = ", ".join(broker for broker in heads if (cell := cells.get((scenario.name, broker))) and cell.terms == terms)
            said = acknowledged(scenario, terms.promise)
            found.setdefault((*said, terms.tls or "none", brokers), []).append(scenario.name)
    head = ["scenarios", "QoS", "sessions", "an acknowledgement says", "survives `kill -9`", "survives a loss of power", "TLS", "brokers"]
    return head, [[", ".join(names), *rest] for rest, names in found.items()]


def acknowledged(scenario, promise):
    kept = "kept" if any(group.get("clean") is False for group in scenario.groups) else "end with the connection"
    if scenario.qos is None:
        return "-", kept, "-", "-", "-"
    if scenario.qos == 0:
        return "0", kept, "there is none", Promise.MEMORY.survives_kill, Promise.MEMORY.survives_power
    return str(scenario.qos), kept, promise.text, promise.survives_kill, promise.survives_power


def quiet(results, why_no_probe):
    """How quiet the machine was, in the runs that counted."""
    seen = [one["disturbance"] for rounds in results.values() for one in rounds]
    ways = [ns for one in seen for ns in one["one_way_ns"]]
    facts = {"other programs on the broker's cores": f"{max((one['strangers'] for one in seen), default=0):.1%} of a core at most "
                                                     f"(valid up to {STRANGERS_MAX:.0%})"}
    if ways:
        facts["from one CPU to the other"] = f"{min(ways):.0f} to {max(ways):.0f} ns"
    elif why_no_probe:
        facts["moves of the CPUs by the host"] = f"not looked for: {why_no_probe}"
    return facts


def command():
    return shlex.join(["scripts/compare", *sys.argv[1:]])
