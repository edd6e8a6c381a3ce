import numpy as np
import pytest
from comp_sum import centroids, labels_of
from scipy.special import softmax

from whp.losses import comp_sum_losses, inverse_transform
from whp.losses._comp_sum_losses.loss import expected_loss, mixed_log
from whp.losses._comp_sum_losses.rows import FLOOR, Rows, risk_limit


def test_known_probabilities():
    *_, far, part = centroids()
    P, z = softmax(-0.5 * far, axis=1), -0.8 * part
    exact = Rows(z, np.zeros(len(z), int), P)
    assert exact.least_error().mean() == pytest.approx(0.5582781455, abs=1e-9)
    assert (P.max(axis=1) - P[np.arange(len(P)), exact.predicted]).mean() == pytest.approx(
        0.0166297515, abs=1e-9
    )
    for tau, risk, best, bound in (
        (0.5, 3.8546692289, 3.2203168206, 0.9561231597),
        (1.0, 1.8227978275, 1.7356383736, 0.4113298734),
        (1.5, 1.0838634845, 0.9790213939, 0.5991823269),
    ):
        mine = expected_loss(mixed_log(z, 0), P, tau)
        assert mine.mean() == pytest.approx(risk, abs=1e-9)
        assert exact.best(tau).mean() == pytest.approx(best, abs=1e-9)
        assert inverse_transform(mine.mean() - best, tau, 10) == pytest.approx(bound, abs=1e-8)
    one = expected_loss(mixed_log(z, 0), P, 1.0)
    assert one.mean() / np.log(2) - exact.least_error().mean() == pytest.approx(2.0715, abs=1e-4)
    each = inverse_transform(np.maximum(one - exact.best(1.0), 0), 1.0, 10)
    assert each.mean() == pytest.approx(0.3929773935, abs=1e-6)
    for tau, bound in ((0.5, 0.1448198222), (1.0, 0.4083882432)):
        wide = expected_loss(mixed_log(-0.3 * far, 0), P, tau).mean() - exact.best(tau).mean()
        assert inverse_transform(wide, tau, 10) == pytest.approx(bound, abs=1e-8)


def three_atoms(rng, n):
    """Fifty kinds of rows, three classes, probabilities known."""
    truth = np.random.default_rng(5)
    P, z = truth.dirichlet([1, 1, 1], 50), truth.normal(size=(50, 3))
    chosen = rng.integers(0, 50, n)
    return P, z, chosen, labels_of(P[chosen], rng)


@pytest.mark.parametrize("tau", [0.5, 1.0, 1.7])
def test_the_limit_of_the_risk_is_rarely_below_it(tau):
    missed = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        P, z, chosen, y = three_atoms(rng, 500)
        drawn = Rows(z[chosen], y)
        truth = expected_loss(mixed_log(z, FLOOR), P, tau).mean()
        missed += risk_limit(drawn.losses(tau, FLOOR), drawn.largest(tau, FLOOR), 0.05) < truth
    assert missed <= 15


def test_a_rare_large_loss_is_allowed_for():
    rng, missed = np.random.default_rng(0), 0
    for _ in range(2000):
        missed += risk_limit(8.5 * (rng.random(300) < 0.003), 8.5, 0.05) < 8.5 * 0.003
    assert missed == 0


def test_groups_count_once():
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(300):
        losses = np.repeat(rng.random(20) < 0.3, 50) * 2.0
        rows = Rows(np.zeros((1000, 2)), np.zeros(1000, int), groups=np.repeat(np.arange(20), 50))
        missed += risk_limit(rows.units(losses), 2.0, 0.05) < 0.6
    assert missed <= 15
    unequal = Rows(np.zeros((3, 2)), np.zeros(3, int), groups=np.array([0, 0, 1]))
    assert unequal.units(np.array([1.0, 3.0, 7.0])).tolist() == [2, 7]
    assert len(unequal.once().y) == 2


def test_the_floor_of_stated_noise_makes_certain_predictions_best():
    z = np.array([[50.0, 0, 0, 0]])
    for tau in (0.0, 0.5, 1.0, 1.5):
        rows = Rows(z, np.array([0]), noise=0.2)
        best = rows.floors(tau)[-1]
        P = np.array([[0.8, *[0.2 / 3] * 3]])
        least = expected_loss(mixed_log(z, best), P, tau)[0]
        assert least == pytest.approx(rows.best(tau)[0], abs=1e-9)
    assert Rows(z, np.array([0]), noise=0.2).floors(2.0) == (FLOOR,)
    assert Rows(z, np.array([0]), noise=0.2, floor=0.1).floors(1.0) == (0.1,)


def test_the_excess_error_is_counted_on_labels():
    rng = np.random.default_rng(0)
    P = rng.dirichlet([1, 1, 1], 4000)
    z = np.log(P) + rng.normal(size=P.shape)
    truth = (P.max(axis=1) - P[np.arange(4000), z.argmax(axis=1)]).mean()
    rows = Rows(z, labels_of(P, rng), P)
    counted = rows.counted(0.95)
    assert counted.low < truth < counted.high
    assert rows.measured(0.95) == counted
    assert Rows(z, rows.y, P, votes="3 a row").measured(0.95) is None
    assert Rows(z, rows.y, noise=0.2).measured(0.95) is None
    grouped = Rows(z, rows.y, P, groups=np.arange(4000) // 2)
    assert grouped.counted(0.95).n == 2000


def test_the_table_may_be_chosen_from():
    rng = np.random.default_rng(0)
    P = rng.dirichlet([1, 1, 1], 500)
    found = comp_sum_losses(np.log(P), labels_of(P, rng), conditional=P)
    alone = Rows(np.log(P), labels_of(P, rng), P)
    for _, row in found.table.iterrows():
        limit = alone.bounds(float(row["tau"]), 0.05 / 14, "paper")["excess_limit"]
        assert row["excess_limit"] == pytest.approx(limit)


def test_a_rate_estimated_from_the_rows_is_as_uncertain_as_they_are():
    """The model errs always and by a hair, where the theorem has no room, and the loss no variance."""
    n, false = 20_000, 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        clean = rng.integers(0, 2, n)
        y = np.where(rng.random(n) < 0.35, 1 - clean, clean)
        z = 1e-9 * np.eye(2)[1 - clean]
        rows = Rows(z, y, noise=float((y != clean).mean()), y_clean=clean)
        assert rows.estimated
        found = rows.bounds(1.0, 0.05, "paper")
        false += min(found["bound"], found["elementary"]) < 0.3
        for interval in (rows.measured(0.95), rows.counted(0.95)):
            assert interval.low <= interval.value <= interval.high
            false += not interval.low <= 0.3 <= interval.high
    assert false <= 6  # 16 without its limits, of the bound alone
    assert not Rows(z, y, noise=0.33, y_clean=clean).estimated
    assert not Rows(z, y, noise=rows.noise).estimated


def test_groups_of_unequal_size_keep_the_rate_between_its_limits():
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1, 2], [2, 2, 2000])
    clean = rng.integers(0, 3, len(groups))
    y = np.where(groups < 2, clean, (clean + (rng.random(len(groups)) < 0.3)) % 3)
    z = np.eye(3)[clean] + 0.1 * rng.normal(size=(len(groups), 3))
    noise = float((y != clean).mean())
    rows = Rows(z, y, noise=noise, y_clean=clean, groups=groups)
    least, most = rows.rates(0.95)
    assert 0 <= least <= noise <= most
    assert rows.bounds(1.0, 0.05, "paper")["bound"] == 1


def test_a_tiny_rate_that_no_label_shows():
    y = np.arange(60) % 3
    rows = Rows(np.eye(3)[y], y, noise=1e-300, y_clean=y)
    for tau in (0.0, 1.0, 1.7, 2.0):
        assert 0 <= rows.bounds(tau, 0.05, "paper")["elementary"] <= 1
