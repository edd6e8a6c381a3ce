import pytest

from whp.catalogue import CATALOGUE, find
from whp.experiment.study import load


def test_all_33_methods_have_a_row():
    assert len(CATALOGUE) == len({m.slug for m in CATALOGUE}) == 33
    for m in CATALOGUE:
        assert m.problem.endswith("."), m.slug
        assert m.arxiv.replace(".", "").isdigit(), m.slug


@pytest.mark.parametrize(
    "method", [m for m in CATALOGUE if m.status == "built"], ids=lambda m: m.slug
)
def test_built_methods_are_complete(method):
    assert callable(method.load())
    assert method.guarantee
    assert method.cost
    claims = load(method.slug).CLAIMS
    assert claims
    assert len({c.id for c in claims}) == len(claims)


def test_planned_methods_refuse_in_a_sentence():
    planned = next(m for m in CATALOGUE if m.status == "planned")
    with pytest.raises(ValueError, match="planned but not built"):
        planned.load()
    with pytest.raises(ValueError, match="did you mean linf-regression"):
        find("linf-regresion")
