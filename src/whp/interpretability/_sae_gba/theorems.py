"""What is promised of a dictionary of features, and on which conditions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import betaincinv
from scipy.stats import chi2, kurtosistest, norm

from whp.certificate import Answer, Certificate
from whp.concentration import betting, simultaneous_proportions
from whp.conditions import Test
from whp.interpretability._sae_gba.chance import Chance
from whp.interpretability._sae_gba.formulas import (
    code_bound,
    coherence,
    nearest,
    recovery_rate,
    resonance_band,
    rounding,
    unit_rows,
    width_bound,
)
from whp.intervals import Estimate
from whp.theorem import (
    AT_LEAST,
    AT_MOST,
    ON_AVERAGE,
    POPULATION,
    THIS_RUN,
    Condition,
    Derived,
    Theorem,
)
from whp.validate import private_stream

__all__ = [
    "THEOREMS",
    "Model",
    "came_back",
    "consistency",
    "features_found",
    "frequency",
    "independence",
    "recovery",
    "rows_needed",
    "seeds_by_hand",
    "unique_code",
]

PAPER = "Chen et al. 2026"
LEVEL = 1e-3  # of each test of a condition
REPEATED = 0.01  # share of rows that may be there again
TOGETHER = 0.5
EXPLAINED = 2e-3  # of a row's length that codes times features may miss: half precision
EVEN = 1e-3
COPIES = 0.05  # share of live neurons that another run may have to rounding
VARSIGMA = 0.1

INDEPENDENT = Condition(
    "independent-rows",
    "rows that are counted are independent of each other",
    "say with groups= what belongs together (the text of each token): one row of each group is then "
    "counted.",
)
HELD_OUT = Condition(
    "held-out", "the rows that are counted trained nothing", "count rows that trained nothing."
)
CHOSEN_BEFORE = Condition(
    "chosen-beforehand",
    "neither these rows nor these runs chose the dictionary, its settings or the demand",
    "certify once: settle seed and settings on other rows and runs.",
)
SEEDS = Condition(
    "independent-seeds",
    "the runs that are compared started from directions drawn independently of each other",
    "train each run anew, from directions of its own.",
)
ALGORITHM = Condition(
    "its-own-algorithm",
    "the dictionary was trained by the algorithm that the theorem is about, on activations as they "
    "are",
    "take method='ba' with preprocess=False; the theorem is about no other.",
)
EXPLAINED_BY = Condition(
    "codes-times-features",
    "activations are codes times the features given",
    "give the features and codes that the activations were made of.",
)
NONNEGATIVE = Condition(
    "nonnegative-codes", "no code is negative", "the theorem covers codes from 0 on only."
)
ALIKE = Condition(
    "rows-alike",
    "every row holds equally many features with equal coefficients",
    "the theorem covers no other rows; came-back and frequency need no such model.",
)
APART = Condition(
    "features-apart",
    "no feature comes with another one in more than half of its rows",
    "features that come together are found as their sum.",
)
GAUSSIAN = Condition(
    "gaussian-directions",
    "features are as independent Gaussian vectors, in direction and, or all alike, in length",
    "the theorem covers no features that point the same way or along axes, or of unlike lengths.",
)
CONSTANTS = Condition(
    "width-and-frequency",
    "there are as many neurons, and the target frequency lies, as the theorem asks",
    "take more neurons, and a target near the features' own frequency.",
)

RECOVERY = Theorem(
    "recovery",
    claim="of the true features at least the share demanded has a neuron within the cosine",
    quantity="share of true features with a neuron within the cosine",
    relation=AT_LEAST,
    scope=THIS_RUN,
    source=f"{PAPER}, Theorem 6.1 (all features, with constants that it does not publish); the share "
    "demanded stands in the place of all",
    conditions=(ALGORITHM, EXPLAINED_BY, NONNEGATIVE, ALIKE, APART, GAUSSIAN, CONSTANTS),
    needs="the true features, which are known of simulated activations alone: truth= and codes=",
    remedy="more neurons, or a target frequency nearer to that of the features.",
)
FREQUENCY = Theorem(
    "frequency",
    claim="every neuron fires on new rows at most (1 + slack) times as often as its target says",
    quantity="largest frequency over its target among all neurons, with simultaneous limits",
    relation=AT_MOST,
    scope=POPULATION,
    source=Derived("sae-gba#frequency"),
    conditions=(INDEPENDENT, HELD_OUT, CHOSEN_BEFORE),
    remedy="biases have not arrived: more steps, more frequent adaptation (adapt_every), or scaled "
    "activations (preprocess=True).",
)
CAME_BACK = Theorem(
    "came-back",
    claim="of this dictionary's live neurons at least the share demanded has a live neuron within the "
    "cosine in every other run that was made; coming back does not make a feature mean one thing",
    quantity="share of live neurons that came back, in the run where fewest did",
    relation=AT_LEAST,
    scope=THIS_RUN,
    source=Derived("sae-gba#came-back"),
    conditions=(SEEDS,),
    needs="n_seeds of at least 2",
    remedy="more steps, more data, or fewer neurons: most features of this run are its own; if vacuous, "
    "directions that nobody learnt come back as often: demand more (at_least), or a larger cosine "
    "(similarity).",
)
CONSISTENCY = Theorem(
    "consistency",
    claim="on average over training seeds, on these rows, at least the share demanded of this "
    "dictionary's live neurons has a live neuron within the cosine in a run from a new seed",
    quantity="mean share of live neurons that come back, over new seeds",
    relation=AT_LEAST,
    scope=ON_AVERAGE,
    source=Derived("sae-gba#consistency"),
    conditions=(SEEDS, CHOSEN_BEFORE),
    needs="n_seeds of at least 2",
    remedy="more steps, more data, or fewer neurons.",
)
UNIQUE_CODE = Theorem(
    "unique-code",
    claim="of new rows at most the share allowed has a code that may not be the only one as sparse for "
    "its reconstruction, or none",
    quantity="share of rows with no active neuron, or with ½(1 + 1/μ) or more",
    relation=AT_MOST,
    scope=POPULATION,
    source=Derived("sae-gba#unique-code", extends="Donoho and Elad 2003"),
    conditions=(INDEPENDENT, HELD_OUT, CHOSEN_BEFORE),
    needs="more rows held out (held_out).",
    remedy="features are split between neurons that nearly agree: other codes explain a row as well, "
    "and which fire for it is partly a matter of the encoder; if vacuous, the dictionary has so "
    "few directions that any code is the only one.",
)
THEOREMS = (RECOVERY, FREQUENCY, CAME_BACK, CONSISTENCY, UNIQUE_CODE)
MODEL = (EXPLAINED_BY, NONNEGATIVE, ALIKE, APART)


def independence(test: Test, again: float, rows: int, grouped: bool, distance: int = 1) -> Answer:
    """Whether counted rows are independent, by relatives in the file and rows that are there again.

    Parameters
    ----------
    test : Test
        Of rows at a distance in the file; of groups where there are groups.
    again : float
        Share of counted rows that are, or nearly are, there again; of groups, of whole ones.
    rows : int
        How many are counted.
    grouped : bool
        Whether one row of each group is counted.
    distance : int
        At which distance in the file rows or groups agree most.
    """
    of = "groups" if grouped else "rows"
    if again > REPEATED:
        nearly = "with all their rows" if grouped else "to the bit or nearly"
        return INDEPENDENT.check(
            False, f"{again:.1%} of {rows:,} {of} are there more than once, {nearly}"
        )
    where = f"neighbouring {of}" if distance == 1 else f"{of} at a distance of {distance:,}"
    if test.p < LEVEL:
        return INDEPENDENT.check(
            False, f"{where} in the file agree more than strangers (p = {test.p:.2g} < {LEVEL:g})"
        )
    # Shuffled texts are exchangeable as independent rows are: no test tells one from the other. And
    # what places of texts have in common looks, from outside, as what texts have in common.
    told = "; nor of places declared as groups" if grouped else ""
    return INDEPENDENT.unchecked(
        f"neighbouring {of} of the file, and those at one other distance, agree no more than strangers "
        f"(p = {test.p:.2g}; would have seen {test.sees}); of texts that were shuffled nothing shows{told}"
    )


def _chosen() -> Answer:
    return CHOSEN_BEFORE.unchecked(
        "one run cannot show how many were tried: the best of many seeds or settings by these rows or "
        "runs looks better than it is"
    )


# Recovery


@dataclass(frozen=True)
class Model:
    """What simulated activations were made of.

    Parameters
    ----------
    truth : ndarray, shape (n, d)
        Features.
    codes : ndarray, shape (N, n), optional
        Coefficients.
    activations : ndarray, shape (N, d), optional
        Codes times features, as the dictionary was given them; some rows suffice.
    shown : ndarray of int, optional
        Which rows of `codes` those are; all by default.
    """

    truth: np.ndarray
    codes: np.ndarray | None = None
    activations: np.ndarray | None = None
    shown: np.ndarray | None = None


def features_found(truth: np.ndarray, decoder: np.ndarray, cosine: float) -> Estimate:
    """Share of features with a neuron within the cosine, and how far rounding may move it."""
    best = nearest(truth.astype(np.float64), decoder.astype(np.float64))
    off = rounding(decoder.shape[1])
    low, value, high = (float((best >= cosine + shift).mean()) for shift in (off, 0.0, -off))
    return Estimate.between(low, high, value=value, method="exact")


def recovery(
    decoder: np.ndarray,
    model: Model | None,
    *,
    p: float,
    own: bool,
    at_least: float = 0.9,
    cosine: float = 0.9,
    rng: np.random.Generator,
) -> Certificate:
    """Whether the true features have a neuron.

    Parameters
    ----------
    decoder : ndarray, shape (M, d)
        Directions.
    model : Model or None
        What the activations were made of, where that is known.
    p : float
        Target frequency.
    own : bool
        Whether the theorem's algorithm trained it, on activations as they are.
    at_least, cosine : float
        Share demanded, and what counts as found.
    rng : Generator
        Of the random directions that the demand must be above.
    """
    M, d = decoder.shape
    known = {c.name: c.unchecked("truth and codes were not given") for c in RECOVERY.conditions}
    known[ALGORITHM.name] = ALGORITHM.check(
        own, "method 'ba', not centred" if own else "another method, or centred activations"
    )
    inputs: dict[str, Any] = {"neurons": M, "target frequency": p, "cosine": cosine}
    rng = private_stream(rng)  # features may have been drawn from the same seed
    measured, trivial = None, 0.0
    if model is not None:
        n = len(model.truth)
        measured = features_found(model.truth, decoder, cosine)
        trivial = recovery_rate(model.truth, rng.standard_normal((M, d)), cosine)
        matched = recovery_rate(model.truth, decoder, cosine, matched=True)
        inputs |= {"features": n, "each neuron counted once": matched}
        known[GAUSSIAN.name] = _gaussian(model.truth, rng)
        if model.codes is not None:
            known |= _of_model(model)
            s = max(1, round(float((model.codes != 0).sum(axis=1).mean())))
            low, high = resonance_band(n, d, s, varsigma=VARSIGMA)
            needed = n * p**-s
            inputs |= {
                "features a row": s,
                "neurons by the theorem, constants 1": needed,
                "band of frequencies, constants 1": f"{low:.4g} to {high:.4g}",
                "neurons that suffice at the start": width_bound(s, p, n),
            }
            known[CONSTANTS.name] = CONSTANTS.unchecked(
                f"the constants are not published; with 1 for each, {needed:,.0f} neurons and "
                f"{low:.4g} to {high:.4g}, and there the theorem's own model misses features"
            )
    return RECOVERY(
        bound=at_least,
        confidence=1.0,
        trivial=trivial,
        measured=measured,
        answers=known.values(),
        inputs=inputs,
    )


def _lengths(V: np.ndarray) -> np.ndarray:
    """Of rows, in any unit: squares of long ones would overflow."""
    largest = max(float(np.abs(V).max()), 1e-300)
    return np.linalg.norm(V.astype(np.float64) / largest, axis=1) * largest


def _gaussian(V: np.ndarray, rng: np.random.Generator) -> Answer:
    """Directions of Gaussian vectors are uniform, and their lengths vary by about 1/√(2d) of their mean.

    Equal lengths are as good, so that directions get lengths drawn anew. More unlike ones are unlike
    coefficients by another name, and the longest features win all neurons.
    """
    n, d = V.shape
    if n * d < 20 or n < 5:
        return GAUSSIAN.unchecked(f"{n} features of length {d} are too few to tell")
    U = unit_rows(V.astype(np.float64))
    drawn = U * np.sqrt(rng.chisquare(d, (n, 1)))
    tails = float(kurtosistest(drawn.ravel()).pvalue)
    common = float(chi2.sf(n * d * float(np.square(U.mean(axis=0)).sum()), d))
    # The cube root of χ²/d is nearly normal, of mean 1 − 2/(9d) and variance 2/(9d) (Wilson and
    # Hilferty 1931).
    roots = np.cbrt(np.square(_lengths(V / max(float(np.abs(V).max()), 1e-300))))
    drawn_so = 2 / (9 * d) / (1 - 2 / (9 * d)) ** 2
    spread = float(np.square(roots / max(roots.mean(), 1e-300) - 1).sum())
    lengths = float(chi2.sf(spread / drawn_so, n - 1))
    p = min(1.0, 3 * min(tails, common, lengths))
    length = math.sqrt(float(chi2.isf(LEVEL / 3, d)) / (n * d)) * 1.5
    seen = float(chi2.isf(LEVEL / 3, n - 1) / chi2.ppf(0.1, n - 1))  # nine times in ten
    unlike = 1.5 * math.sqrt(drawn_so * seen)  # a length is the power 3/2 of such a root
    return GAUSSIAN.tested(
        p,
        LEVEL,
        f"features along axes, a common direction of {min(length, 1):.2g} of each, or lengths that "
        f"vary by {unlike:.2g} of their mean",
    )


def _of_model(model: Model) -> dict[str, Answer]:
    H = model.codes
    assert H is not None
    counts = (H != 0).sum(axis=1)
    values = np.abs(H[H != 0])
    values = values / values.max(initial=1e-300)
    spread = float(values.std() / values.mean()) if len(values) else math.inf
    least = float(H.min())
    on = (H != 0).astype(np.float64)
    together = on.T @ on
    share = together / np.maximum(np.diag(together), 1)[:, None]
    np.fill_diagonal(share, 0)
    most = float(share.max())
    answers = [
        NONNEGATIVE.check(least >= 0, f"least code {least:.4g}"),
        ALIKE.check(
            counts.min() == counts.max() and spread <= EVEN,
            f"{counts.min()} to {counts.max()} features, coefficients vary by {spread:.2g} of their mean",
        ),
        APART.check(most <= TOGETHER, f"at most {most:.2g} of one's rows hold another"),
    ]
    if model.activations is None:
        answers.append(EXPLAINED_BY.unchecked("activations were not given"))
    else:
        X = model.activations.astype(np.float64)
        shown = H if model.shown is None else H[model.shown]
        # Of each row: a few long ones would hide what all others miss.
        missed = np.linalg.norm(X - shown @ model.truth, axis=1)
        summed = np.linalg.norm(shown * _lengths(model.truth), axis=1)
        worst = float((missed / np.maximum(summed, 1e-300)).max())
        answers.append(
            EXPLAINED_BY.check(
                worst <= EXPLAINED,
                f"they miss at most {worst:.2g} of the length of a row, {EXPLAINED:g} allowed for half "
                "precision",
            )
        )
    return {a.name: a for a in answers}


# Frequencies


def upper_limits(fired: np.ndarray, rows: int, delta: float) -> tuple[np.ndarray, np.ndarray]:
    """Limits of all neurons' frequencies at once."""
    return simultaneous_proportions(fired, np.full(len(fired), rows), delta)


def rows_needed(low: float, n_neurons: int, slack: float, delta: float, rarest: int = 1) -> int:
    """Independent rows that decide, one time in two, for neurons that fire as often as they should.

    The smallest number, to 5 %, at which the upper limits of `rarest` neurons with target `low` are at
    most (1 + slack) · `low`, if the one that fires most by chance is at the median of the largest;
    beyond 10⁹ it is given as 10⁹.
    """
    tail = min(delta / (2 * n_neurons), 0.25)
    above = float(norm.isf(min(0.5, 0.7 / rarest)))  # the median of the largest of so many
    n = 10.0
    while n < 1e9 and slack > 0:
        hits = math.ceil(n * low + above * math.sqrt(n * low * (1 - low)))
        if hits < n and betaincinv(hits + 1, n - hits, 1 - tail) <= (1 + slack) * low:
            return math.ceil(n)
        n *= 1.05
    return 10**9


def frequency(
    fired: np.ndarray,
    rows: int,
    target: np.ndarray,
    *,
    answers: Sequence[Answer],
    slack: float = 1.0,
    delta: float = 0.05,
    untrained: float = math.inf,
    grouped: bool = False,
) -> Certificate:
    """Whether neurons keep their targets on new rows.

    Parameters
    ----------
    fired : ndarray of int, shape (M,)
        On how many of the counted rows each neuron fires.
    rows : int
        Rows counted, independent ones.
    target : ndarray, shape (M,)
        Frequencies aimed at.
    answers : sequence of Answer
        To ``independent-rows`` and ``held-out``.
    slack : float
        By what share of it a target may be exceeded.
    delta : float
        Failure probability.
    untrained : float
        Largest frequency over its target of neurons with random directions and no bias.
    grouped : bool
        Whether one row of each group is counted.
    """
    M = len(fired)
    low, high = upper_limits(fired, rows, delta)
    ratio = fired / rows / target
    worst = int(np.argmax(ratio))
    least = float(target.min())
    measured = Estimate.between(
        float((low / target).max()),
        float((high / target).max()),
        value=float(ratio[worst]),
        n=rows,
        method="simultaneous",
    )
    rarest = int((target <= 1.01 * least).sum())
    needed = rows_needed(least, M, slack, delta, rarest)
    theorem = FREQUENCY.variant(
        needs=f"about {needed:,} independent rows{' (groups)' if grouped else ''} held out for low = "
        f"{least:g} and {M:,} neurons that fire as often as they should, {rows:,} there were: more "
        "activations (held_out), a larger low or a larger slack."
    )
    if grouped:
        theorem = theorem.variant(
            claim=FREQUENCY.claim.replace("on new rows", "on a row drawn from a new group")
        )
    return theorem(
        bound=1 + slack,
        confidence=1 - delta,
        trivial=untrained,
        measured=measured,
        answers=(*answers, _chosen()),
        inputs={
            "rows counted": rows,
            "slack": slack,
            "neuron with the largest": worst,
            "its target": float(target[worst]),
            "neurons significantly over their target": int((low > target).sum()),
            "neurons that never fire": int((fired == 0).sum()),
            "largest of untrained neurons": untrained,
        },
    )


# Coming back


def seeds_by_hand(first: np.ndarray, others: Sequence[np.ndarray]) -> Answer:
    """What can be said of dictionaries that came from elsewhere: copies are seen, warm starts are not."""
    for other in others:
        off = rounding(first.shape[1])
        same = float((nearest(first, other) >= 1 - off).mean())
        if same > COPIES:
            return SEEDS.check(False, f"{same:.0%} of the neurons are the same to rounding")
    return SEEDS.unchecked("not trained here")


def shares_back(
    first: np.ndarray, others: Sequence[np.ndarray], cosine: float
) -> list[tuple[float, float, float]]:
    """Share of the rows of `first` within the cosine of a row of each other one: least, value, most by rounding."""
    off = rounding(first.shape[1])
    shares = []
    for other in others:
        best = nearest(first, other)
        shares.append(
            tuple(float((best > cosine + s).mean()) if len(best) else 0.0 for s in (off, 0.0, -off))
        )
    return shares  # type: ignore[return-value]


def came_back(
    first: np.ndarray,
    others: Sequence[np.ndarray],
    chance: Chance,
    *,
    seeds: Answer,
    cosine: float = 0.7,
    at_least: float = 0.25,
) -> Certificate:
    """Whether live neurons have a counterpart in other runs.

    Parameters
    ----------
    first : ndarray, shape (m, d)
        Live directions of the dictionary.
    others : sequence of ndarray
        Live directions of each other run.
    chance : Chance
        How many come back that nobody learnt.
    seeds : Answer
        To ``independent-seeds``.
    cosine, at_least : float
        What counts as coming back, and the share demanded.
    """
    shares = shares_back(first, others, cosine)
    measured = None
    if shares:
        low, value, high = np.min(shares, axis=0).tolist()
        measured = Estimate.between(low, high, value=value, method="exact")
    return CAME_BACK(
        bound=at_least,
        confidence=1.0,
        trivial=chance.largest,
        measured=measured,
        answers=(seeds,),
        inputs={
            "cosine": cosine,
            "live neurons": len(first),
            "other runs": len(others),
            "chance, covariance": chance.gaussian,
            "chance, rows": chance.rows,
            "chance, cap": chance.cap,
        },
    )


def consistency(
    first: np.ndarray,
    others: Sequence[np.ndarray],
    chance: Chance,
    *,
    seeds: Answer,
    cosine: float = 0.7,
    at_least: float = 0.25,
    delta: float = 0.05,
) -> Certificate:
    """The same for new seeds, of which the other runs are a sample; see :func:`came_back`."""
    ends = shares_back(first, others, cosine)
    shares = [value for _, value, _ in ends]
    measured, theorem = None, CONSISTENCY
    if shares:
        measured = Estimate.between(
            betting([low for low, _, _ in ends], delta).low,
            betting([high for _, _, high in ends], delta).high,
            value=float(np.mean(shares)),
            level=1 - delta,
            n=len(shares),
            method="betting",
        )
        seen = float(np.mean(shares))
        theorem = CONSISTENCY.variant(
            needs=f"n_seeds of about {_seeds_needed(seen, at_least, delta)} if as many come back as "
            f"did ({seen:.0%}); there were {len(shares) + 1}."
        )
    return theorem(
        bound=at_least,
        confidence=1.0,
        trivial=chance.largest,
        measured=measured,
        answers=(seeds, _chosen()),
        inputs={
            "cosine": cosine,
            "live neurons": len(first),
            "other runs": len(others),
            "least share": min(shares, default=0.0),
            "largest share": max(shares, default=0.0),
            "chance": chance.largest,
        },
    )


def _seeds_needed(share: float, at_least: float, delta: float) -> int | str:
    """Seeds at which the interval of equal shares leaves the demand; the bets are those of :func:`betting`."""
    gap = share - at_least
    room = at_least if gap > 0 else 1 - at_least
    if abs(gap) < 0.02:
        return "very many"
    step = math.log1p(min(0.5 / max(room, 1e-12), 1e12) * abs(gap))
    return 2 + math.ceil(math.log(2 / delta) / max(step, 1e-12))


# Codes


def unique_code(
    active: np.ndarray,
    decoder: np.ndarray,
    *,
    answers: Sequence[Answer],
    at_most: float = 0.05,
    delta: float = 0.05,
    unbiased: np.ndarray | None = None,
) -> Certificate:
    """Whether codes of new rows are the only ones as sparse.

    Parameters
    ----------
    active : ndarray of int, shape (n,)
        Active neurons of each counted row.
    decoder : ndarray, shape (M, d)
        All directions that are saved, dead ones too.
    answers : sequence of Answer
        To ``independent-rows`` and ``held-out``.
    at_most : float
        Share of rows allowed.
    delta : float
        Failure probability.
    unbiased : ndarray of int, shape (n,), optional
        Neurons of each row whose direction it points along: what would be active without biases.
    """
    mu = coherence(decoder)
    allowed = code_bound(mu)
    broken = _not_unique(active, allowed)
    low, high = simultaneous_proportions([int(broken.sum())], [len(broken)], delta)
    return UNIQUE_CODE(
        bound=at_most,
        confidence=1 - delta,
        trivial=1.0 if unbiased is None else float(_not_unique(unbiased, allowed).mean()),
        measured=Estimate.between(
            float(low[0]),
            float(high[0]),
            value=float(broken.mean()),
            n=len(broken),
            method="Clopper-Pearson",
        ),
        answers=(*answers, _chosen()),
        inputs={
            "rows counted": len(broken),
            "largest cosine of two neurons": mu,
            "active neurons below": allowed,
            "mean active": float(active.mean()),
            "rows without a code": int((active == 0).sum()),
        },
    )


def _not_unique(active: np.ndarray, allowed: float) -> np.ndarray:
    return (active == 0) | (active >= allowed)
