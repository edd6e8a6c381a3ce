import numpy as np
import pandas as pd
import pytest
from layered import linear, losses_of

from whp.certificate import Verdict
from whp.rl import adversarial_linear_mdp


def test_regret_is_to_the_best_fixed_policy():
    model = linear()
    table = losses_of(model, 50)
    made = adversarial_linear_mdp(5 * table + 2, model, replays=8, rng=0)
    best = min(model.value(model.best_fixed(table.sum(axis=0)), table).sum(), np.inf)
    assert made.best_fixed == pytest.approx((5 * best + 2 * 3 * 50) / 50)
    expected = made.optimizer.history_["expected_loss"].iloc[-1]
    assert made.regret == pytest.approx(expected - 50 * made.best_fixed)
    assert made.curve["regret"].iloc[-1] == pytest.approx(made.regret)
    assert made.policy.sum(axis=-1) == pytest.approx(np.ones((3, 4)))


def test_a_range_of_the_data_is_linear_where_the_losses_are():
    phi = np.array([[[[1.0, 0.0], [0.0, 1.0], [0.6, 0.6]]]])  # no combination is a constant
    losses = np.random.default_rng(0).uniform(0.3, 0.8, (40, 1, 2))
    made = adversarial_linear_mdp(losses, {"phi": phi}, replays=8, rng=0)
    assert made.loss_range.startswith("0 to ")
    assert made.certificates[0].verdict is Verdict.VACUOUS


def test_a_single_run_is_unmeasured():
    losses = np.random.default_rng(0).random((40, 1, 1, 2))
    made = adversarial_linear_mdp(losses, measure=False, rng=0)
    assert made.replays == 1
    assert made.certificates[0].measured is None


def test_a_frame_is_the_array():
    losses = np.random.default_rng(0).random((30, 1, 2, 3))
    rows = pd.DataFrame(
        [(k, x, a, losses[k, 0, x, a]) for k in range(30) for x in range(2) for a in range(3)],
        columns=["episode", "state", "action", "loss"],
    ).sample(frac=1, random_state=0)
    made = adversarial_linear_mdp(rows, replays=8, rng=0)
    assert made.summary() == adversarial_linear_mdp(losses, replays=8, rng=0).summary()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"losses": np.zeros((5, 2, 2, 2))}, "model must be given"),
        ({"losses": np.full((5, 1, 1, 2), np.nan)}, "losses must be finite"),
        ({"losses": np.zeros((5, 1, 1, 2)), "loss_range": (1, 2)}, "outside"),
        ({"losses": np.zeros((5, 1, 1, 2)), "n_episodes": 6}, "n_episodes must be at most 5"),
        (
            {"losses": np.zeros((5, 1, 1, 2)), "tuning": "tuned", "eta": 0.1},
            "tuning must be left out",
        ),
        (
            {"losses": np.zeros((5, 1, 1, 2)), "model": 3},
            "model must be a LinearQModel or a mapping",
        ),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        adversarial_linear_mdp(**arguments)
