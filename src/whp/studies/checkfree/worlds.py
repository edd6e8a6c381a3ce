"""Worlds of lost stages: pipelines in one process, quadratics in closed form, and logs of failures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from whp.certificate import Certificate, Verdict
from whp.distributed._checkfree import theorems as t
from whp.distributed._checkfree.recovery import UnrecoverableStageError
from whp.experiment.worlds import Instance, Worlds
from whp.intervals import Estimate
from whp.provenance import register
from whp.studies.checkfree.simulated import Shifted, Simulated, shifted, simulated

__all__ = ["worlds"]

worlds = Worlds("checkfree", t.THEOREMS)
HERE = "whp.distributed._checkfree"
NEAR = 1e-10
Rng = np.random.Generator
Truths = Mapping[str, bool | None]
RECOVERIES = ("recovered-weights", "ends-restored", "others-untouched", "each-iteration-once")
TWO = {1: (2,), 2: (0,)}  # an average, then a twin and the embedding


# Recoveries


def seen_of(*names: str) -> Callable[[Simulated], Truths]:
    """What was seen from outside, of these theorems."""
    return lambda run: {n: run.fine[n] for n in names or RECOVERIES}


def pipeline(rng: Rng, *names: str, **given: Any) -> Instance:
    """An instance of the five stages."""
    return Instance({"seed": int(rng.integers(1 << 31)), "kills": TWO, **given}, seen_of(*names))


@worlds.world(run=simulated)
def two_kills(rng: Rng, strength: float) -> Instance:
    """An inner stage and the first one are lost."""
    return pipeline(rng)


@worlds.world(run=simulated, slow=True)
def in_double_precision(rng: Rng, strength: float) -> Instance:
    """The same, where a formula in single precision would be off."""
    return pipeline(rng, double=True)


@worlds.world(run=simulated)
def kills_of_two_at_once(rng: Rng, strength: float) -> Instance:
    """An inner stage and the last one are lost together, equal averages."""
    return pipeline(rng, kills={2: (2, 4)}, rule="uniform")


@worlds.world(run=simulated, slow=True)
def a_kill_right_after_a_kill(rng: Rng, strength: float) -> Instance:
    """The neighbour of a stage that was just rebuilt is lost, and weights alone are copied."""
    return pipeline(rng, kills={1: (2,), 2: (2,), 3: (4,)}, replicas="weights")


@worlds.world(run=simulated, slow=True)
def copies_of_the_one_before(rng: Rng, strength: float) -> Instance:
    """rule='copy'."""
    return pipeline(rng, rule="copy")


@worlds.world(run=simulated, slow=True)
def redundant_copies(rng: Rng, strength: float) -> Instance:
    """Every stage has a copy."""
    given = {"mode": "redundant", "kills": {2: (2,)}}
    return pipeline(rng, "others-untouched", "recovered-weights", **given)


@worlds.world(run=simulated, breaks=t.NEIGHBOURS)
def neighbours_lost_together(rng: Rng, strength: float) -> Instance:
    """An inner stage with the one before: they start at random."""
    return pipeline(rng, "recovered-weights", kills={2: (1, 2)}, fallback="random")


@worlds.world(run=simulated, breaks=t.NEIGHBOURS, slow=True)
def neighbours_lost_together_and_all_back(rng: Rng, strength: float) -> Instance:
    """The same, and all go back to the start."""
    return pipeline(rng, "recovered-weights", kills={2: (1, 2)}, fallback="snapshot")


@worlds.world(run=simulated, breaks=t.NEIGHBOURS, slow=True)
def a_rule_without_neighbours(rng: Rng, strength: float) -> Instance:
    """rule='random': no average was taken."""
    return Instance(
        {"seed": int(rng.integers(1 << 31)), "kills": {2: (2,)}, "rule": "random"},
        lambda run: {"recovered-weights": False},
    )


@worlds.world(run=simulated, breaks=t.NEIGHBOURS, refuses=(UnrecoverableStageError,), slow=True)
def the_first_stage_in_plain_mode(rng: Rng, strength: float) -> Instance:
    """It holds the embedding, of which there is no copy."""
    return pipeline(rng, "recovered-weights", mode="checkfree", kills={2: (0,)})


@worlds.world(run=simulated, breaks=t.NEIGHBOURS, slow=True)
def a_rule_that_was_another(rng: Rng, strength: float) -> Instance:
    """A stage is lost under rule='zero', another under the average that came later."""
    return Instance(
        {
            "seed": int(rng.integers(1 << 31)),
            "kills": {1: (2,), 2: (2,)},
            "rule": "zero",
            "later": "grad",
        },
        lambda run: {"recovered-weights": False},
    )


@worlds.world(run=simulated, slow=True)
def trainers_that_were_unpickled(rng: Rng, strength: float) -> Instance:
    """The pipeline is saved and loaded before each step."""
    return pipeline(rng, pickled=True)


@worlds.world(run=simulated, slow=True)
def an_optimizer_on_top_of_another(rng: Rng, strength: float) -> Instance:
    """Its step calls the one that it inherits, which has hooks of its own."""
    return pipeline(rng, inherits=True)


@worlds.world(run=simulated, breaks=t.COPY_LEFT)
def first_twins_lost_together(rng: Rng, strength: float) -> Instance:
    """And with them the embedding and its copy."""
    return pipeline(rng, "ends-restored", kills={2: (0, 1)}, fallback="random")


@worlds.world(run=simulated, breaks=t.COPY_LEFT, slow=True)
def last_twins_lost_together(rng: Rng, strength: float) -> Instance:
    """And with them the head and its copy."""
    return pipeline(rng, "ends-restored", kills={2: (3, 4)}, fallback="random")


@worlds.world(run=simulated, breaks=t.NEVER_BACK, slow=True)
def back_to_a_snapshot(rng: Rng, strength: float) -> Instance:
    """Neighbours are lost, and all go back to the start."""
    given = {"kills": {2: (1, 2)}, "fallback": "snapshot"}
    return pipeline(rng, "others-untouched", "each-iteration-once", **given)


@worlds.world(run=simulated, breaks=t.NEVER_BACK)
def back_to_a_checkpoint(rng: Rng, strength: float) -> Instance:
    """mode='checkpoint' goes back at every loss."""
    return pipeline(
        rng, "others-untouched", "each-iteration-once", kills={2: (2,)}, mode="checkpoint"
    )


@worlds.world(run=simulated, expects=Verdict.FAILS)
def a_survivor_whose_lists_move(rng: Rng, strength: float) -> Instance:
    """Its optimizer keeps a list of tensors, as Shampoo does, one of which moves in its last digits."""

    def tamper(sim: Any, at: int) -> None:
        for moments in sim._sites[3].units["3"].optimizer.state.values():
            moments["kept"][1] += 1e-6

    return pipeline(rng, "others-untouched", kills={2: (1,)}, tamper=tamper, lists=True)


def _moved(share: float) -> Callable[[Any, int], None]:
    def tamper(sim: Any, at: int) -> None:
        unit = sim._sites[3].units["3"]
        if share:
            for p in unit.parameters:
                p.data += share
        else:
            for moments in unit.optimizer.state.values():
                moments["exp_avg"] *= 0.5

    return tamper


@worlds.world(run=simulated, expects=Verdict.FAILS, strengths=(0.01, 0))
def a_survivor_that_moves(rng: Rng, strength: float) -> Instance:
    """Between kill and recovery its weights move by .01, or (0) its moments are halved."""
    return pipeline(rng, "others-untouched", kills={2: (1,)}, tamper=_moved(strength))


@worlds.world(run=simulated, expects=Verdict.FAILS)
def a_stage_that_steps_twice(rng: Rng, strength: float) -> Instance:
    """Stage 3 makes two updates in one iteration."""
    return pipeline(rng, "each-iteration-once", kills={}, twice=3)


# Progress

CHARACTERS = 64
CAP = 1.5 * math.log(CHARACTERS)


def weighed(windows: t.Windows, drawn: bool = True, share: float = 0.5) -> Certificate:
    """The certificate of windows that were drawn here."""
    if drawn:
        register(windows, "start", "end", "jumps")
    return t.progress(windows, share=share)


def covers(true: float, demand: float = 0.0) -> Callable[[Certificate], Truths]:
    """Whether the interval that the user is given holds the true number.

    Where the demand is not met, and the interval says so, there is no true claim to fail on.
    """

    def truths(c: Certificate) -> Truths:
        m = c.measured
        if m is None:
            return {c.name: None}
        inside = bool(m.low - NEAR <= true <= m.high + NEAR)
        return {c.name: None if inside and true > demand else inside}

    return truths


def false_if_held(c: Certificate) -> Truths:
    """For broken worlds: nothing that is said is about what the claim says."""
    return {c.name: False}


def windows(
    rng: Rng,
    mean: float,
    failures: int = 2,
    jump: float = 0.8,
    n: int = 256,
    rare: float = 0.0,
    share: float = 0.5,
) -> t.Windows:
    """Losses of windows whose balance has this mean; a share `rare` of jumps goes up to the cap."""
    start = 3.5 + rng.uniform(-0.5, 0.5, n)
    jumps = jump + rng.uniform(-0.1, 0.1, (failures, n))
    high = rng.random((failures, n)) < rare
    jumps = np.where(high, CAP - 1.0, jumps)
    true = failures * (jump * (1 - rare) + (CAP - 1.0) * rare)
    gain = ((1 - share) * true - mean) / share
    return t.Windows(
        start, start - gain + rng.uniform(-0.1, 0.1, n), jumps, math.log(CHARACTERS), failures
    )


@worlds.world(run=weighed, strengths=(-0.5, -0.1, 0, 0.1, 0.5))
def windows_of_a_run(rng: Rng, strength: float) -> Instance:
    """Two failures; the balance of what they took has this mean."""
    return Instance({"windows": windows(rng, strength)}, covers(strength))


@worlds.world(run=weighed, strengths=(2, 20))
def windows_that_explode(rng: Rng, strength: float) -> Instance:
    """So many windows in a thousand jump up to the cap at each failure."""
    made = windows(rng, -0.01, rare=strength / 1000)
    return Instance({"windows": made}, covers(-0.01))


@worlds.world(run=weighed, strengths=(0.9,))
def eight_failures(rng: Rng, strength: float) -> Instance:
    """Eight failures, of which training may lose nine tenths of what it gains."""
    made = windows(rng, -0.3, failures=8, jump=0.1, share=strength)
    return Instance({"windows": made, "share": strength}, covers(-0.3))


@worlds.world(run=weighed, expects=Verdict.FAILS, strengths=(1.0, 2.0))
def jumps_that_take_the_gain(rng: Rng, strength: float) -> Instance:
    """Training ends lower, and failures took all but a little of what it gained between them."""
    made = windows(rng, 0.9 * strength, jump=strength)
    return Instance({"windows": made}, false_if_held)


@worlds.world(run=weighed, expects=Verdict.VACUOUS)
def a_text_of_one_letter(rng: Rng, strength: float) -> Instance:
    """All losses are 0, and there is nothing to gain."""
    none = np.zeros(64)
    return Instance({"windows": t.Windows(none, none, none[None], 0.0, 1)}, false_if_held)


@worlds.world(run=weighed, breaks=t.ALL_JUMPS, strengths=(1, 2))
def jumps_left_out(rng: Rng, strength: float) -> Instance:
    """So many of two jumps were not measured."""
    w = windows(rng, 0.3)
    less = t.Windows(w.start, w.end, w.jumps[int(strength) :], w.uniform, 2)
    return Instance({"windows": less}, false_if_held)


@worlds.world(run=weighed, breaks=t.ALL_JUMPS)
def a_jump_counted_for_more(rng: Rng, strength: float) -> Instance:
    """Three recoveries, and jumps of the two that were asked for."""
    w = windows(rng, 0.3)
    return Instance({"windows": t.Windows(w.start, w.end, w.jumps, w.uniform, 3)}, false_if_held)


@worlds.world(run=weighed, breaks=t.FINITE, strengths=(256, 1))
def a_loss_that_is_nan(rng: Rng, strength: float) -> Instance:
    """So many windows of 256 at the end."""
    w = windows(rng, -0.5)
    w.end[: int(strength)] = np.nan
    return Instance({"windows": w}, false_if_held)


@worlds.world(run=weighed, breaks=t.FINITE)
def a_jump_that_is_infinite(rng: Rng, strength: float) -> Instance:
    """Of one window."""
    w = windows(rng, -0.5)
    w.jumps[1, 7] = np.inf
    return Instance({"windows": w}, false_if_held)


@worlds.world(run=weighed, breaks=t.DRAWN_WINDOWS, strengths=(0.3, 0.05), noticeable=False)
def windows_that_were_trained_on(rng: Rng, strength: float) -> Instance:
    """Handed in by hand, they are that much better than new ones at the end."""
    return Instance({"windows": windows(rng, -strength), "drawn": False}, covers(0.0))


@worlds.world(run=weighed, breaks=t.DRAWN_WINDOWS, noticeable=False)
def one_window_many_times(rng: Rng, strength: float) -> Instance:
    """256 copies of one, chosen as the best of eight."""
    w = windows(rng, 0.0, n=8)
    at = int(np.argmax(w.start - w.end))
    start, end, jumps = (
        np.repeat(a[..., at : at + 1], 256, axis=-1) for a in (w.start, w.end, w.jumps)
    )
    made = t.Windows(start, end, jumps, w.uniform, 2)
    return Instance({"windows": made, "drawn": False}, covers(0.0))


# Descent with jumps, on ½ Σ λ x²


def quadratic(
    rng: Rng,
    *,
    q: float = 1.0,
    T: int = 200,
    K: int = 8,
    J: float = 1.0,
    tight: bool = False,
    noise: float = 0.0,
) -> tuple[t.Path, float]:
    """A path with learning rate q/L, whose first half is replaced K times, and L; λ = 1 where tight."""
    lam = np.ones(6) if tight else np.exp(rng.normal(size=6))
    L = float(lam.max())
    x, rate = 3 * rng.normal(size=6), q / L
    at = set(rng.choice(np.arange(1, T), K, replace=False).tolist()) if K else set()
    before, after, squares, jumps = np.zeros(T), np.zeros(T), np.zeros(T), []
    steepest, last = 0.0, None
    for k in range(T):
        if k in at:
            was = 0.5 * float(lam @ x**2)
            x = np.concatenate([J * rng.normal(size=3), x[3:]])
            jumps.append(0.5 * float(lam @ x**2) - was)
        g = lam * x
        if last is not None and (apart := float(np.linalg.norm(x - last[0]))) > 1e-9:
            steepest = max(steepest, float(np.linalg.norm(g - last[1])) / apart)
        last = (x, g)
        before[k], squares[k] = 0.5 * float(lam @ x**2), float(g @ g)
        if noise:
            u = rng.normal(size=6)
            g = g + noise * u / np.linalg.norm(u)
        x = x - rate * g
        after[k] = 0.5 * float(lam @ x**2)
    plain, one = (True, "by hand"), (True, "one quadratic")
    # Ratios of nearly equal vectors are off by rounding.
    steep = steepest * (1 - 1e-6)
    return t.Path(before, after, squares, rate, rate, np.array(jumps), K, steep, plain, one), L


def bounded(mean: float) -> Callable[[Any], Truths]:
    """Whether the mean squared gradient is at most the bound that the user is given."""

    def truths(c: Certificate) -> Truths:
        room = NEAR * max(abs(c.bound), abs(mean))
        over = mean - c.bound
        return {c.name: None if 0 < over <= room else bool(over <= 0)}

    return truths


def descended(path: t.Path, floor: float = 0.0, smoothness: float | None = None) -> Certificate:
    """The certificate of a path."""
    return t.descent(path, floor=floor, smoothness=smoothness)


def on_quadratic(rng: Rng, L: float | None = None, floor: float = 0.0, **given: Any) -> Instance:
    """An instance; `L` as a share of the true one, `floor` as a share of h(θ₀)."""
    path, true = quadratic(rng, **given)
    arguments = {
        "path": path,
        "smoothness": true * (1.0 if L is None else L),
        "floor": floor * float(path.before[0]),
    }
    return Instance(arguments, bounded(float(path.squares.mean())))


@worlds.world(run=descended, strengths=(1, 0.3))
def quadratics(rng: Rng, strength: float) -> Instance:
    """Learning rate that share of 1/L, eight jumps in 200 steps."""
    return on_quadratic(rng, q=strength)


@worlds.world(run=descended)
def one_step(rng: Rng, strength: float) -> Instance:
    """One step of a round quadratic: measured is the bound."""
    return on_quadratic(rng, T=1, K=0, tight=True)


@worlds.world(run=descended, strengths=(5, 1e-3, 1e6))
def jumps_alone(rng: Rng, strength: float) -> Instance:
    """A round quadratic is at its minimum after each step, and 20 jumps of that size are all there is."""
    return on_quadratic(rng, T=40, K=20, J=strength, tight=True)


@worlds.world(run=descended, breaks=t.STEP, strengths=(4, 2.1, 1.5, 1.01), broken_from=1.01)
def steps_beyond_one_over_l(rng: Rng, strength: float) -> Instance:
    """Learning rate so many times 1/L, and L is known."""
    return on_quadratic(rng, q=strength, T=20, tight=True)


@worlds.world(run=descended, breaks=t.SMOOTH, strengths=(4, 2.1, 1.5, 1.1), broken_from=1.5)
def an_l_that_is_too_small(rng: Rng, strength: float) -> Instance:
    """L is so many times too small, and the learning rate is its inverse."""
    return on_quadratic(rng, L=1 / strength, q=strength, T=40, J=3)


@worlds.world(run=descended, breaks=t.SMOOTH, strengths=(4, 1.1))
def an_l_that_is_too_small_on_a_round_one(rng: Rng, strength: float) -> Instance:
    """The same where all directions are alike."""
    return on_quadratic(rng, L=1 / strength, q=strength, T=10, K=2, tight=True)


@worlds.world(run=descended, breaks=t.JUMPS_ADD_UP, strengths=(1, 0.5, 0.1))
def jumps_withheld(rng: Rng, strength: float) -> Instance:
    """That share of each jump is left out."""
    path, L = quadratic(rng, T=40, K=20, J=5, tight=True)
    path.jumps[:] *= 1 - strength
    return Instance({"path": path, "smoothness": L}, bounded(float(path.squares.mean())))


@worlds.world(run=descended, breaks=t.JUMPS_ADD_UP, strengths=(8, 1))
def recoveries_without_jump(rng: Rng, strength: float) -> Instance:
    """So many of eight recoveries have no jump in the sum."""
    path, L = quadratic(rng, J=5)
    less = {**vars(path), "jumps": path.jumps[int(strength) :]}
    return Instance({"path": t.Path(**less), "smoothness": L}, bounded(float(path.squares.mean())))


@worlds.world(run=descended, breaks=t.FLOOR, strengths=(0.9, 0.5))
def a_floor_above_the_path(rng: Rng, strength: float) -> Instance:
    """h_inf is that share of h(θ₀), and the path ends below."""
    return on_quadratic(rng, floor=strength, K=0, tight=True, T=20)


def judge_shifted(run: Shifted) -> Truths:
    """The true mean squared gradient against the bound."""
    return bounded(run.mean)(run.certificate)


def on_shifts(rng: Rng, **given: Any) -> Instance:
    """An instance of the four shifts."""
    return Instance(
        {"seed": int(rng.integers(1 << 31)), "steps": 5, "kills": {2: (1,)}, **given}, judge_shifted
    )


@worlds.world(run=shifted, strengths=(1, 0.3))
def shifts(rng: Rng, strength: float) -> Instance:
    """Four stages x + b, trained by the pipeline with that share of 1/L, and two of them lost."""
    return on_shifts(rng, q=strength, kills={2: (1,), 3: (3,)})


@worlds.world(run=shifted, breaks=t.STEP, strengths=(1.5, 1.1))
def a_boost_beyond_one_over_l(rng: Rng, strength: float) -> Instance:
    """The learning rate is 1/L, and that of a regained stage so many times it."""
    return on_shifts(rng, boost=strength)


@worlds.world(run=shifted, breaks=t.PLAIN, strengths=(0.1, 1))
def gradients_that_are_clipped(rng: Rng, strength: float) -> Instance:
    """To that norm a stage."""
    return on_shifts(rng, clip=strength / 2)


@worlds.world(run=shifted, breaks=t.PLAIN, strengths=(0.9, 0.1))
def momentum(rng: Rng, strength: float) -> Instance:
    """SGD with so much of it."""
    return on_shifts(rng, momentum=strength, q=0.5)


@worlds.world(run=shifted, breaks=t.PLAIN, strengths=(0.3, 0.01))
def weight_decay(rng: Rng, strength: float) -> Instance:
    """SGD with so much of it."""
    return on_shifts(rng, decay=strength, q=0.5)


@worlds.world(run=shifted, breaks=t.PLAIN, slow=True)
def adam(rng: Rng, strength: float) -> Instance:
    """The trainer's own optimizer."""
    return on_shifts(rng, adam=True, q=0.04)


@worlds.world(run=shifted, breaks=t.OBJECTIVE, strengths=(0.5, 0.1))
def dropout(rng: Rng, strength: float) -> Instance:
    """Gradients are of another network at each step."""
    return on_shifts(rng, drop=strength, q=0.2)


@worlds.world(run=shifted, breaks=t.OBJECTIVE, strengths=(0.1, 0.001))
def a_loss_that_drifts(rng: Rng, strength: float) -> Instance:
    """It grows by that share at each call."""
    return on_shifts(rng, drift=strength, q=0.2, known=False)


@worlds.world(run=shifted, breaks=t.OBJECTIVE, strengths=(0.3, 0.9, 1.1))
def a_gradient_of_another_loss(rng: Rng, strength: float) -> Instance:
    """What goes backward is that share of the gradient, as behind a straight-through estimator."""
    return on_shifts(rng, passed=strength)


@worlds.world(run=shifted)
def a_loss_before_the_first_step(rng: Rng, strength: float) -> Instance:
    """A stage is lost before any gradient was taken."""
    return on_shifts(rng, kills={0: (2,), 3: (1,)})


@worlds.world(run=shifted, breaks=t.FLOOR, strengths=(0.9, 0.5))
def a_floor_above_the_minimum(rng: Rng, strength: float) -> Instance:
    """h_inf is that share of the way from the minimum to the start."""
    return on_shifts(rng, raised=strength, kills={})


# Descent on average


def averaged(
    paths: list[t.Path], variance: float, between: tuple[float, float] | None, measure: bool = True
) -> Certificate:
    """The certificate of runs on a round quadratic."""
    return t.descent_on_average(
        paths, floor=0.0, smoothness=1.0, variance=variance, between=between if measure else None
    )


def noisy(
    rng: Rng, q: float, s: float, n: int = 100, T: int = 20, rare: float = 1.0, flat: float = 1.0
) -> tuple[list[t.Path], float, float]:
    """Runs x ← x − q(λx + z) from |x| = 2, their expected mean squared gradient, and what none exceeds.

    z has variance s², on a sphere, and is there with probability `rare` only; λ is `flat`, and L = 1.
    """
    size = s / math.sqrt(rare)
    x = np.tile(2 * np.eye(6)[0], (n, 1))
    squares, before, after = np.zeros((n, T)), np.zeros((n, T)), np.zeros((n, T))
    for k in range(T):
        u = rng.normal(size=(n, 6))
        z = size * u / np.linalg.norm(u, axis=1, keepdims=True) * (rng.random((n, 1)) < rare)
        squares[:, k] = flat**2 * (x**2).sum(axis=1)
        before[:, k] = flat * (x**2).sum(axis=1) / 2
        x = (1 - q * flat) * x - q * z
        after[:, k] = flat * (x**2).sum(axis=1) / 2
    expected, mean = 4.0, 0.0
    for _ in range(T):
        mean += flat**2 * expected / T
        expected = (1 - q * flat) ** 2 * expected + q**2 * s**2
    plain, none = (True, "by hand"), np.zeros(0)
    paths = [t.Path(before[i], after[i], squares[i], q, q, none, 0, 0.0, plain) for i in range(n)]
    return paths, mean, max(4.0 * flat**2, size**2)


def on_noise(rng: Rng, q: float, s: float, variance: float, **given: Any) -> Instance:
    """An instance with this stated variance."""
    paths, mean, most = noisy(rng, q, s, **given)
    return Instance({"paths": paths, "variance": variance, "between": (0.0, most)}, bounded(mean))


@worlds.world(run=averaged, strengths=(0.3, 1))
def noisy_runs(rng: Rng, strength: float) -> Instance:
    """A hundred runs with noise of variance 1, learning rate that share of 1/L."""
    return on_noise(rng, strength, 1.0, 1.0)


@worlds.world(run=averaged, strengths=(0.05, 0.1))
def runs_on_flat_ground(rng: Rng, strength: float) -> Instance:
    """A hundred runs where h curves by that share of L, so that gradients say little of how far it is."""
    return on_noise(rng, 1.0, 0.1, 0.01, flat=strength)


@worlds.world(run=averaged)
def runs_of_noise_alone(rng: Rng, strength: float) -> Instance:
    """Noise of variance 9 is nearly all of the bound."""
    return on_noise(rng, 1.0, 3.0, 9.0)


@worlds.world(run=averaged, breaks=t.NOISE, strengths=(2, 1.2), noticeable=False)
def variance_that_is_too_small(rng: Rng, strength: float) -> Instance:
    """s² is so many times too small."""
    return on_noise(rng, 1.0, 3.0, 9.0 / strength)


@worlds.world(run=averaged, breaks=t.NOISE, strengths=(0.02, 0.002), noticeable=False)
def rare_noise(rng: Rng, strength: float) -> Instance:
    """Noise strikes with that probability, and s² is half of what it is."""
    return on_noise(rng, 1.0, 3.0, 4.5, rare=strength)


@worlds.world(run=averaged, breaks=t.INDEPENDENT_RUNS, noticeable=False)
def one_run_many_times(rng: Rng, strength: float) -> Instance:
    """A hundred copies of the best of ten runs, which is no evidence on the mean."""
    paths, mean, most = noisy(rng, 1.0, 3.0, n=10, rare=0.02)
    best = min(paths, key=lambda p: float(p.squares.mean()))
    arguments = {"paths": [best] * 100, "variance": 4.5, "between": (0.0, most)}
    return Instance(arguments, bounded(mean))


@worlds.world(run=averaged, breaks=t.INDEPENDENT_RUNS, strengths=(10, 1))
def runs_that_were_cut_short(rng: Rng, strength: float) -> Instance:
    """So many steps are missing in half of the runs."""
    paths, mean, most = noisy(rng, 0.3, 1.0)
    keep = slice(0, 20 - int(strength))
    cut = [
        t.Path(p.before[keep], p.after[keep], p.squares[keep], 0.3, 0.3, p.jumps, 0)
        for p in paths[:50]
    ]
    return Instance(
        {"paths": cut + paths[50:], "variance": 1.0, "between": (0.0, most)}, bounded(mean)
    )


def with_jumps(paths: list[t.Path], first: float, jump: float, recoveries: int) -> list[t.Path]:
    """The same paths with h(θ₀) and one jump of their own, as they were handed in."""
    return [
        t.Path(**{**vars(p), "first": first, "jumps": np.full(1, jump), "recoveries": recoveries})
        for p in paths
    ]


@worlds.world(run=averaged, strengths=(0.5, 4.0))
def runs_that_jump_first(rng: Rng, strength: float) -> Instance:
    """A stage is lost before the first gradient: h goes from that number to 2, T = 20."""
    paths, mean, most = noisy(rng, 1.0, 3.0)
    jump = 2.0 - strength
    made = with_jumps(paths, strength, jump, 1)
    ends = (-0.1 * jump, most - 0.1 * jump)
    return Instance({"paths": made, "variance": 9.0, "between": ends}, bounded(mean - 0.1 * jump))


@worlds.world(run=averaged, breaks=t.JUMPS_ADD_UP, strengths=(18.0, 2.0))
def jumps_that_never_were(rng: Rng, strength: float) -> Instance:
    """One jump of that size, which h did not make, and s² is a quarter of what it is."""
    paths, mean, most = noisy(rng, 1.0, 3.0, flat=0.5)
    made = with_jumps(paths, 1.0, strength, 1)
    ends = (-0.1 * strength, most)
    return Instance({"paths": made, "variance": 2.25, "between": ends}, bounded(mean))


# Cost

LEVEL = 1 - 0.05 / 3
LONGEST = 15.0


def log_of(rng: Rng, P: float, follow: float, n: int) -> np.ndarray:
    """Failures at the rate P, each of which is followed by one with probability `follow`."""
    start = P * (1 - follow) / (1 - P)
    # Calm and stormy stretches in turn, each of geometric length.
    calm, storm = rng.geometric(start, n), rng.geometric(1 - follow, n)
    lengths = np.column_stack([calm, storm]).ravel()
    return np.repeat(np.tile([False, True], n), lengths)[:n]


def cost(
    rng: Rng,
    *,
    P: float = 0.2,
    follow: float | None = None,
    hang: float = 0.05,
    n: int = 1000,
    ratio: float = 1.2,
    spread: float = 0.005,
    given: Callable[[np.ndarray], np.ndarray] = lambda s: s,
    reached: tuple[int, int] = (10, 10),
    shift: float = 0.0,
    rho: float = 1.9,
    wasted: float = 0.5,
) -> Instance:
    """A log, recovery times of which a share hangs for twelve seconds, and a ratio of iterations."""
    log = log_of(rng, P, P if follow is None else follow, n)
    seconds = np.where(rng.random(int(log.sum())) < hang, 12.0, rng.uniform(0.1, 0.5, log.sum()))
    mean = 12.0 * hang + 0.3 * (1 - hang)
    from scipy.stats import norm

    half = float(norm.ppf((1 + LEVEL) / 2)) * spread
    value = ratio + spread * float(rng.normal()) + shift
    true = ratio * (1 + P * (mean + wasted))
    arguments = {
        "ratio": Estimate.between(
            value - half, value + half, value=value, level=LEVEL, n=10, method="normal"
        ),
        "failed": log,
        "seconds": given(seconds),
        "longest": LONGEST,
        "iteration_seconds": 1.0,
        "redundancy": rho,
        "reached": reached,
    }
    return Instance(arguments, covers(true, rho))


@worlds.world(run=t.beats_redundancy, strengths=(0.05, 0.2))
def logs(rng: Rng, strength: float) -> Instance:
    """Failures at that rate, one recovery in twenty hangs."""
    return cost(rng, P=strength)


@worlds.world(run=t.beats_redundancy)
def short_logs(rng: Rng, strength: float) -> Instance:
    """A hundred iterations."""
    return cost(rng, n=100)


@worlds.world(run=t.beats_redundancy, strengths=(0.01, 0.02))
def failures_that_are_rare(rng: Rng, strength: float) -> Instance:
    """Ten or twenty in a thousand iterations, where two that are neighbours prove nothing."""
    return cost(rng, P=strength)


@worlds.world(run=t.beats_redundancy)
def many_failures(rng: Rng, strength: float) -> Instance:
    """Half of all iterations see a failure, none of which hangs."""
    return cost(rng, P=0.5, hang=0.0)


@worlds.world(run=t.beats_redundancy, breaks=t.INDEPENDENT_FAILURES, strengths=(0.8, 0.5, 0.3))
def failures_in_clusters(rng: Rng, strength: float) -> Instance:
    """One in twenty iterations sees a failure, and another follows with that probability."""
    return cost(rng, P=0.05, follow=strength)


@worlds.world(run=t.beats_redundancy, breaks=t.INDEPENDENT_FAILURES)
def a_night_of_failures(rng: Rng, strength: float) -> Instance:
    """All failures lie in one twentieth of the log."""
    made = cost(rng, P=0.02)
    calm = np.zeros(1000, dtype=bool)
    calm[500:550] = rng.random(50) < 0.4
    arguments = dict(made.arguments) | {
        "failed": calm,
        "seconds": rng.uniform(0.1, 0.5, int(calm.sum())),
    }
    return Instance(arguments, covers(1.2 * (1 + 0.02 * 0.8), 1.9))


@worlds.world(run=t.beats_redundancy, breaks=t.INDEPENDENT_FAILURES, strengths=(0.2, 0.1))
def failures_that_grow_more(rng: Rng, strength: float) -> Instance:
    """One in fifty iterations at first, that share in the second half of the log."""
    log = rng.random(1000) < np.repeat([0.02, strength], 500)
    return with_log(rng, log, (0.02 + strength) / 2)


@worlds.world(run=t.beats_redundancy, breaks=t.INDEPENDENT_FAILURES)
def storms_in_which_most_go_well(rng: Rng, strength: float) -> Instance:
    """Stretches of a hundred iterations with one failure in four, four hundred apart."""
    stormy = np.tile(np.repeat([False, True], [400, 100]), 2)
    log = rng.random(1000) < np.where(stormy, 0.25, 0.01)
    return with_log(rng, log, 0.8 * 0.01 + 0.2 * 0.25)


def with_log(rng: Rng, log: np.ndarray, P: float) -> Instance:
    """An instance with this log, in which no recovery hangs."""
    made = cost(rng, P=0.02)
    arguments = dict(made.arguments) | {
        "failed": log,
        "seconds": rng.uniform(0.1, 0.5, int(log.sum())),
    }
    return Instance(arguments, covers(1.2 * (1 + P * 0.8), 1.9))


@worlds.world(run=t.beats_redundancy, breaks=t.INDEPENDENT_FAILURES, refuses=(ValueError,))
def a_table_of_stages(rng: Rng, strength: float) -> Instance:
    """An entry an iteration and stage, of which one in twenty fails: of iterations it is one in four."""
    table = rng.random((1000, 6)) < 0.05
    made = with_log(rng, np.asarray(table.any(axis=1)), 1 - 0.95**6)
    arguments = dict(made.arguments) | {
        "failed": table,
        "seconds": rng.uniform(0.1, 0.5, int(table.sum())),
        "redundancy": 1.4,
    }
    return Instance(arguments, covers(1.2 * (1 + (1 - 0.95**6) * 0.8), 1.4))


@worlds.world(run=t.beats_redundancy, breaks=t.LONGEST)
def the_longest_that_was_seen(rng: Rng, strength: float) -> Instance:
    """No recovery is taken to be longer than those of the log."""
    made = cost(rng, P=0.5, hang=0.01, n=200)
    arguments = dict(made.arguments) | {"longest": float(made.arguments["seconds"].max())}
    return Instance(arguments, made.truths)


@worlds.world(run=t.beats_redundancy, breaks=t.LONGEST, noticeable=False)
def a_little_more_than_the_longest_seen(rng: Rng, strength: float) -> Instance:
    """The same with a tenth added, iterations of a tenth of a second, and one hang in a hundred."""
    made = cost(rng, P=0.5, hang=0.01, n=200)
    arguments = dict(made.arguments) | {
        "longest": 1.1 * float(made.arguments["seconds"].max()),
        "iteration_seconds": 0.1,
        "redundancy": 4.0,
    }
    mean = 12.0 * 0.01 + 0.3 * 0.99
    return Instance(arguments, covers(1.2 * (1 + 0.5 * (mean / 0.1 + 0.5)), 4.0))


@worlds.world(run=t.beats_redundancy, breaks=t.ANY_MOMENT, strengths=(1.0, 0.75), noticeable=False)
def failures_late_in_an_iteration(rng: Rng, strength: float) -> Instance:
    """Stages die when memory is fullest, at that share of an iteration, in every second one."""
    return cost(rng, P=0.5, hang=0.0, n=4000, wasted=strength, spread=0.001)


@worlds.world(run=t.beats_redundancy, breaks=t.ANY_MOMENT, noticeable=False)
def failures_that_take_two_iterations(rng: Rng, strength: float) -> Instance:
    """What is repeated is the iteration at hand and, half of the time, the one before."""
    return cost(rng, P=0.5, hang=0.0, n=4000, wasted=1.0, spread=0.001)


@worlds.world(run=t.beats_redundancy, breaks=t.ALL_RECOVERIES)
def the_median_alone(rng: Rng, strength: float) -> Instance:
    """One number stands for all recoveries."""
    return cost(rng, given=lambda s: np.array([np.median(s)]))


@worlds.world(run=t.beats_redundancy, breaks=t.ALL_RECOVERIES, strengths=(0.5, 0.05))
def hangs_left_out(rng: Rng, strength: float) -> Instance:
    """That share of recoveries hangs, and those are taken for outliers."""
    return cost(rng, hang=strength, given=lambda s: s[s < 1])


@worlds.world(run=t.beats_redundancy, breaks=t.ALIKE, strengths=(0.9, 0.5), broken_from=0.9)
def hangs_in_a_row(rng: Rng, strength: float) -> Instance:
    """One recovery in five hangs, and the next one too with that probability."""
    return hanging(rng, strength)


@worlds.world(run=t.beats_redundancy, breaks=t.ALIKE, strengths=(0.99,), noticeable=False)
def a_spell_of_hangs_that_may_not_have_come(rng: Rng, strength: float) -> Instance:
    """Spells of about a hundred hangs, four hundred recoveries apart; some logs saw none."""
    return hanging(rng, strength)


def hanging(rng: Rng, follow: float) -> Instance:
    """Hangs that follow each other with that probability."""
    return cost(
        rng,
        P=0.5,
        hang=0.2,
        rho=4.5,
        given=lambda s: np.where(
            log_of(rng, 0.2, follow, len(s)), 12.0, rng.uniform(0.1, 0.5, len(s))
        ),
    )


@worlds.world(run=t.beats_redundancy, breaks=t.ALIKE)
def recoveries_that_grow_slower(rng: Rng, strength: float) -> Instance:
    """From a tenth of a second to twelve, in step with what a stage holds; then they stay there."""
    made = cost(rng, P=0.2)
    seconds = np.linspace(0.1, 12.0, int(made.arguments["failed"].sum()))
    true = 1.2 * (1 + 0.2 * (12.0 + 0.5))
    return Instance(dict(made.arguments) | {"seconds": seconds}, covers(true, 1.9))


@worlds.world(run=t.beats_redundancy, breaks=t.REACHED, strengths=(10, 1))
def targets_that_were_not_reached(rng: Rng, strength: float) -> Instance:
    """In so many of ten runs."""
    return cost(rng, shift=-0.1, reached=(10 - int(strength), 10))


@worlds.world(run=t.beats_redundancy, breaks=t.REACHED)
def runs_that_were_given_up(rng: Rng, strength: float) -> Instance:
    """Three of a hundred."""
    return cost(rng, shift=-0.05, reached=(97, 100))


@worlds.world(run=t.beats_redundancy, breaks=t.RATIO, strengths=(0.3, 0.1), noticeable=False)
def a_ratio_of_chosen_seeds(rng: Rng, strength: float) -> Instance:
    """The ratio is too small by that much, its interval with it."""
    return cost(rng, shift=-strength)


@worlds.world(run=t.beats_redundancy, breaks=t.RATIO, noticeable=False)
def a_ratio_without_spread(rng: Rng, strength: float) -> Instance:
    """One pair of runs, as if it were exact."""
    made = cost(rng, shift=0.2 * float(rng.normal()))
    value = made.arguments["ratio"].value
    ratio = Estimate.between(value, value, level=LEVEL, n=1, method="one pair")
    return Instance(dict(made.arguments) | {"ratio": ratio}, made.truths)


# Mutants


def _swapped(weights: Any) -> Any:
    return lambda *given: tuple(reversed(weights(*given)))


def _nudged(heal: Any) -> Any:
    def healed(self: Any) -> Any:
        sites = self._sites
        for moments in sites[3].units["3"].optimizer.state.values():
            moments["exp_avg"] *= 0.5
        return heal(self)

    return healed


def _twice(commit: Any) -> Any:
    def committed(self: Any) -> None:
        if self.optimizer is not None and self.steps == 1:
            self.optimizer.step()
        commit(self)

    return committed


def _half(load: Any) -> Any:
    def loaded(self: Any, state: Any, *given: Any, **more: Any) -> None:
        weights = {k: v / 2 for k, v in state["weights"].items()}
        load(self, {**state, "weights": weights}, *given, **more)

    return loaded


worlds.mutant(
    "recovered-weights",
    "weights of the neighbours swapped",
    target=f"{HERE}.recovery:neighbour_weights",
    change=_swapped,
    world=two_kills,
    seeds=5,
)
worlds.mutant(
    "ends-restored",
    "weights halved",
    target=f"{HERE}.compute:Unit.load",
    change=_half,
    world=two_kills,
    seeds=5,
)
worlds.mutant(
    "others-untouched",
    "a survivor's moments halved",
    target=f"{HERE}.simulator:Simulator._heal",
    change=_nudged,
    world=two_kills,
    seeds=5,
)
worlds.mutant(
    "each-iteration-once",
    "an update made twice",
    target=f"{HERE}.compute:Unit.commit",
    change=_twice,
    world=two_kills,
    seeds=5,
)
worlds.mutant(
    "jumps-below-progress",
    "jumps halved",
    target=f"{HERE}.theorems:balance",
    change=lambda balance: lambda jumps, *given: balance(jumps / 2, *given),
    world=windows_of_a_run,
    strength=-0.5,
)
worlds.mutant(
    "descent-with-jumps",
    "jumps halved in the sum",
    target=f"{HERE}.theorems:descent_bound",
    change=lambda bound: lambda room, jumps, *given: bound(room, jumps / 2, *given),
    world=jumps_alone,
)
worlds.mutant(
    "descent-with-jumps",
    "the factor 2 forgotten",
    target=f"{HERE}.theorems:descent_bound",
    change=lambda bound: lambda *given: bound(*given) / 2,
    world=one_step,
)
worlds.mutant(
    "descent-with-jumps-on-average",
    "noise halved",
    target=f"{HERE}.theorems:noise_floor",
    change=lambda floor: lambda *given: floor(*given) / 2,
    world=runs_of_noise_alone,
)
worlds.mutant(
    "beats-redundancy",
    "the half iteration forgotten",
    target=f"{HERE}.theorems:time_factor",
    change=lambda factor: lambda r, p, s, i: r * (1 + p * s / i),
    world=many_failures,
)
