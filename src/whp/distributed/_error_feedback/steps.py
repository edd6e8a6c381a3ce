"""The loop: EF21 and its relatives, and what is noted of each step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whp.distributed._error_feedback.compressors import (
    Compressor,
    Identity,
    NaturalDeterministic,
    TopK,
)
from whp.distributed._error_feedback.trace import (
    COARSE,
    DOUBLE,
    NOTHING,
    Noise,
    Terms,
    Trace,
    f_rounding,
    in_single,
)
from whp.progress import track

__all__ = ["LARGEST", "Function", "Loop", "Outcome"]

Function = Callable[[np.ndarray], Any]
WITHOUT_SHIFTS = ("EF14", "DCGD")
SORTED_BELOW = 512  # rows of fewer entries are sorted together, longer ones one by one
FAR = 1e100  # a run whose ‖∇f‖² grows by this is over
LARGEST = 1e100  # of gradients: their squares, and what is made of those, must be finite


@dataclass(eq=False)
class Notes:
    """What is appended at every point and at every step."""

    f: list[float] = field(default_factory=list)
    gradient2: list[float] = field(default_factory=list)
    G: list[float] = field(default_factory=list)
    lyapunov: list[float] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)
    magnitudes: list[np.ndarray] = field(default_factory=list)
    size: list[float] = field(default_factory=list)
    norms: list[np.ndarray] = field(default_factory=list)
    gamma: list[float] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)
    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    mean_change: list[float] = field(default_factory=list)
    changes: list[np.ndarray] = field(default_factory=list)
    noise: list[np.ndarray] = field(default_factory=list)
    along: list[np.ndarray] = field(default_factory=list)
    lost: list[np.ndarray] = field(default_factory=list)
    slopes: list[tuple[float, ...]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Outcome:
    """Where a run ended.

    Parameters
    ----------
    x, mean : ndarray, shape (d,)
        The last point, and ∇f there.
    value : float
    shifts : ndarray, shape (n, d)
    history : dict of ndarray
    trace : Trace
    message : str
    success : bool
        False where it diverged.
    complete : bool
        Whether all steps were made.
    """

    x: np.ndarray
    mean: np.ndarray
    value: float
    shifts: np.ndarray
    history: dict[str, np.ndarray]
    trace: Trace
    message: str
    success: bool
    complete: bool


@dataclass(frozen=True, eq=False)
class Loop:
    """One run, its arguments checked.

    Parameters
    ----------
    grads, noisy, f
        As in :func:`ef21`.
    x0 : ndarray, shape (d,)
    compressor : Compressor
    terms : Terms
    chances : ndarray, shape (n,)
        With which clients take part.
    supports : ndarray of bool, shape (n, d), optional
    momentum, tol
        As in :func:`ef21`.
    """

    grads: Sequence[Function]
    noisy: Any
    f: Sequence[Function] | None
    x0: np.ndarray
    compressor: Compressor
    terms: Terms
    chances: np.ndarray
    supports: np.ndarray | None
    momentum: float | None
    tol: float

    @property
    def scale(self) -> np.ndarray:
        """What gradients are multiplied by before they are compressed."""
        n = len(self.grads)
        return 1 / (n * self.terms.weights) if self.terms.method == "EF21-W" else np.ones(n)

    @property
    def share(self) -> np.ndarray:
        """Weights of the shifts in the step."""
        n = len(self.grads)
        return self.terms.weights if self.terms.method == "EF21-W" else np.full(n, 1 / n)

    def gradients(self, x: np.ndarray) -> np.ndarray:
        """∇f_i(x), shape (n, d)."""
        rows = []
        for i, g in enumerate(self.grads):
            # copies: some return one buffer each time, and some work on what they are given
            row = np.array(g(x.copy()), dtype=np.float64)
            if row.shape != x.shape:
                raise ValueError(
                    f"grads: client {i} returned shape {row.shape} for x of shape {x.shape}"
                )
            rows.append(row)
        return np.stack(rows)

    def values(self, x: np.ndarray) -> np.ndarray:
        """f_i(x), shape (n,); NaN without f."""
        if self.f is None:
            return np.full(len(self.grads), math.nan)
        return np.array([float(g(x.copy())) for g in self.f])

    def distance(self, shifts: np.ndarray, gradients: np.ndarray) -> float:
        """G of the analysis that is used."""
        scale = self.scale
        squares = ((shifts - scale[:, None] * gradients) ** 2).sum(axis=1)
        return float((self.terms.coefficients / scale**2) @ squares)

    def compressed(
        self, V: np.ndarray, rng: np.random.Generator, rows: np.ndarray
    ) -> tuple[np.ndarray, int, np.ndarray]:
        """C of the chosen rows (others are 0), bytes that were sent, and ‖C(v) − v‖²/‖v‖² of each row.

        NaN where nothing was compressed, or 0 sent for 0.
        """
        out, chosen = np.zeros_like(V), np.flatnonzero(rows)
        part, kind = V[chosen], type(self.compressor)
        if kind is TopK and V.shape[1] <= SORTED_BELOW:
            k = self.compressor.count(V.shape[1])
            size = np.abs(part)
            if k == 1:
                where = size.argmax(axis=1)[:, None]
            else:
                where = (-size).argsort(axis=1, kind="stable")[:, :k]
            kept = np.zeros_like(part)
            np.put_along_axis(kept, where, np.take_along_axis(part, where, 1), 1)
            out[chosen], sent = kept, 8 * k * len(chosen)
        elif kind in (Identity, NaturalDeterministic) and len(chosen):
            payload = self.compressor.compress(part)
            out[chosen] = self.compressor.decompress(payload)
            sent = payload.nbytes
        else:
            sent = 0
            for i in chosen:
                payload = self.compressor.compress(V[i].copy(), rng)  # some work on what they get
                made = np.asarray(self.compressor.decompress(payload))
                if made.shape != V[i].shape:
                    raise ValueError(
                        f"compressor {self.compressor!r} made shape {made.shape} of {V[i].shape}"
                    )
                out[i] = made
                sent += payload.nbytes
        size = (part**2).sum(axis=1)
        left = ((out[chosen] - part) ** 2).sum(axis=1)
        told = size > NOTHING**2  # smaller squares have lost their digits
        lost = np.full(len(V), math.nan)
        lost[chosen[told]] = left[told] / size[told]
        lost[chosen[~told & (left > NOTHING**2)]] = math.inf  # something was made of nothing
        return out, sent, lost

    def run(
        self,
        gamma: float,
        T: int,
        guarded: bool,
        callback: Any,
        rng: np.random.Generator,
        certify: bool,
    ) -> Outcome:
        """Make `T` steps of length `gamma`."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self._run(gamma, T, guarded, callback, rng, certify)

    def _run(
        self,
        gamma: float,
        T: int,
        guarded: bool,
        callback: Any,
        rng: np.random.Generator,
        certify: bool,
    ) -> Outcome:
        n, d, method = len(self.grads), len(self.x0), self.terms.method
        source = repr(rng.bit_generator.state)
        everybody, all_present = np.ones(n, dtype=bool), bool((self.chances == 1).all())
        theta, f_inf, factor = self.terms.theta, self.terms.f_inf, self.terms.factor
        scale, share, notes = self.scale, self.share, Notes()
        x, true = self.x0.copy(), self.gradients(self.x0)
        first_values = values = self.values(x)
        if (bad := ~np.isfinite(true).all(axis=1)).any():
            raise ValueError(f"grads: client {int(bad.argmax())} returned NaN or infinity at x0")
        if (top := np.abs(true).max(axis=1)).max() > LARGEST:
            raise ValueError(
                f"grads: client {int(top.argmax())} returned {top.max():.3g} at x0, which has no "
                "square; measure f in a larger unit"
            )
        if self.f is not None and (bad := ~np.isfinite(values)).any():
            raise ValueError(f"f: client {int(bad.argmax())} returned NaN or infinity at x0")
        first, target = true, self._target(x, true, rng)
        noise_sums = np.zeros((n, d))
        noisy = method == "EF21-SGD"
        velocity = target.copy()
        shifts, sent, outside = np.zeros((n, d)), 0, 0.0
        nothing, begun = np.full(n, math.nan), self.compressor.alpha(d)
        least = begun
        single, single_f = np.ones(n, dtype=bool), True
        if method not in WITHOUT_SHIFTS and self.terms.init != "zero":
            if self.terms.init == "compress" and method != "GD":
                shifts, sent, lost = self.compressed(scale[:, None] * target, rng, everybody)
                notes.lost.append(lost)
                if not np.isfinite(shifts).all():
                    raise ValueError(f"compressor {self.compressor!r} made NaN or infinity at x0")
            else:
                shifts, sent = scale[:, None] * target, 4 * n * d

        def note(values: np.ndarray, gradients: np.ndarray, g: float) -> None:
            nonlocal outside, single, single_f
            mean = gradients.sum(axis=0) / n
            distance, value = self.distance(shifts, gradients), float(values.sum()) / n
            notes.f.append(value)
            notes.gradient2.append(float(mean @ mean))
            notes.G.append(distance)
            notes.lyapunov.append(value - f_inf + g / (2 * theta) * factor * distance)
            notes.sent.append(float(sent))
            notes.magnitudes.append(np.abs(values))
            notes.size.append(math.sqrt(float(x @ x)))
            notes.norms.append(np.sqrt((gradients**2).sum(axis=1)))
            if single.any():
                single &= in_single(gradients).all(axis=1)
            single_f = single_f and bool(in_single(values).all())
            if self.supports is not None:
                outside = max(outside, float(np.abs(gradients[~self.supports]).max(initial=0.0)))

        def drawn(target: np.ndarray, gradients: np.ndarray) -> None:
            nonlocal noise_sums
            off = target - gradients
            length = np.sqrt((noise_sums**2).sum(axis=1))
            notes.noise.append((off**2).sum(axis=1))
            notes.along.append((noise_sums * off).sum(axis=1) / np.where(length > 0, length, 1.0))
            noise_sums = noise_sums + off

        note(values, true, gamma)
        if certify:
            notes.slopes += self._slopes(x, true, notes)
        if noisy:
            drawn(target, true)
        floor, streak, message = gamma, 0, "all steps were made"
        success = complete = True
        limit = FAR * max(notes.gradient2[0], 1e-200)
        for t in track(range(T), f"{method}, {n} clients"):
            if notes.gradient2[-1] < self.tol:
                message, complete = f"‖∇f‖² fell below {self.tol:g}", False
                break
            if callback is not None:
                try:
                    callback(t, shown(x))
                except StopIteration:
                    message, complete = "stopped by callback", False
                    break
            while True:
                cost, lost = 0, nothing
                target_after, velocity_after = target, velocity
                if method == "EF14":
                    pushed = shifts + gamma * target
                    made, cost, lost = self.compressed(pushed, rng, everybody)
                    after, new = x - made.mean(axis=0), pushed - made
                elif method == "DCGD":
                    made, cost, lost = self.compressed(target, rng, everybody)
                    after, new = x - gamma * made.mean(axis=0), shifts
                else:
                    after, new = x - gamma * (share @ shifts), shifts
                true_after = self.gradients(after)
                values_after = self.values(after)
                mean_after = true_after.sum(axis=0) / n
                fine = float(mean_after @ mean_after) < limit and (
                    self.f is None or bool(np.isfinite(values_after).all())
                )
                if fine:
                    target_after = self._target(after, true_after, rng)
                    fine = bool(np.isfinite(target_after).all())
                if fine:
                    if self.momentum is not None:
                        velocity_after = (
                            1 - self.momentum
                        ) * velocity + self.momentum * target_after
                    else:
                        velocity_after = target_after
                    if method == "GD":
                        new, cost = scale[:, None] * target_after, 4 * n * d
                    elif method not in WITHOUT_SHIFTS:
                        takes_part = everybody if all_present else rng.random(n) < self.chances
                        change, cost, lost = self.compressed(
                            scale[:, None] * velocity_after - shifts, rng, takes_part
                        )
                        new = shifts + change
                        fine = bool(np.isfinite(new).all())
                if not guarded or gamma <= floor:
                    break
                if fine and self._fell(notes, gamma, new, true_after, values_after, after):
                    break
                gamma, streak = max(floor, gamma / 2), 0
            if not fine:
                message, success, complete = _diverged(true_after, after, new), False, False
                break
            step, change = after - x, true_after - true
            mean, mean_change = true.sum(axis=0) / n, change.sum(axis=0) / n
            notes.gamma.append(gamma)
            notes.moved.append(math.sqrt(float(step @ step)))
            notes.before.append(float(mean @ step))
            notes.after.append(float(mean_after @ step))
            notes.mean_change.append(math.sqrt(float(mean_change @ mean_change)))
            notes.changes.append(np.sqrt((change**2).sum(axis=1)))
            x, true, target, velocity, shifts = after, true_after, target_after, velocity_after, new
            values = values_after
            sent += cost
            notes.lost.append(lost)
            least = min(least, self.compressor.alpha(d))
            note(values, true, gamma)
            made = len(notes.gamma)
            if certify and made & (made - 1) == 0:  # at steps 1, 2, 4, 8 and so on
                notes.slopes += self._slopes(x, true, notes)
            if noisy:
                drawn(target, true)
            streak += 1
            if guarded and streak == 10:
                gamma, streak = 2 * gamma, 0
        again, f_again = np.zeros(n), 0.0
        # twice: a loader that comes round may give the first batch once, and not two times running
        for _ in range(2 if certify else 0):
            off = np.sqrt(((self.gradients(self.x0) - first) ** 2).sum(axis=1))
            again = np.maximum(again, off)
            f_off = abs(float((self.values(self.x0) - first_values).mean()))
            f_again = max(f_again, f_off)
        trace = Trace(
            f=np.array(notes.f),
            gradient2=np.array(notes.gradient2),
            G=np.array(notes.G),
            gamma=np.array(notes.gamma),
            magnitudes=np.array(notes.magnitudes),
            size=np.array(notes.size),
            norms=np.array(notes.norms),
            moved=np.array(notes.moved),
            before=np.array(notes.before),
            after=np.array(notes.after),
            mean_change=np.array(notes.mean_change),
            changes=np.array(notes.changes).reshape(-1, n),
            single=single,
            single_f=single_f,
            lost=np.array(notes.lost).reshape(-1, n),
            shrunk=least / begun,
            outside=outside,
            again=again,
            f_again=f_again,
            d=d,
            source=source,
            slopes=np.array(notes.slopes).reshape(-1, 4),
            noise=Noise(np.array(notes.noise), np.array(notes.along)) if noisy else None,
        )
        history = {
            "f": trace.f,
            "grad_norm2": trace.gradient2,
            "G": trace.G,
            "lyapunov": np.array(notes.lyapunov),
            "bytes_up": np.array(notes.sent),
            "gamma": trace.gamma,
        }
        value = float(values.mean())
        return Outcome(
            x, true.mean(axis=0), value, shifts, history, trace, message, success, complete
        )

    def _fell(
        self,
        notes: Notes,
        gamma: float,
        shifts: np.ndarray,
        gradients: np.ndarray,
        values: np.ndarray,
        x: np.ndarray,
    ) -> bool:
        """Whether Φ fell enough from the last point to this one, with the rounding of f as slack."""
        weight = gamma / (2 * self.terms.theta) * self.terms.factor
        fall = (float(values.mean()) - notes.f[-1]) + weight * (
            self.distance(shifts, gradients) - notes.G[-1]
        )
        norms = float(np.sqrt((gradients**2).sum(axis=1)).mean())
        size, d = math.sqrt(float(x @ x)), len(x)
        eps = max(DOUBLE, self.terms.rounding)
        slack = f_rounding(d, float(np.abs(values).sum()) / len(values), norms, size, eps)
        last = float(notes.norms[-1].mean())
        slack += f_rounding(d, notes.magnitudes[-1].mean(), last, notes.size[-1], eps)
        return bool(fall + gamma / 2 * notes.gradient2[-1] <= slack)

    def _slopes(
        self, x: np.ndarray, gradients: np.ndarray, notes: Notes
    ) -> list[tuple[float, ...]]:
        """Rows of ``Trace.slopes``: f along its gradient, and along a direction that was drawn.

        Nothing where the gradient is too small for its difference of values to be seen.
        """
        t, mean = len(notes.gamma), gradients.mean(axis=0)
        norm, L = math.sqrt(float(mean @ mean)), self.terms.smoothness.L
        norms = float(notes.norms[-1].mean())
        off = f_rounding(len(x), notes.magnitudes[-1].mean(), norms, notes.size[-1], COARSE)
        h = math.sqrt(2 * off / L)  # where curvature and rounding weigh the same
        if not (NOTHING < h * L < norm / 2):
            return []
        u = np.random.default_rng(t).standard_normal(len(x))
        rows = []
        for way in (mean / norm, u / math.sqrt(float(u @ u))):
            rose = self.values(x + h * way) - self.values(x - h * way)
            if np.isfinite(rose).all():
                rows.append((float(t), h, float(rose.mean()) / (2 * h), float(mean @ way)))
        return rows

    def _target(self, x: np.ndarray, true: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.terms.method != "EF21-SGD":
            return true
        rows = [np.array(g(x.copy(), rng), dtype=np.float64) for g in self.noisy]
        for i, row in enumerate(rows):
            if row.shape != x.shape:
                raise ValueError(
                    f"noisy_grads: client {i} returned shape {row.shape} for x of shape {x.shape}"
                )
        return np.stack(rows)


def shown(x: np.ndarray) -> np.ndarray:
    """The point as a callback may see it: one that is changed there would be another method's."""
    seen = x.view()
    seen.flags.writeable = False
    return seen


def _diverged(gradients: np.ndarray, x: np.ndarray, shifts: np.ndarray) -> str:
    if np.isfinite(gradients).all() and not np.isfinite(shifts).all():
        return "diverged: the compressor made NaN or infinity of finite numbers"
    bad = ~np.isfinite(gradients).all(axis=1)
    who = f"client {int(bad.argmax())} returned NaN or infinity" if bad.any() else "∇f grew"
    return f"diverged: {who} at ‖x‖ = {np.linalg.norm(x):.3g}; the step is too long"
