"""h-calibration against other recalibrators: fit on calibration rows, then probabilities of test rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.calibration import Objective, h_calibration
from whp.calibration._h_calibration.fit import fit_ensemble, fit_temperature
from whp.calibration._h_calibration.maps import standardise
from whp.experiment.benchmark import Case, Peer, Target
from whp.peers import calibration


def scores(n: int, classes: int) -> Any:
    def setup() -> dict[str, Any]:
        rng = np.random.default_rng(0)
        truth = rng.dirichlet(np.full(classes, 3 / classes), 2 * n)
        y = np.minimum((truth.cumsum(axis=1) < rng.random((2 * n, 1))).sum(axis=1), classes - 1)
        z = standardise(1.8 * np.log(np.maximum(truth, 1e-12)))
        return {"z": z[:n], "y": y[:n], "test": z[n:], "y_test": y[n:]}

    return setup


def ours(data: dict[str, Any]) -> Any:
    return h_calibration(
        data["z"],
        data["y"],
        logits_test=data["test"],
        y_test=data["y_test"],
        from_probs=False,
        rng=0,
    )


def map_alone(data: dict[str, Any]) -> Any:
    return fit_temperature(data["z"], data["y"], Objective())[0].apply(data["test"])


def ensemble(data: dict[str, Any]) -> Any:
    return fit_ensemble(data["z"], data["y"], Objective(), max_iter=300)[0].apply(data["test"])


def fitted(*peers: Peer) -> list[Peer]:
    return [peer.on(lambda data: (data["z"], data["y"], data["test"])) for peer in peers]


SCALING = (calibration.SKLEARN_TEMPERATURE, calibration.NETCAL, calibration.TS_MIX)
OTHERS = (calibration.SKLEARN_ISOTONIC, calibration.HISTOGRAM, calibration.VENN_ABERS)

CASES = [
    Case(
        name="1,500×10, one temperature, the map alone",
        setup=scores(1500, 10),
        ours=map_alone,
        peers=fitted(*SCALING, calibration.DIRICHLETCAL),
        repeats=5,
        target=Target("scikit-learn temperature", 3.0),
        note="56 evaluations of an error that is not unimodal, each with a sort of 15,000 numbers, against a convex log-loss.",
    ),
    Case(
        name="1,500×10, one temperature with all certificates",
        setup=scores(1500, 10),
        ours=ours,
        peers=fitted(*SCALING, *OTHERS),
        repeats=5,
        target=Target(seconds=2.0),
        note="The peers have no certificates.",
    ),
    Case(
        name="5,000×100, eight temperatures, 300 steps",
        setup=scores(5000, 100),
        ours=ensemble,
        peers=fitted(calibration.SKLEARN_TEMPERATURE, calibration.TS_MIX),
        repeats=2,
        target=Target(seconds=3.0),
        note="A richer map than the peers' single temperature.",
    ),
    Case(
        name="5,000×100, one temperature, the map alone",
        setup=scores(5000, 100),
        ours=map_alone,
        peers=fitted(*SCALING[:1]),
        repeats=3,
        target=Target("scikit-learn temperature", 3.0),
    ),
]
