"""How long it takes: an estimate before, and what is left while it runs."""

import time

# Connections, the drain of ringload, the end of the broker, and the probe.
BESIDE_S = 3.0


def seconds_of(entrants, warmup_s, duration_s):
    """One round of a scenario over these brokers."""
    return sum(warmup_s + duration_s + BESIDE_S + entrant.peer.start_s for entrant in entrants)


def written(seconds):
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Clock:
    """Corrects the estimate by what the rounds so far took. `deadline_s`: no round is begun that would not end by then."""

    def __init__(self, expected_s, deadline_s=None, now=time.monotonic):
        self._now = now
        self._began = now()
        self._left_s = expected_s
        self._planned_s = 0.0
        self._deadline_s = deadline_s

    def left_s(self):
        return self._left_s * self._factor()

    def _factor(self):
        return (self._now() - self._began) / self._planned_s if self._planned_s else 1.0

    def allows(self, planned_s):
        if self._deadline_s is None:
            return True
        return self._now() - self._began + planned_s * self._factor() <= self._deadline_s

    def done(self, planned_s):
        self._planned_s += planned_s
        self._left_s = max(0.0, self._left_s - planned_s)
