from pathlib import Path

from whp.catalogue import CATALOGUE
from whp.experiment.worlds import load_worlds


def test_every_method_with_declared_theorems_is_attacked():
    for method in CATALOGUE:
        worlds = load_worlds(method.slug) if method.status == "built" else None
        assert (worlds is not None) == bool(method.theorems), method.slug
        if worlds is not None:
            assert worlds.theorems == method.load_theorems()
            file = f"test_{method.slug.replace('-', '_')}.py"
            assert (Path(__file__).parent / "worlds" / file).exists()
