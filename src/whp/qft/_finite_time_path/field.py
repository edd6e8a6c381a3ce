"""A scalar field with its coupling and the occupation of its modes."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np

from whp.validate import as_array, as_frame, as_real, column_names

__all__ = ["Field", "Occupation"]

Kind = Literal["vacuum", "thermal", "table", "callable"]
PROBES = 2000  # of a callable, from the mass to 500 masses
FARTHEST = 500.0
THERMAL = 1e-6  # how far ln(1 + 1/f) of a table may be from ω/T


class Occupation:
    """Mean number f(ω) of quanta in a mode of energy ω, in units of the mass.

    Parameters
    ----------
    given : None, float, callable or array_like, shape (n, 2)
        Nothing (vacuum), a temperature (Bose), f itself, or rows of ω and f.
    mass : float
        Unit of energies in `given`.
    """

    def __init__(self, given: Any, mass: float) -> None:
        self.mass = mass
        self.temperature: float | None = None
        self.last = math.inf  # zero from here on
        self.kind: Kind = "vacuum"
        self._f: Callable[[np.ndarray], np.ndarray] = np.zeros_like
        self._coarse: Callable[[np.ndarray], np.ndarray] | None = None
        self.rows: np.ndarray | None = None
        if given is None:
            return
        if isinstance(given, int | float | np.integer | np.floating) and not isinstance(
            given, bool
        ):
            T = as_real(given, "distribution", low=0, open_ends=True) / mass
            self.kind, self.temperature = "thermal", T
            self._f = partial(_bose, T)
        elif callable(given):
            self.kind = "callable"
            self._f = partial(_asked, given, mass)
            probe = np.linspace(1.0, 20.0, 7)
            try:
                first, second = self(probe), self(probe)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"distribution must take an array of energies (np.vectorize?): {error}"
                ) from error
            if first.shape != probe.shape:
                raise ValueError(
                    f"distribution must return one number an energy, got shape {first.shape}"
                )
            if not np.array_equal(first, second):
                raise ValueError(
                    "distribution must be a function: it gave other values when asked again"
                )
        else:
            self._from_table(given)

    def _from_table(self, given: Any) -> None:
        rows = _rows(given) / np.array([self.mass, 1.0])
        self.kind, self.rows = "table", rows
        positive = rows[rows[:, 1] > 0]
        self._f = _interpolated(positive)
        self._coarse = _interpolated(positive[::2] if len(positive) >= 6 else positive)
        self.last = float(positive[-1, 0]) if len(positive) else 1.0
        if len(positive):
            slope = np.log1p(1 / positive[:, 1]) / positive[:, 0]
            T = 1 / float(slope.mean())
            if float(np.abs(np.log1p(1 / positive[:, 1]) - positive[:, 0] / T).max()) <= THERMAL:
                self.temperature = T

    def __call__(self, omega: np.ndarray) -> np.ndarray:
        """f at energies of at least the mass, in units of the mass."""
        with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
            return self._f(np.asarray(omega, dtype=float))

    def coarse(self, omega: np.ndarray) -> np.ndarray:
        """The same from every second row of a table."""
        assert self._coarse is not None
        return self._coarse(np.asarray(omega, dtype=float))

    @cached_property
    def largest(self) -> float:
        """Largest f met at the mass and above."""
        at = np.geomspace(1.0, min(self.last, FARTHEST), 400)
        return 0.0 if self.kind == "vacuum" else float(self(at).max())

    @cached_property
    def table_error(self) -> float:
        """Half the largest difference to what every second row would have given; 0 without a table."""
        if self.rows is None or len(self.rows) < 6:
            return 0.0
        at = np.linspace(float(self.rows[0, 0]), self.last, 20 * len(self.rows))
        at = at[(at >= 1.0) & (at <= self.last)]
        return float(np.abs(self(at) - self.coarse(at)).max()) / 2 if at.size else 0.0

    def fault(self) -> str:
        """What is wrong with it as an occupation, or nothing."""
        if self.kind != "callable":
            return ""
        at = np.geomspace(1.0, FARTHEST, PROBES)
        f = self(at)
        if not np.isfinite(f).all():
            where = at[~np.isfinite(f)][0]
            return f"f is not finite at {where:.4g} masses"
        if (f < 0).any():
            return f"f = {f[f < 0][0]:.3g} at {at[f < 0][0]:.4g} masses"
        low, high = f[np.searchsorted(at, FARTHEST / 10)], f[-1]
        if (
            high > 0
            and (slope := math.log(high / low) / math.log(10) if low > 0 else math.inf) > -2.2
        ):
            return f"f falls like the power {slope:.2f} of the energy, and less than −2.2 diverges"
        return ""


def _bose(T: float, w: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return 1 / np.expm1(w / T)


def _asked(given: Callable[[np.ndarray], Any], mass: float, w: np.ndarray) -> np.ndarray:
    return np.asarray(given(w * mass), dtype=float)


def _between(curve: Any, first: float, last: float, w: np.ndarray) -> np.ndarray:
    return np.where(w <= last, np.exp(curve(np.clip(w, first, last))), 0.0)


def _interpolated(rows: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Monotone interpolation of ln f; zero beyond the last row."""
    if len(rows) < 2:
        return np.zeros_like
    from scipy.interpolate import PchipInterpolator

    omega, f = rows.T
    curve = PchipInterpolator(omega, np.log(f))
    return partial(_between, curve, float(omega[0]), float(omega[-1]))


def _rows(given: Any) -> np.ndarray:
    """A table of ω and f, checked; the first row that is wrong is named."""
    table = as_frame(given)
    names = column_names(table)
    if names is not None:
        lower = [n.strip().lower() for n in names]
        if len(names) != 2:
            raise ValueError(f"distribution must have columns omega and f, got {', '.join(names)}")
        wrong = next((n for n in lower if n in ("k", "p", "e", "energy", "momentum")), None)
        if wrong is not None or lower != ["omega", "f"]:
            name = names[0] if wrong is None else names[lower.index(wrong)]
            raise ValueError(
                f"distribution has a column {name!r}: hand in omega = sqrt(k² + mass²) and f, in this order"
            )
        table = table.to_numpy()
    rows = as_array(table, "distribution").astype(float)
    if rows.ndim != 2 or rows.shape[1] != 2:
        turned = " (n rows of 2, not 2 rows of n?)" if rows.ndim == 2 and len(rows) == 2 else ""
        raise ValueError(f"distribution must have shape (n, 2), got {rows.shape}{turned}")
    if len(rows) < 4:
        raise ValueError(f"distribution must have at least 4 rows, got {len(rows)}")
    omega, f = rows.T
    for bad, what in (
        (~np.isfinite(rows).all(axis=1), "is not finite"),
        (np.r_[False, np.diff(omega) <= 0], "has an omega that is not larger than the one before"),
        (f < 0, "has a negative f"),
    ):
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise ValueError(
                f"distribution, row {row + 1}: omega = {omega[row]:g}, f = {f[row]:g} {what}"
            )
    zero = np.flatnonzero(f == 0)
    if zero.size and zero[0] + zero.size != len(f):
        raise ValueError(f"distribution, row {zero[0] + 1}: f = 0 may only stand at the end")
    if f[-1] > 1e-6 * f.max():
        raise ValueError(
            f"distribution ends at omega = {omega[-1]:g} with f = {f[-1]:g}: go on until f is below "
            "a millionth of its largest value"
        )
    return rows


class Field:
    """φ³ theory, L = ½(∂φ)² − ½m²φ² − (g/3!)φ³, switched on at time zero in a homogeneous state.

    Parameters
    ----------
    mass : float
        m > 0; unit of everything else.
    coupling : float
        g > 0, of the dimension of a mass.
    distribution : None, float, callable or array_like, shape (n, 2)
        Occupation f of the modes: vacuum, a temperature, a function of ω, or rows of ω and f, of
        which ln f is interpolated monotonically and which must begin at the mass.
    mu : float, optional
        Scale of dimensional regularisation; the mass by default.

    Raises
    ------
    ValueError
        If something is out of range; of a table the first wrong row is named.
    """

    def __init__(
        self,
        mass: float = 1.0,
        coupling: float = 1.0,
        distribution: Any = None,
        mu: float | None = None,
    ) -> None:
        self.mass = as_real(mass, "mass", low=0, open_ends=True)
        self.coupling = as_real(coupling, "coupling", low=0, open_ends=True)
        self.mu = self.mass if mu is None else as_real(mu, "mu", low=0, open_ends=True)
        self.f = Occupation(distribution, self.mass)
        if self.f.rows is not None and self.f.rows[0, 0] > 1 + 1e-9:
            start = self.f.rows[0, 0] * self.mass
            raise ValueError(
                f"distribution starts at omega = {start:g} but f is needed from omega = "
                f"{self.mass:g} (the mass) on: is the table in another unit?"
            )

    @cached_property
    def scale(self) -> float:
        """g²/(16π²) in units of m²."""
        return (self.coupling / self.mass) ** 2 / (16 * math.pi**2)

    @cached_property
    def log_mu(self) -> float:
        """ln(μ²/m²)."""
        return 2 * math.log(self.mu / self.mass)

    def as_interpolated(self, *, coarse: bool = False) -> Field:
        """The same field with the interpolation of a table for its occupation, taken to be exact.

        Two ways to the same number have it in common, and its error says nothing of their difference.
        With `coarse` it is that of every second row.
        """
        if self.f.rows is None:
            return self
        made = copy.copy(self)
        made.f = copy.copy(self.f)
        made.f.rows = None
        if coarse and made.f._coarse is not None:
            made.f._f = made.f._coarse
        return made

    def __repr__(self) -> str:
        return f"Field(mass={self.mass:g}, coupling={self.coupling:g}, {self.f.kind})"
