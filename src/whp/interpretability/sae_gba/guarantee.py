"""Certificates: are the theorem's conditions met, are targets kept, do features come back, are codes the only ones as sparse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.stats import beta

from whp.certificate import Certificate
from whp.interpretability.sae_gba.theory import (
    code_bound,
    nearest,
    recovery_rate,
    resonance_band,
    unit_rows,
    width_bound,
)
from whp.intervals import Estimate, exact
from whp.undeclared import Assumption, met, unchecked, undeclared, violated

__all__ = [
    "coherence",
    "consistency",
    "frequency",
    "matched_chance",
    "recovery",
    "unique_code",
    "wilson",
]

PAPER = "Chen et al. 2026"
TOGETHER = 0.5
NULL_DRAWS = 20


def wilson(hits: int, n: int, level: float = 0.95) -> Estimate:
    """A share with Wilson's interval."""
    from scipy.stats import binomtest

    ends = binomtest(hits, n).proportion_ci(level, method="wilson")
    value = hits / n
    return Estimate(value, min(ends.low, value), max(ends.high, value), level, n, "Wilson")


def recovery(
    decoder: np.ndarray,
    truth: np.ndarray | None,
    codes: np.ndarray | None,
    *,
    p: float,
    threshold: float,
    rng: np.random.Generator,
    epsilon: float = 0.0,
    varsigma: float = 0.1,
) -> Certificate:
    """Whether all true features have a neuron, under the conditions of Theorem 6.1 with its hidden constants taken as 1."""
    M, d = decoder.shape
    inputs: dict[str, Any] = {
        "neurons": M,
        "target frequency": p,
        "cosine": threshold,
        "hidden constants": 1,
    }
    measured = trivial = None
    known: list[Assumption] = []
    bound = 1.0
    confidence = 1.0
    if truth is not None:
        n = len(truth)
        bound, confidence = (
            1 - 1 / n,
            max(1 - n ** (-4 * max(epsilon, 1e-9)), 1e-6) if epsilon else 1.0,
        )
        measured = exact(recovery_rate(truth, decoder, threshold))
        trivial = recovery_rate(truth, rng.standard_normal((M, d)), threshold)
        inputs |= {
            "features": n,
            "each neuron counted once": recovery_rate(truth, decoder, threshold, matched=True),
        }
        known.append(_gaussian(truth))
        if codes is None:
            known.append(
                unchecked(
                    "rows hold equally many features, alike, no two always together",
                    "codes was not given",
                )
            )
        else:
            known += _model(codes)
            s = max(1, round(float((codes > 0).sum(axis=1).mean())))
            known += _width_and_band(n, d, M, s, p, epsilon, varsigma)
            inputs |= {
                "features a row": s,
                "neurons that suffice at the start": width_bound(s, p, n),
            }
    return undeclared(
        "recovery",
        "every true feature has a neuron within the cosine",
        f"{PAPER}, Theorem 6.1; it hides its constants, which are taken as 1 here and are not calibrated",
        ">=",
        bound,
        confidence,
        measured,
        trivial=trivial,
        assumptions=tuple(known),
        inputs=inputs,
        needs="the true features, which are known for simulated activations alone: truth",
        remedy="more neurons, more steps, or target frequencies nearer to those of the features.",
    )


def _gaussian(V: np.ndarray) -> Assumption:
    from scipy.stats import kurtosistest

    statement = "features are Gaussian"
    entries = V.ravel()
    p = float(kurtosistest(entries).pvalue) if len(entries) >= 20 else 1.0
    lengths = np.linalg.norm(V, axis=1)
    # features scaled to unit length are as good: only directions matter
    evidence = f"kurtosis p = {p:.2g}, lengths {lengths.min():.3g} to {lengths.max():.3g}"
    return violated(statement, evidence) if p < 1e-3 else met(statement, evidence)


def _model(H: np.ndarray) -> list[Assumption]:
    on = H > 0
    counts = on.sum(axis=1)
    values = H[on]
    spread = float(values.std() / values.mean()) if len(values) else math.inf
    even = counts.min() == counts.max() and spread < 1e-3
    alike = (met if even else violated)(
        "every row holds equally many features with equal coefficients",
        f"{counts.min()} to {counts.max()} features, coefficients vary by {spread:.2g} of their mean",
    )
    together = on.T.astype(np.float64) @ on
    own = np.maximum(np.diag(together).copy(), 1)
    share = together / own[:, None]
    np.fill_diagonal(share, 0)
    apart = (met if share.max() <= TOGETHER else violated)(
        "no two features always come together",
        f"at most {share.max():.2g} of one's rows hold another",
    )
    return [alike, apart]


def _width_and_band(
    n: int, d: int, M: int, s: int, p: float, epsilon: float, varsigma: float
) -> list[Assumption]:
    needed = n * p ** (-s / (1 - epsilon) ** 2)
    low, high = resonance_band(n, d, s, epsilon, varsigma)
    return [
        (met if needed <= M else violated)(
            "there are n p^(−s/(1−ε)²) neurons",
            f"{needed:,.0f} by the formula, {M:,} here; in practice far fewer do, and the theorem does not cover them",
        ),
        (met if low <= p <= high else violated)(
            "the target frequency is in the resonance band",
            f"p = {p:.4g}, band {low:.4g} to {high:.4g}",
        ),
    ]


def frequency(
    fired: np.ndarray, rows: int, target: np.ndarray, delta: float, grouped: bool | None
) -> Certificate:
    """Whether no neuron fires significantly more often on new rows than its target allows."""
    M = len(fired)
    low = np.where(fired > 0, beta.ppf(delta / M, np.maximum(fired, 1), rows - fired + 1), 0.0)
    high = np.where(fired < rows, beta.isf(delta / M, fired + 1, np.maximum(rows - fired, 1)), 1.0)
    over = low > target
    worst = int(np.argmax(fired / rows / target))
    statement = "rows held out are independent of each other"
    if grouped is None:
        known = unchecked(
            statement, "tokens of one text are not: say with groups what belongs together"
        )
    else:
        known = met(statement, "whole groups were held out") if grouped else unchecked(statement)
    return undeclared(
        "frequency",
        "no neuron fires on new rows more often than its target, significantly",
        "derived here: Clopper-Pearson limits for all neurons at once",
        "<=",
        0.0,
        1 - delta,
        exact(float(over.mean())),
        assumptions=(known,),
        inputs={
            "rows held out": rows,
            "neurons over their target": int(over.sum()),
            "neurons that never fire": int((fired == 0).sum()),
            "largest rate over target": float(fired[worst] / rows / target[worst]),
            "its interval": f"{low[worst] / target[worst]:.3g} to {high[worst] / target[worst]:.3g}",
        },
        remedy="biases have not arrived: more steps, more frequent adaptation (adapt_every), or scaled activations.",
    )


def matched_chance(
    X: np.ndarray,
    n_neurons: int,
    threshold: float,
    rng: np.random.Generator,
    draws: int = NULL_DRAWS,
) -> float:
    """Share of directions with another one within the cosine, both drawn with the covariance of the activations."""
    values, vectors = np.linalg.eigh(np.cov(X.T))
    root = vectors * np.sqrt(np.maximum(values, 0))
    m = min(n_neurons, 2048)

    def drawn(size: int) -> np.ndarray:
        return unit_rows(rng.standard_normal((size, X.shape[1])) @ root.T)

    return float(
        np.mean(
            [
                (nearest(drawn(min(m, 256)), drawn(n_neurons)) > threshold).mean()
                for _ in range(draws)
            ]
        )
    )


def consistency(
    similarity: np.ndarray | None,
    live: np.ndarray,
    threshold: float,
    chance: float,
    cap: float,
    seeds: int,
    delta: float,
) -> Certificate:
    """Whether features come back under another seed more often than by chance."""
    level = 1 - delta
    measured = None
    if similarity is not None and live.any():
        share = (similarity[:, live] > threshold).mean(axis=1)
        if len(share) > 1:
            from whp.intervals import bootstrap

            measured = bootstrap(share, level=level)
        else:
            measured = wilson(int((similarity[0, live] > threshold).sum()), int(live.sum()), level)
    bound = max(chance, cap)
    return undeclared(
        "consistency",
        f"more live neurons than by chance have one of another seed within a cosine of {threshold:g}; being above chance does not "
        "make a feature mean one thing",
        "derived here: against random directions with the activations' covariance, and against the spherical cap",
        ">=",
        bound,
        level,
        measured,
        trivial=1.0 if bound >= 0.5 else None,
        assumptions=(
            unchecked("neurons of one run are independent", "the interval treats them so")
            if seeds <= 2
            else met("seeds are independent"),
        ),
        inputs={
            "seeds": seeds,
            "live neurons": int(live.sum()),
            "chance, covariance": chance,
            "chance, cap": cap,
        },
        needs="n_seeds of at least 2",
        remedy="more steps, more data, or fewer neurons; features of this run are its own.",
    )


def coherence(decoder: np.ndarray, live: np.ndarray) -> float:
    """Largest absolute cosine between two different live directions."""
    W = unit_rows(decoder[live])
    if len(W) < 2:
        return 0.0
    worst = 0.0
    for start in range(0, len(W), 1024):
        cosines = np.abs(W[start : start + 1024] @ W.T)
        cosines[np.arange(len(cosines)), start + np.arange(len(cosines))] = 0
        worst = max(worst, float(cosines.max()))
    return min(worst, 1.0)


def unique_code(active: np.ndarray, mu: float, delta: float) -> Certificate:
    """Whether codes of new rows are the only ones as sparse."""
    allowed = code_bound(mu)
    broken = int((active >= allowed).sum())
    return undeclared(
        "unique-code",
        "new rows have fewer active neurons than ½(1 + 1/μ), so that no other code of theirs is as sparse; measured is the share "
        "that has not, with at most a fraction delta allowed",
        "Donoho and Elad 2003; checked here on this dictionary",
        "<=",
        delta,
        0.95,
        wilson(broken, len(active)),
        trivial=0.0 if allowed <= 1 + 1e-9 else 1.0,
        inputs={
            "largest cosine of two neurons": mu,
            "active neurons allowed": allowed,
            "mean active": float(active.mean()),
        },
        remedy="features are split between neurons that nearly agree: other codes explain a row as well, and which fire for "
        "it is partly a matter of the encoder.",
    )
