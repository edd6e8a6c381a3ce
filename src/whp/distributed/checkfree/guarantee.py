"""Certificates: recovery was the formula and nothing else, every iteration counted once, and what the jumps of the loss cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from whp.certificate import Certificate
from whp.intervals import Estimate, exact
from whp.undeclared import Assumption, met, unchecked, undeclared, violated
from whp.validate import as_real, as_vector

if TYPE_CHECKING:
    from whp.distributed.checkfree.recovery import Recovery

__all__ = [
    "beats_redundancy",
    "checkfree_certificates",
    "descent",
    "each_once",
    "progress",
    "rebuilt",
    "untouched",
]

PAPER = "Blagoev, Ersoy, Chen 2025"
DERIVED = "derived here: descent with jumps"


def checkfree_certificates(
    recoveries: Sequence[Recovery],
    iterations: Sequence[int],
    losses: Any,
    jumps: Any,
    *,
    mode: str = "checkfree+",
) -> tuple[Certificate, ...]:
    """Certificates of a run.

    Parameters
    ----------
    recoveries : sequence of Recovery
    iterations : sequence of int
        Number of every iteration that was committed, in order.
    losses : array-like of float
        Held-out loss at the start and at the end, or more often.
    jumps : array-like of float
        Held-out loss after each recovery less that before.
    mode : str
    """
    return (
        rebuilt(recoveries, mode=mode),
        untouched(recoveries),
        each_once(iterations, recoveries),
        progress(losses, jumps),
    )


def _from_neighbours(recoveries: Sequence[Recovery], mode: str) -> tuple[Assumption, ...]:
    what = "every lost stage had its neighbours, or its twin, left"
    if mode == "checkpoint":
        return (
            violated(
                "lost stages are rebuilt from neighbours",
                "mode='checkpoint' goes back",
                "mode='checkfree+'",
            ),
        )
    if reasons := [r.reason for r in recoveries if r.reason]:
        return (
            violated(
                what,
                reasons[0],
                "fewer failures at once: place neighbouring stages on machines that do not fail together",
            ),
        )
    return (met(what, f"{len(recoveries)} recoveries"),)


def rebuilt(recoveries: Sequence[Recovery], *, mode: str = "checkfree+") -> Certificate:
    """Whether rebuilt weights are the formula's; void where a stage could not be rebuilt."""
    checked = [r for r in recoveries if r.difference is not None]
    spread = min((r.spread for r in checked if r.spread is not None), default=None)
    return undeclared(
        "recovered-weights",
        "every weight of a rebuilt stage is (ω₋W₋ + ω₊W₊)/(ω₋ + ω₊) of its neighbours, or its twin's weight, to 10⁻⁶",
        f"{PAPER}, Algorithm 1, line 4, with ω₊ before W₊ where the listing repeats ω₋",
        "<=",
        1e-6,
        1.0,
        exact(max(float(r.difference or 0.0) for r in checked)) if checked else None,
        trivial=spread,
        assumptions=_from_neighbours(recoveries, mode),
        inputs={"recoveries": len(recoveries), "checked": len(checked)},
        needs="a failure, and audit=True",
        remedy="a stage was rebuilt from other weights than its neighbours had when it was lost."
        if spread is None or spread > 1e-6
        else "the neighbours are equal: any average of them would do.",
    )


def untouched(recoveries: Sequence[Recovery]) -> Certificate:
    """Whether the other stages kept every bit."""
    checked = [r for r in recoveries if r.changed is not None]
    back = [r for r in recoveries if r.how == "rolled back"]
    compared = sum(r.compared or 0 for r in checked)
    what = "recovery leaves the other stages alone"
    return undeclared(
        "others-untouched",
        "no other stage changed by a bit, weights and optimizer, while one was rebuilt",
        f"{PAPER}, Algorithm 1",
        "<=",
        0.0,
        1.0,
        exact(float(sum(r.changed or 0 for r in checked))) if checked else None,
        trivial=float(compared) if checked else None,
        assumptions=(
            violated(
                what,
                f"{len(back)} times all went back to an earlier state",
                "mode='checkfree+' and fewer failures at once",
            )
            if back
            else met(what),
        ),
        inputs={"stages compared": compared},
        needs="a failure, and audit=True",
        remedy="compare at least one stage."
        if checked and not compared
        else "a batch was committed by some stages only.",
    )


def each_once(iterations: Sequence[int], recoveries: Sequence[Recovery] = ()) -> Certificate:
    """Whether iteration numbers are 0, 1, 2, … without a gap or a repetition; void where training went back by design."""
    done = [int(i) for i in iterations]
    wanted = range(len(done))
    wrong = sum(a != b for a, b in zip(done, wanted, strict=True))
    back = [r for r in recoveries if r.how == "rolled back"]
    what = "training never went back to an earlier state"
    return undeclared(
        "each-iteration-once",
        "every iteration was committed exactly once, in order, whatever died",
        "derived here: all finish backward, agree, and then everyone steps; who agreed and was interrupted steps later",
        "<=",
        0.0,
        1.0,
        exact(float(wrong)),
        trivial=float(len(done)),
        assumptions=(
            violated(what, f"{len(back)} times", "mode='checkfree+' and fewer failures at once")
            if back
            else met(what),
        ),
        inputs={"iterations": len(done), "last": max(done, default=-1)},
        remedy="a batch was committed twice, or not at all."
        if done
        else "run at least one iteration.",
    )


def progress(losses: Any, jumps: Any) -> Certificate:
    """Whether training gained more between failures than failures took."""
    h = np.asarray(losses, dtype=float).ravel()
    J = np.asarray(jumps, dtype=float).ravel()
    if len(h) < 2:
        raise ValueError(
            f"losses must have the loss at the start and at the end, got {len(h)} values"
        )
    finite = bool(np.isfinite(h[[0, -1]]).all() and np.isfinite(J).all())
    total = float(J.sum()) if finite else 0.0
    gain = float(h[0] - h[-1]) + total if finite else 0.0
    what = "loss and jumps are finite"
    return undeclared(
        "jumps-below-progress",
        "the jumps of the loss at recoveries add up to less than what training gained between them",
        f"{DERIVED}: one failure costs exactly its jump",
        "<=",
        gain,
        1.0,
        exact(total),
        trivial=None if len(J) else 0.0,
        assumptions=(
            met(what, f"{len(J)} jumps")
            if finite
            else violated(what, "training diverged", "a smaller learning rate"),
        ),
        inputs={
            "failures": len(J),
            "first loss": float(h[0]),
            "last loss": float(h[-1]),
            "mean jump": total / max(len(J), 1),
        },
        remedy="training goes backwards: failures are too frequent for it."
        if len(J)
        else "no stage was lost: nothing to weigh.",
    )


def descent(
    gradients: Estimate | None,
    *,
    steps: int,
    lr: float,
    smoothness: float | None,
    start: float,
    floor: float,
    jumps: Any = (),
    variance: float = 0.0,
    gaps: Any = None,
    optimizer: str = "sgd",
) -> Certificate:
    """Bound on the mean squared gradient of gradient descent whose iterate is replaced now and then.

    With h L-smooth, h ≥ h_inf, θ ← θ − γg, E g = ∇h, E‖g − ∇h‖² ≤ s², γ ≤ 1/L: every step has
    E h(θ₊) ≤ E h(θ) − (γ/2) E‖∇h(θ)‖² + γ²Ls²/2, every failure adds J. Summed and divided,
    mean E‖∇h‖² ≤ 2(h(θ₀) − h_inf + ΣJ)/(γT) + γLs².

    Parameters
    ----------
    gradients : Estimate or None
        Mean over the run of ‖∇h‖².
    steps : int
        T.
    lr : float
        γ.
    smoothness : float or None
        L; None if it is not known.
    start, floor : float
        h(θ₀) and h_inf.
    jumps : array-like of float
        Loss after each failure less that before.
    variance : float
        s².
    gaps : array-like of float, optional
        h − h_inf along the run: L-smoothness alone gives ‖∇h‖² ≤ 2L(h − h_inf), and a bound above that mean is vacuous.
    optimizer : {"sgd", "adam"}
        The theorem is about the former.
    """
    gamma, J = as_real(lr, "lr", low=0, open_ends=True), np.asarray(jumps, dtype=float).ravel()
    L = None if smoothness is None else as_real(smoothness, "smoothness", low=0)
    finite = bool(np.isfinite(J).all())
    total = float(J.sum()) if finite else math.inf
    noise = 0.0 if variance == 0 else gamma * (math.inf if L is None else L) * variance
    bound = 2 * (float(start) - float(floor) + total) / (gamma * steps) + noise
    small = "the learning rate is at most 1/L"
    assumptions = [
        unchecked(small, "L is not known")
        if L is None
        else met(small, f"γL = {gamma * L:.3g}")
        if gamma * L <= 1 + 1e-12
        else violated(small, f"γL = {gamma * L:.3g}", "a smaller learning rate"),
        met("jumps are finite", f"{len(J)} jumps")
        if finite
        else violated("jumps are finite", "a loss is not", "a smaller learning rate"),
        met("updates are θ − γg, unclipped")
        if optimizer == "sgd"
        else violated(
            "updates are θ − γg, unclipped",
            f"optimizer is {optimizer}",
            "plain SGD; the jumps themselves stand",
        ),
    ]
    trivial = None
    if gaps is not None and L is not None:
        trivial = float(2 * L * as_vector(gaps, "gaps").mean())
    return undeclared(
        "descent-with-jumps",
        "the mean squared gradient is at most 2(h(θ₀) − h_inf + ΣJ)/(γT) + γLs²",
        DERIVED,
        "<=",
        bound,
        1.0 if gradients is None or gradients.level == 1 else gradients.level,
        gradients,
        trivial=trivial,
        assumptions=tuple(assumptions),
        inputs={
            "T": steps,
            "γ": gamma,
            "L": "unknown" if L is None else L,
            "h(θ₀) − h_inf": float(start) - float(floor),
            "ΣJ": total,
            "failures": len(J),
            "s²": float(variance),
        },
        needs="gradients of the whole loss along the run",
        remedy="a failure's jump is missing from the sum, or h_inf is too high.",
    )


def beats_redundancy(
    ratio: Estimate | None,
    failure: float,
    *,
    iteration_seconds: float,
    recovery_seconds: float,
    redundancy: float,
    reached: bool = True,
) -> Certificate:
    """Whether CheckFree takes less time to a target than computing every stage twice.

    Parameters
    ----------
    ratio : Estimate or None
        Iterations to the target with CheckFree over those without failures, N_cf/N_0.
    failure : float
        Probability P that an iteration sees a failure.
    iteration_seconds, recovery_seconds : float
    redundancy : float
        Iteration time of redundant computation over plain, ρ.
    reached : bool
        Whether CheckFree reached the target at all.
    """
    P = as_real(failure, "failure", low=0, high=1)
    t = as_real(iteration_seconds, "iteration_seconds", low=0, open_ends=True)
    rec = as_real(recovery_seconds, "recovery_seconds", low=0)
    rho = as_real(redundancy, "redundancy", low=1)
    what = "CheckFree reached the target"
    bound = rho / (1 + P * rec / t)
    return undeclared(
        "beats-redundancy",
        "CheckFree needs fewer than ρ/(1 + P t_rec/t_it) times the failure-free iterations",
        "derived here: times to target from the cost model",
        "<=",
        bound,
        1.0 if ratio is None or ratio.level == 1 else ratio.level,
        ratio,
        trivial=math.inf,
        assumptions=(
            met(what) if reached else violated(what, "", "more iterations, or fewer failures"),
        ),
        inputs={"P": P, "t_it": t, "t_rec": rec, "ρ": rho},
        needs="iterations to the target with and without failures",
        remedy="compute twice, or keep checkpoints.",
    )
