"""What is run: cut-offs, the limit of four dimensions, late tadpoles, early decays. Seeds draw scales and momenta."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.experiment.study import Study
from whp.peers.qft import cauchy_quad
from whp.qft import Field, composite, oscillation, self_energy, self_energy_at, self_energy_time
from whp.qft._finite_time_path.causality import by_cutoffs, residuals
from whp.qft._finite_time_path.composite import by_time
from whp.qft._finite_time_path.propagators import propagator

__all__ = ["KAPPAS", "PION", "TIMES", "study", "young"]

Row = dict[str, Any]
KAPPAS = (0.3, 0.1, 0.03)
TIMES = (1.0, 3.0, 10.0, 30.0)
PION = 139.57  # MeV, the charged pion; 156 MeV is where pions of heavy-ion collisions freeze out
CUTOFFS = 10.0 ** np.arange(1, 5)
SEEDS = {"quick": 4, "standard": 20, "full": 100}

study = Study("finite-time-path-qft")


def young(omega: np.ndarray) -> np.ndarray:
    """Occupation of a young plasma: a shell of energies that has not yet spread."""
    return 0.6 * np.exp(-(((omega - 1.4) / 0.35) ** 2))


def _drawn(rng: np.random.Generator) -> tuple[Field, float, complex]:
    """A scale, a momentum and a point above the axis."""
    field = Field(mu=float(10 ** rng.uniform(-0.3, 0.3)))
    return field, float(rng.uniform(0, 2)), complex(rng.uniform(-1, 1), rng.uniform(0.3, 1))


@study.experiment(seeds=SEEDS, kappa=(0.0, *KAPPAS))
def cutoffs(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """What a tenfold cut-off leaves of its effect on the split of Σ_F and of G_F Σ_F."""
    field, p, z0 = _drawn(rng)
    kappa, omega = config["kappa"], float(np.hypot(p, 1))

    def loop(x: np.ndarray) -> np.ndarray:
        scheme = "bare" if kappa else "msbar"
        return self_energy(x, p, field, "F", kappa=kappa, scheme=scheme)

    alone = by_cutoffs(loop, z0, CUTOFFS)
    product = by_cutoffs(lambda x: loop(x) / ((x - omega) * (x + omega)), z0, CUTOFFS)
    return {
        "loop": float(alone[-1] / alone[-2]),
        "product": float(product[-1] / product[-2]),
        "exponent_off": abs(float(np.log10(alone[-1] / alone[-2])) + 2 * kappa),
    }


@study.experiment(seeds=SEEDS, kappa=(0.0, *KAPPAS))
def dispersion(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """How far a loop misses its dispersion relation at two radii."""
    field, p, z0 = _drawn(rng)
    kappa = config["kappa"]

    def loop(q: np.ndarray) -> np.ndarray:
        return self_energy(q, p, field, kappa=kappa, scheme="bare" if kappa else "msbar")

    near, far = residuals(loop, z0, np.array([1e2, 1e3]))
    exponent = float(np.log10(far.off / near.off))
    return {
        "exponent": exponent,
        "exponent_off": abs(exponent + 2 * kappa),
        "grows": far.off > near.off,
    }


@study.experiment(seeds=SEEDS)
def limit(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """The product at κ → 0, its pole subtracted after and before multiplying."""
    field, p, _ = _drawn(rng)
    times = rng.uniform(0.3, 8, 5)
    kappas = np.array([0.02, 0.01, 0.005, 0.0025])
    table = np.array([composite(times, p, field, kappa=float(k)) for k in kappas])
    for order in range(1, len(kappas)):
        table = (2**order * table[1:] - table[:-1]) / (2**order - 1)
    repaired = composite(times, p, field)
    size = np.abs(repaired).max()
    # Before: Σ_R(t) in four dimensions, cut off at small times, convolved as it is.
    before = []
    for short in (1e-4, 1e-6):
        u, w = np.polynomial.legendre.leggauss(80)
        low, high = np.log(short), np.log(times[0])
        z = np.exp(low + (high - low) * (u + 1) / 2)
        omega = float(np.hypot(p, 1))
        kernel = -np.sin(omega * (times[0] - z)) / omega * self_energy_time(z, p, field) * z
        before.append(float((w * kernel).sum() * (high - low) / 2))
    return {
        "repaired_off": float(np.abs(table[0] - repaired).max() / size),
        "first_moves": abs(before[1] - before[0]) / float(size),
        "vertex_off": float(np.abs(repaired - by_time(times, p, field).value).max() / size),
    }


@study.experiment(seeds=SEEDS)
def tadpoles(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """Exponent of the late oscillation of a localised source, and of a constant one."""
    field, a = Field(), float(rng.uniform(0.7, 2))
    t = np.linspace(60, 400, 1500)

    def exponent(values: np.ndarray) -> float:
        size = np.abs(values)
        peak = np.flatnonzero((size[1:-1] > size[2:]) & (size[1:-1] > size[:-2])) + 1
        return float(np.polyfit(np.log(t[peak]), np.log(size[peak]), 1)[0])

    constant = exponent(np.cos(t))
    made = exponent(oscillation(t, a, field))
    return {"localised": made, "localised_off": abs(made + 1.5), "constant": constant}


@study.experiment(seeds=SEEDS)
def late(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """The propagator at 20/m, smeared with a Gaussian of width .2 m, against that at infinite time."""
    field, p, _ = _drawn(rng)
    centre = float(rng.uniform(0, 3))
    x, w = np.polynomial.legendre.leggauss(600)
    at = centre + 1.6 * x
    weight = 1.6 * w * np.exp(-(((at - centre) / 0.2) ** 2) / 2) / (0.2 * np.sqrt(2 * np.pi))
    finite = weight @ propagator(at, p, field, time=20.0)
    # The same Gaussian in time: e^{−(.2 s)²/2} over all of s ≥ 0.
    s = 24 * (x + 1)
    omega = np.hypot(p, 1)
    wave = -np.sin(omega * s) / omega * np.exp(1j * centre * s - (0.2 * s) ** 2 / 2)
    return {"off": float(abs(finite - 24 * (w @ wave)))}


@study.experiment(seeds=SEEDS, time=TIMES, state=("young plasma", "vacuum"))
def decays(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """Decay rate below the threshold at finite time, over that at 3 masses and infinite time."""
    field = Field(distribution=young if config["state"] == "young plasma" else None)
    E = float(rng.uniform(1.0, 1.8))
    below = np.imag(self_energy_at(E, 0.0, field, config["time"]))
    above = self_energy(3.0, 0.0, field).imag
    return {"below": float(abs(below / above)), "energy": E}


@study.experiment(seeds={"quick": 2, "standard": 5, "full": 20})
def peer(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """The real part of the medium against scipy's principal values."""
    E = rng.uniform(2.2, 6, 5)
    made = self_energy(E, 0.0, Field(distribution=1.0), part="medium").real
    theirs = cauchy_quad(E, 1.0)
    return {"off": float(np.abs(made - theirs).max() / np.abs(made).max())}
