"""The front door: mass, coupling and occupation in, one-loop objects with their error bars out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd

from whp.certificate import Certificate
from whp.door import Above, AtLeast, front_door
from whp.io import Data
from whp.qft._finite_time_path import theorems as th
from whp.qft._finite_time_path.causality import RADII, by_cutoffs, mirrored, residuals
from whp.qft._finite_time_path.certify import balance, compared, tadpole_decay
from whp.qft._finite_time_path.composite import by_frequency, by_time, self_energy_at
from whp.qft._finite_time_path.field import Field
from whp.qft._finite_time_path.self_energy import Scheme, Values, retarded, self_energy
from whp.qft._finite_time_path.tadpole import Tadpole, counterterm_residue, tadpole
from whp.result import PALETTE, Result
from whp.validate import as_vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FiniteTimePath", "finite_time_path"]

Z0 = 0.5 + 0.5j
LINE = 0.01  # above the axis, for functions whose singularities are known to lie on it
WEAK = 0.3  # beyond this, one loop says little
BEFORE = -np.array([1e-3, 1e-2, 0.1, 1.0, 10.0])
HEIGHTS = (0.5, 0.05)


@dataclass(frozen=True, eq=False)
class FiniteTimePath(Result):
    """One-loop objects of a field that interacts since time 0.

    Attributes
    ----------
    self_energies : DataFrame
        Σ_R and Σ_K at infinite time with their error bars, Im Σ_R as smeared at `time`, a row an
        energy.
    composite : DataFrame
        The product of propagator and self-energy in time, with its error bars, a row a time.
    tadpole : Tadpole
        The mean field.
    divergences : dict
        Coefficients of 1/κ of what was subtracted, exact.
    expansion : float
        The larger of g²(1 + 2f(m))/(32π²m²) and the phase X0|Re Σ_R(ω)|/2ω that one loop adds by the
        last time.
    certificates : tuple of Certificate
        Causality, vertex, retardedness, splitting, thermal balance, tadpole, counterterm, error bars.
    """

    self_energies: pd.DataFrame
    composite: pd.DataFrame
    tadpole: Tadpole = field(repr=False)
    divergences: dict[str, dict[str, float | str]] = field(repr=False)
    field: Field = field(repr=False)
    momentum: float
    time: float
    expansion: float
    certificates: tuple[Certificate, ...]

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """Where decays begin, how much the medium adds, and whether one loop is to be trusted."""
        m, p = self.field.mass, self.momentum
        rows = self.self_energies
        bars = rows["error"] >= rows[["re_R", "im_R"]].abs().max(axis=1)
        late = self.expansion > WEAK
        return {
            "occupation": self.field.f.kind,
            "mass": m,
            "threshold": math.hypot(2 * m, p),
            "largest_decay_rate": float(-rows["im_R"].min()),
            "shift_of_the_mean_field": self.tadpole.shift,
            "largest_error_bar": float(rows["error"].max()),
            "numbers_within_their_error_bar_of_0": int(bars.sum()),
            "error_of_the_table": self.field.f.table_error,
            "one_loop_parameter": self.expansion,
            "one_loop": "perturbation theory is not to be trusted here"
            if late
            else "small: but nothing here looks beyond one loop",
        }

    def to_frame(self) -> pd.DataFrame:
        """The self-energies."""
        return self.self_energies

    def artifacts(self) -> dict[str, Any]:
        """Tables of energies and of times."""
        mean = pd.DataFrame({"time": self.tadpole.times, "mean_field": self.tadpole.mean})
        return {
            "self_energy.csv": self.self_energies,
            "composite.csv": self.composite,
            "mean_field.csv": mean,
        }

    def draw(self, ax: Axes) -> None:
        """The spectrum of decays: at infinite time, and as smeared at the finite one."""
        rows, m = self.self_energies, self.field.mass
        ax.axvline(math.hypot(2, self.momentum / m), color=PALETTE["quiet"], linewidth=0.8)
        ax.plot(rows["energy"] / m, -rows["im_R"], color=PALETTE["ours"], label="infinite time")
        ax.plot(
            rows["energy"] / m,
            -rows["im_R_at_time"],
            color=PALETTE["other"],
            label=f"m·time = {self.time * m:.3g}",
        )
        ax.set(xlabel="energy / mass", ylabel="−Im Σ (decay rate × energy)")
        ax.legend(frameon=False)


@front_door
def finite_time_path(
    distribution: Annotated[Any, Data("table")] = None,
    *,
    mass: Annotated[float, Above(0)] = 1.0,
    coupling: Annotated[float, Above(0)] | None = None,
    temperature: Annotated[float, Above(0)] | None = None,
    momentum: Annotated[float, AtLeast(0)] = 0.0,
    time: Annotated[float, Above(0)] | None = None,
    mu: Annotated[float, Above(0)] | None = None,
    scheme: Literal["msbar", "onshell"] = "msbar",
    energies: Any = None,
    times: Any = None,
    source: Any = None,
    measure: bool = True,
    rng: np.random.Generator | int | None = None,
) -> FiniteTimePath:
    """Self-energies, their products and the mean field of φ³ theory at finite time after the switch.

    Parameters
    ----------
    distribution : DataFrame, array_like (n, 2), callable or float, optional
        Occupation f of the modes: columns omega and f from the mass on, a function of ω, or a
        temperature; none is the vacuum.
    mass : float
        Mass of the field; energies, times and table are in its unit.
    coupling : float, optional
        g of g φ³/3!, of the dimension of a mass; the mass by default.
    temperature : float, optional
        Of Bose modes, in place of a distribution.
    momentum : float
        Of the mode that is looked at.
    time : float, optional
        X0 since the switch at which decays are shown; 3/mass by default.
    mu : float, optional
        Scale of dimensional regularisation; the mass by default.
    scheme : {"msbar", "onshell"}
        What is subtracted from the self-energy.
    energies : array_like, optional
        Real ones; 240 up to 6 masses above the momentum by default.
    times : array_like, optional
        Relative times of the product, positive; 60 up to 20/mass by default.
    source : "homogeneous", float, callable or array_like, optional
        Of the tadpole, whose late decay is then certified: constant in space, a Gaussian of that
        width, J(p), or rows of p and J. By default constant, without a certificate.
    measure : bool
        Convolve in time, look at negative times, and compute 40 numbers again.
    rng : numpy.random.Generator, int or None
        Which numbers are computed again.

    Returns
    -------
    FiniteTimePath

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, or the table cannot be an occupation; the row is named.

    References
    ----------
    Dadić & Klabučar, Particles 2019, arXiv 2001.00124.
    """
    if temperature is not None:
        if distribution is not None:
            raise ValueError("temperature must not be given beside a distribution")
        distribution = temperature
    made = Field(mass, mass if coupling is None else coupling, distribution, mu)
    p, X = momentum / mass, 3.0 if time is None else time * mass
    default = np.linspace(0.02, 6.0, 240) * mass + momentum
    E = default if energies is None else as_vector(energies, "energies", dtype=np.float64)
    t = np.linspace(1 / 3, 20.0, 60) if times is None else as_vector(times, "times") * mass
    if (np.asarray(t) <= 0).any():
        raise ValueError("times must be positive")
    answers = th.occupation(made)
    sigma: Values = self_energy(E, momentum, made, scheme=scheme, with_error=True)
    keldysh: Values = self_energy(E, momentum, made, "K", with_error=True)
    product = by_frequency(t, p, made, scheme=scheme)
    frame = pd.DataFrame(
        {
            "energy": E,
            "re_R": np.real(sigma.value),
            "im_R": np.imag(sigma.value),
            "error": sigma.error,
            "im_K": np.imag(keldysh.value),
            "error_K": keldysh.error,
            "im_R_at_time": np.imag(self_energy_at(E, momentum, made, X / mass)),
        }
    )
    in_time = pd.DataFrame(
        {"time": t / mass, "value": product.value * mass, "error": product.error * mass}
    )
    omega = math.hypot(p, 1.0)
    on_shell = retarded(
        np.array([omega + 0j]), p, made, kappa=0.0, scheme=scheme, part="all"
    ).value[0]
    occupied = float(made.f(np.array([1.0]))[0])
    expansion = max(
        made.scale / 2 * (1 + 2 * occupied), float(t.max()) * abs(on_shell.real) / (2 * omega)
    )
    certificates = _certified(
        made,
        p,
        scheme,
        t,
        product,
        E / mass,
        sigma,
        source,
        answers,
        measure,
        np.random.default_rng(rng),
    )
    g = made.coupling
    return FiniteTimePath(
        frame,
        in_time,
        tadpole(t / mass, made, source="homogeneous" if source is None else source),
        {
            "self_energy": {"pole": -(g**2) / (32 * math.pi**2), "power": "1/kappa"},
            "tadpole": {"pole": -(mass**2) / (16 * math.pi**2), "power": "1/kappa"},
        },
        made,
        momentum,
        X / mass,
        expansion,
        certificates,
    )


def _certified(
    made: Field,
    p: float,
    scheme: Scheme,
    t: np.ndarray,
    product: Values,
    E: np.ndarray,
    sigma: Values,
    source: Any,
    occupied: Any,
    measure: bool,
    rng: np.random.Generator,
) -> tuple[Certificate, ...]:
    """All that is promised, in units of the mass."""
    omega, taken = math.hypot(p, 1.0), made.as_interpolated()
    both = product if taken is made else by_frequency(t, p, taken, scheme=scheme)

    # Radii count from the energy of the mode, below which a moving one does not fall off.
    def F(q: np.ndarray) -> np.ndarray:
        q = q * omega
        loop = retarded(q, p, taken, kappa=0.0, scheme=scheme, part="all").value
        return loop / ((q - omega) * (q + omega))

    def unsure(q: np.ndarray) -> np.ndarray:
        """Of F, by the quadrature of its loop."""
        q = q * omega
        loop = retarded(q, p, taken, kappa=0.0, scheme=scheme, part="all").error
        return loop / np.abs((q - omega) * (q + omega))

    own = mirrored(F)
    above = th.ANALYTIC.by_construction(
        "closed forms and integrals whose singularities are on the axis"
    )
    falls = th.vanishes(own, None)
    off = residuals(own, Z0, RADII, near=LINE, grid=101, doubt=unsure)
    at = float(abs(own(np.array([Z0]))[0]))
    largest = float(np.abs(product.value).max())
    second = by_time(t, p, taken, scheme=scheme) if measure else None
    before = (
        [by_frequency(BEFORE, p, taken, scheme=scheme, height=h) for h in HEIGHTS]
        if measure
        else None
    )
    certificates = [
        th.causal(off, RADII, at, (above, falls, occupied), Z0),
        th.vertex(
            both.value,
            None if second is None else second.value,
            both.error + (0 if second is None else second.error),
            t,
            omega,
            (falls, occupied),
            largest,
        ),
        th.retarded_in_time(
            None if before is None else [b.value for b in before],
            [b.error for b in before or ()],
            (falls, occupied),
            largest,
        ),
        th.splittable(_effects(made, p), 0.0, (occupied,)),
        *([balance(made, p, E)] if made.f.kind != "vacuum" else []),
        *([tadpole_decay(source, made)] if source is not None else []),
        th.counterterm(counterterm_residue(made)),
        compared(made, p, scheme, E, sigma, rng, product=product, second=second, measure=measure),
    ]
    return tuple(certificates)


def _effects(made: Field, p: float) -> np.ndarray:
    """What cut-offs do to the retarded part of G_F Σ_F; beyond the shell G_F is 1/(p0² − ω²)."""
    omega, m = math.hypot(p, 1.0), made.mass

    def F(x: np.ndarray) -> np.ndarray:
        return self_energy(x * omega * m, p * m, made, "F") / m**2 / ((x - 1) * (x + 1))

    return by_cutoffs(F, Z0, 10.0 ** np.arange(1, 5))
