"""Every certificate in its worlds: short runs of what ``whp soundness`` runs at length."""

from pathlib import Path

import pytest

from whp.catalogue import CATALOGUE
from whp.experiment.worlds import caught, count, load_worlds, problems

SEEDS, SECONDS, LEVEL = range(40), 2.0, 1e-4
ALL = {m.slug: w for m in CATALOGUE if m.status == "built" and (w := load_worlds(m.slug))}
RUNS = [
    pytest.param(w, world, strength, id=f"{w.slug}-{world.name}-{strength:g}")
    for w in ALL.values()
    for world in w.worlds.values()
    if not world.slow
    for strength in world.strengths
]
MUTANTS = [
    pytest.param(w, m, id=f"{w.slug}-{m.theorem}-{m.how}".replace(" ", "-"))
    for w in ALL.values()
    for m in w.mutants
    if m.seeds <= len(SEEDS) and not w.worlds[m.world].slow
]


@pytest.mark.parametrize(("worlds", "world", "strength"), RUNS)
def test_world(worlds, world, strength):
    counts = count(worlds, world, strength, SEEDS, seconds=SECONDS)
    assert counts, f"{world.name} judged no theorem"
    assert not problems(world, strength, counts, LEVEL)


@pytest.mark.parametrize(("worlds", "mutant"), MUTANTS)
def test_mutant_is_caught(worlds, mutant):
    world = worlds.worlds[mutant.world]
    counts = count(worlds, world, mutant.strength, range(mutant.seeds), mutant=mutant, seconds=8)
    assert caught(mutant, counts, LEVEL), counts


@pytest.mark.parametrize("slug", ALL)
def test_nothing_is_missing(slug):
    worlds = ALL[slug]
    assert not worlds.missing()
    known = {t.name for t in worlds.theorems}
    assert {m.theorem for m in worlds.mutants} <= known
    for condition, test in worlds.constructed.items():
        file, _, name = test.partition("::")
        path = Path(__file__).parent.parent / file
        assert f"def {name}(" in path.read_text(), f"{condition}: there is no {test}"
