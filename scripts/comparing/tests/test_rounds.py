import itertools
import tempfile
import unittest
from pathlib import Path

from .. import rounds
from ..probe import Course, Reading, parse, usual
from . import made


class Order(unittest.TestCase):
    def test_two_take_turns_in_going_first(self):
        turns = ["".join(rounds.order(["A", "B"], number)) for number in range(1, 6)]
        self.assertEqual(turns, ["AB", "BA", "BA", "AB", "AB"])

    def test_everybody_goes_first_as_often_and_follows_each_neighbour_as_often_as_it_goes_before_it(self):
        for count in range(1, 6):
            names = list("ABCDE"[:count])
            turns = [rounds.order(names, number) for number in range(1, 2 * count + 1)]
            self.assertTrue(all(sorted(turn) == names for turn in turns))
            self.assertEqual({name: sum(turn[0] == name for turn in turns) for name in names}, dict.fromkeys(names, 2))
            for one, other in itertools.combinations(names, 2):
                before = sum(turn.index(one) < turn.index(other) for turn in turns)
                self.assertEqual(before, count, (turns, one, other))

    def test_nobody_is_fine(self):
        self.assertEqual(rounds.order([], 3), [])


class Tries(unittest.TestCase):
    def test_the_try_that_counts_is_kept_and_the_others_go(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for trial in (1, 2):
                for suffix in ("json", "hlog"):
                    (folder / f"pairs-mosquitto-2.1-1.try-1-{trial}.{suffix}").write_text(f"{suffix} {trial}")
            (folder / "pairs-mosquitto-2.1-10.try-1-1.json").write_text("another round")
            run = rounds.Run(folder / "pairs-mosquitto-2.1-1.try-1-2.json", 0.0)
            rounds.keep(run, folder / "pairs-mosquitto-2.1-1.json")
            self.assertEqual({path.name: path.read_text() for path in folder.iterdir()}, {
                "pairs-mosquitto-2.1-1.json": "json 2", "pairs-mosquitto-2.1-1.hlog": "hlog 2",
                "pairs-mosquitto-2.1-10.try-1-1.json": "another round"})
            self.assertEqual(run.path.name, "pairs-mosquitto-2.1-1.json")


class Validity(unittest.TestCase):
    def test_what_disturbed_a_run_is_stored_beside_its_result_and_makes_it_invalid(self):
        with tempfile.TemporaryDirectory() as name:
            for strangers, ways, checks in ((0.0, (60, 70), []), (0.05, (60, 60), []), (0.06, (60, 60), ["strangers"]),
                                            (0.0, (60, 90), ["cpus-moved"]), (0.5, (60, 90), ["strangers", "cpus-moved"])):
                one = made.run(Path(name), "one", strangers, ways).result()
                self.assertEqual([reason["check"] for reason in one["validity"]["reasons"]], checks)
                self.assertEqual(one["validity"]["valid"], not checks)
                self.assertEqual(one["disturbance"]["strangers"], strangers)
                self.assertEqual(one["disturbance"]["one_way_ns"], list(ways))

    def test_doubts_of_ringload_stay(self):
        with tempfile.TemporaryDirectory() as name:
            one = made.run(Path(name), "one", 0.2, checks=("cpu",)).result()
            self.assertEqual([reason["check"] for reason in one["validity"]["reasons"]], ["cpu", "strangers"])


class Probe(unittest.TestCase):
    def test_readings_are_parsed(self):
        self.assertEqual(parse("one_way_ns 61.5 core_ns 1.380 1.410\n"), Reading(61.5, (1.38, 1.41)))
        for text in ("", "one_way_ns 0.0 core_ns 1.4 1.4\n", "one_way_ns 61 core_ns 1.4\n", "sched_setaffinity: Invalid argument\n"):
            self.assertIsNone(parse(text), text)

    def test_a_move_shows_in_the_way_or_in_the_speed_of_a_core(self):
        def moved(*readings):
            return Course(tuple(Reading(way, cores) for way, cores in readings)).is_moved
        quiet = (60, (1.4, 1.4))
        self.assertFalse(moved(quiet, (80, (1.5, 1.6))))
        self.assertTrue(moved(quiet, (90, (1.4, 1.4))))
        self.assertTrue(moved((90, (1.4, 1.4)), quiet))
        self.assertTrue(moved(quiet, quiet, (60, (1.4, 1.8))))

    def test_without_two_readings_nothing_is_known_to_have_moved(self):
        self.assertEqual(Course().change(), 0)
        self.assertEqual(made.course(60).change(), 0)

    def test_a_steady_run_is_moved_if_the_others_ran_elsewhere(self):
        elsewhere = Reading(230, (1.4, 1.4))
        self.assertTrue(Course(made.course(60, 60).readings, elsewhere).is_moved)
        self.assertFalse(Course(made.course(220, 240).readings, elsewhere).is_moved)

    def test_the_usual_place_is_where_most_readings_are(self):
        for ways, place in (((60, 230, 225, 400, 228), 228), ((36, 37, 230), 36), ((50,), 50)):
            found = usual(made.course(*ways).readings).one_way_ns
            self.assertLess(max(found, place) / min(found, place), 1.1, ways)
        self.assertIsNone(usual([]))


class Choice(unittest.TestCase):
    """Of the tries of a round."""

    def setUp(self):
        self.tries = {}

    def ran(self, name, *ways, strangers=0.0, held_up=()):
        path = Path(f"{name}-{len(self.tries.get(name, []))}")
        self.tries.setdefault(name, []).append(rounds.Run(path, strangers, course=made.course(*ways), held_up=held_up))

    def chosen(self):
        chosen, disturbed = rounds.choose(self.tries)
        return {name: str(run.path) for name, run in chosen.items()}, disturbed

    def test_who_ran_elsewhere_runs_again(self):
        self.ran("a", 230, 231)
        self.ran("b", 231, 390)
        self.ran("c", 390, 228)
        self.ran("d", 228, 230)
        self.assertEqual(self.chosen()[1], {"b": ["cpus-moved"], "c": ["cpus-moved"]})
        self.ran("b", 229, 233)
        self.ran("c", 36, 36)
        self.assertEqual(self.chosen(), ({"a": "a-0", "b": "b-1", "c": "c-0", "d": "d-0"}, {"c": ["cpus-moved"]}))

    def test_all_count_at_one_place(self):
        self.ran("a", 230, 230)
        self.ran("b", 36, 36)
        self.assertEqual(list(self.chosen()[1]), ["b"])
        self.ran("b", 36, 37)
        self.assertEqual(list(self.chosen()[1]), ["a"])

    def test_a_quiet_try_at_the_place_is_preferred(self):
        self.ran("a", 230, 230, strangers=0.3)
        self.ran("a", 390, 230, strangers=0.0)
        self.assertEqual(list(self.chosen()[1]), ["a"])
        self.ran("a", 260, 230, strangers=0.01)
        self.assertEqual(self.chosen(), ({"a": "a-2"}, {}))

    def test_of_disturbed_ones_the_least_disturbed_counts(self):
        self.ran("a", 230, 230, strangers=0.3)
        self.ran("a", 230, 230, strangers=0.07)
        self.ran("a", 230, 230, strangers=0.2)
        self.assertEqual(self.chosen(), ({"a": "a-1"}, {"a": ["strangers"]}))

    def test_a_generator_that_had_to_wait_for_its_core_tries_again(self):
        self.ran("a", 230, 230, held_up=("cpu-wait", "schedule-lag"))
        self.assertEqual(self.chosen(), ({"a": "a-0"}, {"a": ["cpu-wait", "schedule-lag"]}))
        self.ran("a", 230, 231, strangers=0.02)
        self.assertEqual(self.chosen(), ({"a": "a-1"}, {}))

    def test_what_held_ringload_up_is_read_from_its_result(self):
        with tempfile.TemporaryDirectory() as name:
            path = made.run(Path(name), "one", checks=("cpu", "cpu-wait")).path
            self.assertEqual(rounds.measured(path, 0.0).checks(), ["cpu-wait"])

    def test_without_a_probe_nobody_is_moved(self):
        self.ran("a")
        self.ran("b")
        self.assertEqual(self.chosen(), ({"a": "a-0", "b": "b-0"}, {}))
