import numpy as np
import pytest
from comp_sum import labels_of, noisy
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from whp.certificate import Status, Verdict
from whp.datasets import images
from whp.losses import comp_sum_losses
from whp.losses._comp_sum_losses import evidence
from whp.losses._comp_sum_losses.rows import Rows


def test_what_is_void():
    rng, clean, y = noisy(noise=0.4)
    z = np.eye(10)[clean] + 0.1 * rng.normal(size=(3000, 10))
    wrong = comp_sum_losses(z, y, noise=0.2, y_clean=clean).certificates[0]
    assert wrong.verdict == Verdict.VOID
    copied = np.repeat(np.arange(1500), 2)
    twice = comp_sum_losses(z[copied], y[copied], noise=0.4, y_clean=clean[copied])
    assert twice.certificates[0].verdict == Verdict.VOID
    allowed = comp_sum_losses(
        z[copied], y[copied], noise=0.4, y_clean=clean[copied], distinct=False
    )
    assert allowed.certificates[0].verdict != Verdict.VOID
    below = comp_sum_losses(20 * np.eye(10)[y] + 0.1 * rng.normal(size=(3000, 10)), y, noise=0.4)
    assert below.certificates[0].verdict == Verdict.VOID
    P = softmax(3 * rng.normal(size=(3000, 10)), axis=1)
    drawn = labels_of(P, rng)
    shifted = np.where(rng.random((3000, 1)) < 0.6, np.roll(P, 1, axis=1), P)
    assert comp_sum_losses(z, drawn, conditional=P).certificates[0].verdict != Verdict.VOID
    both = comp_sum_losses(z, drawn, conditional=shifted)
    assert [c.verdict for c in both.certificates] == [Verdict.VOID, Verdict.VOID]
    zero = np.zeros((3000, 10))
    zero[np.arange(3000), (drawn + 1) % 10] = 1
    assert comp_sum_losses(z, drawn, conditional=zero).certificates[0].verdict == Verdict.VOID


def status(rows):
    return evidence.source(rows, 1.0).status


@pytest.mark.parametrize("smoothing", [1e-3, 1e-2])
def test_a_tempered_teacher_is_refuted_or_unchecked_never_met(smoothing):
    """Naive Bayes on a third of the pixels, its temperature fitted: the mean of −log P is right, P is not."""
    from sklearn.naive_bayes import GaussianNB

    X, y = images.digits()
    X = X[:, :24].astype(float) * 16
    train = np.arange(len(X)) % 2 == 0
    model = GaussianNB(var_smoothing=smoothing).fit(X[train], y[train])
    z, labels = model.predict_joint_log_proba(X[~train]), y[~train]
    z -= z.max(axis=1, keepdims=True)

    def nll(b):
        return -np.log(softmax(b * z, axis=1)[np.arange(len(z)), labels]).mean()

    b = float(minimize_scalar(nll, bounds=(1e-3, 5), method="bounded").x)
    found = comp_sum_losses(b * z, labels, conditional=softmax(b * z, axis=1), distinct=False)
    assert [c.verdict for c in found.certificates] == [Verdict.VOID, Verdict.VOID]


def test_labels_drawn_from_the_probabilities_refute_nothing():
    refuted = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n, classes = int(rng.choice([20, 200, 2000])), int(rng.choice([2, 5, 60]))
        P = rng.dirichlet([0.3] * classes, n)
        z = np.log(P + 1e-9) + rng.normal(size=P.shape)
        refuted += evidence.refuted(P, labels_of(P, rng), z.argmax(axis=1), z)[0] < 0.05
    assert refuted <= 3


def test_sharpened_probabilities_are_refuted():
    rng = np.random.default_rng(0)
    P = rng.dirichlet([0.5] * 5, 2000)
    y = labels_of(P, rng)
    sharp = P**1.5 / (P**1.5).sum(axis=1, keepdims=True)
    assert status(Rows(np.log(P), y, sharp)) is Status.VIOLATED
    assert status(Rows(np.log(P), y, P)) is Status.UNCHECKED


def test_a_model_that_knows_more_than_the_teacher_refutes_it():
    rng = np.random.default_rng(0)
    P = rng.dirichlet([0.3] * 3, 3000)
    y, blind = labels_of(P, rng), np.tile(P.mean(axis=0), (3000, 1))
    assert status(Rows(np.log(P), y, blind)) is Status.VIOLATED
    assert status(Rows(np.log(blind), y, blind)) is Status.UNCHECKED  # nothing can show it


def test_flips_by_class_are_seen_where_the_mean_rate_is_right():
    rng, classes, n = np.random.default_rng(0), 10, 20_000
    clean = rng.integers(0, classes, n)
    seen = {}
    for d in (0.0, 0.03):
        rate = np.where(clean < 5, 0.2 + d, 0.2 - d)
        y = np.where(rng.random(n) < rate, (clean + rng.integers(1, classes, n)) % classes, clean)
        seen[d] = status(Rows(np.eye(classes)[clean], y, noise=0.2, y_clean=clean))
    assert seen == {0.0: Status.UNCHECKED, 0.03: Status.VIOLATED}


def test_flips_to_one_class_are_seen():
    rng, classes, n = np.random.default_rng(0), 10, 5000
    clean = rng.integers(0, classes, n)
    y = np.where(rng.random(n) < 0.2, (clean + 1) % classes, clean)
    assert status(Rows(np.eye(classes)[clean], y, noise=0.2, y_clean=clean)) is Status.VIOLATED


def test_flips_where_the_model_errs_are_seen():
    rng, classes, n = np.random.default_rng(0), 4, 8000
    clean = rng.integers(0, classes, n)
    wrong = rng.random(n) < 0.2
    said = np.where(wrong, (clean + 1) % classes, clean)
    flip = rng.random(n) < np.where(wrong, 0.8, 0.05)
    y = np.where(flip, (clean + rng.integers(1, classes, n)) % classes, clean)
    rate = float((y != clean).mean())
    assert status(Rows(np.eye(classes)[said], y, noise=rate, y_clean=clean)) is Status.VIOLATED


def test_the_table_of_flips_is_rarely_refuted():
    p = []
    for seed in range(60):
        _, clean, y = noisy(int(30 + 20 * seed), 0.3, seed, classes=2 + seed % 4)
        p.append(evidence.table_p_value(y, clean, 0.3, 2 + seed % 4))
    assert sum(v < 0.05 for v in p) <= 9
    assert min(p) > 0.001


def test_copies_and_near_copies():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(1000, 3)), np.zeros(1000, int)
    z[900:] = z[:100]
    for jitter, expected in (
        (0.0, Status.VIOLATED),
        (1e-9, Status.VIOLATED),
        (1e-2, Status.UNCHECKED),
    ):
        rows = Rows(z + jitter * rng.normal(size=z.shape), y)
        assert evidence.independent(rows, True).status is expected
    assert evidence.independent(Rows(z, y), False).status is Status.UNCHECKED
    groups = np.arange(1000)
    groups[900:] = groups[:100]
    assert evidence.independent(Rows(z, y, groups=groups), True).status is Status.UNCHECKED


def test_scores_of_two_classes_are_near_by_chance():
    z = np.random.default_rng(0).normal(size=(50_000, 1))
    rows = Rows(np.column_stack([0 * z, z]), np.zeros(50_000, int))
    assert evidence.independent(rows, True).status is Status.UNCHECKED


@pytest.mark.parametrize("kind", ["votes", "rounded", "float16"])
def test_scores_that_tie_by_themselves_are_no_copies(kind):
    rng, clean, y = noisy(noise=0.2)
    z = 9 * np.eye(10)[clean] + 2 * rng.normal(size=(3000, 10))
    given = {
        "votes": rng.multinomial(5, softmax(z / 3, axis=1)) / 5,
        "rounded": np.round(softmax(z, axis=1), 4),
        "float16": softmax(3 * z, axis=1).astype(np.float16),
    }[kind]
    assert len(np.unique(given, axis=0)) < 2900
    found = comp_sum_losses(given, y, noise=0.2, y_clean=clean, from_probs=True)
    assert found.certificates[0].verdict is not Verdict.VOID


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e160, 1e300])
def test_copies_are_the_same_in_any_unit(scale):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(500, 3))
    y = rng.integers(0, 3, 500)
    z[0, 1] = -np.inf
    assert evidence.independent(Rows(scale * z, y), True).status == Status.UNCHECKED
    z[:50], y[:50] = z[50:100], y[50:100]
    assert evidence.independent(Rows(scale * z, y), True).status == Status.VIOLATED
