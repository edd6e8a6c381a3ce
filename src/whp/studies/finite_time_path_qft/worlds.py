"""Worlds of finite-time field theory: functions and numbers whose truth follows from how they were made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy.integrate import quad
from scipy.special import y0, y1

from whp.certificate import Certificate, Verdict
from whp.experiment.worlds import Instance, Worlds
from whp.qft import Field, causality, split_of, tadpole_decay, vertex_of
from whp.qft._finite_time_path import theorems as t
from whp.qft._finite_time_path.certify import balance, compared
from whp.qft._finite_time_path.composite import by_frequency
from whp.qft._finite_time_path.front_door import BEFORE, HEIGHTS, finite_time_path
from whp.qft._finite_time_path.self_energy import self_energy
from whp.qft._finite_time_path.tadpole import counterterm_residue, oscillation, vacuum_tadpole

__all__ = ["worlds"]

worlds = Worlds("finite-time-path-qft", t.THEOREMS)
HERE = "whp.qft._finite_time_path"
Rng = np.random.Generator
Truths = Mapping[str, bool | None]
Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Given:
    """What a user has: certificates, and the numbers that they are about."""

    certificates: tuple[Certificate, ...]
    numbers: np.ndarray


def is_it(truth: bool, name: str) -> Callable[[Any], Truths]:
    """A judge of a function whose truth its generator knows."""
    return lambda result: {name: truth}


# Causality


def damped(rng: Rng) -> Function:
    """One to four resonances below the axis, and a factor that falls off."""
    n = rng.integers(1, 5)
    omega, width = rng.uniform(0.3, 8, n), 10 ** rng.uniform(-2, 0.5, n)
    size = rng.uniform(0.2, 1, n)
    return lambda q: (size / ((q[..., None] + 1j * width) ** 2 - omega**2)).sum(axis=-1)


@worlds.world(run=causality, false_voids=1e-9)
def resonances(rng: Rng, strength: float) -> Instance:
    """Damped oscillators: all poles below the real axis."""
    return Instance({"F": damped(rng)}, is_it(True, "causality"))


@worlds.world(run=causality, strengths=(1e-9, 1e6), false_voids=1e-9)
def other_units(rng: Rng, strength: float) -> Instance:
    """Damped oscillators, energies in a unit that is so many masses."""
    F = damped(rng)
    return Instance({"F": lambda q: F(q / strength), "mass": strength}, is_it(True, "causality"))


@worlds.world(run=causality, false_voids=1e-9)
def delayed(rng: Rng, strength: float) -> Instance:
    """Oscillators that answer after a delay of up to 1/m."""
    F, delay = damped(rng), rng.uniform(0, 1)
    return Instance({"F": lambda q: F(q) * np.exp(1j * delay * q)}, is_it(True, "causality"))


@worlds.world(run=causality, strengths=(0.3, 0.1), false_voids=1e-9)
def slowly_falling(rng: Rng, strength: float) -> Instance:
    """(1 − iq/a)^{−2κ}, as a loop falls off in 4 − 2κ dimensions: most of the bound is used."""
    a = rng.uniform(0.5, 3)
    F = lambda q: (1 - 1j * q / a) ** (-2 * strength)  # noqa: E731
    return Instance({"F": F, "kappa": strength}, is_it(True, "causality"))


@worlds.world(run=causality, breaks=t.ANALYTIC, strengths=(0.2, 0.02, 0.002))
def wrong_sign_of_ie(rng: Rng, strength: float) -> Instance:
    """A propagator with its poles that far above the axis."""
    omega = rng.uniform(0.5, 5)
    F = lambda q: 1 / ((q - 1j * strength) ** 2 - omega**2)  # noqa: E731
    return Instance({"F": F}, is_it(False, "causality"))


@worlds.world(run=causality, breaks=t.ANALYTIC, strengths=(1.0, 0.3, 0.1))
def part_of_a_growing_mode(rng: Rng, strength: float) -> Instance:
    """Damped oscillators and, with this weight, a mode that grows: a pole in the boxes."""
    F, at = damped(rng), complex(rng.uniform(-6, 6), rng.uniform(0.5, 4))
    return Instance(
        {"F": lambda q: F(q) + strength / ((q - at) * (q + 1j))}, is_it(False, "causality")
    )


@worlds.world(run=causality, breaks=t.ANALYTIC)
def pairs_whose_loops_vanish(rng: Rng, strength: float) -> Instance:
    """A double pole, or two with opposite residues: Cauchy's theorem does not see them."""
    a, b = (complex(rng.uniform(-6, 6), rng.uniform(0.5, 4)) for _ in range(2))
    b = a if rng.random() < 0.5 else b
    return Instance({"F": lambda q: 1 / ((q - a) * (q - b))}, is_it(False, "causality"))


@worlds.world(run=causality, expects=Verdict.FAILS)
def on_the_wrong_side_of_the_axis(rng: Rng, strength: float) -> Instance:
    """Poles below every box: only the dispersion relation sees them."""
    omega = rng.uniform(0.5, 5)
    F = lambda q: 1 / ((q - 5e-5j) ** 2 - omega**2)  # noqa: E731
    return Instance({"F": F}, is_it(False, "causality"))


@worlds.world(run=causality, expects=Verdict.FAILS)
def poles_beyond_the_boxes(rng: Rng, strength: float) -> Instance:
    """A pole further out than the boxes look, and nearer than the smallest radius."""
    at = complex(rng.uniform(12, 30), rng.uniform(1, 20))
    return Instance({"F": lambda q: 1 / ((q - at) * (q + 1j))}, is_it(False, "causality"))


@worlds.world(run=causality, breaks=t.VANISHES, strengths=(0.1, 1e-2, 1e-3))
def answers_before_its_cause(rng: Rng, strength: float) -> Instance:
    """An oscillator that answers that much too early, in units of 1/m."""
    F = damped(rng)
    return Instance({"F": lambda q: F(q) * np.exp(-1j * strength * q)}, is_it(False, "causality"))


@worlds.world(run=causality, breaks=t.VANISHES, strengths=(1e-4, 1e-5), noticeable=False)
def hardly_before_its_cause(rng: Rng, strength: float) -> Instance:
    """Too early by less than the resolution that the certificate states."""
    F = damped(rng)
    return Instance({"F": lambda q: F(q) * np.exp(-1j * strength * q)}, is_it(False, "causality"))


@worlds.world(run=causality, breaks=t.VANISHES, strengths=(1.0, 1e-2, 1e-4), broken_from=1e-2)
def a_constant_is_added(rng: Rng, strength: float) -> Instance:
    """A delta function in time of that size: it does not vanish at infinity."""
    F = damped(rng)
    return Instance({"F": lambda q: F(q) + strength}, lambda result: {"causality": None})


# The vertex, by numbers of a user's own


@cache
def by_bessel(when: float) -> float:
    """(G_R * Σ_R)(t) at rest in four dimensions, m = g = μ = 1, from the equation of motion.

    Σ_R(t) = −I(t)/8π² by Bessel functions; what of it is not integrable at 0, and the constant of
    MS-bar, follow from the dispersion relation on the shell, once.
    """

    def memory(z: float) -> float:
        integral = quad(y0, 0, 2 * z, limit=200)[0] / 2
        return -(-np.pi / 2 * y1(2 * z) + np.pi * integral) / (8 * np.pi**2)

    # −∫ sin(t − z) Σ(z) dz, with −1/(16π² z) e^{−z} taken off and put back in closed form below.
    def regular(z: float) -> float:
        return -math.sin(when - z) * (memory(z) + math.exp(-z) / (16 * np.pi**2 * z))

    return quad(regular, 0, when, limit=200, epsabs=1e-11)[0]


def smooth_part(when: np.ndarray) -> np.ndarray:
    """The part that was taken off: by its own pair of transforms, −ln(1 − iq)/16π² up to a constant."""
    made = []
    for T in when:
        pieces = quad(
            lambda z, T=T: -(math.sin(T - z) - math.sin(T)) * -math.exp(-z) / (16 * np.pi**2 * z),
            0,
            T,
            limit=200,
        )[0]
        tail = quad(lambda z: math.exp(-z) / z, 1e-300 + T, T + 60)[0]
        made.append(pieces + math.sin(T) / (16 * np.pi**2) * tail * -1)
    return np.array(made)


def up_to_the_shell(values: np.ndarray, when: np.ndarray) -> bool:
    """Whether numbers are the exact product up to one multiple of sin t, which a scheme may add."""
    exact = np.array([by_bessel(float(T)) for T in when]) + smooth_part(when)
    off, wave = values - exact, np.sin(when)
    off = off - (off @ wave) / (wave @ wave) * wave
    return bool(np.abs(off).max() <= 1e-6 * np.abs(values).max())


WHEN = np.array([0.3, 1.0, 2.2, 4.0, 7.0])


def product(field: Field, change: Callable[[np.ndarray], np.ndarray] | None = None) -> Given:
    """The product in units of m, judged by its vertex and by what it is at negative times."""
    m = field.mass
    made = by_frequency(WHEN, 0.0, field)
    values = made.value if change is None else change(made.value)
    certificate = vertex_of(values * m, WHEN / m, 0.0, field, error=made.error * m)
    before = [by_frequency(BEFORE, 0.0, field, height=h) for h in HEIGHTS]
    largest = float(np.abs(values).max())
    answers = (
        t.vanishes(lambda q: self_energy(q * m, 0.0, field) / m**2 / (q * q - 1), None),
        t.occupation(field),
    )
    early = t.retarded_in_time(
        [b.value for b in before], [b.error for b in before], answers, largest
    )
    numbers = np.r_[values / (16 * np.pi**2 * field.scale), *(b.value / largest for b in before)]
    return Given((certificate, early), numbers)


def judge_product(given: Given) -> Truths:
    """The shape against brute force, and nothing before time 0."""
    values, early = given.numbers[: len(WHEN)], given.numbers[len(WHEN) :]
    return {
        "vertex": up_to_the_shell(values, WHEN),
        "retardedness": bool(np.abs(early).max() <= t.CONSERVED),
    }


@worlds.world(run=product)
def products_of_the_vacuum(rng: Rng, strength: float) -> Instance:
    """Any mass, coupling and scale."""
    m = 10 ** rng.uniform(-2, 2)
    field = Field(m, m * rng.uniform(0.1, 3), mu=m * 10 ** rng.uniform(-2, 2))
    return Instance({"field": field}, judge_product)


@worlds.world(run=product, expects=Verdict.FAILS)
def the_pole_subtracted_first(rng: Rng, strength: float) -> Instance:
    """A cut-off self-energy in time: the product moves by a multiple of sin t, and shrinks."""
    field, c = Field(), rng.uniform(0.01, 0.1)
    return Instance(
        {"field": field, "change": lambda v: 0.9 * v + c * np.sin(WHEN)},
        lambda given: {"vertex": False},
    )


def with_occupation(distribution: Any) -> Given:
    """Certificates that rest on the occupation, of a field that may have none that is allowed."""
    field = Field(distribution=distribution)
    values = np.full(len(WHEN), np.nan)
    with np.errstate(all="ignore"):
        E = np.linspace(0.3, 1.7, 6)
        sigma = self_energy(E, 0.0, field, part="medium", with_error=True)
        made = compared(field, 0.0, "msbar", E, sigma, np.random.default_rng(0), part="medium")
    return Given((made,), values)


@worlds.world(run=with_occupation, breaks=t.OCCUPATION, strengths=(1.0, 1.5, 2.0), rising=False)
def falls_too_slowly(rng: Rng, strength: float) -> Instance:
    """f falls like this power of the energy, and energy density diverges."""
    size = rng.uniform(0.1, 1)
    return Instance(
        {"distribution": lambda w: size * w**-strength}, lambda given: {"error-bars": None}
    )


@worlds.world(run=with_occupation, breaks=t.OCCUPATION, strengths=(0.3, 0.01, 1e-6))
def negative_somewhere(rng: Rng, strength: float) -> Instance:
    """A fit to an occupation that undershoots by that much."""
    at = rng.uniform(20, 30)
    return Instance(
        {"distribution": lambda w: np.exp(-w) - strength * np.exp(-((w - at) ** 2))},
        lambda given: {"error-bars": None},
    )


@worlds.world(run=with_occupation, breaks=t.OCCUPATION, noticeable=False)
def negative_beyond_all_looks(rng: Rng, strength: float) -> Instance:
    """f turns negative beyond 500 masses only."""
    return Instance(
        {"distribution": lambda w: np.where(w < 600, np.exp(-w), -1e-30)},
        lambda given: {"error-bars": None},
    )


@worlds.world(run=with_occupation, breaks=t.OCCUPATION, refuses=(ValueError,))
def another_function_at_each_call(rng: Rng, strength: float) -> Instance:
    """A distribution with a state."""
    return Instance(
        {"distribution": lambda w: np.exp(-w) * rng.uniform(0.9, 1.1)}, lambda given: {}
    )


# Splitting


def feynman(field: Field, kappa: float, *, product: bool) -> Function:
    """A Feynman function of real energies, in units of the mass."""
    scheme = "bare" if kappa else "msbar"

    def F(x: np.ndarray) -> np.ndarray:
        made = self_energy(x, 0.0, field, "F", kappa=kappa, scheme=scheme)
        return made / (x * x - 1) if product else made

    return F


@worlds.world(run=split_of)
def loops_below_four_dimensions(rng: Rng, strength: float) -> Instance:
    """Loops at κ between .05 and .45 split without a cut-off."""
    kappa = float(rng.uniform(0.05, 0.45))
    F = feynman(Field(mu=10 ** rng.uniform(-1, 1)), kappa, product=False)
    return Instance({"F": F, "kappa": kappa}, is_it(True, "splittable"))


@worlds.world(run=split_of)
def products_with_a_propagator(rng: Rng, strength: float) -> Instance:
    """In four dimensions, after multiplying with the propagator."""
    F = feynman(Field(mu=10 ** rng.uniform(-1, 1)), 0.0, product=True)
    return Instance({"F": F, "kappa": 0.0}, is_it(True, "splittable"))


@worlds.world(run=split_of, expects=Verdict.FAILS)
def loops_in_four_dimensions(rng: Rng, strength: float) -> Instance:
    """The finite part of a loop by itself."""
    F = feynman(Field(mu=10 ** rng.uniform(-0.3, 0.3)), 0.0, product=False)
    return Instance({"F": F, "kappa": 0.0}, is_it(False, "splittable"))


@worlds.world(run=split_of, expects=Verdict.FAILS)
def constant_at_negative_energies(rng: Rng, strength: float) -> Instance:
    """It vanishes where the energy is positive and large alone."""
    c = 10 ** rng.uniform(-1, 2)
    F = lambda x: np.where(x < 0, c, 0) + 1 / (x * x - 1 + 0.01j)  # noqa: E731
    return Instance({"F": F}, is_it(False, "splittable"))


# Thermal balance


def balanced(distribution: Any, p: float) -> Given:
    """Certificate, and how far Σ_K is off at some energies in units of its size."""
    field = Field(distribution=distribution)
    E = np.array([0.7, 2.3, 3.1, 4.4]) + p
    R, K = self_energy(E, p, field, "R"), self_energy(E, p, field, "K")
    return Given((balance(field, p, E),), np.stack([E, R.imag, K.imag]))


def judge_balance(T: float, rows: int = 0) -> Callable[[Given], Truths]:
    """Against the temperature that was drawn; a table has the error of its interpolation."""

    def truths(given: Given) -> Truths:
        E, R, K = given.numbers
        off = np.abs(K - 2 * R / np.tanh(E / (2 * T))).max()
        allowed = 1e-8 if not rows else 30.0 / rows**2
        return {"thermal-balance": bool(off <= allowed * np.abs(K).max() + 1e-16)}

    return truths


@worlds.world(run=balanced)
def temperatures(rng: Rng, strength: float) -> Instance:
    """Bose modes at temperatures of .1 to 3 masses."""
    T = float(10 ** rng.uniform(-1, 0.5))
    p = float(rng.choice([0.0, rng.uniform(0.1, 2)]))
    return Instance({"distribution": T, "p": p}, judge_balance(T))


@worlds.world(run=balanced, strengths=(50, 100, 400, 2000), rising=False)
def tables_of_a_temperature(rng: Rng, strength: float) -> Instance:
    """Bose modes as a table of so many rows."""
    T, rows = float(rng.uniform(0.8, 1.5)), int(strength)
    w = np.linspace(1, 1 + 29 * T, rows)
    table = np.c_[w, 1 / np.expm1(w / T)]
    return Instance({"distribution": table, "p": 0.0}, judge_balance(T, rows))


@worlds.world(run=balanced, breaks=t.THERMAL, strengths=(0.1, 0.01, 1e-4))
def chemical_potentials(rng: Rng, strength: float) -> Instance:
    """Bose modes with a chemical potential of so many masses, as a table."""
    T = float(rng.uniform(0.8, 1.5))
    w = np.linspace(1, 1 + 29 * T, 300)
    table = np.c_[w, 1 / np.expm1((w - strength) / T)]
    return Instance({"distribution": table, "p": 0.0}, lambda given: {"thermal-balance": False})


@worlds.world(run=balanced, breaks=t.THERMAL, strengths=(0.5, 0.1, 0.01), broken_from=0.01)
def two_temperatures(rng: Rng, strength: float) -> Instance:
    """A share of the modes is twice as hot."""
    T = float(rng.uniform(0.5, 0.8))
    w = np.linspace(1, 1 + 58 * T, 400)
    f = (1 - strength) / np.expm1(w / T) + strength / np.expm1(w / (2 * T))
    return Instance(
        {"distribution": np.c_[w, f], "p": 0.0}, lambda given: {"thermal-balance": False}
    )


# Tadpoles


def decays(source: Any, start: float) -> Given:
    """Certificate, and the oscillation at the time that is judged."""
    at = np.array([3.3 * start])
    field = Field()
    return Given((tadpole_decay(source, field, start=start),), oscillation(at, source, field))


def judge_decay(J: Callable[[float], float], start: float) -> Callable[[Given], Truths]:
    """The user's number against another library's integral, and both against the promise."""

    def truths(given: Given) -> Truths:
        when = 3.3 * start

        def weight(p: float) -> float:
            w = math.hypot(p, 1)
            return p * p * J(p) / w**2 * math.cos(w * when)

        exact = sum(quad(weight, a, a + 1, limit=400, epsabs=1e-12)[0] for a in range(12))
        return {"tadpole-decay": bool(abs(given.numbers[0] - exact / (2 * np.pi**2)) < 1e-9)}

    return truths


@worlds.world(run=decays, strengths=(25.0, 50.0))
def gaussians(rng: Rng, strength: float) -> Instance:
    """Sources of widths .8 to 2.5, from that time on."""
    a = float(rng.uniform(0.8, 2.5))
    J = lambda p: math.exp(-(p**2) * a**2 / 2)  # noqa: E731
    return Instance({"source": a, "start": strength}, judge_decay(J, strength))


@worlds.world(run=decays)
def without_leading_term(rng: Rng, strength: float) -> Instance:
    """p² times a Gaussian: the t^{−3/2} term is 0."""
    J = lambda p: p * p * np.exp(-(p**2) / 2)  # noqa: E731
    return Instance({"source": J, "start": 25.0}, judge_decay(J, 25.0))


@worlds.world(run=decays, breaks=t.SMOOTH)
def tables_of_a_source(rng: Rng, strength: float) -> Instance:
    """A Gaussian as a table of 50 to 500 rows, linear in between."""
    p = np.linspace(0, 6, int(rng.integers(50, 500)))
    table = np.c_[p, np.exp(-(p**2) / 2)]
    return Instance({"source": table, "start": 25.0}, lambda given: {"tadpole-decay": None})


@worlds.world(run=decays, breaks=t.SMOOTH, strengths=(1.0, 0.1, 0.01, 1e-3), noticeable=False)
def sources_with_a_kink(rng: Rng, strength: float) -> Instance:
    """A Gaussian and, with this weight, a triangle."""
    J = lambda p: np.exp(-(p**2) / 2) + strength * np.maximum(1 - p, 0)  # noqa: E731
    return Instance({"source": J, "start": 25.0}, lambda given: {"tadpole-decay": False})


@worlds.world(run=decays, breaks=t.LOCALISED)
def constant_sources(rng: Rng, strength: float) -> Instance:
    """Constant in space: the oscillation never dies."""
    return Instance(
        {"source": "homogeneous", "start": float(rng.uniform(25, 100))},
        lambda given: {"tadpole-decay": False},
    )


@worlds.world(run=decays, breaks=t.LOCALISED, strengths=(50.0, 8.0, 4.0))
def sources_as_wide_as_a_room(rng: Rng, strength: float) -> Instance:
    """Gaussians too wide to have spread by the time that is looked at."""
    return Instance(
        {"source": strength * float(rng.uniform(1, 1.2)), "start": 25.0},
        lambda given: {"tadpole-decay": False},
    )


def renormalised(kappa: float) -> Given:
    """Certificate of the counterterm, and its coefficient of 1/κ."""
    certificate = t.counterterm(counterterm_residue(Field()))
    return Given((certificate,), np.array([kappa * vacuum_tadpole(kappa)]))


@worlds.world(run=renormalised)
def counterterms(rng: Rng, strength: float) -> Instance:
    """The pole of the tadpole is −m²/16π²."""
    kappa = float(10 ** rng.uniform(-9, -8))

    def truths(given: Given) -> Truths:
        return {"counterterm": bool(abs(given.numbers[0] * 16 * np.pi**2 + 1) < 1e-6)}

    return Instance({"kappa": kappa}, truths)


# Error bars


def with_error_bars(E: np.ndarray, field: Field, seed: int, *, measure: bool = True) -> Given:
    """Self-energies with their error bars, and the certificate of these."""
    sigma = self_energy(E, 0.0, field, part="vacuum", with_error=True)
    rng = np.random.default_rng(seed)
    made = compared(field, 0.0, "msbar", E, sigma, rng, part="vacuum", measure=measure)
    return Given((made,), np.stack([E + 0j, sigma.value, sigma.error + 0j]))


def judge_bars(given: Given) -> Truths:
    """Against the closed form with 40 digits, cut where the library does not cut it."""
    import mpmath as mp

    outside = 0
    for E, value, error in given.numbers.T:
        with mp.workdps(40):
            s = mp.mpf(E.real) ** 2
            beta = mp.sqrt(mp.mpc(1 - 4 / s))
            if s < 4:
                loop = 2 - 2 * mp.sqrt(4 / s - 1) * mp.acot(mp.sqrt(4 / s - 1))
            else:
                loop = 2 - beta * (mp.log((1 + beta) / (1 - beta)) - mp.pi * 1j)
            exact = complex(-loop / (32 * mp.pi**2))
        outside += abs(value - exact) > error.real
    return {"error-bars": bool(outside <= t.SHARE * given.numbers.shape[1])}


@worlds.world(run=with_error_bars)
def error_bars_of_the_vacuum(rng: Rng, strength: float) -> Instance:
    """Energies of .01 to 10⁶ masses, a tenth of them next to the threshold."""
    E = np.r_[10 ** rng.uniform(-2, 6, 36), 2 + 1e-9 * rng.standard_normal(4)]
    return Instance({"E": E, "field": Field(), "seed": 0}, judge_bars)


@worlds.world(run=finite_time_path, slow=True, seeds=50)
def whole_calculators(rng: Rng, strength: float) -> Instance:
    """Everything at once, any parameters."""
    m = float(10 ** rng.uniform(-2, 2))
    arguments = {
        "mass": m,
        "coupling": m * float(rng.uniform(0.1, 3)),
        "temperature": m * float(10 ** rng.uniform(-0.5, 0.5)),
        "momentum": m * float(rng.choice([0.0, rng.uniform(0, 3)])),
        "source": float(rng.uniform(0.5, 2.5)) / m,
        "rng": 0,
    }
    return Instance(
        arguments, lambda result: dict.fromkeys([c.name for c in result.certificates], True)
    )


# Mutants


def half(function: Any) -> Any:
    """A function that returns half of the first part of what it did."""

    def halved(*given: Any, **named: Any) -> Any:
        first, *rest = function(*given, **named)
        return (first / 2, *rest)

    return halved


worlds.mutant(
    "causality",
    "bound halved",
    target=f"{HERE}.causality:arcs",
    change=lambda arcs: lambda *given: arcs(*given) / 2,
    world=slowly_falling,
    caught_by="false fails",
)
worlds.mutant(
    "vertex",
    "cut halved",
    target=f"{HERE}.composite:cut",
    change=lambda cut: lambda *given: cut(*given) / 2,
    world=products_of_the_vacuum,
)
worlds.mutant(
    "retardedness",
    "end of the line halved",
    target=f"{HERE}.composite:_turned",
    change=half,
    world=products_of_the_vacuum,
)
worlds.mutant(
    "splittable",
    "effects of cut-offs in the wrong order",
    target=f"{HERE}.certify:by_cutoffs",
    change=lambda effects: lambda *given: effects(*given)[::-1],
    world=loops_below_four_dimensions,
    caught_by="false fails",
)
worlds.mutant(
    "thermal-balance",
    "Keldysh part of the medium halved",
    target=f"{HERE}.medium:keldysh",
    change=half,
    world=temperatures,
)
worlds.mutant(
    "tadpole-decay",
    "no room for the climb to the limit",
    target=f"{HERE}.theorems:GROWTH",
    change=lambda growth: 1.0,
    world=gaussians,
    caught_by="false fails",
)
worlds.mutant(
    "counterterm",
    "pole off by a thousandth",
    target=f"{HERE}.tadpole:gamma",
    change=lambda gamma: lambda x: gamma(x) * 1.001,
    world=counterterms,
)
worlds.mutant(
    "error-bars",
    "a millionth of them",
    target=f"{HERE}.self_energy:EPS",
    change=lambda eps: eps * 1e-6,
    world=error_bars_of_the_vacuum,
)
