import numpy as np
import pandas as pd
from trial import judged

from whp.datasets.streams import baskets, late_departures
from whp.experiment.study import Outcome
from whp.studies.dp_continual_release.claims import CLAIMS
from whp.studies.dp_continual_release.experiments import study


def test_the_streams_are_those_of_the_claims():
    X, names = baskets()
    assert X.shape == (155_659, 302)
    totals = np.asarray(X.sum(axis=0, dtype=np.int64)).ravel()
    assert (totals.max(), names[int(totals.argmax())]) == (39_681, "SOFT DRINKS")
    rows = np.asarray(X.sum(axis=1, dtype=np.int64)).ravel()
    assert (rows.max(), round(rows.mean(), 2)) == (84, 6.92)
    late, carriers = late_departures()
    assert late.shape == (328_521, 16)
    total = late.sum(axis=0, dtype=np.int64)
    assert (total.max(), carriers[int(total.argmax())]) == (15_644, "EV")


def test_claims_can_come_out_either_way():
    configs = [
        *({"experiment": "coverage", "seed": s} for s in range(120)),
        *({"experiment": "reduction", "n": 10, "d": 5, "seed": s} for s in range(3)),
        *({"experiment": "curve", "T": T, "seed": s} for T in (1000, 10_000) for s in range(4)),
    ]
    rows = [{**c, **r} for c in configs for r in study.run(c, np.random.default_rng(c["seed"]))]
    frame = pd.DataFrame(rows)
    claims = {c.id: c for c in CLAIMS}
    assert len(claims) == len(CLAIMS)
    assert judged(claims["C1e"], frame).outcome == Outcome.REPRODUCED
    assert judged(claims["C5a"], frame).outcome == Outcome.REPRODUCED
    assert (
        judged(claims["C5a"], frame.assign(marginals_exact=1.0)).outcome == Outcome.NOT_REPRODUCED
    )
    assert judged(claims["C4c"], frame.assign(broken=True)).outcome == Outcome.NOT_REPRODUCED
    assert judged(claims["C4c"], frame.assign(broken=False)).outcome == Outcome.REPRODUCED
    assert judged(claims["C1c"], frame.assign(largest=frame["T"])).outcome == Outcome.NOT_REPRODUCED


def test_an_audit_of_the_study():
    config = {
        "experiment": "audit",
        "rho": 0.5,
        "variant": "half the noise",
        "runs": 500,
        "adaptive": False,
        "seed": 0,
    }
    row = study.run(config, np.random.default_rng(0))[0]
    assert row["true_mu"] == 2 * row["mu"]
    assert row["caught_audit-mu"]
    assert not row["caught_audit-epsilon"]
    assert "verdict_audit-mu" not in row


def test_objects_are_audited_too():
    config = {"experiment": "object audit", "variant": "half the noise", "runs": 400, "seed": 0}
    row = study.run(config, np.random.default_rng(0))[0]
    assert row["caught_audit-mu"]
