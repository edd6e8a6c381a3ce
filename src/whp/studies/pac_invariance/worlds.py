"""Worlds: environments whose law is known, and every way that was found to draw them wrongly.

The share of new environments above epsilon is counted in thousands of fresh ones, by code of this module's own; where
slopes are uniform it is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import patch

import numpy as np
from scipy.stats import ortho_group

from whp.certificate import Verdict
from whp.experiment.worlds import Instance, Worlds
from whp.invariance import InvarianceResult, certify_moments, certify_representation, pac_invariance
from whp.invariance._pac_invariance import minimax as solver
from whp.invariance._pac_invariance import search
from whp.invariance._pac_invariance import theorems as t
from whp.studies.pac_invariance.truth import chain, excess, flat, gradient, pair, sem

__all__ = ["worlds"]

Array = np.ndarray
Rng = np.random.Generator
Fresh = Callable[[], list[tuple[Array, Array]]]
HERE = "whp.invariance._pac_invariance"
worlds = Worlds("pac-invariance", t.THEOREMS)


def judged(rows: tuple[Array, Array, Array], fresh: Fresh, unit: Array | None = None) -> Any:
    """Judge of a result by fresh environments; `unit` says which of them are one draw."""

    def share(values: Array, limit: float) -> float:
        above = values > limit
        if unit is not None:
            above = np.logical_or.reduceat(above, np.flatnonzero(np.diff(unit, prepend=-1)))
        return float(above.mean())

    def truths(result: InvarianceResult) -> Mapping[str, bool | None]:
        S, parts = list(result.support), fresh()
        by_name = {c.name: c for c in result.certificates}
        r = np.concatenate([excess(X[..., S], y, result.coef) for X, y in parts])
        made = {"scenario": share(r, result.epsilon) <= by_name["scenario"].bound}
        if "uniform" in by_name:
            g = np.concatenate([gradient(X[..., S], y, result.coef) for X, y in parts])
            limit = float(by_name["uniform"].inputs["largest gradient"])
            made["uniform"] = share(g, limit) <= by_name["uniform"].bound
        if "split" in by_name and unit is None:
            made["split"] = counted(rows, result) <= by_name["split"].bound
        return made

    return truths


def counted(rows: tuple[Array, Array, Array], result: InvarianceResult) -> int:
    """Held-out environments above epsilon."""
    X, y, env = rows
    S, above = list(result.support), 0
    for label in result.held_out_residuals.index:
        here = env == label
        found = excess(X[here][None][..., S], y[here][None], result.coef)[0]
        above += int(found > result.epsilon)
    return above


def run(rows: tuple[Array, Array, Array], rng: Rng, fresh: Fresh, **given: Any) -> Instance:
    """A run of the front door, a random half held out unless said otherwise, the split from a stream of its own."""
    X, y, env = rows
    options = {"test_env": 0.5, "rng": int(rng.integers(1 << 32)), **given}
    return Instance({"X": X, "y": y, "env": env, **options}, judged(rows, fresh))


def effects(rng: Rng, K: int, spread: float = 1.0) -> Array:
    """Strengths 1 + spread g of effects."""
    return 1 + spread * rng.standard_normal(K)


# Honest worlds


def slopes(beta: Array) -> tuple[Array, Array]:
    """Four rows an environment with one column of variance 1 and slope β exactly."""
    x, e = np.array([-1.0, -1, 1, 1]), np.array([1.0, -1, 1, -1])
    X = np.broadcast_to(x[None, :, None], (len(beta), 4, 1))
    return X, beta[:, None] * x + e


@worlds.world(run=pac_invariance)
def uniform_slopes(rng: Rng, strength: float) -> Instance:
    """Slopes uniform on [0, 1], 20 of 200 environments fitted: exactly two of them hold epsilon up, δ = .1."""
    beta = rng.random(200)
    X, y, env = flat(*slopes(beta))

    def truths(result: InvarianceResult) -> Mapping[str, bool | None]:
        w, epsilon = float(result.coef[0]), result.epsilon
        inside = min(1.0, w + epsilon) - max(0.0, w - epsilon)
        bounds = {c.name: c.bound for c in result.certificates}
        held = beta[result.held_out_residuals.index]
        above = int((np.abs(held - w) > epsilon).sum())
        return {
            "scenario": bool(1 - inside <= bounds["scenario"]),
            "split": above <= bounds["split"],
        }

    seed = int(rng.integers(1 << 32))
    options = {"metric": "gradient", "delta": 0.1, "test_env": 0.9, "rng": seed}
    return Instance({"X": X, "y": y, "env": env, **options}, truths)


@worlds.world(run=pac_invariance)
def counted_slopes(rng: Rng, strength: float) -> Instance:
    """The same, 20 fitted and 180 held out, which are counted, δ = .02."""
    beta = rng.random(200)
    X, y, env = flat(*slopes(beta))

    def truths(result: InvarianceResult) -> Mapping[str, bool | None]:
        held = beta[result.held_out_residuals.index]
        above = int((np.abs(held - result.coef[0]) > result.epsilon).sum())
        bound = next(c.bound for c in result.certificates if c.name == "split")
        return {"split": above <= bound}

    seed = int(rng.integers(1 << 32))
    options = {"metric": "gradient", "delta": 0.02, "test_env": 0.9, "rng": seed}
    return Instance({"X": X, "y": y, "env": env, **options}, truths)


def tiny(rng: Rng, K: int, sizes: tuple[int, int], whole: bool) -> list[tuple[Array, Array]]:
    """K environments of each number of rows, noise t with 1.5 degrees of freedom; rounded ones that are singular left out."""
    made = []
    for n in range(sizes[0], sizes[1] + 1):
        X, y = pair(rng, effects(rng, K), n, 1.5)
        if whole:
            X, y = np.round(X), np.round(y)
            centred = X - X.mean(axis=1, keepdims=True)
            gram = np.matmul(centred.swapaxes(1, 2), centred)
            size = np.sqrt(np.einsum("kii->ki", gram))
            with np.errstate(invalid="ignore", divide="ignore"):
                like = gram[:, 0, 1] / (size[:, 0] * size[:, 1])
            good = (np.abs(like) < 1 - 1e-6) & (np.ptp(y, axis=1) > 0)
            X, y = X[good], y[good]
        made.append((X, y))
    return made


def small(rng: Rng, m: int, sizes: tuple[int, int], columns: int, whole: bool) -> Instance:
    """Environments of few rows, number of rows drawn at random; m fitted, 30 held out."""
    wanted = m + 30
    parts = tiny(rng, 3 * wanted, sizes, whole)
    order = rng.integers(len(parts), size=wanted)
    X, y, env = [], [], []
    for e, size in enumerate(order):
        X.append(parts[size][0][e])
        y.append(parts[size][1][e])
        env.append(np.full(len(y[-1]), e))
    rows = (np.concatenate(X), np.concatenate(y), np.concatenate(env))
    subset = [list(range(columns))]
    split = 30 / wanted
    fresh = np.random.default_rng(rng.integers(1 << 62))
    return run(
        rows, rng, lambda: tiny(fresh, 800, sizes, whole), subsets=subset, delta=0.1, test_env=split
    )


@worlds.world(run=pac_invariance, strengths=(1, 2))
def tiny_and_heavy(rng: Rng, strength: float) -> Instance:
    """5 to 9 rows, noise t with 1.5 degrees of freedom, 12 fitted, one column or two, δ = .1."""
    return small(rng, 12, (5, 9), int(strength), whole=False)


@worlds.world(run=pac_invariance, strengths=(1, 2))
def ties(rng: Rng, strength: float) -> Instance:
    """The same rounded to whole numbers, 8 to 11 rows, 20 fitted."""
    return small(rng, 20, (8, 11), int(strength), whole=True)


@worlds.world(run=pac_invariance, strengths=(1, 1e-12, 1e12))
def noise_free(rng: Rng, strength: float) -> Instance:
    """y = 2 x₁ − x₂ exactly in some unit, columns at an offset of 10⁶: nothing is lost anywhere."""
    X = rng.standard_normal((80, 50, 2)) * np.exp(rng.standard_normal((80, 1, 2))) + 1e6
    rows = flat(X, strength * (2 * X[..., 0] - X[..., 1]))
    made = run(rows, rng, list)
    return Instance(made.arguments, lambda _: {"scenario": True, "uniform": True, "split": True})


@worlds.world(run=pac_invariance, strengths=(1, 0.9))
def blocks_used(rng: Rng, strength: float) -> Instance:
    """40 blocks of 4 near-copies, half of them fitted: environments of a block share so much of what varies."""
    mixed = (strength**0.5, (1 - strength) ** 0.5)

    def blocks(source: Rng, K: int, n: int = 100) -> tuple[Array, Array]:
        g = np.repeat(source.standard_normal(K), 4)
        return pair(source, 1 + mixed[0] * g + mixed[1] * source.standard_normal(4 * K), n)

    rows = flat(*blocks(rng, 40))
    fresh = np.random.default_rng(rng.integers(1 << 62))
    made = run(rows, rng, list, subsets=[[1]], blocks=rows[2] // 4)
    unit = np.repeat(np.arange(800), 4)
    return Instance(made.arguments, judged(rows, lambda: [blocks(fresh, 800)], unit))


@worlds.world(run=pac_invariance, strengths=(0.3, 0.15))
def search_of_subsets(rng: Rng, strength: float) -> Instance:
    """Two causes and an effect, the best of 7 subsets within so large a residual is taken, 40 of 80 fitted."""
    rows = flat(*sem(rng, 80, 100))
    fresh = np.random.default_rng(rng.integers(1 << 62))
    made = run(rows, rng, lambda: [sem(fresh, 2000, 100)], eps=strength, delta=0.1)
    whole = made.truths

    def truths(result: InvarianceResult) -> Mapping[str, bool | None]:
        return whole(result) if result.support else {"scenario": True}

    return Instance(made.arguments, truths)


@worlds.world(run=pac_invariance, strengths=(0, 1))
def many_environments(rng: Rng, strength: float) -> Instance:
    """600 environments of 30 rows, 300 fitted, by the cause or the effect (0, 1): enough for the theorem of all heads."""
    rows = flat(*pair(rng, effects(rng, 600), 30))
    fresh = np.random.default_rng(rng.integers(1 << 62))
    again: Fresh = lambda: [pair(fresh, effects(fresh, 4000), 30)]  # noqa: E731
    return run(rows, rng, again, subsets=[[int(strength)]])


@worlds.world(run=pac_invariance)
def one_intercept(rng: Rng, strength: float) -> Instance:
    """One intercept for all while means shift by a tenth of a deviation, 40 of 80 fitted, δ = .1."""

    def shifted(source: Rng, K: int) -> tuple[Array, Array]:
        X, y = pair(source, effects(source, K), 50)
        return X, y + 0.3 * source.standard_normal((K, 1))

    rows = flat(*shifted(rng, 80))
    fresh = np.random.default_rng(rng.integers(1 << 62))
    made = run(rows, rng, list, subsets=[[0]], center=False, delta=0.1)

    def truths(result: InvarianceResult) -> Mapping[str, bool | None]:
        X, y = shifted(fresh, 4000)
        x = X[..., 0]
        beta = ((x - x.mean(1, keepdims=True)) * y).sum(1) / (
            (x - x.mean(1, keepdims=True)) ** 2
        ).sum(1)
        constant = y.mean(1) - beta * x.mean(1)
        lost = (result.coef[0] - beta)[:, None] * x + (result.intercept - constant)[:, None]
        r = np.sqrt((lost**2).mean(1)) / y.std(1)
        bound = next(c.bound for c in result.certificates if c.name == "scenario")
        return {"scenario": float((r > result.epsilon).mean()) <= bound}

    return Instance(made.arguments, truths)


@worlds.world(run=pac_invariance, strengths=(0.3, 0.05))
def many_zeros(rng: Rng, strength: float) -> Instance:
    """In so large a share of rows nothing happened: all columns and the target are 0, in every environment, 80 of 100 held out."""

    def draw(source: Rng, K: int) -> tuple[Array, Array]:
        X, y = pair(source, effects(source, K), 40)
        idle = source.random(y.shape) < strength
        X[idle], y[idle] = 0, 0
        return X, y

    rows = flat(*draw(rng, 100))
    fresh = np.random.default_rng(rng.integers(1 << 62))
    return run(rows, rng, lambda: [draw(fresh, 2000)], subsets=[[1]], test_env=0.8)


def gaussian(rng: Rng, true: Array, sizes: Array, df: float = np.inf, skew: float = 0.0) -> Any:
    """Rows of environments whose head is `true` off zero in a random direction of two columns, noise of variance 1."""
    X, y, env = [], [], []
    for e, (value, n) in enumerate(zip(true, sizes, strict=True)):
        angle = rng.uniform(0, 2 * np.pi)
        part = rng.standard_normal((n, 2))
        if skew:
            part = np.exp(skew * part)
            part = (part - np.exp(skew**2 / 2)) / np.sqrt(np.expm1(skew**2) * np.exp(skew**2))
        X.append(part)
        left = rng.standard_normal(n) if np.isinf(df) else rng.standard_t(df, n)
        y.append(value * (part @ [np.cos(angle), np.sin(angle)]) + left)
        env.append(np.full(n, e))
    return np.concatenate(X), np.concatenate(y), np.concatenate(env)


def population(rows: Any, rng: Rng, share: Callable[[float], float]) -> Instance:
    """The head 0 was given; `share` is the true share of environments of t or more."""
    X, y, env = rows

    def truths(result: InvarianceResult) -> Mapping[str, bool | None]:
        c = next(c for c in result.certificates if c.name == "population")
        return {"population": bool(share(float(c.inputs["t"])) <= c.bound)}

    head = {"head": np.zeros(2), "metric": "excess_residual", "delta": 0.01}
    return Instance({"features": X, "y": y, "env": env, **head}, truths)


@worlds.world(run=certify_representation)
def mixed_sizes(rng: Rng, strength: float) -> Instance:
    """Half of 60 environments have 50 rows and lose nothing, half 3,000 rows and lose .38: small ones hide large ones."""
    large = rng.random(60) < 0.5
    large[:2] = True, False
    rows = gaussian(rng, np.where(large, 0.38, 0.0), np.where(large, 3000, 50))
    return population(rows, rng, lambda value: 0.5 * (value <= 0.38) + 0.5 * (value <= 0))


@worlds.world(run=certify_representation)
def gaussian_rows(rng: Rng, strength: float) -> Instance:
    """True losses uniform on [0, .5], 50 to 200 rows."""
    rows = gaussian(rng, 0.5 * rng.random(60), rng.integers(50, 201, 60))
    return population(rows, rng, lambda value: max(0.0, 1 - 2 * value))


def scalar(rng: Rng, m: int) -> tuple[Array, Array]:
    """Moments of one column of variance 1 with uniform slope."""
    return np.ones((m, 1, 1)), rng.random((m, 1))


@worlds.world(run=certify_moments)
def exact_moments(rng: Rng, strength: float) -> Instance:
    """Slopes uniform on [0, 1], the middle of 400 is the head, 200 held out."""
    Sigma, c = scalar(rng, 400)
    w = float(c.min() + c.max()) / 2
    given = {"Sigma": Sigma, "c": c, "head": [w], "held_out": scalar(rng, 200)}

    def truths(made: Any) -> Mapping[str, bool | None]:
        epsilon = float(made.inputs["epsilon"])
        inside = min(1.0, w + epsilon) - max(0.0, w - epsilon)
        return {"uniform-moments": bool(1 - inside <= made.bound)}

    return Instance(given, truths)


def family(rng: Rng, Sigma: Array, c: Array, fresh: tuple[Array, Array]) -> Instance:
    """Moments of three columns, the pooled head, one site with one parent."""
    head = np.linalg.solve(Sigma.mean(0), c.mean(0)) + 0.1
    given = {"Sigma": Sigma, "c": c, "head": head, "sites": (1, 1)}

    def truths(made: Any) -> Mapping[str, bool | None]:
        off = np.linalg.norm(fresh[0] @ head - fresh[1], axis=1)
        share = float((off > float(made.inputs["epsilon"])).mean())
        return {"uniform-moments": share <= made.bound}

    return Instance(given, truths)


@worlds.world(run=certify_moments, strengths=(300, 1000))
def one_site(rng: Rng, strength: float) -> Instance:
    """A chain of three columns in which one coefficient varies, exact covariances of so many environments."""
    Sigma, c = chain(rng.standard_normal(int(strength)))
    return family(rng, Sigma, c, chain(rng.standard_normal(4000)))


# Broken worlds


@worlds.world(run=pac_invariance, breaks=t.INDEPENDENT, strengths=(1, 0.9, 0.5), noticeable=False)
def near_copies(rng: Rng, strength: float) -> Instance:
    """10 blocks of 8 environments that share so much of what varies, without blocks=: no data show it."""
    mixed = (strength**0.5, (1 - strength) ** 0.5)
    g = np.repeat(rng.standard_normal(10), 8)
    rows = flat(*pair(rng, 1 + mixed[0] * g + mixed[1] * rng.standard_normal(80), 200))
    fresh = np.random.default_rng(rng.integers(1 << 62))
    return run(rows, rng, lambda: [pair(fresh, effects(fresh, 2000), 200)], subsets=[[1]])


@worlds.world(
    run=pac_invariance, breaks=t.INDEPENDENT, strengths=(0.1, 0.05, 0.02, 0), broken_from=0.05
)
def drift(rng: Rng, strength: float) -> Instance:
    """An effect grows by so much from one of 40 environments to the next, with order=; new ones come after."""
    when = np.arange(40)
    rows = flat(*pair(rng, 1 + strength * when + 0.1 * rng.standard_normal(40), 200))
    fresh = np.random.default_rng(rng.integers(1 << 62))

    def later() -> list[tuple[Array, Array]]:
        a = 1 + strength * fresh.integers(40, 50, 1000) + 0.1 * fresh.standard_normal(1000)
        return [pair(fresh, a, 200)]

    return run(rows, rng, later, subsets=[[1]], order=when, test_env=None)


@worlds.world(run=pac_invariance, breaks=t.INDEPENDENT, strengths=(0.01, 0.005), noticeable=False)
def slow_drift(rng: Rng, strength: float) -> Instance:
    """The same, so slow that 40 environments seldom show it."""
    return drift.make(rng, strength)


@worlds.world(run=pac_invariance, breaks=t.INDEPENDENT, strengths=(0.05,), noticeable=False)
def drift_without_order(rng: Rng, strength: float) -> Instance:
    """A drift that order= would have shown."""
    made = drift.make(rng, strength)
    return Instance({k: v for k, v in made.arguments.items() if k != "order"}, made.truths)


@worlds.world(run=pac_invariance, breaks=t.INDEPENDENT, strengths=(0.9, 0.5, 0.25, 0.05))
def overlapping_windows(rng: Rng, strength: float) -> Instance:
    """60 windows of 200 rows of one series whose effect wanders, which share so much with the next."""
    step = max(1, round(200 * (1 - strength)))
    length = 200 + 59 * step
    a = 1 + np.cumsum(rng.standard_normal(length)) / 200**0.5
    x = rng.standard_normal(length)
    y = x + rng.standard_normal(length)
    series = np.column_stack([x, a * y + rng.standard_normal(length)])
    where = np.arange(200) + step * np.arange(60)[:, None]
    rows = flat(series[where], y[where])
    fresh = np.random.default_rng(rng.integers(1 << 62))
    return run(rows, rng, lambda: [pair(fresh, effects(fresh, 1000), 200)], subsets=[[1]])


@worlds.world(run=pac_invariance, breaks=t.INDEPENDENT, strengths=(0.9, 0.5, 0.25, 0.05))
def numbered_windows(rng: Rng, strength: float) -> Instance:
    """The same with a column that numbers the rows of the file, so that no row is there twice."""
    made = overlapping_windows.make(rng, strength)
    X = made.arguments["X"]
    return Instance({**made.arguments, "X": np.column_stack([X, np.arange(len(X))])}, made.truths)


@worlds.world(run=pac_invariance, breaks=t.INDEPENDENT, strengths=(200, 1000))
def bootstrapped(rng: Rng, strength: float) -> Instance:
    """60 environments of 200 rows drawn with replacement from one table of so many rows."""
    X, y = pair(rng, np.ones(1), int(strength))
    where = rng.integers(int(strength), size=(60, 200))
    rows = flat(X[0][where], y[0][where])
    fresh = np.random.default_rng(rng.integers(1 << 62))
    return run(rows, rng, lambda: [pair(fresh, np.ones(1000), 200)], subsets=[[1]])


@worlds.world(run=pac_invariance, breaks=t.INDEPENDENT)
def no_environments(rng: Rng, strength: float) -> Instance:
    """A table without environments, dealt into folds."""
    X, y = pair(rng, np.ones(1), 600)
    made = run((X[0], y[0], np.zeros(600)), rng, list, subsets=[[0]])
    given = {**made.arguments, "env": None, "test_env": None}
    return Instance(given, lambda _: {"scenario": True, "uniform": True})


@worlds.world(
    run=pac_invariance,
    breaks=t.SAME_LAW,
    strengths=(3, 1, 0.5, 0.3, 0.1),
    broken_from=1,
    noticeable=False,
    expects=Verdict.FAILS,
)
def another_law(rng: Rng, strength: float) -> Instance:
    """Effects of 1 + .1 g are fitted, 200 environments with 1 + so much g are held out: it must fail, not be void."""
    a = np.append(effects(rng, 40, 0.1), effects(rng, 200, strength))
    rows = flat(*pair(rng, a, 200))
    fresh = np.random.default_rng(rng.integers(1 << 62))
    held = list(range(40, 240))
    made = run(
        rows,
        rng,
        lambda: [pair(fresh, effects(fresh, 2000, strength), 200)],
        subsets=[[1]],
        test_env=held,
    )
    return Instance(made.arguments, lambda r: {"scenario": made.truths(r)["scenario"]})


@worlds.world(
    run=pac_invariance,
    breaks=t.SAME_LAW,
    strengths=(8, 20, 100),
    broken_from=20,
    noticeable=False,
    expects=Verdict.FAILS,
    rising=False,
)
def fewer_rows(rng: Rng, strength: float) -> Instance:
    """40 environments of 400 rows are fitted, 200 of so many rows held out: noise alone exceeds epsilon."""
    n = int(strength)
    first = flat(*pair(rng, np.ones(40), 400))
    second = flat(*pair(rng, np.ones(200), n), first=40)
    rows = tuple(np.concatenate(p) for p in zip(first, second, strict=True))
    fresh = np.random.default_rng(rng.integers(1 << 62))
    held = list(range(40, 240))
    made = run(
        (rows[0], rows[1], rows[2]),
        rng,
        lambda: [pair(fresh, np.ones(2000), n)],
        subsets=[[0]],
        test_env=held,
    )
    return Instance(made.arguments, lambda r: {"scenario": made.truths(r)["scenario"]})


@worlds.world(
    run=pac_invariance,
    breaks=t.WELL_POSED,
    strengths=(1e-7, 1e-6, 1e-5, 1e-2),
    broken_from=1e-5,
    rising=False,
)
def equal_columns(rng: Rng, strength: float) -> Instance:
    """In one of 80 environments two columns are equal but for so much noise."""
    X, y = pair(rng, effects(rng, 80, 0.3), 100)
    X[7, :, 1] = X[7, :, 0] + strength * rng.standard_normal(100)
    rows = flat(X, y)
    fresh = np.random.default_rng(rng.integers(1 << 62))
    again = lambda: [pair(fresh, effects(fresh, 1000, 0.3), 100)]  # noqa: E731
    made = run(rows, rng, again, subsets=[[0, 1]])
    return Instance(made.arguments, lambda r: {"scenario": made.truths(r)["scenario"]})


@worlds.world(
    run=pac_invariance,
    breaks=t.WELL_POSED,
    strengths=(1e-6, 1e-5, 1e-2),
    broken_from=1e-5,
    rising=False,
)
def a_sum_of_columns(rng: Rng, strength: float) -> Instance:
    """In every environment a third column is the sum of two but for so much noise; it is listed."""
    X, y = pair(rng, effects(rng, 80, 0.3), 60)
    more = X.sum(axis=2, keepdims=True) + strength * rng.standard_normal((80, 60, 1))
    rows = flat(np.concatenate([X, more], axis=2), y)
    made = run(rows, rng, list, subsets=[[0, 1, 2]])
    return Instance(made.arguments, lambda _: {"scenario": None})


@worlds.world(run=pac_invariance, breaks=t.WELL_POSED, refuses=(ValueError,))
def a_constant_column(rng: Rng, strength: float) -> Instance:
    """In one environment a column never changes."""
    X, y = pair(rng, effects(rng, 40), 60)
    X[3, :, 0] = X[3, 0, 0]
    made = run(flat(X, y), rng, list)
    return Instance(made.arguments, lambda _: {"scenario": None})


@worlds.world(run=pac_invariance, breaks=t.FIXED, strengths=(0.2, 0.1, 0.05), noticeable=False)
def outliers_left_out(rng: Rng, strength: float) -> Instance:
    """The worst share of 100 environments by the pooled residual is dropped before anything else."""

    def draw(source: Rng, K: int) -> tuple[Array, Array]:
        return pair(source, 1 + 0.3 * source.standard_t(3, K), 200)

    X, y = draw(rng, 100)
    x = X[..., 1] - X[..., 1].mean(axis=1, keepdims=True)
    pooled = np.array([(x * y).sum() / (x**2).sum()])
    worst = np.argsort(excess(X[..., 1:], y, pooled))
    kept = np.sort(worst[: round(100 * (1 - strength))])
    rows = flat(X[kept], y[kept])
    fresh = np.random.default_rng(rng.integers(1 << 62))
    return run(rows, rng, lambda: [draw(fresh, 2000)], subsets=[[1]])


def taught(rng: Rng, told: float) -> Instance:
    """A head of six columns that minimises the largest residual of the very environments that certify it."""

    def draw(source: Rng, K: int) -> tuple[Array, Array]:
        X = source.standard_normal((K, 30, 6))
        beta = 0.5 * source.standard_normal((K, 6, 1))
        return X, np.matmul(X, beta)[..., 0] + source.standard_normal((K, 30))

    X, y, env = flat(*draw(rng, 30))
    head = pac_invariance(X, y, env, subsets=[list(range(6))]).coef
    learnt = list(range(round(30 * told))) if told else None
    fresh = np.random.default_rng(rng.integers(1 << 62))
    given = {"features": X, "y": y, "env": env, "head": head, "learnt_on": learnt}

    def truths(result: InvarianceResult) -> Mapping[str, bool | None]:
        share = float((excess(*draw(fresh, 2000), head) > result.epsilon).mean())
        bound = next(c.bound for c in result.certificates if c.name == "scenario")
        return {"scenario": share <= bound}

    return Instance(given, truths)


@worlds.world(run=certify_representation, breaks=t.FIXED, strengths=(1, 0.5, 1 / 30))
def learnt_here(rng: Rng, strength: float) -> Instance:
    """A head was learnt on the environments that certify it, and so large a share of them is named."""
    return taught(rng, strength)


@worlds.world(run=certify_representation, breaks=t.FIXED, noticeable=False)
def learnt_here_in_silence(rng: Rng, strength: float) -> Instance:
    """The same, and nothing is said of it."""
    return taught(rng, 0)


def changed(factor: float, **given: Any) -> InvarianceResult:
    """The front door with heads that are multiplied after the fit."""
    fitted = search.minimax

    def other(M: Array, z: Array) -> Any:
        made = fitted(M, z)
        return solver.Heads(made.w * factor, made.multipliers, made.lower)

    with patch.object(search, "minimax", other):
        return pac_invariance(**given)


def hurried(steps: int, **given: Any) -> InvarianceResult:
    """The front door with a solver that stops after a few steps."""
    with patch.object(solver, "STEPS", steps), patch.object(solver, "ROUNDS", 1):
        return pac_invariance(**given)


def ordinary(rng: Rng, **more: Any) -> Instance:
    """80 environments of two columns, a script's own argument with them."""
    rows = flat(*pair(rng, effects(rng, 80), 60))
    fresh = np.random.default_rng(rng.integers(1 << 62))
    made = run(rows, rng, lambda: [pair(fresh, effects(fresh, 1000), 60)], subsets=[[0, 1]])
    return Instance({**made.arguments, **more}, made.truths)


@worlds.world(run=changed, breaks=t.OPTIMUM, strengths=(0.01, 1e-4, 1e-5, 0), broken_from=1e-4)
def head_changed(rng: Rng, strength: float) -> Instance:
    """Heads times 1 + so much after the fit."""
    return ordinary(rng, factor=1 + strength)


@worlds.world(run=hurried, breaks=t.OPTIMUM, strengths=(1, 3, 6, 60), broken_from=3, rising=False)
def solver_stopped(rng: Rng, strength: float) -> Instance:
    """The solver stops after so many steps."""
    return ordinary(rng, steps=int(strength))


@worlds.world(run=pac_invariance, breaks=t.SPLIT_HERE, strengths=(1, 0.5, 0))
def labels_chosen(rng: Rng, strength: float) -> Instance:
    """The environments held out are named: such a share of them for their strong effects, the rest at random."""
    a = effects(rng, 80)
    rows = flat(*pair(rng, a, 60))
    strong = np.argsort(-np.abs(a - 1))[: round(40 * strength)]
    rest = rng.permutation(np.setdiff1d(np.arange(80), strong))[: 40 - len(strong)]
    held = [int(v) for v in (*strong, *rest)]
    made = run(rows, rng, list, subsets=[[1]], test_env=held)
    bound = lambda r: next(c.bound for c in r.certificates if c.name == "split")  # noqa: E731
    return Instance(made.arguments, lambda r: {"split": counted(rows, r) <= bound(r)})


class Sorted(np.random.Generator):
    """A generator whose permutations are none."""

    def integers(self, *given: Any, **named: Any) -> Any:
        """Always the same."""
        return np.zeros(named.get("size", 1), np.int64) + 12345


@worlds.world(run=pac_invariance, breaks=t.SPLIT_HERE, noticeable=False)
def a_generator_of_their_own(rng: Rng, strength: float) -> Instance:
    """The split comes from a generator whose numbers are always the same, and the table is sorted to match."""
    a = effects(rng, 80)
    order = np.random.default_rng([12345, 12345]).permutation(80)
    place = np.empty(80, int)
    place[order] = np.argsort(np.argsort(np.abs(a - 1)))
    ranked = a[np.argsort(np.abs(a - 1))]
    rows = flat(*pair(rng, ranked[place], 60))
    made = run(rows, rng, list, subsets=[[1]])
    bound = lambda r: next(c.bound for c in r.certificates if c.name == "split")  # noqa: E731
    given = {**made.arguments, "rng": Sorted(np.random.PCG64(0))}
    return Instance(given, lambda r: {"split": counted(rows, r) <= bound(r)})


@worlds.world(
    run=certify_representation,
    breaks=t.GAUSSIAN,
    strengths=(1.5, 2, 4, 10),
    broken_from=2,
    rising=False,
)
def heavy_noise(rng: Rng, strength: float) -> Instance:
    """Noise is Student's t with so many degrees of freedom, 200 rows."""
    rows = gaussian(rng, 0.5 * rng.random(40), np.full(40, 200), df=strength)
    scale = np.sqrt(strength / (strength - 2)) if strength > 2 else np.inf
    return population(rows, rng, lambda value: max(0.0, 1 - 2 * value * scale))


@worlds.world(
    run=certify_representation, breaks=t.GAUSSIAN, strengths=(1, 0.3, 0.1), broken_from=0.3
)
def skewed_columns(rng: Rng, strength: float) -> Instance:
    """Columns are lognormal with so large a σ."""
    rows = gaussian(rng, 0.5 * rng.random(40), np.full(40, 200), skew=strength)
    return population(rows, rng, lambda value: max(0.0, 1 - 2 * value))


@worlds.world(run=certify_moments, breaks=t.SEM, strengths=(10, 100), noticeable=False)
def estimated_covariances(rng: Rng, strength: float) -> Instance:
    """Covariances were estimated from so many rows, and no moments show it."""

    def draw(K: int) -> tuple[Array, Array]:
        n = int(strength)
        e = rng.standard_normal((4, K, n))
        x2 = rng.standard_normal((K, 1)) * e[0] + e[1]
        x3 = x2 + e[2]
        X, y = np.stack([e[0], x2, x3], axis=2), x2 + 0.5 * x3 + e[3]
        products = np.matmul(X.swapaxes(1, 2), np.concatenate([X, y[..., None]], axis=2)) / n
        return products[..., :3], products[..., 3]

    Sigma, c = draw(500)
    return family(rng, Sigma, c, draw(4000))


@worlds.world(run=certify_moments, breaks=t.SEM, strengths=(1, 0.3), noticeable=False)
def everything_changes(rng: Rng, strength: float) -> Instance:
    """Environments differ in the whole covariance, not at one site: rotated by a random amount."""

    def draw(K: int) -> tuple[Array, Array]:
        Sigma, c = chain(rng.standard_normal(K))
        turn = ortho_group.rvs(3, size=K, random_state=rng)
        turn = (1 - strength) * np.eye(3) + strength * turn
        return turn @ Sigma @ turn.swapaxes(1, 2), np.einsum("kij,kj->ki", turn, c)

    return family(rng, *draw(500), draw(4000))


# Mutants

worlds.mutant(
    "scenario",
    "one variable forgotten",
    target=f"{HERE}.bounds:violation",
    change=lambda f: lambda m, d, delta: f(m, max(1, d - 1), delta),
    world=uniform_slopes,
)
worlds.mutant(
    "scenario",
    "half of eta",
    target=f"{HERE}.bounds:violation",
    change=lambda f: lambda m, d, delta: f(m, d, delta) / 2,
    world=tiny_and_heavy,
)
worlds.mutant(
    "split",
    "half of the count",
    target=f"{HERE}.bounds:split_count",
    change=lambda f: lambda *given: f(*given) // 2,
    world=counted_slopes,
)
worlds.mutant(
    "uniform",
    "half of the largest gradient",
    target=f"{HERE}.theorems:largest",
    change=lambda f: lambda *given: f(*given) / 2,
    world=many_environments,
)
worlds.mutant(
    "uniform-moments",
    "half of the largest gradient",
    target=f"{HERE}.theorems:largest",
    change=lambda f: lambda *given: f(*given) / 2,
    world=exact_moments,
)
worlds.mutant(
    "population",
    "detection at the fewest rows",
    target=f"{HERE}.bounds:between",
    change=lambda f: lambda rows: np.array([rows[0]]),
    world=mixed_sizes,
)
