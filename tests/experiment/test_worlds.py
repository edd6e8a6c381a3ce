import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import toy_worlds
from toy_worlds import worlds

from whp.experiment.soundness import soundness_tasks
from whp.experiment.worlds import Counts, Worlds, caught, count, load_worlds, problems

SEEDS = range(200)


def tally(name, strength=1.0, **options):
    world = worlds.worlds[name]
    return world, count(worlds, world, strength, SEEDS, **options)


def test_an_honest_world_shows_delta_and_nothing_wrong():
    world, counts = tally("honest")
    c = counts["bars"]
    assert (c.n, c.measured, c.void, c.crashed) == (200, 150, 0, 0)
    assert c.delta == pytest.approx(0.01)
    assert c.decided == 150
    assert not problems(world, 1.0, counts, 1e-4)


def test_a_mutant_is_caught_and_the_code_is_itself_again():
    before = toy_worlds.multiplier
    _, counts = tally("honest", mutant=worlds.mutants[0])
    assert caught(worlds.mutants[0], counts, 1e-4)
    assert toy_worlds.multiplier is before
    assert not caught(worlds.mutants[0], tally("honest")[1], 1e-4)
    assert not caught(worlds.mutants[0], {}, 1e-4)


def test_a_break_is_noticed_or_shows():
    world, counts = tally("spread", 4.0)
    assert counts["bars"].rests
    assert counts["bars"].noticed == 200
    assert not problems(world, 4.0, counts, 1e-4)
    world, counts = tally("shifted")
    assert counts["bars"].false_not_void == 200
    assert not problems(world, 1.0, counts, 1e-4)  # no data can notice: the table shows the rate
    told = problems(replace(world, noticeable=True), 1.0, counts, 1e-4)
    assert any("claim false and not void in 200" in line for line in told)
    assert any("not noticed in 200" in line for line in told)


def test_a_refusal_counts_as_noticed_and_another_error_as_a_crash():
    world, counts = tally("empty")
    assert counts[""].refused == 200
    assert not problems(world, 1.0, counts, 1e-4)
    strict = replace(world, refuses=())
    counts = count(worlds, strict, 1.0, range(7))
    assert counts[""].crashed == 7
    assert "no data" in problems(strict, 1.0, counts, 1e-4)[0]


def test_a_demand_that_is_not_met_comes_to_the_expected_verdict():
    world, counts = tally("demand")
    assert counts["bars"].expected == 200
    assert not problems(world, 1.0, counts, 1e-4)
    wrong = {"bars": replace(counts["bars"], expected=20, false_holds=180)}
    assert len(problems(world, 1.0, wrong, 1e-4)) == 2


def test_honest_voids_and_false_fails_are_complaints():
    world = worlds.worlds["honest"]
    for bad in ({"void": 60}, {"true_fails": 60}, {"false_not_void": 60}, {"false_holds": 60}):
        assert problems(world, 1.0, {"bars": Counts(n=200, delta=0.05, **bad)}, 1e-4)


def test_runs_are_seeded_by_world_and_number():
    _, first = tally("honest")
    parts = [
        count(worlds, worlds.worlds["honest"], 1.0, range(a, a + 50)) for a in range(0, 200, 50)
    ]
    total = sum((p["bars"] for p in parts), Counts())
    assert total == first["bars"]


def test_what_is_missing_is_named():
    assert worlds.missing() == ["condition unseen has 1 broken worlds, wants 2"]
    fresh = Worlds("toy", (toy_worlds.BARS,))
    assert "theorem bars has no mutant" in fresh.missing()
    fresh.by_construction(toy_worlds.UNSEEN, "tests/x.py::test")
    assert not any("unseen" in m for m in fresh.missing())


def test_two_worlds_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two worlds 'honest'"):
        worlds.world(run=toy_worlds.run)(toy_worlds.honest.make)


def test_small_rates_of_honest_worlds_get_all_seeds_and_broken_ones_fewer():
    linf = load_worlds("linf-regression")
    seeds: dict[tuple[str, float, bool], int] = {}
    for task in soundness_tasks(linf, 1000):
        c = task.config
        key = (c["world"], c["strength"], c["mutant"] is None)
        seeds[key] = seeds.get(key, 0) + c["count"]
    for (name, _, plain), n in seeds.items():
        if plain and linf.worlds[name].seeds is None:
            assert n == (300 if linf.worlds[name].breaks else 1000), name
