"""Worlds of h-calibration: laws whose true class probabilities are known for every row.

The truth of a band is the mean of the true probabilities over the block that the user is shown, found
by the range of stated probabilities printed with it. A run's claim is false if any block's interval
misses its truth.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.tree import DecisionTreeClassifier

from whp.calibration._h_calibration import theorems as t
from whp.calibration._h_calibration.band import CLASS, TOP, band
from whp.calibration._h_calibration.estimator import HCalibrator
from whp.calibration._h_calibration.front_door import Fitting, h_calibration
from whp.calibration._h_calibration.maps import softmax
from whp.calibration._h_calibration.objective import Objective
from whp.certificate import Verdict
from whp.experiment.worlds import Instance, Worlds

__all__ = ["worlds"]

worlds = Worlds("h-calibration", t.THEOREMS)
SHARPER = 2.0
BANDS = ("top-label-error", "error-bound")
Truths = dict[str, bool | None]


def law(rng: np.random.Generator, alpha: Any, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True probabilities (n, C), logits that are twice too large, labels."""
    C = np.maximum(rng.dirichlet(alpha, n), 1e-12)
    C /= C.sum(axis=1, keepdims=True)
    return C, SHARPER * np.log(C), labels_of(C, rng)


def labels_of(C: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A draw of each row."""
    return np.minimum((np.cumsum(C, axis=1) < rng.random((len(C), 1))).sum(axis=1), C.shape[1] - 1)


def misses(table: pd.DataFrame, P: np.ndarray, C: np.ndarray) -> Truths:
    """Whether all intervals of a band contain the truth of their blocks, part by part."""
    best, rows = P.argmax(axis=1), np.arange(len(P))
    right: Truths = dict.fromkeys(BANDS, True)
    for block in table.itertuples():
        if block.part == TOP:
            stated, true, name = P[rows, best], C[rows, best], BANDS[0]
        elif block.part == CLASS:
            stated, true, name = P[:, int(str(block[2]))], C[:, int(str(block[2]))], BANDS[1]
        else:
            stated, true, name = P.ravel(), C.ravel(), BANDS[1]
        inside = (stated >= block.lowest) & (stated <= block.highest)
        mean = float(true[inside].mean())
        if not block.lower <= mean <= block.upper:
            right[name] = False
    return right


def fitted(C: np.ndarray, C_test: np.ndarray) -> Callable[[Any], Truths]:
    """Judge of a run on calibration and test rows with these true probabilities.

    One temperature makes the law well specified, so that the map has not fitted more noise than one
    parameter can. Whether what is stated is exactly true is left open: a fitted map is a little off.
    """

    def truths(result: Any) -> Truths:
        found = misses(result.blocks, result.probs_test, C_test)
        same = result.probs.argmax(axis=1) == C.argmax(axis=1)
        return found | {"accuracy-preserved": bool(same.all()), "overfit": True}

    return truths


def instance(
    rng: np.random.Generator, alpha: Any, n: int, n_test: int, scale: float = 1.0, **options: Any
) -> Instance:
    """Calibration and test rows of one law."""
    C, z, y = law(rng, alpha, n)
    D, w, u = law(rng, alpha, n_test)
    given = {"logits": scale * z, "y": y, "logits_test": scale * w, "y_test": u}
    return Instance({**given, "from_probs": False, "rng": rng} | options, fitted(C, D))


def given_probabilities(P: np.ndarray, y: np.ndarray, rng: Any, **options: Any) -> list[Any]:
    """Certificates of stated probabilities that nothing was fitted to."""
    bands = t.error_band(P, y, **options)
    return [*bands, t.calibration_test(P, y, Objective(window=50), resamples=99, rng=rng)[0]]


def stated(
    C: np.ndarray, P: np.ndarray, y: np.ndarray, rng: Any, perfect: bool, **options: Any
) -> Instance:
    """Stated probabilities P of rows whose true ones are C."""

    def truths(_: Any) -> Truths:
        return misses(band(P, y, **options), P, C) | {"calibration-test": perfect}

    return Instance({"P": P, "y": y, "rng": rng} | options, truths)


# Honest worlds


@worlds.world(run=h_calibration)
def five_classes(rng: np.random.Generator, strength: float) -> Instance:
    """Five classes, one temperature too sharp, 1,500 rows to fit and 750 to certify."""
    return instance(rng, [0.5] * 5, 1500, 750)


@worlds.world(run=h_calibration)
def few_rows(rng: np.random.Generator, strength: float) -> Instance:
    """Three classes, 200 rows to fit and 100 to certify."""
    return instance(rng, [1.0] * 3, 200, 100)


@worlds.world(run=h_calibration)
def skewed_classes(rng: np.random.Generator, strength: float) -> Instance:
    """One class eight times as frequent as the others, 1,000 rows and 500."""
    return instance(rng, [6, 0.5, 0.5, 0.5], 1000, 500)


@worlds.world(run=h_calibration)
def tied_scores(rng: np.random.Generator, strength: float) -> Instance:
    """Probabilities rounded to tenths, as a forest of ten trees states them, 1,000 rows and 500."""
    parts = []
    for n in (1000, 500):
        C = rng.dirichlet([0.5] * 3, n)
        C = np.round(C * 10) + 1e-9
        C /= C.sum(axis=1, keepdims=True)
        parts.append((C, np.log(C) / 2, labels_of(C, rng)))
    (C, z, y), (D, w, u) = parts
    given = {"logits": z, "y": y, "logits_test": w, "y_test": u}
    return Instance({**given, "from_probs": False, "rng": rng}, fitted(C, D))


@worlds.world(run=h_calibration)
def good_run(rng: np.random.Generator, strength: float) -> Instance:
    """Three classes, 1,500 rows to fit and 1,500 to certify: error .1 has to be decided."""
    return instance(rng, [0.5] * 3, 1500, 1500)


@worlds.world(run=h_calibration, strengths=(1e-4, 1e4))
def any_scale(rng: np.random.Generator, strength: float) -> Instance:
    """Logits in units ten thousand times too small and too large."""
    return instance(rng, [0.5] * 3, 600, 400, scale=strength)


@worlds.world(run=given_probabilities)
def no_fit(rng: np.random.Generator, strength: float) -> Instance:
    """The true probabilities themselves, four classes, 1,000 rows, 20 blocks."""
    C, _, y = law(rng, [0.5] * 4, 1000)
    return stated(C, C, y, rng, True, blocks=20)


@worlds.world(run=t.error_band)
def twenty_blocks(rng: np.random.Generator, strength: float) -> Instance:
    """The true probabilities themselves, three classes, 600 rows, 20 blocks of all entries."""
    C, _, y = law(rng, [0.5] * 3, 600)
    made = stated(C, C, y, rng, True, blocks=20)
    given = {k: v for k, v in made.arguments.items() if k != "rng"}
    return Instance({"probs": given.pop("P"), **given}, made.truths)


@worlds.world(run=given_probabilities)
def around_a_half(rng: np.random.Generator, strength: float) -> Instance:
    """Two classes with probabilities near one half, where intervals are tightest, 200 rows."""
    p = rng.beta(8, 8, 200)
    C = np.column_stack([1 - p, p])
    return stated(C, C, labels_of(C, rng), rng, True, blocks=4)


@worlds.world(run=h_calibration)
def nearly_alike(rng: np.random.Generator, strength: float) -> Instance:
    """Two classes; nearly all rows are scored within a hair of each other, as where events are rare."""
    parts = []
    for n in (1500, 750):
        usual = rng.random(n) < 0.95
        z = np.where(usual, -1 + 0.002 * rng.normal(size=n), 2 * rng.normal(size=n))
        C = softmax(np.column_stack([np.zeros(n), z]))
        parts.append((C, z, labels_of(C, rng)))
    (C, z, y), (D, w, u) = parts
    given = {"logits": z, "y": y, "logits_test": w, "y_test": u, "from_probs": False, "rng": rng}
    return Instance(given, lambda r: misses(r.blocks, r.probs_test, D))


@worlds.world(run=given_probabilities)
def sorted_by_label(rng: np.random.Generator, strength: float) -> Instance:
    """A file sorted by label, in which all rows state .7 and .3."""
    C = np.tile([0.7, 0.3], (2000, 1))
    return stated(C, C, np.sort(labels_of(C, rng)), rng, True)


@worlds.world(run=h_calibration, strengths=(1.0, 5.0, 20.0))
def visits_with_groups(rng: np.random.Generator, strength: float) -> Instance:
    """Each patient comes several times with one label and slightly other scores; groups are given."""
    g = int(strength)
    _, z, y = law(rng, [0.5] * 3, 1000)
    D, w, u = law(rng, [0.5] * 3, 400)
    D = softmax((np.repeat(w, g, axis=0) + 0.05 * rng.normal(size=(400 * g, 3))) / SHARPER)
    given = {"logits": z, "y": y, "groups": np.arange(1000)}
    given |= {"logits_test": SHARPER * np.log(D), "y_test": np.repeat(u, g)}
    given |= {"groups_test": 10_000 + np.repeat(np.arange(400), g), "from_probs": False, "rng": rng}
    D_true = np.repeat(softmax(w / SHARPER), g, axis=0)

    def truths(result: Any) -> Truths:
        return misses(result.blocks, result.probs_test, D_true)

    return Instance(given, truths)


# A demand that is not met


@worlds.world(run=given_probabilities, strengths=(1.3, 2.5), broken_from=2.5, expects=Verdict.FAILS)
def sharpened(rng: np.random.Generator, strength: float) -> Instance:
    """Stated probabilities sharper than the truth by a factor, 1,500 rows, error .05."""
    C, _, y = law(rng, [0.5] * 5, 1500)
    P = softmax(strength * np.log(C))
    made = stated(C, P, y, rng, False, epsilon=0.05)

    def truths(result: Any) -> Truths:
        # The claim of the certificate: no block is further off than epsilon.
        best, rows = P.argmax(axis=1), np.arange(len(P))
        table = band(P, y, epsilon=0.05)
        off = {TOP: 0.0, "": 0.0}
        for block in table.itertuples():
            top = block.part == TOP
            s, c = (P[rows, best], C[rows, best]) if top else (P.ravel(), C.ravel())
            inside = (s >= block.lowest) & (s <= block.highest)
            key = TOP if top else ""
            off[key] = max(off[key], abs(float((s - c)[inside].mean())))
        return {"top-label-error": off[TOP] <= 0.05, "calibration-test": False}

    return Instance(made.arguments, truths)


@worlds.world(
    run=lambda P, y, epsilon: t.error_band(P, y, epsilon=epsilon)[0],
    strengths=(10, 200, 1000),
    expects=Verdict.FAILS,
)
def top_label_is_wrong(rng: np.random.Generator, strength: float) -> Instance:
    """The top label is stated with .9 and right in .6 of the rows, of few and of very many classes."""
    n, classes = 1000, int(strength)
    P = np.full((n, classes), 0.1 / (classes - 1))
    top = rng.integers(classes, size=n)
    P[np.arange(n), top] = 0.9
    P *= 1 + 1e-3 * rng.random((n, classes))
    P /= P.sum(axis=1, keepdims=True)
    y = np.where(rng.random(n) < 0.6, top, (top + rng.integers(1, classes, n)) % classes)
    return Instance({"P": P, "y": y, "epsilon": 0.05}, lambda _: {"top-label-error": False})


@worlds.world(run=t.accuracy_preserved, strengths=(1.0, 0.01), expects=Verdict.FAILS)
def swapped_classes(rng: np.random.Generator, strength: float) -> Instance:
    """A stranger's map that swaps the two lesser classes of three in a share of the rows, at least in one."""
    p = 0.2 + 0.04 * rng.random(200)
    before = np.column_stack([p, 0.4 - p, np.full(200, 0.6)])
    swapped = rng.random(200) < strength
    swapped[0] = True
    after = np.where(swapped[:, None], before[:, [1, 0, 2]], before)
    return Instance({"before": before, "after": after}, lambda _: {"accuracy-preserved": False})


@worlds.world(run=t.accuracy_preserved, strengths=(1e-13, 1e-3), expects=Verdict.FAILS)
def reversed_by_a_hair(rng: np.random.Generator, strength: float) -> Instance:
    """A stranger's map that reverses all classes and states them nearly equal."""
    before = rng.dirichlet([1] * 3, 200)
    after = 1 / 3 - strength * (before - 1 / 3)
    return Instance({"before": before, "after": after}, lambda _: {"accuracy-preserved": False})


@worlds.world(run=h_calibration)
def impossible_classes(rng: np.random.Generator, strength: float) -> Instance:
    """Logits down to thousands, as naive Bayes states them, and a class masked by -infinity."""
    C, z, y = law(rng, [0.5] * 4, 1500)
    z = 200 * z
    masked = rng.random(1500) < 0.3
    least = C.argmin(axis=1)
    masked &= y != least
    raw = z.copy()
    raw[masked, least[masked]] = -np.inf

    def truths(result: Any) -> Truths:
        # By hand, class by class: nothing that is below in the raw scores may come out above.
        rows, right = np.arange(1500), True
        for a in range(4):
            for b in range(4):
                lower = raw[rows, a] < raw[rows, b]
                right &= bool((result.probs[lower, a] <= result.probs[lower, b] + 1e-12).all())
        right &= bool((result.probs[masked, least[masked]] == 0).all())
        return {"accuracy-preserved": right}

    return Instance({"logits": raw, "y": y, "from_probs": False, "rng": rng}, truths)


# Broken worlds


@worlds.world(run=h_calibration, breaks=t.INDEPENDENT, strengths=(1, 2, 5, 20), noticeable=False)
def visits_without_groups(rng: np.random.Generator, strength: float) -> Instance:
    """Each patient comes several times with one label and slightly other scores, and nothing says so."""
    made = visits_with_groups.make(rng, strength)
    given = {k: v for k, v in made.arguments.items() if not k.startswith("groups")}
    return Instance(given, made.truths)


@worlds.world(run=h_calibration, breaks=t.INDEPENDENT, strengths=(2, 5), noticeable=False)
def visits_with_row_numbers(rng: np.random.Generator, strength: float) -> Instance:
    """Each patient comes several times, and the ids are numbers of rows, so that none repeats."""
    made = visits_with_groups.make(rng, strength)
    given = {k: v for k, v in made.arguments.items() if not k.startswith("groups")}
    given |= {
        "ids": np.arange(len(given["y"])),
        "ids_test": 10_000 + np.arange(len(given["y_test"])),
    }
    return Instance(given, made.truths)


def _repeated(
    rng: np.random.Generator, share: float, jitter: float, dtype: Any = np.float64
) -> tuple[dict[str, Any], Callable[[Any], Truths]]:
    """A certified file of which a share of the rows came in twice."""
    C, z, y = law(rng, [0.5] * 3, 800)
    D, w, u = law(rng, [0.5] * 3, 600)
    twice = np.flatnonzero(rng.random(600) < share)
    again = w[twice] * (1 + jitter * rng.normal(size=(len(twice), 3)))
    w = np.concatenate([w, again.astype(dtype)])
    D, u = np.concatenate([D, D[twice]]), np.append(u, u[twice])
    given = {"logits": z, "y": y, "logits_test": w, "y_test": u, "from_probs": False, "rng": rng}
    given |= {"ids": np.arange(800), "ids_test": 1000 + np.append(np.arange(600), twice)}
    return given, fitted(C, D)


@worlds.world(
    run=h_calibration, breaks=t.INDEPENDENT, strengths=(0.02, 0.05, 1.0), broken_from=0.05
)
def concatenated_file(rng: np.random.Generator, strength: float) -> Instance:
    """A share of the certified rows is there twice, and ids are given."""
    return Instance(*_repeated(rng, strength, 0.0))


def _without_ids(made: tuple[dict[str, Any], Callable[[Any], Truths]]) -> Instance:
    given, truths = made
    return Instance({k: v for k, v in given.items() if not k.startswith("ids")}, truths)


@worlds.world(run=h_calibration, breaks=t.NO_COPIES, strengths=(0.05, 0.2, 1.0), broken_from=0.2)
def nearly_repeated(rng: np.random.Generator, strength: float) -> Instance:
    """A share of the certified rows is there twice, the second time with another rounding (1e-9)."""
    return _without_ids(_repeated(rng, strength, 1e-9))


@worlds.world(run=h_calibration, breaks=t.NO_COPIES, strengths=(0.2, 1.0))
def repeated_in_single_precision(rng: np.random.Generator, strength: float) -> Instance:
    """A share of the certified rows is there twice, the second time as 32-bit numbers."""
    return _without_ids(_repeated(rng, strength, 0.0, np.float32))


@worlds.world(run=h_calibration, breaks=t.NO_COPIES, strengths=(0.02, 0.2, 1.0), broken_from=0.2)
def repeated_exactly(rng: np.random.Generator, strength: float) -> Instance:
    """A share of the certified rows is there twice to the last digit, and no ids are given."""
    return _without_ids(_repeated(rng, strength, 0.0))


@worlds.world(run=h_calibration, breaks=t.NO_COPIES)
def drawn_with_replacement(rng: np.random.Generator, strength: float) -> Instance:
    """The certified rows are a bootstrap sample of 400 rows, five times as large."""
    C, z, y = law(rng, [0.5] * 3, 1000)
    D, w, u = law(rng, [0.5] * 3, 400)
    drawn = rng.integers(400, size=2000)
    given = {"logits": z, "y": y, "logits_test": w[drawn], "y_test": u[drawn]}
    return Instance({**given, "from_probs": False, "rng": rng}, fitted(C, D[drawn]))


def around_a_tree(X: np.ndarray, y: np.ndarray, cv: float, seed: int) -> SimpleNamespace:
    """A decision tree, calibrated on a share of the rows, and its certificates."""
    tree = DecisionTreeClassifier(min_samples_leaf=4, random_state=0)
    model = HCalibrator(tree, cv=cv, random_state=seed).fit(X, y)
    return SimpleNamespace(certificates=model.certificates_, model=model)


@worlds.world(run=around_a_tree, breaks=t.INDEPENDENT, strengths=(2, 5))
def oversampled_before_the_split(rng: np.random.Generator, strength: float) -> Instance:
    """Each row comes several times, so that the tree has seen what calibrates it."""
    X = rng.normal(size=(3400, 5))
    p = 1 / (1 + np.exp(-2 * X.sum(axis=1) / np.sqrt(5)))
    y = (rng.random(3400) < p).astype(int)
    again, fresh = np.repeat(np.arange(400), int(strength)), slice(400, None)

    def truths(run: SimpleNamespace) -> Truths:
        P = run.model.predict_proba(X[fresh])
        top, best = P.max(axis=1), P.argmax(axis=1)
        true = np.where(best == 1, p[fresh], 1 - p[fresh])
        right, blocks = True, run.model.result_.blocks
        for block in blocks[blocks["part"] == TOP].itertuples():
            inside = (top >= block.lowest) & (top <= block.highest)
            if inside.sum() >= 50:
                error = 3 / np.sqrt(inside.sum())
                right &= bool(block.lower - error <= true[inside].mean() <= block.upper + error)
        return {"top-label-error": right}

    given = {"X": X[again], "y": y[again], "cv": 0.5, "seed": int(rng.integers(1 << 31))}
    return Instance(given, truths)


@worlds.world(run=h_calibration, breaks=t.UNUSED)
def certified_on_the_fit(rng: np.random.Generator, strength: float) -> Instance:
    """The test rows are the rows of the fit, in single precision."""
    C, z, y = law(rng, [0.5] * 3, 300)
    given = {"logits": z, "y": y, "logits_test": z.astype(np.float32), "y_test": y}
    given |= {"mapping": "piecewise", "fitting": Fitting(max_iter=20)}
    return Instance({**given, "from_probs": False, "rng": rng}, fitted(C, C))


@worlds.world(run=h_calibration, breaks=t.UNUSED, strengths=(0.02, 0.2, 1.0), broken_from=0.2)
def the_same_rows_again(rng: np.random.Generator, strength: float) -> Instance:
    """A share of the test rows are rows of the fit, to the last digit and in another order."""
    C, z, y = law(rng, [0.5] * 3, 300)
    D, w, u = law(rng, [0.5] * 3, 300)
    again = rng.permutation(300)
    fresh = rng.permutation(300) >= round(300 * strength)
    D, w = (np.where(fresh[:, None], new, old[again]) for new, old in ((D, C), (w, z)))
    u = np.where(fresh, u, y[again])
    given = {"logits": z, "y": y, "logits_test": w, "y_test": u, "from_probs": False, "rng": rng}
    return Instance(given, fitted(C, D))


@worlds.world(run=h_calibration, breaks=t.UNUSED, strengths=(0.1, 0.5, 1.0), broken_from=0.5)
def the_same_rows_scored_again(rng: np.random.Generator, strength: float) -> Instance:
    """A share of the test rows are rows of the fit in half precision and in another order."""
    made = the_same_rows_again.make(rng, strength)
    half = np.asarray(made.arguments["logits_test"]).astype(np.float16)
    return Instance({**made.arguments, "logits_test": half}, made.truths)


@worlds.world(run=h_calibration, breaks=t.UNUSED, strengths=(0.05, 1.0))
def shared_ids(rng: np.random.Generator, strength: float) -> Instance:
    """A share of the certified rows has ids of the fit, scored anew; ids are given."""
    made = instance(rng, [0.5] * 3, 600, 400)
    ids = np.arange(400) + 10_000
    shared = rng.permutation(400)[: int(400 * strength)]
    ids[shared] = shared
    given = {**made.arguments, "ids": np.arange(600), "ids_test": ids}
    return Instance(given, made.truths)


@worlds.world(run=t.error_band, breaks=t.CHOSEN_BEFORE, strengths=(1, 20, 200), noticeable=False)
def best_of_many(rng: np.random.Generator, strength: float) -> Instance:
    """Of many classifiers that guess, and state about .6, the one that is right most often on the certified rows."""
    y = rng.integers(2, size=300)
    guesses = rng.integers(2, size=(int(strength), 300))
    best = guesses[(guesses == y).sum(axis=1).argmax()]
    return _guessed(rng, best, y)


@worlds.world(run=t.error_band, breaks=t.CHOSEN_BEFORE, strengths=(1, 20, 200), noticeable=False)
def best_of_many_splits(rng: np.random.Generator, strength: float) -> Instance:
    """Of many seeds of the split, each of which certifies a third of 900 rows, the one that looks best."""
    y, guess = rng.integers(2, size=(2, 900))
    splits = [rng.permutation(900)[:300] for _ in range(int(strength))]
    kept = max(splits, key=lambda rows: int((guess[rows] == y[rows]).sum()))
    return _guessed(rng, guess[kept], y[kept])


def _guessed(rng: np.random.Generator, guess: np.ndarray, y: np.ndarray) -> Instance:
    """Guesses at tosses of a coin, stated with about .6."""
    n, rows = len(y), np.arange(len(y))
    P, top = np.empty((n, 2)), 0.6 + 0.01 * rng.random(n)
    P[rows, guess], P[rows, 1 - guess] = top, 1 - top
    made = stated(np.full((n, 2), 0.5), P, y, rng, False, blocks=1)
    return Instance({"probs": P, "y": y, "blocks": 1}, made.truths)


@worlds.world(run=h_calibration, breaks=t.ONE_LAW, strengths=(0.1, 0.2, 0.5), broken_from=0.5)
def shifted_labels(rng: np.random.Generator, strength: float) -> Instance:
    """One class is kept with probability 1 - k among the certified rows."""
    C, z, y = law(rng, [0.5] * 3, 1000)
    D, w, u = law(rng, [0.5] * 3, 1500)
    kept = (u != 0) | (rng.random(1500) > strength)
    # Of rows that were kept by their label the truth is no longer D.
    D = np.where(np.arange(3) == 0, D * (1 - strength), D)
    D /= D.sum(axis=1, keepdims=True)
    given = {"logits": z, "y": y, "logits_test": w[kept], "y_test": u[kept]}
    return Instance({**given, "from_probs": False, "rng": rng}, fitted(C, D[kept]))


@worlds.world(run=h_calibration, breaks=t.ONE_LAW, strengths=(0.2, 0.5), noticeable=False)
def changed_concept(rng: np.random.Generator, strength: float) -> Instance:
    """Labels of the future are random with probability kappa; scores stay as they are."""
    made = instance(rng, [0.5] * 3, 1000, 600)
    logits = made.arguments["logits_test"]
    C = softmax(logits / SHARPER)
    future = (1 - strength) * C + strength / 3
    return Instance(made.arguments, lambda r: misses(r.blocks, r.probs_test, future))


def _memorised(rng: np.random.Generator, share: float, n: int, d: int) -> Instance:
    """Scores of a linear classifier with about as many weights as rows, on rows that trained it."""
    X, w = rng.normal(size=(2 * n + 3000, d)), rng.normal(size=d) / np.sqrt(d)
    p = 1 / (1 + np.exp(-2 * X @ w))
    y = (rng.random(len(X)) < p).astype(int)
    found = np.linalg.lstsq(X[:n], 4.0 * y[:n] - 2.0, rcond=None)[0]
    score = X @ found
    used = np.arange(n)
    fresh = rng.random(n) >= share
    used[fresh] += n

    def truths(result: Any) -> Truths:
        P = result.map(np.column_stack([np.zeros(3000), score[2 * n :]]))
        C = np.column_stack([1 - p[2 * n :], p[2 * n :]])
        best, right = P.argmax(axis=1), True
        top, true = P[np.arange(3000), best], C[np.arange(3000), best]
        blocks = result.blocks[result.blocks["part"] == TOP]
        for block in blocks.itertuples():
            inside = (top >= block.lowest) & (top <= block.highest)
            if inside.sum() >= 50:
                error = 3 / np.sqrt(inside.sum())
                right &= bool(block.lower - error <= true[inside].mean() <= block.upper + error)
        return {"top-label-error": right}

    given = {"logits": score[used], "y": y[used], "from_probs": False, "rng": rng}
    return Instance(given, truths)


@worlds.world(run=h_calibration, breaks=t.NEW_TO_MODEL, strengths=(0.0, 0.5, 1.0), noticeable=False)
def rows_of_the_training(rng: np.random.Generator, strength: float) -> Instance:
    """A share of the calibration rows trained the classifier, 400 rows in 200 dimensions."""
    return _memorised(rng, strength, 400, 200)


@worlds.world(run=h_calibration, breaks=t.NEW_TO_MODEL, noticeable=False)
def many_rows_of_the_training(rng: np.random.Generator, strength: float) -> Instance:
    """All calibration rows trained the classifier, 900 rows in 600 dimensions."""
    return _memorised(rng, strength, 900, 600)


worlds.by_construction(
    t.CUT, "tests/calibration/h_calibration/test_band.py::test_no_order_of_rows_cuts_by_outcome"
)

# Mutants

INTERVALS = "whp.calibration._h_calibration.band:simultaneous_proportions"
QUANTILE = "whp.calibration._h_calibration.theorems:upper_quantile"
for theorem in BANDS:
    worlds.mutant(
        theorem,
        "half the logarithm of 1 over delta",
        target=INTERVALS,
        change=lambda f: lambda hits, n, delta: f(hits, n, np.sqrt(2 * delta * np.size(hits))),
        world=twenty_blocks,
    )
worlds.mutant(
    "calibration-test",
    "quantile at eight delta",
    target=QUANTILE,
    change=lambda f: lambda null, delta: f(null, 8 * delta),
    world=around_a_half,
    caught_by="false fails",
)
worlds.mutant(
    "accuracy-preserved",
    "tolerance .1",
    target="whp.calibration._h_calibration.theorems:ORDER_TOLERANCE",
    change=lambda _: 0.1,
    world=swapped_classes,
    caught_by="false holds",
)
worlds.mutant(
    "overfit",
    "labels drawn, nothing fitted again",
    target="whp.calibration._h_calibration.theorems:refitted_errors",
    change=lambda f: _unfitted,
    world=few_rows,
    caught_by="false fails",
    seeds=300,
)


def _unfitted(P: Any, y: Any, objective: Objective, draws: int, rng: Any) -> np.ndarray:
    """What the null was before: errors of drawn labels without a fit."""
    return np.append(objective(P, y), objective.null(P, draws, rng))
