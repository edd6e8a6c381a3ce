import numpy as np
import pandas as pd
import pytest
from layered import linear, losses_of

from whp.certificate import Verdict
from whp.rl import LinearQModel, adversarial_linear_mdp


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


def test_an_offset_does_not_round_the_regret():
    losses = np.tile([0.0, 1.0], (200, 1, 1, 1))
    plain = adversarial_linear_mdp(losses, loss_range=(0, 1), replays=8, rng=0)
    above = adversarial_linear_mdp(losses + 1e12, loss_range=(1e12, 1e12 + 1), replays=8, rng=0)
    assert above.regret == pytest.approx(plain.regret, abs=1e-9)
    assert above.loss == pytest.approx(1e12 + plain.loss, abs=1e-3)


def in_rows(name, K=40):
    rows = [(name(k), a, float((k < 20) == a)) for k in range(K) for a in (0, 1)]
    return pd.DataFrame(rows, columns=["episode", "action", "loss"])


@pytest.mark.parametrize("name", ["ep{}", "{}.0", "{:03d}", "2024-{}"])
def test_episodes_follow_one_another_whatever_their_names(name):
    given = {"tuning": "tuned", "replays": 8, "loss_range": (0, 1), "rng": 0}
    wanted = adversarial_linear_mdp(in_rows(int), **given).regret
    assert adversarial_linear_mdp(in_rows(name.format), **given).regret == wanted


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (in_rows(int).assign(episode=np.inf), "'episode' must hold whole numbers"),
        (in_rows(int).set_axis(["episode", "loss", "loss"], axis=1), "two columns 'loss'"),
        (in_rows(int), "needs a column 'state': the model has 3 states"),
    ],
)
def test_columns_that_do_not_serve(table, message):
    model = LinearQModel.from_tabular(np.zeros((0, 3, 2, 3)), np.ones(3) / 3)
    with pytest.raises(ValueError, match=message):
        adversarial_linear_mdp(table, model, rng=0)


def test_a_log_whose_states_are_not_the_models():
    rng = np.random.default_rng(0)
    rows = {
        "episode": range(900),
        "state": rng.integers(2, size=900),
        "action": rng.integers(3, size=900),
        "loss": rng.random(900),
    }
    for init, verdict in (([0.5, 0.5], "unmeasured"), ([0.9, 0.1], "void")):
        model = LinearQModel.from_tabular(np.zeros((0, 2, 3, 2)), init)
        made = adversarial_linear_mdp(pd.DataFrame(rows), model, rng=0).certificates[0]
        assert str(made.verdict) in (verdict, "vacuous")
        assert (str(made.verdict) == "void") == (verdict == "void")


@pytest.mark.parametrize("shape", [(0, 1, 1, 2), (5, 1, 0, 2), (5, 1, 1, 0)])
def test_nothing_is_no_table(shape):
    with pytest.raises(ValueError, match="losses must not be empty"):
        adversarial_linear_mdp(np.zeros(shape))
