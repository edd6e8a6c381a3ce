import re

import numpy as np
import pytest
from comp_sum import centroids, labels_of, noisy
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from whp.certificate import Scope, Verdict
from whp.losses import comp_sum_losses


def test_known_probabilities():
    *_, far, part = centroids()
    P = softmax(-0.5 * far, axis=1)
    y = labels_of(P, np.random.default_rng(0))
    result = comp_sum_losses(-0.8 * part, y, conditional=P, logits_best=-0.5 * far)
    # no predictions could be further off than this, and the bound by the mean risk is above it
    worst = (P.max(axis=1) - P.min(axis=1)).mean()
    assert result.bound > worst > result.certificates[1].bound
    assert [c.verdict for c in result.certificates] == [Verdict.VACUOUS, Verdict.HOLDS]
    assert all(c.scope is Scope.POPULATION for c in result.certificates)
    assert result.certificates[1].headline == "holds, given 3 unchecked"
    assert all(c.sure < 1 for c in result.certificates)
    assert not any(c.passes("checked") for c in result.certificates)
    assert result.gap is not None
    assert result.gap.high < result.certificates[0].inputs["limit of the excess risk"]
    assert result.table["tau"].tolist() == [0, 0.5, 1, 1.5, 1.7, 2, 3]
    assert "gap" in str(result.summary())


def test_the_sharper_transformation_is_unproved():
    rng = np.random.default_rng(0)
    P = rng.dirichlet([1, 1, 1], 3000)
    z, y = np.log(P) + 0.3 * rng.normal(size=P.shape), labels_of(P, rng)
    sharp = comp_sum_losses(z, y, conditional=P, tau=1.5, transform="sharp")
    assert sharp.bound < comp_sum_losses(z, y, conditional=P, tau=1.5).bound
    assert "no proof" in str(sharp.certificates[0].conditions)
    assert "4 unchecked" in sharp.certificates[0].headline


def test_pointwise_is_the_sharper_one():
    *_, far, part = centroids()
    P = softmax(-0.5 * far, axis=1)
    both = comp_sum_losses(-0.8 * part, labels_of(P, np.random.default_rng(0)), conditional=P)
    jensen, pointwise = both.certificates
    assert pointwise.bound < jensen.bound


def test_verdicts():
    rng, clean, y = noisy(6000, 0.5, classes=3)
    best = np.log(np.where(np.eye(3)[clean] == 1, 0.5, 0.25)) + 1e-3 * rng.normal(size=(6000, 3))
    good = comp_sum_losses(best, y, noise=0.5, y_clean=clean)
    assert good.certificates[0].verdict == Verdict.HOLDS
    assert comp_sum_losses(best, y, noise=0.5).certificates[0].verdict == Verdict.UNMEASURED
    certain = comp_sum_losses(
        8.0 * np.eye(3)[clean] + rng.normal(size=(6000, 3)), clean, noise=0.0, y_clean=clean
    )
    assert certain.certificates[0].verdict == Verdict.VACUOUS
    # labels of these very rows were learnt by heart: the risk is as low as the noise allows, and the predictions are wrong
    rng, clean, y = noisy(30_000, 0.5, classes=3)
    heart = 0.0949 * np.eye(3)[y] + 1e-3 * rng.normal(size=(30_000, 3))
    assert (
        comp_sum_losses(heart, y, noise=0.5, y_clean=clean, floor=0.1).certificates[0].verdict
        == Verdict.VOID
    )


def test_clean_labels_are_counted_and_the_bound_is_vacuous():
    rng = np.random.default_rng(0)
    P = rng.dirichlet([0.1] * 4, 4000)
    found = comp_sum_losses(np.log(P + 1e-12), labels_of(P, rng))
    assert found.certificates[0].verdict is Verdict.VACUOUS
    assert found.bound > found.error.high
    assert found.counted == found.error


def test_impossible_classes_and_probabilities():
    rng = np.random.default_rng(0)
    P = softmax(rng.normal(size=(500, 4)), axis=1)
    y = labels_of(P, rng)
    first = comp_sum_losses(np.log(P), y)
    assert first.summary()["read_as"] == "logits"
    again = comp_sum_losses(P, y)
    assert again.summary()["read_as"] == "probabilities"
    assert again.risk.value == pytest.approx(first.risk.value)
    with pytest.raises(ValueError, match="from_probs"):
        comp_sum_losses(rng.random((500, 4)), y)
    masked = np.column_stack([np.log(P), np.full(500, -np.inf)])
    assert comp_sum_losses(masked, y).risk.value == pytest.approx(first.risk.value, rel=1e-2)


def test_labels_as_text_and_from_one():
    rng, clean, y = noisy(500, classes=3)
    z = np.eye(3)[clean] + 0.1 * rng.normal(size=(500, 3))
    names = np.array(["cat", "dog", "cow"])
    found = comp_sum_losses(z, names[y], classes=tuple(names), noise=0.2, y_clean=names[clean])
    assert found.risk == comp_sum_losses(z, y, noise=0.2, y_clean=clean).risk
    with pytest.raises(ValueError, match="classes="):
        comp_sum_losses(z, names[y])
    with pytest.raises(ValueError, match=re.escape("0 to 2")):
        comp_sum_losses(z, y + 1)


def test_votes_stand_in_for_probabilities():
    rng = np.random.default_rng(0)
    P = rng.dirichlet([0.5] * 4, 3000)
    votes = rng.multinomial(7, P)
    found = comp_sum_losses(np.log(P), labels_of(votes / 7, rng), conditional=votes)
    (one,) = found.certificates
    assert one.measured is None
    assert "votes of 7 a row" in one.explain()
    assert "votes of 7 a row" in found.summary()["read_as"]
    with pytest.raises(ValueError, match="row 3 has none"):
        comp_sum_losses(
            np.log(P), votes[:, 0] % 4, conditional=votes * (np.arange(3000) != 3)[:, None]
        )
    with pytest.warns(UserWarning, match="rounded"):
        comp_sum_losses(np.log(P), labels_of(P, rng), conditional=P.round(2))


def test_a_torch_tensor_with_a_gradient_is_taken():
    import torch

    z = torch.randn(50, 3, requires_grad=True)
    assert comp_sum_losses(z, torch.arange(50, dtype=torch.int32) % 3).certificates


def test_groups_widen_the_bound():
    rng, clean, y = noisy(4000, 0.5, classes=3)
    z = 3.0 * np.eye(3)[clean] + 0.1 * rng.normal(size=(4000, 3))
    alone = comp_sum_losses(z, y, noise=0.5, y_clean=clean)
    grouped = comp_sum_losses(z, y, noise=0.5, y_clean=clean, groups=np.arange(4000) // 20)
    assert grouped.bound > alone.bound
    assert "200 groups" in grouped.certificates[0].explain()


def test_a_seed_of_the_user_changes_nothing():
    """Nothing is drawn that a user's data could share: the tests of labels have a stream of their own."""
    first, second = (
        comp_sum_losses(z, y, noise=0.2, y_clean=clean).certificates[0].explain()
        for rng, clean, y in [noisy(seed=0)] * 2
        for z in [np.eye(10)[clean]]
    )
    assert first == second


GOOD = {"logits": np.random.default_rng(0).normal(size=(20, 3)), "y": np.arange(20) % 3}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"logits": np.ones(20)}, "logits"),
        ({"logits": np.ones((20, 1)), "y": np.arange(20)}, "logits"),
        ({"logits": np.full((20, 3), np.nan)}, "logits"),
        ({"logits": None}, "logits"),
        ({"logits": np.ones((0, 3)), "y": []}, "logits"),
        ({"y": np.full(20, 3)}, "y"),
        ({"y": np.arange(19) % 3}, "y"),
        ({"y": ["a"] * 20}, "y"),
        ({"y_clean": np.full(20, -1), "noise": 0.1}, "y_clean"),
        ({"y_clean": np.arange(20) % 3}, "y_clean"),
        ({"groups": np.zeros(20)}, "groups"),
        ({"groups": np.zeros(19)}, "groups"),
        ({"conditional": np.full((20, 3), 0.4)}, "conditional"),
        ({"conditional": np.full((20, 3), np.nan)}, "conditional"),
        ({"conditional": np.ones((20, 2)) / 2}, "conditional"),
        ({"conditional": np.tile([2, -1, 0], (20, 1))}, "conditional"),
        ({"conditional": np.full((20, 3), 1 / 3), "noise": 0.1}, "noise"),
        ({"noise": 0.7}, "noise"),
        ({"noise": -0.1}, "noise"),
        ({"tau": -1}, "tau"),
        ({"tau": float("nan")}, "tau"),
        ({"floor": 0}, "floor"),
        ({"floor": 1.0}, "floor"),
        ({"delta": 0}, "delta"),
        ({"transform": "sharper"}, "transform"),
        ({"distinct": "no"}, "distinct"),
        ({"logits_best": np.ones((3, 3))}, "logits_best"),
    ],
)
def test_bad_input_is_named(change, named):
    with pytest.raises((ValueError, TypeError), match=named):
        comp_sum_losses(**(GOOD | change))


values = st.one_of(st.floats(), st.integers(-2, 3), st.none(), st.text(max_size=2))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.lists(values, max_size=3), max_size=5),
    st.lists(values, max_size=5),
    st.one_of(st.none(), st.floats()),
    st.floats(),
)
def test_anything_comes_out_or_is_refused_by_name(logits, y, noise, tau):
    told = ""
    try:
        comp_sum_losses(logits, y, noise=noise, tau=tau)
    except (ValueError, TypeError) as error:
        told = str(error)
    assert not told or told.startswith(("logits ", "y ", "noise ", "tau "))


def test_the_model_has_more_classes_than_were_seen():
    z = np.random.default_rng(0).normal(size=(50, 10))
    few = comp_sum_losses(z, np.arange(50) % 2, tau=2.0)
    assert few.certificates[0].inputs["classes"] == 10
    with pytest.raises(ValueError, match="y holds"):
        comp_sum_losses(z[:, :2], np.arange(50) % 10, tau=2.0)


def test_picture_and_files():
    from matplotlib.figure import Figure

    _, clean, y = noisy(300)
    result = comp_sum_losses(
        np.eye(10)[clean] + 0.1 * np.random.default_rng(0).normal(size=(300, 10)),
        y,
        noise=0.2,
        y_clean=clean,
    )
    assert len(result.plot(Figure().subplots()).get_lines()) == 3
    assert "bounds.csv" in result.artifacts()


@pytest.mark.parametrize("tau", [1.99999, 2 - 2**-52, 1000.0, 1e6])
def test_extreme_dials_give_a_bound(tau):
    rng, clean, y = noisy(noise=0.3)
    z = 3.0 * np.eye(10)[clean] + rng.normal(size=(len(y), 10))
    found = comp_sum_losses(z, y, noise=0.3, y_clean=clean, tau=tau)
    assert 0 < found.bound <= 1


def test_y_and_y_clean_count_from_the_same_number():
    import pandas as pd

    rng = np.random.default_rng(0)
    clean = rng.integers(0, 3, 300)
    table = pd.DataFrame(rng.normal(size=(300, 3)), columns=["logit_1", "logit_2", "logit_3"])
    y = np.where(clean == 0, 1, clean)  # holds 1 and 2, and y_clean 0 to 2
    both = comp_sum_losses(table, y, noise=0.3, y_clean=clean)
    assert both.error.value == comp_sum_losses(table.to_numpy(), y).error.value
