"""Numbers out of the result files of ringload, as tables in Markdown."""

import re
import statistics

from .promise import Promise, Terms


class Cell:
    """All rounds of one broker in one scenario, as results of ringload or in their compact form."""

    def __init__(self, rounds, terms=Terms(Promise.MEMORY)):
        self.rounds = rounds
        self.terms = terms
        valid = [one for one in self.rounds if one["validity"]["valid"]]
        self.is_valid = bool(valid)
        # A round that cannot be trusted does not count beside one that can.
        self.counted = valid or self.rounds

    def median(self, of):
        values = [value for value in map(of, self.counted) if value is not None]
        return statistics.median(values) if values else None

    def range_text(self, of, show):
        """Least and largest, where there are more than two."""
        values = [value for value in map(of, self.counted) if value is not None]
        return f" ({show(min(values))} to {show(max(values))})" if len(values) > 2 else ""

    def is_faultless(self):
        """Can be the best."""
        return self.is_valid and not self.lost() and not self.out_of_order()

    def lost(self):
        return sum(one["totals"]["ledger"]["lost"] for one in self.rounds)

    def out_of_order(self):
        return sum(one["totals"]["ledger"]["out_of_order"] for one in self.rounds)


def rate(one):
    return one["totals"]["received_per_s"] or None


def cpu_ns(one):
    broker = one["broker"] or {}
    parts = broker.get("user_ns_per_delivery"), broker.get("system_ns_per_delivery")
    return None if None in parts else sum(parts)


def latency(field):
    def of(one):
        pair = one["totals"]["latency"]
        return pair["corrected"][field] if pair else None
    return of


def of_broker(field):
    return lambda one: (one["broker"] or {}).get(field)


def connects(one):
    return one["totals"]["connects_per_s"]


def micros(us):
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if us >= size * 0.9995:
            return f"{digits(us / size)} {unit}"
    return f"{digits(us)} us"


def nanos(ns):
    return f"{digits(ns)} ns" if ns < 999.5 else micros(ns / 1e3)


def scaled(number):
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if number >= size * 0.9995:
            return f"{digits(number / size)} {unit}"
    return digits(number)


def kibibytes(size):
    return f"{digits(size / 1024)} KiB"


def short_version(text):
    """`2.0.11` of `mosquitto version 2.0.11`; nothing if there is no such number."""
    found = re.search(r"(?<![\w.])v?(\d+(?:\.\d+)+)", text)
    return found[1] if found else ""


def head(name, version):
    """Of a column."""
    number = short_version(version)
    return f"{name} ({number})" if number else name


def digits(number):
    """Three significant ones."""
    decimals = 0 if number >= 99.95 else 1 if number >= 9.995 else 2
    text = f"{number:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


# Tables of the report: title, the scenarios that have the number, the number, how it is written, and which is best.
CPU = "CPU of the broker per delivery, user and system"
P99 = "p99 latency at the given rate"
MEMORY = "Memory of the broker per idle connection"
# Differ from round to round more than between brokers: how far goes beside the median.
RANGED = {"p50 latency at the given rate", P99, "p99.9 latency at the given rate"}
MEASURES = [
    (CPU, lambda name: name != "connect", cpu_ns, nanos, min),
    ("Deliveries per second", lambda name: not name.startswith(("rate", "connect")), rate, scaled, max),
    ("p50 latency at the given rate", lambda name: name.startswith("rate"), latency("p50_us"), micros, min),
    (P99, lambda name: name.startswith("rate"), latency("p99_us"), micros, min),
    ("p99.9 latency at the given rate", lambda name: name.startswith("rate"), latency("p999_us"), micros, min),
    ("Connections per second", lambda name: name == "connect", connects, scaled, max),
    ("CPU of the broker per connection", lambda name: name == "connect", of_broker("connect_us_per_connection"), micros, min),
    (MEMORY, lambda name: name == "connect", of_broker("rss_per_connection_bytes"), kibibytes, min),
]
# Why a run is not valid, by the check; all others are those that the load generator makes of itself.
DOUBTS = {
    "strangers": "other programs ran on the cores of the broker",
    "cpus-moved": "the host moved the CPUs",
}
HELD_UP = "the load generator was held up or at its limit"
ELSEWHERE = "promises something else, and stands in another table"


def tables(cells, scenarios, heads, absent, titles=None):
    """All measures, or those with these titles; `cells` by scenario and broker, `heads` what to write above the columns by
    broker, `absent` says why a cell is not there. Only what has the same terms stands in the same table."""
    notes = Notes()
    text = []
    for measure in MEASURES:
        title, is_in = measure[:2]
        if titles and title not in titles:
            continue
        names = [name for name in scenarios if is_in(name)]
        groups = groups_of(cells, names)
        parts = [(terms, part) for terms in groups if (part := group(measure, terms, cells, names, heads, absent, notes))]
        if parts:
            text += [f"### {title}", ""]
        for terms, part in parts:
            text += [*([f"#### {terms.text()}", ""] if len(parts) > 1 else []), part, ""]
    return "\n".join(text + notes.lines())


def groups_of(cells, names):
    """The terms that there are in these scenarios, the weakest promise first."""
    return sorted({cell.terms for (name, _), cell in cells.items() if name in names}, key=lambda terms: terms.order)


def group(measure, terms, cells, names, heads, absent, notes):
    """A table of what has these terms; nothing if no cell has the number."""
    title, _, of, show, best = measure
    here = {key: cell for key, cell in cells.items() if cell.terms == terms and key[0] in names}
    brokers = [broker for broker in heads if any(key[1] == broker for key in here)]
    why = {key: ELSEWHERE for key in cells if key not in here} | {key: text for key, text in absent.items() if key not in cells}
    rows = [row(name, (of, show, best, title in RANGED), here, brokers, why, notes)
            for name in names if any(key[0] == name for key in here)]
    if all(cell.startswith("-") for one in rows for cell in one[1:]):
        return None
    return markdown(["scenario", *(heads[broker] for broker in brokers)], rows)


def row(name, measure, cells, brokers, absent, notes):
    of, show, best, is_ranged = measure
    values = {broker: value for broker in brokers
              if (cell := cells.get((name, broker))) and (value := cell.median(of)) is not None}
    fair = [value for broker, value in values.items() if cells[name, broker].is_faultless()]
    winner = best(fair) if len(fair) > 1 else None
    shown = [name]
    for broker in brokers:
        if broker not in values:
            shown.append("-" + notes.mark(absent.get((name, broker), "no such number")))
            continue
        cell, text = cells[name, broker], show(values[broker])
        if values[broker] == winner and cell.is_faultless():
            text = f"**{text}**"
        shown.append(text + (cell.range_text(of, show) if is_ranged else "") + doubts(cell, notes))
    return shown


def doubts(cell, notes):
    marks = []
    if not cell.is_valid:
        checks = {reason["check"] for one in cell.rounds for reason in one["validity"]["reasons"]}
        why = sorted({DOUBTS.get(check, HELD_UP) for check in checks})
        marks.append(notes.mark(f"not valid ({', '.join(sorted(checks))}): {', and '.join(why)}"))
    elif 2 * len(cell.counted) < len(cell.rounds):
        marks.append(notes.mark(f"{len(cell.counted)} of {len(cell.rounds)} rounds are valid"))
    if cell.lost():
        marks.append(notes.mark(f"lost {cell.lost():,} messages"))
    if cell.out_of_order():
        marks.append(notes.mark(f"{cell.out_of_order():,} messages out of order"))
    return "".join(marks)


def summary(one):
    """A result in a line."""
    parts = []
    if rate(one):
        parts.append(f"{scaled(rate(one))}/s")
    if (cpu := cpu_ns(one)) is not None:
        parts.append(f"{nanos(cpu)} CPU per delivery")
    if (p99 := latency("p99_us")(one)) is not None:
        parts.append(f"p99 {micros(p99)}")
    if not parts:
        parts.append(f"{scaled(connects(one))} connections/s")
    ledger = one["totals"]["ledger"]
    parts += [f"{ledger[kind]:,} {kind.replace('_', ' ')}" for kind in ("lost", "out_of_order", "corrupt") if ledger[kind]]
    text = ", ".join(parts)
    checks = ", ".join(sorted({reason["check"] for reason in one["validity"]["reasons"]}))
    return f"{text}; NOT VALID: {checks}" if checks else text


class Notes:
    """Footnotes; the same text has the same number."""

    def __init__(self):
        self._texts = []

    def mark(self, text):
        if text not in self._texts:
            self._texts.append(text)
        return f" [{self._texts.index(text) + 1}]"

    def lines(self):
        return [f"[{number}] {text}  " for number, text in enumerate(self._texts, 1)]


def markdown(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(one) + " |" for one in rows])
