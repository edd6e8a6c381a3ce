import numpy as np
import pandas as pd
import pytest
from trial import assert_flat_and_repeatable, judged

from whp.experiment.study import Outcome, load
from whp.studies.target_surrogates.experiments import INNER, MARKS, NETWORKS, expert
from whp.studies.target_surrogates.showcase import Planner

study = load("target-surrogates")
SMALL = [
    *({"experiment": "cancer", "m": m} for m in (*INNER, -1)),
    *({"experiment": "diabetes", "m": m} for m in INNER),
    {"experiment": "minibatch", "calls": 60},
    {"experiment": "network", "method": "sso 5", "calls": 5},
    {"experiment": "imitation", "method": "sso", "rounds": 2},
]


@pytest.fixture(scope="module")
def records():
    pytest.importorskip("gymnasium")
    rows, rng = [], np.random.default_rng(0)
    for config in SMALL:
        for seed in (0, 1):
            again = {**config, "seed": seed}
            found = study.run(again, np.random.default_rng(seed))
            rows += [again | row for row in found]
            if config["experiment"] in ("network", "imitation"):  # the others are alike
                for method in (
                    NETWORKS[1:] if config["experiment"] == "network" else ("adam", "sgd")
                ):
                    other = found[0] | {
                        k: v * rng.uniform(0.9, 1.1)
                        for k, v in found[0].items()
                        if isinstance(v, float)
                    }
                    rows.append(again | other | {"method": method})
    table = pd.DataFrame(rows)
    network = table["experiment"] == "network"
    for mark in MARKS:
        table.loc[network, f"after_{mark}"] = table.loc[network, "last"]
    return table


@pytest.mark.parametrize(
    "config", [SMALL[1], SMALL[7], SMALL[-3], SMALL[-1]], ids=lambda c: c["experiment"]
)
def test_a_trial_is_flat_and_repeatable(config):
    assert_flat_and_repeatable(study, config)


def test_claims_judge_and_can_come_out_either_way(records):
    findings = {c.id: judged(c, records) for c in study.CLAIMS}
    assert len(findings) == len(study.CLAIMS)
    for name in ("C1a", "C1c", "C2a", "C2b"):
        assert findings[name].outcome is Outcome.REPRODUCED, name
    worse = records.copy()
    worse.loc[worse["m"] == 0, ["after_20", "after_200", "off"]] = 0.9
    ours = worse["method"] == "sso 20"
    worse.loc[ours, "after_200"] = 5.0 + 0.001 * worse.loc[ours, "seed"]
    claims = {c.id: c for c in study.CLAIMS}
    for name in ("C1a", "C2b", "C4a"):
        assert judged(claims[name], worse).outcome is Outcome.NOT_REPRODUCED, name


def test_figures_draw(records):
    from matplotlib.figure import Figure

    for draw in study.FIGURES.values():
        draw(records, Figure().subplots())


def test_the_expert_balances_the_pendulum():
    gym = pytest.importorskip("gymnasium")
    env = gym.make("Pendulum-v1")
    returns = []
    for seed in range(5):
        state, _ = env.reset(seed=seed)
        total = 0.0
        for _ in range(200):
            state, reward, *_ = env.step(expert(np.asarray(state)[None]))
            total += float(reward)
        returns.append(total)
    assert np.mean(returns) > -400  # doing nothing costs about 1,200


def test_the_planner_is_asked_and_counted():
    planner = Planner()
    up = planner(np.array([[0.0, 0.0], [0.2, 0.0], [-0.2, 0.0]]))
    assert planner.calls == 1
    assert up[1] < 0 < up[2]  # it pushes back


@pytest.mark.slow
def test_showcase():
    from matplotlib.figure import Figure

    card = study.showcase()
    card.draw(Figure(figsize=(6.4, 3.2)))
    assert float(card.ours) < float(card.baseline)
