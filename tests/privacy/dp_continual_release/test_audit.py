from dataclasses import replace

import numpy as np
import pytest

from whp.certificate import Verdict
from whp.privacy import (
    ContinualArgmax,
    ContinualCounter,
    ContinualMaxSum,
    audit_release,
    discrete_gaussian,
    plan_release,
)
from whp.privacy._dp_continual_release.attacks import weights
from whp.privacy._dp_continual_release.counters import counter
from whp.privacy._dp_continual_release.noise import Noise, OsEntropy

ONE = {"rho": 0.5, "neighbours": "add-remove"}
SURE = 0.99999  # an honest mechanism's noise has no seed, and at 95 % its audit would fail in one run of forty


def bits(T, d, seed=0):
    return np.random.default_rng(seed).integers(0, 2, (T, d)).astype(np.uint8)


def test_the_audit_lets_pass_and_catches():
    plan = plan_release("counts", 64, strategy="tree", **ONE)
    honest = audit_release(plan, n=4000, confidence=SURE, rng=0)
    assert honest.certificates[0].verdict in (Verdict.HOLDS, Verdict.INCONCLUSIVE)
    assert honest.certificates[1].verdict == Verdict.INCONCLUSIVE
    assert 0.6 < honest.mu_low <= honest.mu
    half = replace(plan, scale=plan.scale / 2)
    caught = audit_release(half, n=4000, rng=0)
    assert caught.certificates[0].verdict in (Verdict.HOLDS, Verdict.INCONCLUSIVE)
    assert caught.certificates[1].verdict == Verdict.FAILS
    wide = plan_release("counts", 64, rho=0.05, strategy="tree", neighbours="add-remove")
    level = replace(wide, scale=wide.scale / 5)
    both = audit_release(level, n=4000, rng=0)
    assert [c.verdict for c in both.certificates] == [Verdict.FAILS, Verdict.FAILS]
    broken = ContinualCounter.from_plan(half)
    broken.run(bits(64, 1))
    assert broken.certificates()[0].verdict == Verdict.FAILS


@pytest.mark.parametrize("strategy", ["sqrt", "naive"])
def test_other_strategies_are_as_tight(strategy):
    plan = plan_release("counts", 32, strategy=strategy, **ONE)
    for adaptive in (False, True):
        found = audit_release(plan, n=4000, adaptive=adaptive, confidence=SURE, rng=0)
        assert 0.6 < found.mu_low <= found.mu


class Redrawn:
    """Draws noise anew for the same count at every step, at a tree's scale: broken, and not one of ours."""

    plan = plan_release("counts", 32, rho=0.5, strategy="tree", neighbours="add-remove")

    def run(self, X):
        counts = np.cumsum(X, axis=0, dtype=np.int64)
        return counts + discrete_gaussian(self.plan.scale, len(counts))[:, None]


def test_foreign_mechanisms_are_attacked_from_outside():
    found = audit_release(Redrawn, n=1500, rng=0)
    assert found.attack.startswith("run of each object")
    assert found.certificates[1].verdict == Verdict.FAILS
    plan = plan_release("maxsum", 32, 3, rho=0.05, strategy="recompute")
    honest = audit_release(lambda: ContinualMaxSum.from_plan(plan), n=500, confidence=SURE, rng=0)
    assert not any(c.verdict == Verdict.FAILS for c in honest.certificates)
    with pytest.raises(TypeError, match="make_mechanism"):
        audit_release(lambda: object())
    with pytest.raises(ValueError, match="by their plan"):
        audit_release(plan)
    with pytest.raises(ValueError, match="challenge"):
        audit_release(Redrawn, n=200, challenge=33)


def test_narrow_noise_makes_the_audit_of_mu_void():
    plan = plan_release("counts", 2, 1, rho=50.0, strategy="tree", neighbours="add-remove")
    assert plan.scale < 1
    found = audit_release(plan, n=200, rng=0)
    assert found.certificates[1].verdict == Verdict.VOID
    assert found.certificates[0].verdict == Verdict.VACUOUS
    import matplotlib.pyplot as plt

    assert len(found.plot().get_lines()) == 3
    plt.close("all")


@pytest.mark.parametrize("strategy", ["tree", "sqrt", "naive"])
@pytest.mark.parametrize("challenge", [1, 2, 7, 12, 20])
def test_weights_are_those_of_the_likelihood_ratio(strategy, challenge):
    """Σ⁻¹ of the answers times what the challenge adds to them, by the covariance of the definition."""
    T = 20
    plan = plan_release("counts", T, strategy=strategy, **ONE)
    if strategy == "tree":
        L = np.zeros((T, T))
        for t in range(1, T + 1):
            node = t
            while node:
                L[t - 1, node - 1] = 1
                node -= node & -node
    elif strategy == "naive":
        L = np.eye(T)
    else:
        c = np.concatenate([[1], np.cumprod((2 * np.arange(1, T) - 1) / (2 * np.arange(1, T)))])
        L = np.array([[c[i - j] if i >= j else 0 for j in range(T)] for i in range(T)])
    added = (np.arange(1, T + 1) >= challenge).astype(float)
    wanted = np.linalg.solve(L @ L.T, added)
    np.testing.assert_allclose(weights(plan, challenge), wanted, atol=1e-9)


LEAKING = plan_release("counts", 8, 5, rho=0.5, strategy="tree")


def leak():
    made = ContinualCounter.from_plan(LEAKING)
    made.run = lambda X: np.cumsum(np.asarray(X), axis=0).astype(float)
    return made


def test_the_object_that_is_given_is_the_one_that_is_attacked():
    found = audit_release(leak, n=150, rng=0)
    assert [str(c.verdict) for c in found.certificates] == ["vacuous", "fails"]

    plan = plan_release("counts", 8, strategy="tree", **ONE)

    def quiet():
        made = ContinualCounter.from_plan(plan)
        made._inner.noise = Noise("gaussian", made.plan.scale / 100, made.source)
        return made

    found = audit_release(quiet, n=400, rng=0)
    assert found.certificates[1].verdict == Verdict.FAILS
    answers = {a.name: str(a.status) for a in found.certificates[1].conditions}
    assert answers["independent-runs"] == "unchecked"
    assert answers["object-attacked"] == "by construction"


def test_a_plan_says_that_no_object_was_run():
    found = audit_release(plan_release("counts", 16, strategy="tree", **ONE), n=200, rng=0)
    answers = {a.name: str(a.status) for a in found.certificates[0].conditions}
    assert answers == {"independent-runs": "by construction", "object-attacked": "unchecked"}
    assert "by the plan alone" in found.attack


@pytest.mark.parametrize("challenge", [1, 3, 6])
@pytest.mark.parametrize("adaptive", [False, True])
def test_any_record_may_be_the_challenge(challenge, adaptive):
    """By objects and by the plan alike: half the noise is caught wherever the record lies in enough nodes."""
    plan = plan_release("counts", 8, rho=0.05, strategy="tree", neighbours="add-remove")
    quiet = replace(plan, scale=plan.scale / 5)
    honest = audit_release(
        plan, n=1000, adaptive=adaptive, challenge=challenge, confidence=SURE, rng=0
    )
    assert honest.mu_low <= honest.mu
    for what in (quiet, lambda: ContinualCounter.from_plan(quiet)):
        found = audit_release(what, n=800, adaptive=adaptive, challenge=challenge, rng=0)
        assert found.certificates[1].verdict == Verdict.FAILS


def test_an_adversary_of_other_queries_sees_answers_first():
    for kind, query in ((ContinualMaxSum, "maxsum"), (ContinualArgmax, "sumselect")):
        plan = plan_release(query, 16, 3, rho=0.5, strategy="recompute")
        found = audit_release(lambda k=kind, p=plan: k.from_plan(p), n=200, adaptive=True, rng=0)
        assert not any(c.verdict == Verdict.FAILS for c in found.certificates)


def test_twice_the_noise_is_cleared():
    plan = plan_release("counts", 16, strategy="tree", **ONE)
    found = audit_release(replace(plan, scale=2 * plan.scale), n=4000, confidence=SURE, rng=0)
    c = found.certificates[1]
    assert c.verdict == Verdict.HOLDS
    assert "proves nothing of other attacks" in c.claim
    assert c.measured.high < c.bound


def test_one_object_for_all_runs_is_noticed():
    only = ContinualCounter(1, T=8, strategy="tree", horizon="double", **ONE)
    found = audit_release(lambda: only, n=100, rng=0)
    assert {c.verdict for c in found.certificates} == {Verdict.VOID}


def test_what_an_object_says_of_itself_is_no_construction():
    plan = plan_release("counts", 8, strategy="tree", **ONE)

    class Mine:
        drawn_here = True

        def __init__(self):
            self.plan = plan

        def run(self, X):
            return ContinualCounter.from_plan(plan).run(X)

    found = audit_release(Mine, n=100, rng=0)
    assert {str(a.status) for a in found.certificates[0].conditions} == {"unchecked"}

    class Sub(ContinualCounter):
        drawn_here = True

    found = audit_release(lambda: Sub(1, T=8, strategy="tree", **ONE), n=100, rng=0)
    assert {str(a.status) for a in found.certificates[0].conditions} == {"unchecked"}
    found = audit_release(lambda: ContinualCounter.from_plan(plan), n=100, rng=0)
    assert {str(a.status) for a in found.certificates[0].conditions} == {"by construction"}


def test_a_pool_of_objects_is_noticed():
    pool = [ContinualCounter(1, T=8, strategy="tree", horizon="double", **ONE) for _ in range(3)]
    taken = iter(range(1000))
    found = audit_release(lambda: pool[next(taken) % 3], n=100, rng=0)
    assert {c.verdict for c in found.certificates} == {Verdict.VOID}


def test_counters_side_by_side_are_counters():
    """The shortcut runs the counter of the plan."""
    plan = plan_release("counts", 16, strategy="tree", **ONE)
    wide = counter(plan, OsEntropy(), 2000)
    rest = wide.advance(np.zeros((16, 2000), np.uint8))
    single = np.array(
        [ContinualCounter.from_plan(plan).run(np.zeros((16, 1)))[:, 0] for _ in range(2000)]
    )
    assert rest.var() == pytest.approx(single.var(), rel=0.1)


class Leaking:
    plan = plan_release("counts", 128, strategy="tree", **ONE)

    def __init__(self, leak):
        self.leak = leak

    def run(self, X):
        return self.leak(ContinualCounter.from_plan(self.plan).run(X), X)


def waits_for_two_ones(answers, X):
    counts = np.cumsum(X, axis=0, dtype=float)
    return np.where(counts > 1, counts, answers)


def test_other_records_wake_a_leak_that_waits_for_ones():
    others = bits(128, 1)

    def audit(**options):
        return audit_release(lambda: Leaking(waits_for_two_ones), n=200, rng=0, **options)

    silent, caught = audit(), audit(others=others)
    assert silent.certificates[1].verdict != Verdict.FAILS
    assert caught.certificates[1].verdict == Verdict.FAILS
    for found, named in ((silent, "all zeros"), (caught, f"with {others[1:].sum()} ones")):
        assert named in found.certificates[1].inputs["streams"]
        assert named in found.attack


def test_the_certificate_says_what_was_looked_at(monkeypatch):
    from whp.privacy._dp_continual_release import attacks

    def inputs(**options):
        plan = plan_release("counts", 128, strategy="tree", **ONE)
        make = lambda: ContinualCounter.from_plan(plan)  # noqa: E731
        return audit_release(make, n=100, rng=0, **options).certificates[0].inputs

    said = inputs(challenge=3)
    assert said["streams"] == "record 3 all ones or all zeros, the others all zeros"
    assert "all 128 answers, by their weights" in said["answers read"]
    assert "64 of 384 numbers" in said["answers read"]
    assert said["answers read"].endswith("after 128 of 128 records")
    monkeypatch.setattr(attacks, "HELD", 200 * 50)
    assert inputs()["answers read"].endswith("after 50 of 128 records")
    assert "chosen after seeing answers" in inputs(adaptive=True)["streams"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"others": np.zeros((3, 1))}, "others"),
        ({"others": np.full((128, 1), 2)}, "others"),
        ({"others": np.zeros((128, 1)), "adaptive": True}, "others"),
    ],
)
def test_other_records_are_checked(options, named):
    with pytest.raises(ValueError, match=named):
        audit_release(lambda: Leaking(lambda a, X: a), n=100, **options)
    with pytest.raises(ValueError, match="others"):
        audit_release(Leaking.plan, n=100, others=np.zeros((128, 1)))


@pytest.mark.parametrize(
    "leak", [lambda a, X: a * np.nan, lambda a, X: a[:3], lambda a, X: a[None]]
)
def test_answers_that_are_none_are_named(leak):
    with pytest.raises(ValueError, match="must give 128 finite answers"):
        audit_release(lambda: Leaking(leak), n=100)


def test_objects_of_several_plans_are_refused():
    plans = iter(Leaking.plan for _ in range(3))

    def make():
        plan = next(plans, None)
        return ContinualCounter.from_plan(
            plan or plan_release("counts", 128, rho=50.0, strategy="tree")
        )

    with pytest.raises(ValueError, match="one plan"):
        audit_release(make, n=100)
