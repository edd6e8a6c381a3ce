"""What is run: random tables of the paper's design, and gymnasium's environments with changed rewards."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from whp.experiment.study import Study
from whp.peers.rewards import regret_by_program
from whp.rl import Dynamics, starc, starc_sampled, tabular_model

__all__ = ["CHANGES", "ENVIRONMENTS", "changed", "pendulum", "study"]

Row = dict[str, Any]
KINDS = ("val", "minimal", "epic", "dard", "none")
DISCOUNT = 0.95
ENVIRONMENTS = ("FrozenLake-v1", "FrozenLake8x8-v1", "CliffWalking-v1", "Taxi-v4")
CHANGES = ("step cost", "penalty", "shaped", "negated", "other goal")
PEAKS = ("shaped", "energy", "sparse", "random", "negative")

study = Study("starc")


def random_table(rng: np.random.Generator, S: int, A: int) -> np.ndarray:
    """Transitions of the published design: Gaussians kept above 1, the others all but impossible."""
    logits = rng.normal(size=(S, A, S))
    logits = np.where(logits > 1, logits, -20)
    made = np.exp(logits - logits.max(-1, keepdims=True))
    return made / made.sum(-1, keepdims=True)


def random_reward(rng: np.random.Generator, S: int, A: int) -> np.ndarray:
    """Gaussian rewards by next state; some are sparse, scaled, shifted, shaped."""
    R = rng.normal(size=(S, A, S))
    if rng.random() < 0.2:
        R = np.where(R > 3, R, 0)
    if rng.random() < 0.7:
        R = R * 10 * rng.random()
    if rng.random() < 0.3:
        R = R + 10 * rng.random()
    if rng.random() < 0.5:
        phi = rng.normal(size=S)
        R = R + DISCOUNT * phi - phi[:, None, None]
    return R


def quietly(*arguments: Any, **options: Any) -> Any:
    """`starc` without the warning that other forms guarantee nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return starc(*arguments, **options)


SEEDS = {"quick": 4, "standard": 40, "full": 128}


@study.experiment(seeds=SEEDS, S=32, A=4, pairs=8, steps=16, quick={"S": 12, "pairs": 4})
def correlation(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """One table, pairs of rewards, steps from one to the other: rank correlation with regret."""
    S, A = config["S"], config["A"]
    P = random_table(rng, S, A)
    found: dict[str, list[float]] = {k: [] for k in (*KINDS, "range", "optimal", "worst")}
    for _ in range(config["pairs"]):
        R1, R2 = random_reward(rng, S, A), random_reward(rng, S, A)
        for step in np.linspace(0, 1, config["steps"] + 1)[1:]:
            other = (1 - step) * R1 + step * R2
            made = quietly(R1, other, P, discount=DISCOUNT)
            if made.regret is None:
                continue
            found["val"].append(made.distance)
            found["range"].append(made.range_distance)
            found["worst"].append(made.regret.relative)
            found["optimal"].append(optimal_regret(P, R1, other, made.regret.ranges[0]))
            for kind in KINDS[1:]:
                plain = quietly(R1, other, P, discount=DISCOUNT, canonical=kind, measure=False)
                found[kind].append(plain.distance)
    row: Row = {}
    for name in (*KINDS, "range"):
        for regret in ("optimal", "worst"):
            row[f"{name}_{regret}"] = float(spearmanr(found[name], found[regret]).statistic)
    row["val_over_epic"] = row["val_optimal"] - row["epic_optimal"]
    row["epic_over_none"] = row["epic_optimal"] - row["none_optimal"]
    row["range_over_val"] = row["range_optimal"] - row["val_optimal"]
    return row


def optimal_regret(P: np.ndarray, R1: np.ndarray, R2: np.ndarray, width: float) -> float:
    """What the best policy for reward 2 loses by reward 1, as a share of its range."""
    from whp.rl import range_of_return

    S = len(P)
    _, best, _, _ = range_of_return(R1, P, discount=DISCOUNT)
    _, _, _, chosen = range_of_return(R2, P, discount=DISCOUNT)
    r1 = (P * R1).sum(-1)[np.arange(S), chosen]
    values = np.linalg.solve(np.eye(S) - DISCOUNT * P[np.arange(S), chosen], r1)
    return float(best - values.mean()) / width


@study.experiment(seeds=1, M=(1, 10, 100, 1000))
def fooled(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """Opposite wishes, hidden under rewards of what cannot happen."""
    P = np.zeros((3, 2, 3))
    P[0, 0, 1] = P[0, 1, 2] = 1
    P[1, :, 0] = P[2, :, 0] = 1
    base = np.where(P > 0, 0, config["M"] * np.sin(np.arange(18.0)).reshape(3, 2, 3))
    R1, R2 = base.copy(), base.copy()
    R1[0, 0, 1] += 1
    R2[0, 1, 2] += 1
    row: Row = {}
    for kind in ("val", "epic", "dard"):
        made = quietly(R1, R2, P, discount=0.9, start=[1, 0, 0], canonical=kind)
        row[kind] = made.distance
        row["lost"] = made.regret.relative
    return row


@study.experiment(
    seeds={"quick": 10, "standard": 100, "full": 1000},
    norm=("1", "2", "inf"),
    discount=(0.5, 0.9, 0.99),
)
def bounds(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """Ten random tables: is any bound broken, and does a linear program agree?"""
    broken, off = 0, 0.0
    for _ in range(10):
        S, A = int(rng.integers(2, 7)), int(rng.integers(2, 4))
        P = rng.dirichlet(np.full(S, 0.3), (S, A))
        r1, r2 = rng.normal(size=(2, S, A))
        made = starc(r1, r2, P, discount=config["discount"], norm=config["norm"])
        broken += any(str(c.verdict) in ("fails", "inconclusive") for c in made.certificates)
        assert made.regret is not None
        program = regret_by_program(P, r1, r2, np.full(S, 1 / S), config["discount"])
        off = max(off, abs(program - made.regret.absolute) / made.regret.ranges[0])
    return {"broken": broken, "off": off}


def changed(name: str, change: str) -> tuple[Any, np.ndarray]:
    """An environment's table, and its reward with that change."""
    model = tabular_model(name)
    P, R = model.transitions, model.reward
    S = len(P)
    ends = (P[np.arange(S), :, np.arange(S)] == 1).all(1) & (np.abs(R).sum((1, 2)) == 0)
    if change == "step cost":
        return model, R - 0.01 * (~ends)[:, None, None]
    if change == "negated":
        return model, -R
    if change == "shaped":
        phi = np.where(ends, 0.0, np.sin(np.arange(S)))
        return model, R + DISCOUNT * phi - phi[:, None, None]
    if change == "penalty":  # of what ends an episode without a prize, or costs most already
        worst = R[P > 0].min() == R
        into = ends[None, None, :] & ~ends[:, None, None] & (R <= 0)
        return model, np.where(into if "Lake" in name else worst, R - 1, R)
    prize = np.unravel_index(int((R * (P > 0)).argmax()), R.shape)[2] if "Lake" in name else None
    if prize is not None:
        moved = R.copy()
        moved[:, :, prize] = 0
        moved[:, :, S // 2 - 2] = np.where(P[:, :, S // 2 - 2] > 0, 1.0, 0.0)
        return model, moved
    return model, np.roll(R, 1, axis=0) * (P > 0)


@study.experiment(seeds=1, env=ENVIRONMENTS, change=CHANGES, quick={"env": ENVIRONMENTS[:1]})
def environments(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """Gymnasium's tables with one change of the reward."""
    model, other = changed(config["env"], config["change"])
    R, P, start = model.reward, model.transitions, model.start
    made = quietly(R, other, P, discount=DISCOUNT, start=start)
    assert made.regret is not None
    row: Row = {"val": made.distance, "range": made.range_distance, "worst": made.regret.relative}
    if len(P) < 200:  # DARD takes S³A
        for kind in ("minimal", "epic", "dard"):
            row[kind] = quietly(
                R, other, P, discount=DISCOUNT, start=start, canonical=kind, measure=False
            ).distance
    for certificate in made.certificates:
        row[f"verdict_{certificate.name}"] = str(certificate.verdict)
    return row


LOW, HIGH = np.array([-np.pi, -8.0]), np.array([np.pi, 8.0])


def pendulum() -> Dynamics:
    """The pendulum of gymnasium, in closed form."""

    def step(s: np.ndarray, a: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        speed = np.clip(s[:, 1] + (15 * np.sin(s[:, 0]) + 3 * a[:, 0]) * 0.05, -8, 8)
        return np.stack([s[:, 0] + speed * 0.05, speed], axis=1)

    def draw(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return rng.uniform(LOW, HIGH, (n, 2)), rng.uniform(-2, 2, (n, 1))

    return Dynamics(step, draw, LOW, HIGH, (0,))


def peak(name: str, rng: np.random.Generator) -> Any:
    """A reward of the pendulum; the plain one is that of gymnasium."""

    def upright(s: np.ndarray, a: np.ndarray, t: np.ndarray) -> np.ndarray:
        angle = (s[:, 0] + np.pi) % (2 * np.pi) - np.pi
        return -(angle**2 + 0.1 * s[:, 1] ** 2 + 0.001 * a[:, 0] ** 2)

    def phi(s: np.ndarray) -> np.ndarray:
        return 2 * np.cos(s[:, 0]) + 0.1 * s[:, 1] ** 2

    weights = rng.normal(size=4)
    rewards = {
        "plain": upright,
        "shaped": lambda s, a, t: upright(s, a, t) + DISCOUNT * phi(t) - phi(s),
        "energy": lambda s, a, t: -np.abs(s[:, 1] ** 2 / 2 + 15 * (np.cos(s[:, 0]) - 1)),
        "sparse": lambda s, a, t: (np.cos(s[:, 0]) > 0.9).astype(float),
        "random": lambda s, a, t: (
            np.stack([np.cos(s[:, 0] + 1), np.sin(2 * s[:, 0]), np.cos(s[:, 1]), a[:, 0]], axis=1)
            @ weights
        ),
        "negative": lambda s, a, t: -upright(s, a, t),
    }
    return rewards[name]


@study.experiment(seeds={"quick": 1, "standard": 5, "full": 20}, n=20_000, quick={"n": 4000})
def swings(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """The pendulum with five other rewards."""
    row: Row = {}
    plain = peak("plain", rng)
    for name in PEAKS:
        made = starc_sampled(
            plain,
            peak(name, rng),
            pendulum(),
            discount=DISCOUNT,
            n_fit=config["n"],
            n_eval=config["n"],
            rng=rng,
        )
        row[name] = made.distance
    values = [row[name] for name in PEAKS]
    row["in_order"] = bool(values == sorted(values))
    return row
