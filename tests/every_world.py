"""Every certificate in its worlds: short runs of what ``whp soundness`` runs at length.

``tests/worlds`` has a file a method, so that the methods are shared out among the workers.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from whp.experiment.worlds import caught, count, load_worlds, problems

SEEDS, SECONDS, LEVEL = range(40), 2.0, 1e-4
ROOT = Path(__file__).parent.parent


def judged(slug: str) -> tuple[Callable[..., None], Callable[..., None], Callable[..., None]]:
    """``test_world``, ``test_mutant_is_caught`` and ``test_nothing_is_missing`` of a method."""
    worlds = load_worlds(slug)
    assert worlds is not None
    runs = [
        pytest.param(world, strength, id=f"{world.name}-{strength:g}")
        for world in worlds.worlds.values()
        if not world.slow
        for strength in world.strengths
    ]
    mutants = [
        pytest.param(m, id=f"{m.theorem}-{m.how}".replace(" ", "-"))
        for m in worlds.mutants
        if m.seeds <= len(SEEDS) and not worlds.worlds[m.world].slow
    ]

    @pytest.mark.parametrize(("world", "strength"), runs)
    def test_world(world, strength):
        counts = count(worlds, world, strength, SEEDS, seconds=SECONDS)
        assert counts, f"{world.name} judged no theorem"
        assert not problems(world, strength, counts, LEVEL)

    @pytest.mark.parametrize("mutant", mutants)
    def test_mutant_is_caught(mutant):
        world = worlds.worlds[mutant.world]
        seeds = range(mutant.seeds)
        counts = count(worlds, world, mutant.strength, seeds, mutant=mutant, seconds=30)
        assert caught(mutant, counts, LEVEL), counts

    def test_nothing_is_missing():
        assert not worlds.missing()
        known = {t.name for t in worlds.theorems}
        assert {m.theorem for m in worlds.mutants} <= known
        for condition, test in worlds.constructed.items():
            file, _, name = test.partition("::")
            text = (ROOT / file).read_text()
            assert f"def {name}(" in text, f"{condition}: there is no {test}"

    return test_world, test_mutant_is_caught, test_nothing_is_missing
