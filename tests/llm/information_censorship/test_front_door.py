import math

import numpy as np
import pandas as pd
import pytest
from censorship import BITS, PARITY

from whp.certificate import Status, Verdict
from whp.datasets.networks import asia, elements, has_elements
from whp.llm import information_censorship

CLINIC = {"target": "lung", "prior": "weight", "ask": "smoke,xray,dysp"}


def certificate(made, name):
    return next(c for c in made.certificates if c.name == name)


def test_the_clinic_end_to_end():
    made = information_censorship(asia(), **CLINIC, eps=0.01, calibrate="exact", benign="bronc")
    assert made.strength == pytest.approx(0.0600243746, abs=1e-9)
    assert made.leakage == pytest.approx(0.01, abs=1e-9)
    assert made.leakage_uncensored == pytest.approx(0.1457110970, abs=1e-9)
    assert made.subset_leakage["smoke", "xray"] == pytest.approx(0.1416046297, abs=1e-9)
    assert [c.name for c in made.certificates] == [
        "leakage",
        "universal-erasure",
        "composition",
        "utility",
    ]
    assert certificate(made, "leakage").verdict is Verdict.HOLDS
    assert "two would gain 0.01923" in certificate(made, "leakage").explain()
    assert made.trace["question"].tolist() == ["xray", "smoke", "dysp"]
    assert made.utility["true_answers"] == pytest.approx(made.strength)


def test_filters_do_not_bound_combinations():
    made = information_censorship(BITS, PARITY, mechanism="filter", eps=0.05)
    assert made.leakage == pytest.approx(math.log(2))
    assert made.trace["summed"].iloc[-1] == pytest.approx(0, abs=1e-12)
    assert certificate(made, "leakage").verdict is Verdict.FAILS
    assert certificate(made, "composition").bound == pytest.approx(math.log(2))
    assert certificate(made, "composition").verdict is Verdict.VACUOUS
    assert len(made.certificates) == 2


def test_budgets_that_censor_nothing_are_vacuous():
    made = information_censorship(asia(), **CLINIC, eps=0.15, calibrate="exact")
    assert made.strength == 1
    assert certificate(made, "leakage").verdict is Verdict.VACUOUS
    assert (
        certificate(information_censorship(asia(), **CLINIC, eps=0.3), "universal-erasure").verdict
        is Verdict.VACUOUS
    )


def test_a_coin_that_knows_the_answer_fails_by_its_matrix():
    p = 0.078
    for s, leaks in ((0.1, 0.0179), (0.25, 0.0306), (0.5, 0.0547), (1.0, 0.1281)):
        yes = 1 - (1 - p) * (1 - s)
        matrix = np.array([[p, 0, 1 - p], [0, yes, 1 - yes]])
        made = information_censorship(
            asia(), **CLINIC | {"ask": "xray"}, eps=0.01, mechanism=[matrix]
        )
        assert made.leakage == pytest.approx(leaks, abs=5e-5)
        assert certificate(made, "leakage").verdict is Verdict.FAILS
    refusing = np.array([[1.0, 0, 0], [0, 0, 1]])
    made = information_censorship(
        asia(), **CLINIC | {"ask": "xray"}, eps=0.01, mechanism=[refusing]
    )
    assert made.leakage == pytest.approx(0.1281, abs=5e-5)


def test_a_tight_budget_costs_honest_users_what_they_share_with_the_secret():
    b = np.arange(4)
    made = {
        eps: information_censorship(
            b[:, None], b % 2, prior=[0.1, 0.2, 0.3, 0.4], benign=b, eps=eps, calibrate="exact"
        )
        for eps in (0.05, 0.2)
    }
    assert made[0.05].strength == pytest.approx(0.0742929171, abs=1e-9)
    assert made[0.05].utility["uncertain_of_benign"] == pytest.approx(1.1847701219, abs=1e-9)
    assert made[0.2].strength == pytest.approx(0.2971716685, abs=1e-9)
    assert made[0.2].utility["uncertain_of_benign"] == pytest.approx(0.8995178101, abs=1e-9)
    u = certificate(made[0.05], "utility")
    assert u.bound == pytest.approx(0.6230116671, abs=1e-9)
    assert u.verdict is Verdict.HOLDS
    halves = np.array([[1.0, 0], [1.0, 0], [0, 1.0], [0, 1.0]])
    tight = information_censorship(
        b[:, None],
        b % 2,
        prior=[0.1, 0.2, 0.3, 0.4],
        benign=b,
        eps=0.0040217432,
        mechanism=[halves],
    )
    assert tight.leakage == pytest.approx(0.0040217432, abs=1e-9)
    assert tight.utility["uncertain_of_benign"] == pytest.approx(0.6689899238, abs=1e-9)
    assert certificate(tight, "utility").bound == pytest.approx(0.6689899238, abs=1e-9)


@pytest.mark.skipif(not has_elements(), reason="mendeleev is not installed")
def test_the_elements():
    table = elements()
    radio = [0.48701467, 0.04680352, 0.03845225, 0.19290177, 0.48599650]
    made = information_censorship(
        table, "radioactive", ask="period,group,block,series,goldschmidt_class", k=2
    )
    assert made.per_question["alone"].to_numpy() == pytest.approx(radio, abs=1e-8)
    assert made.ceiling == pytest.approx(0.62191899, abs=1e-8)
    both = information_censorship(table, "radioactive", ask="period,group")
    assert both.leakage_uncensored == pytest.approx(0.59138966, abs=1e-8)
    identity = information_censorship(table, "symbol", ask="period,group")
    assert (identity.leakage_uncensored, identity.ceiling) == pytest.approx(
        (4.14446763, math.log(118)), abs=1e-8
    )


def test_a_sample_certifies_nothing_but_the_universal_bound():
    rng = np.random.default_rng(0)
    table = rng.integers(0, 9, (200, 5))
    target = rng.integers(0, 2, 200)
    with pytest.warns(UserWarning, match="looks like a sample"):
        information_censorship(table, target, eps=0.01)
    made = information_censorship(table, target, eps=0.01, rows="sample", priors="any")
    assert [c.name for c in made.certificates] == ["leakage-of-these-rows", "universal-erasure"]
    assert not certificate(made, "leakage-of-these-rows").passes("holds")
    universal = certificate(made, "universal-erasure")
    assert universal.verdict is Verdict.UNMEASURED
    assert universal.inputs["H"] == pytest.approx(math.log(2))
    assert (
        next(a.status for a in universal.conditions if a.name == "known-prior")
        is Status.BY_CONSTRUCTION
    )


def test_what_is_given_in_other_ways_is_the_same():
    clinic = asia()
    base = information_censorship(clinic, **CLINIC, eps=0.01, calibrate="exact")
    numbers = clinic[["smoke", "xray", "dysp"]] == "yes"
    other = information_censorship(
        numbers, clinic["lung"], prior=100 * clinic["weight"], eps=0.01, calibrate="exact"
    )
    channels = [np.eye(2)[numbers[c].astype(int)] for c in numbers]
    laws = information_censorship(
        channels,
        clinic["lung"].to_numpy(),
        prior=clinic["weight"].to_numpy(),
        eps=0.01,
        calibrate="exact",
    )
    order = information_censorship(
        clinic.sample(frac=1, random_state=0)[clinic.columns[::-1]],
        **CLINIC,
        eps=0.01,
        calibrate="exact",
    )
    for made in (other, laws, order):
        assert made.strength == pytest.approx(base.strength, abs=1e-12)
        assert made.leakage_uncensored == pytest.approx(base.leakage_uncensored, abs=1e-12)


def test_labels_of_one_to_m_are_m_answers_and_a_missing_response_is_one():
    made = information_censorship(
        np.array([["a"], [None], ["a"], [None]], dtype=object), [1, 2, 1, 2], priors="any"
    )
    assert made.ceiling == pytest.approx(math.log(2))
    assert made.leakage_uncensored == pytest.approx(math.log(2))


def test_float32_rows_are_divided_by_their_sums():
    rows = np.random.default_rng(0).dirichlet(np.ones(7), 4).astype(np.float32)
    made = information_censorship([rows], [0, 0, 1, 1])
    assert "divided by their sums" in made.summary()["input"]


def test_histories_beyond_the_limit_are_sampled_or_left_unmeasured():
    right = np.array([[0.9, 0.1], [0.1, 0.9]])
    made = information_censorship([right] * 4, [0, 1], eps=0.2, max_cells=50, rng=0)
    c = certificate(made, "leakage")
    assert c.measured is not None
    assert (c.measured.method, c.measured.level) == ("empirical Bernstein", 0.95)
    truth = information_censorship([right] * 4, [0, 1], eps=0.2).leakage
    assert c.measured.low <= truth <= c.measured.high
    assert information_censorship([right] * 4, [0, 1], k=3, max_cells=50).leakage is None
    assert (
        certificate(information_censorship(BITS, PARITY, measure=False), "leakage").verdict
        is Verdict.UNMEASURED
    )


def test_identifiers_are_listed_as_what_they_are():
    n = 60
    table = pd.DataFrame(
        {"patient": range(n), "sex": np.arange(n) % 2, "target": np.arange(n) % 3 == 0}
    )
    with pytest.warns(UserWarning, match="sample"):
        made = information_censorship(table)
    assert made.per_question.set_index("question").loc["patient", "alone"] == pytest.approx(
        made.ceiling
    )
    assert made.summary()["most_telling_question"].startswith("patient")


BAD = np.array([[0.5, 0.5], [0.5, 0.43]])


@pytest.mark.parametrize(
    ("table", "options", "match"),
    [
        ([np.eye(2), BAD], {"target": [0, 1]}, r"channels\[1\] row 1 sums to 0.93: every row"),
        ([np.array([[1.0, math.nan]] * 2)], {"target": [0, 1]}, r"channels\[0\] row 0 column 1"),
        (
            asia(),
            {**CLINIC, "impermissible": "Yes"},
            r"impermissible has 'Yes', but target has 'no', 'yes'",
        ),
        (asia(), {**CLINIC, "impermissible": []}, "impermissible must name"),
        (asia(), {**CLINIC, "ask": "smoke,xrays"}, "ask: no column 'xrays'; did you mean 'xray'"),
        (asia(), {**CLINIC, "ask": "smoke,smoke"}, "ask must name each question once"),
        (asia(), {**CLINIC, "target": "lungs"}, "target: no column 'lungs'"),
        (asia(), {**CLINIC, "prior": "smoke"}, "prior must be numbers, row 0 has 'no'"),
        (BITS, {"target": [0, 1]}, r"target must have one entry a world \(4\)"),
        (
            BITS,
            {"target": PARITY, "prior": [1, 1, -1, 1]},
            "prior must be finite and at least 0, row 2",
        ),
        (BITS, {"target": PARITY, "prior": np.zeros(4)}, "prior must be above 0"),
        (BITS, {"target": PARITY, "k": 3}, "k must be at most the 2 questions"),
        (BITS, {"target": PARITY, "eps": -0.1}, "eps must be at least 0"),
        (BITS, {"target": PARITY, "eps": math.nan}, "eps must be"),
        (BITS, {"target": PARITY, "kind": "pointwise"}, "krr"),
        (
            BITS,
            {"target": PARITY, "truth": "worst", "calibrate": "answers"},
            "calibrate must be 'universal'",
        ),
        (BITS, {"target": ["a", "b", None, "a"]}, "target must be known in every world, row 2"),
        (BITS, {"target": PARITY, "lam": 2.0}, "lam must be left out"),
        (
            BITS,
            {"target": PARITY, "mechanism": "none", "calibrate": "exact"},
            "calibrate must be left out",
        ),
        (BITS, {"target": PARITY, "mechanism": [np.eye(2)]}, "a matrix a question"),
        (
            BITS,
            {"target": PARITY, "mechanism": [np.eye(2), np.eye(3)]},
            r"mechanism\[1\] must have a row a response",
        ),
        (
            BITS,
            {"target": PARITY, "mechanism": [np.eye(2), 2 * np.eye(2)]},
            r"mechanism\[1\] must have rows of prob",
        ),
        (
            BITS,
            {"target": PARITY, "priors": "any", "calibrate": "exact"},
            "priors='any' must go with",
        ),
        (
            BITS,
            {"target": PARITY, "priors": [np.ones(3)]},
            r"priors\[0\] must have one entry a world",
        ),
        (BITS, {"target": PARITY, "rows": "sample", "calibrate": "exact"}, "rows='sample'"),
        (BITS, {"target": PARITY, "truth": "worst", "k": 1}, "truth='worst'"),
        (BITS, {"target": PARITY, "benign": [1, 2]}, "benign must have one entry a world"),
        (asia(), {**CLINIC, "benign": "nothing"}, "benign: no column"),
    ],
)
def test_what_is_refused_is_named(table, options, match):
    with pytest.raises(ValueError, match=match):
        information_censorship(table, **options)


@pytest.mark.parametrize("kind", ["expected", "pointwise", "exponential"])
@pytest.mark.parametrize("mechanism", ["krr", "none", "filter"])
def test_every_kind_with_every_mechanism(kind, mechanism):
    made = information_censorship(asia(), **CLINIC, kind=kind, mechanism=mechanism, eps=0.05)
    assert certificate(made, "leakage").verdict in (Verdict.HOLDS, Verdict.FAILS)
    if mechanism == "krr":
        assert certificate(made, "leakage").verdict is Verdict.HOLDS
        assert certificate(made, "universal-swapping").verdict is Verdict.HOLDS


def test_the_worst_world_and_several_priors():
    worst = information_censorship(asia(), **CLINIC, truth="worst", eps=0.05)
    assert certificate(worst, "leakage").verdict is Verdict.HOLDS
    weight = asia()["weight"].to_numpy()
    sick = np.where(asia()["lung"] == "yes", 9.0, 1.0) * weight
    made = information_censorship(
        asia(), **CLINIC, priors=[weight, sick], eps=0.01, calibrate="exact"
    )
    assert made.leakage == pytest.approx(0.01, abs=1e-9)
    assert made.strength < 0.0600243746


def test_a_result_wraps_a_model():
    made = information_censorship(asia(), **CLINIC, eps=5.0)
    model = made.wrap(lambda question: "yes")
    assert [model.ask(q) for q in "abcd"] == ["yes", "yes", "yes", None]
    with pytest.raises(ValueError, match="mechanism must be"):
        information_censorship(BITS, PARITY, mechanism="none").wrap(lambda q: q)


def test_systems_with_more_histories_than_fit_are_answered_all_the_same():
    rng = np.random.default_rng(0)
    channels = [rng.dirichlet(np.ones(10), 20) for _ in range(8)]
    made = information_censorship(
        channels, np.arange(20) % 2, eps=0.05, max_cells=20_000, n_mc=500, rng=0
    )
    assert len(made.trace) == 4
    assert made.leakage_uncensored == made.ceiling
    assert certificate(made, "leakage").measured.method == "empirical Bernstein"


def test_missing_values_of_pandas_are_responses():
    table = pd.DataFrame(
        {"x": pd.array([1, None, 1, None], dtype="Int64"), "target": ["a", "b", "a", "b"]}
    )
    assert information_censorship(table).leakage_uncensored == pytest.approx(math.log(2))


def test_an_adversary_of_another_prior_can_gain_more_than_the_exact_budget():
    """What the unchecked condition on the prior is worth: the universal calibration gives less away."""
    clinic = asia()
    theirs = np.where(clinic["lung"] == "yes", 0.3 / 0.055, 0.7 / 0.945) * clinic["weight"]
    for how, gained in (("exact", 0.0365), ("universal", 0.0098)):
        made = information_censorship(clinic, **CLINIC, eps=0.01, calibrate=how)
        p = made.strength
        matrices = [np.array([[p, 0, 1 - p], [0, p, 1 - p]])] * 3
        other = information_censorship(
            clinic, **CLINIC | {"prior": theirs}, eps=0.01, mechanism=matrices
        )
        assert other.leakage == pytest.approx(gained, abs=5e-5)


def test_a_budget_beyond_all_exponentials():
    made = information_censorship(BITS, PARITY, eps=800.0, kind="exponential")
    assert made.strength == 1.0
    with pytest.raises(
        ValueError, match="lam must be at least"
    ):  # the moment is 1 + rounding there
        information_censorship(BITS, PARITY, kind="exponential", lam=1e-17)


def test_spellings_of_an_impermissible_answer():
    table = pd.DataFrame({"t": ["yes", "Yes", "no", "no"], "q": [1, 1, 0, 0]})
    with pytest.raises(ValueError, match="'yes', but target also spells it 'Yes'"):
        information_censorship(table, "t", impermissible="yes")
    made = information_censorship(table, "t", impermissible=["yes", "Yes"])
    assert made.leakage_uncensored == pytest.approx(math.log(2) / 2)


def test_an_id_of_many_rows_is_refused_by_name():
    n = 12_000
    table = pd.DataFrame({"id": [f"p{i}" for i in range(n)], "q": np.arange(n) % 2})
    with pytest.raises(ValueError, match="ask: 'id' has 12,000 responses in 12,000 worlds"):
        information_censorship(table, np.arange(n) % 3, rows="sample", priors="any")


def test_a_matrix_of_probabilities_is_no_table_of_responses():
    law = np.array([[0.7, 0.3], [0.4, 0.6]])
    with pytest.raises(ValueError, match="into a list"):
        information_censorship(law, [0, 1])
    assert information_censorship([law], [0, 1]).leakage_uncensored == pytest.approx(0.0462008)


def test_an_impermissible_answer_without_probability_can_be_sampled():
    rng = np.random.default_rng(0)
    made = information_censorship(
        rng.integers(0, 9, (40, 6)),
        ["a"] * 20 + ["b"] * 19 + ["c"],
        prior=[1.0] * 39 + [0.0],
        impermissible=["c"],
        max_cells=10,
    )
    assert made.leakage == 0.0
    assert made.certificates[0].verdict is Verdict.VACUOUS


def test_any_prior_is_for_a_censor_with_a_bound():
    with pytest.raises(ValueError, match="priors='any' must go with mechanism"):
        information_censorship(BITS, PARITY, mechanism="none", priors="any")
