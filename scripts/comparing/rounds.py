"""The order of runs, and which of several tries counts."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from .probe import Course, usual

# Above it a run is repeated, and not valid if no try was quieter: so much of one of the broker's cores went to others.
STRANGERS_MAX = 0.05
# Of a run that others disturbed, or during which the host moved the CPUs.
TRIES_MAX = 3
# Checks of ringload that fail if the generator has to share its core.
HELD_UP = ("cpu-wait", "schedule-lag")


@dataclass
class Run:
    """A result of ringload, and what else went on meanwhile."""

    path: Path
    strangers: float
    tls: str = ""
    tries: int = 1
    course: Course = field(default_factory=Course)
    # Checks of ringload that it fails because of other programs.
    held_up: tuple = ()

    def checks(self):
        """Those that another try may pass."""
        return [*self.held_up, *(doubt["check"] for doubt in self.doubts())]

    def doubts(self):
        """As reasons of ringload, beside those it has itself."""
        found = []
        if self.strangers > STRANGERS_MAX:
            found.append({"check": "strangers", "text": f"other programs took {self.strangers:.0%} of one of the broker's cores, at "
                                                        f"most {STRANGERS_MAX:.0%} is valid"})
        if self.course.is_moved:
            found.append({"check": "cpus-moved", "text": f"the host moved the CPUs: {self.course.text()}"})
        return found

    def result(self):
        """What ringload wrote, with our own doubts beside its."""
        one = json.loads(self.path.read_text())
        doubts = self.doubts()
        one["validity"]["reasons"] += doubts
        one["validity"]["valid"] = one["validity"]["valid"] and not doubts
        return one | {"disturbance": self.disturbance()}

    def disturbance(self):
        """As it is stored beside the result."""
        return {"strangers": round(self.strangers, 4), "tries": self.tries,
                "usual_one_way_ns": self.course.usual and self.course.usual.one_way_ns,
                "one_way_ns": [reading.one_way_ns for reading in self.course.readings],
                "core_ns": [list(reading.core_ns) for reading in self.course.readings]}


def measured(path, strangers, tls="", course=Course()):
    """A run with the result at this path."""
    reasons = json.loads(path.read_text())["validity"]["reasons"]
    return Run(path, strangers, tls, course=course, held_up=tuple(reason["check"] for reason in reasons if reason["check"] in HELD_UP))


def order(entrants, number):
    """Of the round with this number, which begins at 1: everybody goes first as often as last, and comes after each
    neighbour as often as before it. Two take turns as in A B, B A, B A, A B."""
    if not entrants:
        return []
    at = (number - 1) // 2 % len(entrants)
    turned = entrants[at:] + entrants[:at]
    return turned if number % 2 else turned[::-1]


def choose(candidates):
    """Of the tries of a round by broker: the least disturbed one of each, seen from the place where the CPUs lay most of the
    time; and the checks that it fails, of those that fail any."""
    place = usual([reading for tries in candidates.values() for run in tries for reading in run.course.readings])
    for tries in candidates.values():
        for run in tries:
            run.course = Course(run.course.readings, place)
    chosen = {name: min(tries, key=lambda run: (len(run.checks()), disturbance(run))) for name, tries in candidates.items()}
    return chosen, {name: run.checks() for name, run in chosen.items() if run.checks()}


def disturbance(run):
    """Of a run, by the bound for each."""
    return max(run.strangers / STRANGERS_MAX, run.course.change())


def keep(run, path):
    """Moves the try that counts to where the others look for it, and removes the other tries of it."""
    for suffix in (".json", ".hlog"):
        chosen = run.path.with_suffix(suffix)
        if chosen.exists():
            chosen.replace(path.with_suffix(suffix))
    for other in path.parent.glob(f"{path.stem}.try-*"):
        other.unlink()
    run.path = path
