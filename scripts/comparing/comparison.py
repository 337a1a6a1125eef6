"""Runs every broker through every scenario, round by round, and keeps what is needed to report it."""

import os
import shlex
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from . import machine, peers, plan, ready, rounds, suite, table
from .install import ROOT, TARGET
from .process import Broker, NoStart, free_port
from .probe import Course, Probe
from .promise import Terms, entrants
from .run import Failed, load

# Variables that tell where a program lies.
HOMES = ("HOME", "HIVEMQ_HOME")
# Above this load of the machine runs will hardly be undisturbed.
BUSY = 0.5


class Comparison:
    def __init__(self, arguments):
        self.arguments = arguments
        self.folder = arguments.out.absolute()
        self.began = time.strftime("%Y-%m-%d %H:%M")
        self.scenarios = chosen_scenarios(arguments)
        self.every = entrants(chosen_peers(arguments), arguments.durable)
        # Those that are still in the race.
        self.entrants = list(self.every)
        # By name, in the order of the list.
        self.versions = {}
        # Why a broker, or a broker in a scenario, is not in the tables.
        self.left_out = {}
        self.absent = {}
        self.failures = []
        # How each was set up, by name.
        self.settings = {}
        # By scenario and broker: what counted in each of its rounds.
        self.runs = {}
        # Why it ended before all was measured, as a sentence.
        self.cut = ""
        self.why_no_probe = ""
        self._cores = machine.parse_cores(arguments.broker_cores)
        self._probe = Probe(self._cores[0], machine.parse_cores(arguments.load_cores)[0])
        self._certificates = None
        self._clock = None

    def toml(self, scenario):
        return scenario.toml(self.arguments.warmup, self.arguments.duration)

    def terms(self, key):
        """What a broker promises in a scenario, by the names of both."""
        name, broker = key
        scenario = next(one for one in self.scenarios if one.name == name)
        entrant = next(one for one in self.every if one.name == broker)
        return Terms(entrant.promise_at(scenario.qos), self.runs[key][0].tls)

    def install(self):
        print("== installing", flush=True)
        if not self.arguments.no_build:
            peers.build_release("ringload")
        elif not peers.RINGLOAD.exists():
            raise SystemExit(f"there is no {peers.RINGLOAD}: leave --no-build out")
        for entrant in list(self.entrants):
            try:
                if self.arguments.no_build and not entrant.peer.is_there():
                    raise peers.Missing("it is not here, and --no-build installs nothing")
                if not self.arguments.no_build:
                    entrant.peer.install()
                entrant.peer.look()
                if entrant.promise not in entrant.peer.promises:
                    raise peers.Missing(f"this version of it cannot promise that: {entrant.promise.text}")
                self.versions[entrant.name] = entrant.peer.version()
                print(f"ok {entrant.name}: {self.versions[entrant.name]}", flush=True)
            except peers.Missing as error:
                self.leave_out(entrant, f"cannot be installed: {error}")
        if self.arguments.tls:
            self._certificates = make_certificates()
        if why := self._probe.build():
            self.why_no_probe = why
            print(f"   moves of the CPUs by the host are not looked for: {why}", flush=True)

    def leave_out(self, entrant, why):
        print(f"MISSING {entrant.name} {why}", flush=True)
        self.entrants.remove(entrant)
        self.left_out[entrant.name] = why
        for scenario in self.scenarios:
            self.absent.setdefault((scenario.name, entrant.name), f"{entrant.name} {why.splitlines()[0]}")

    def rounds_of(self, scenario):
        return self.arguments.tail_rounds if scenario.has_tail else self.arguments.rounds

    def racing(self, scenario):
        """Who is in the race, and has what it takes."""
        found = []
        needs = (*scenario.needs, *(["tls"] if self.arguments.tls else []))
        for entrant in self.entrants:
            if lacking := [entrant.peer.lacks[need] for need in needs if need in entrant.peer.lacks]:
                self.absent[scenario.name, entrant.name] = f"{entrant.name} {lacking[0]}"
            else:
                found.append(entrant)
        return found

    def planned_s(self, scenario):
        return plan.seconds_of(self.racing(scenario), self.arguments.warmup, self.arguments.duration)

    def print_plan(self):
        arguments = self.arguments
        runs = sum(self.rounds_of(one) * len(self.racing(one)) for one in self.scenarios)
        seconds = sum(self.rounds_of(one) * self.planned_s(one) for one in self.scenarios)
        self._clock = plan.Clock(seconds, arguments.minutes and 60 * arguments.minutes)
        bound = f", {arguments.minutes:g} min at most" if arguments.minutes else ""
        print(f"== {runs} runs of {arguments.duration:g} s, about {plan.written(seconds)}{bound}, and more if some have to be repeated; brokers on "
              f"cores {arguments.broker_cores}, load on cores {arguments.load_cores}", flush=True)
        if (busy := os.getloadavg()[0]) > BUSY:
            print(f"   the machine is busy: its load is {busy:.1f}. Many runs will be repeated, or not be valid", flush=True)

    def run(self):
        for old in ("raw", "scenarios", *(path.name for path in self.folder.glob("plots*"))):
            shutil.rmtree(self.folder / old, ignore_errors=True)
        for part in ("raw", "scenarios"):
            (self.folder / part).mkdir(parents=True)
        for scenario in self.scenarios:
            (self.folder / f"scenarios/{scenario.name}.toml").write_text(self.toml(scenario))
        try:
            self._run_rounds()
        finally:
            for path in (self.folder / "raw").glob("*.try-*"):
                path.unlink()

    def _run_rounds(self):
        for number in range(1, max(map(self.rounds_of, self.scenarios), default=0) + 1):
            for scenario in self.scenarios:
                if number > self.rounds_of(scenario) or not self.racing(scenario):
                    continue
                planned_s = self.planned_s(scenario)
                if not self._clock.allows(planned_s):
                    self.cut = f"Not all of it was measured: round {number} of {scenario.name} would not have ended within {self.arguments.minutes:g} minutes."
                    print(f"== {self.cut}", flush=True)
                    return
                print(f"== round {number} of {self.rounds_of(scenario)}, {scenario.name}; about {plan.written(self._clock.left_s())} left", flush=True)
                self._run_round(scenario, number)
                self._clock.done(planned_s)

    def _run_round(self, scenario, number):
        """All brokers, and once more those that others disturbed, or that ran while the host had the CPUs elsewhere."""
        candidates = {}
        try:
            self._try_round(scenario, number, candidates)
        finally:
            # Ctrl-C loses no run that came to its end.
            for name, run in rounds.choose(candidates)[0].items():
                run.tries = len(candidates[name])
                rounds.keep(run, self._path(scenario, name, number))
                self.runs.setdefault((scenario.name, name), []).append(run)

    def _try_round(self, scenario, number, candidates):
        racing = waiting = rounds.order(self.racing(scenario), number)
        tries_max = self._tries(scenario)
        for trial in range(1, tries_max + 1):
            before = self._read()
            for entrant in waiting:
                run = self._measure(entrant, scenario, number, trial)
                after = self._read()
                if run:
                    run.course = Course(tuple(filter(None, (before, after))))
                    candidates.setdefault(entrant.name, []).append(run)
                before = after
            disturbed = rounds.choose(candidates)[1]
            waiting = [entrant for entrant in racing if entrant.name in disturbed]
            if not waiting:
                break
            said = ", ".join(f"{name} ({' and '.join(checks)})" for name, checks in disturbed.items())
            print(f"   disturbed: {said}" + (": once more" if trial < tries_max else ""), flush=True)

    def _tries(self, scenario):
        """Repeating ends with the time that there is."""
        return self.arguments.tries if self._clock.allows(2 * self.planned_s(scenario)) else 1

    def _path(self, scenario, name, number):
        return self.folder / f"raw/{scenario.name}-{name}-{number}.json"

    def _read(self):
        return None if self.why_no_probe else self._probe.read()

    def _measure(self, entrant, scenario, number, trial):
        """One run; nothing if there is no result."""
        path = self._path(scenario, entrant.name, number)
        try:
            run = self._measure_once(entrant, scenario, path.with_name(f"{path.stem}.try-{trial}.json"))
        except NoStart as error:
            self.leave_out(entrant, f"does not start: {error}")
            return None
        except Failed as error:
            self.absent[scenario.name, entrant.name] = f"{entrant.name} failed: {' '.join(str(error).split())}"
            self.failures.append(f"- round {number}, {scenario.name}: {self.absent[scenario.name, entrant.name]}")
            print(f"FAIL {entrant.name}: {error}", flush=True)
            return None
        print(f"   {entrant.name}: {table.summary(run.result())}", flush=True)
        return run

    def _measure_once(self, entrant, scenario, path):
        authority = self._certificates and self._certificates.authority
        # What is kept has to be on a disk, and the folder for temporary files may be in memory.
        with tempfile.TemporaryDirectory(prefix=f"compare-{entrant.name}-", dir=self.folder if self.arguments.durable else None) as name:
            place = peers.Place(Path(name), free_port(), tuple(self._cores), entrant.promise, self.arguments.durable, self._certificates)
            start = entrant.peer.start(place)
            self._note_settings(entrant, start, place.folder)
            with Broker(start.commands, place.port, self.arguments.broker_cores, place.folder, start.environment) as broker:
                tls = ready.wait(broker, authority)
                strangers = machine.Strangers(self._cores, broker.pids())
                load(self.arguments.load_cores, self.folder / f"scenarios/{scenario.name}.toml", path, entrant.name, broker, authority)
                share = strangers.share()
                if not broker.is_alive():
                    raise Failed(f"it ended in the middle; its log ends with: {broker.said()[-500:]}")
                return rounds.measured(path, share, tls)

    def _note_settings(self, entrant, start, folder):
        if entrant.name in self.settings:
            return
        self.settings[entrant.name] = settings_text(start, folder)
        print(f"   settings of {entrant.name}:\n" + "\n".join(f"      {line}" for line in self.settings[entrant.name].splitlines()),
              flush=True)


def settings_text(start, folder):
    """What was set, by environment, command line and files, without where things lie on this machine: that is nobody's
    business."""
    shown = [f"{name}={shlex.quote(value)}" for name, value in start.environment.items() if name not in HOMES]
    program, *words = map(str, start.commands[-1])
    if not program.startswith(str(ROOT)):
        program = Path(program).name
    texts = [f"# {name}\n{(folder / name).read_text().strip()}" for name in start.settings]
    text = "\n\n".join(["\n".join([*shown, f"$ {shlex.join([program, *words])}"]), *texts])
    for place, name in ((folder, ""), (TARGET, "target/"), (ROOT, "")):
        text = text.replace(f"{place}/", name)
    return text.replace(str(folder), ".")


def chosen_peers(arguments):
    if arguments.only:
        wanted = [peer for peer in peers.ALL if peer.name in arguments.only]
    elif arguments.quick:
        wanted = peers.quick(peers.ALL)
    else:
        wanted = peers.ALL
    return wanted + arguments.given


def chosen_scenarios(arguments):
    every = suite.DURABLE if arguments.durable else suite.SUITE
    if arguments.scenario:
        found = [one for one in every if one.name in arguments.scenario]
        if not found:
            raise SystemExit(f"none of these scenarios is compared {'with' if arguments.durable else 'without'} --durable")
        return found
    return [one for one in every if not arguments.quick or one.name in suite.QUICK]


def make_certificates():
    folder = TARGET / "compare-certificates"
    done = subprocess.run([ROOT / "scripts/dev-certs", folder], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"there are no certificates: {done.stderr.strip()}")
    return peers.Certificates(folder / "server.pem", folder / "server.key", folder / "ca.pem")
