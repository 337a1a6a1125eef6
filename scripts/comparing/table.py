"""Numbers out of the result files of ringload, as tables in Markdown."""

import statistics


class Cell:
    """All rounds of one broker in one scenario, as results of ringload or in their compact form."""

    def __init__(self, rounds):
        self.rounds = rounds
        valid = [one for one in self.rounds if one["validity"]["valid"]]
        self.is_valid = bool(valid)
        # A round that cannot be trusted does not count beside one that can.
        self.counted = valid or self.rounds

    def median(self, of):
        values = [value for value in map(of, self.counted) if value is not None]
        return statistics.median(values) if values else None

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


def digits(number):
    """Three significant ones."""
    decimals = 0 if number >= 99.95 else 1 if number >= 9.995 else 2
    text = f"{number:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


WEAKER = "what it acknowledges may be lost when the power or the process ends"
# Tables of the report: title, the scenarios that have the number, the number, how it is written, and which is best.
CPU = "CPU of the broker per delivery, user and system"
P99 = "p99 latency at the given rate"
MEMORY = "Memory of the broker per idle connection"
MEASURES = [
    (CPU, lambda name: name != "connect", cpu_ns, nanos, min),
    ("Deliveries per second", lambda name: not name.startswith(("rate", "connect")), rate, scaled, max),
    ("p50 latency at the given rate", lambda name: name.startswith("rate"), latency("p50_us"), micros, min),
    (P99, lambda name: name.startswith("rate"), latency("p99_us"), micros, min),
    ("p99.9 latency at the given rate", lambda name: name.startswith("rate"), latency("p999_us"), micros, min),
    ("Connections per second", lambda name: name == "connect", connects, scaled, max),
    ("CPU of the broker per connection", lambda name: name == "connect", of_broker("connect_us_per_connection"), micros, min),
    (MEMORY, lambda name: name == "connect", of_broker("rss_per_connection_bytes"), kibibytes,
     min),
]


def tables(cells, scenarios, brokers, absent, titles=None, weaker=frozenset()):
    """All measures, or those with these titles; `cells` by scenario and broker, `absent` says why one is not there, `weaker`
    are brokers that promise less than the others and are not compared with them."""
    notes = Notes()
    text = []
    for title, is_in, of, show, best in MEASURES:
        if titles and title not in titles:
            continue
        rows = [row(name, of, show, best, cells, brokers, absent, notes, weaker) for name in scenarios if is_in(name)]
        if any(not cell.startswith("-") for one in rows for cell in one[1:]):
            head = [broker + notes.mark(WEAKER) * (broker in weaker) for broker in brokers]
            text += [f"### {title}", "", markdown(["scenario", *head], rows), ""]
    return "\n".join(text + notes.lines())


def row(name, of, show, best, cells, brokers, absent, notes, weaker):
    values = {}
    for broker in brokers:
        cell = cells.get((name, broker))
        value = cell.median(of) if cell else None
        if value is not None:
            values[broker] = value
    fair = [value for broker, value in values.items()
            if broker not in weaker and cells[name, broker].is_valid and not cells[name, broker].lost() and not cells[name, broker].out_of_order()]
    winner = best(fair) if len(fair) > 1 else None
    shown = [name]
    for broker in brokers:
        if broker not in values:
            shown.append("-" + notes.mark(absent.get((name, broker), "no such number")))
            continue
        text = show(values[broker])
        shown.append((f"**{text}**" if values[broker] == winner else text) + doubts(cells[name, broker], notes))
    return shown


def doubts(cell, notes):
    marks = []
    if not cell.is_valid:
        checks = {reason["check"] for one in cell.rounds for reason in one["validity"]["reasons"]}
        marks.append(notes.mark(f"not valid ({', '.join(sorted(checks))}): the load generator was held up or at its limit"))
    if cell.lost():
        marks.append(notes.mark(f"lost {cell.lost():,} messages"))
    if cell.out_of_order():
        marks.append(notes.mark(f"{cell.out_of_order():,} messages out of order"))
    return "".join(marks)


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
