"""Every certificate in its worlds: short runs of what ``whp soundness`` runs at length.

``tests/worlds`` has a file a method, so that the methods are shared out among the workers.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from whp.experiment.worlds import Counts, caught, count, load_worlds, problems

SEEDS, SECONDS, LEVEL = range(40), 1.0, 1e-4  # SECONDS a world, shared by its strengths
LOOKS = 5  # seeds of a mutant between two looks: most are told after ten
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
        seconds = SECONDS / len(world.strengths)
        counts = count(worlds, world, strength, SEEDS, seconds=seconds)
        assert counts, f"{world.name} judged no theorem"
        assert not problems(world, strength, counts, LEVEL)

    @pytest.mark.parametrize("mutant", mutants)
    def test_mutant_is_caught(mutant):
        world = worlds.worlds[mutant.world]
        counts: dict[str, Counts] = {}
        for first in range(0, mutant.seeds, LOOKS):
            seeds = range(first, min(first + LOOKS, mutant.seeds))
            more = count(worlds, world, mutant.strength, seeds, mutant=mutant)
            counts |= {name: counts.get(name, Counts()) + c for name, c in more.items()}
            if caught(mutant, counts, LEVEL):
                return
        pytest.fail(f"not caught: {counts}")

    def test_nothing_is_missing():
        assert not worlds.missing()
        known = {t.name for t in worlds.theorems}
        assert {m.theorem for m in worlds.mutants} <= known
        for condition, test in worlds.constructed.items():
            file, _, name = test.partition("::")
            text = (ROOT / file).read_text()
            assert f"def {name}(" in text, f"{condition}: there is no {test}"

    return test_world, test_mutant_is_caught, test_nothing_is_missing
