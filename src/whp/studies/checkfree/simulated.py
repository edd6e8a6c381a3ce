"""Small pipelines of worlds, and what is known of them without the code that is judged."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from whp.certificate import Certificate

__all__ = ["Shifted", "Simulated", "shifted", "simulated"]

EPS = {"float32": 2.0**-23, "float64": 2.0**-52}


@cache
def _kinds() -> tuple[Any, Any]:
    import torch
    from torch import nn

    class Bent(nn.Module):
        """x + W tanh(V x)."""

        def __init__(self, d: int) -> None:
            super().__init__()
            self.inner, self.out = nn.Linear(d, d, bias=False), nn.Linear(d, d, bias=False)

        def forward(self, x: Any) -> Any:
            return x + self.out(torch.tanh(self.inner(x)))

    class Shift(nn.Module):
        """x + b, perhaps with dropout of what is added."""

        def __init__(self, d: int, drop: float = 0.0) -> None:
            super().__init__()
            self.b, self.drop = nn.Parameter(torch.randn(d, dtype=torch.float64)), nn.Dropout(drop)

        def forward(self, x: Any) -> Any:
            return x + self.drop(self.b.expand_as(x))

    return Bent, Shift


@dataclass
class Simulated:
    """A run with kills, its certificates, and what was seen from outside.

    Attributes
    ----------
    fine : dict of str to bool
        Theorem to whether its claim is true.
    """

    certificates: tuple[Certificate, ...]
    fine: dict[str, bool] = field(default_factory=dict)


def _shares(norms: list[float], rule: str) -> list[float]:
    """By the paper: in proportion to the norms, each 10⁻⁴ larger."""
    if rule == "uniform":
        return [0.5] * 2
    larger = [n + 1e-4 for n in norms]
    return [n / sum(larger) for n in larger]


def _differs(made: Any, near: list[Any], shares: list[float]) -> bool:
    """Whether a tensor is off the mixture by more than eight last digits."""
    parts = [n.detach().double().numpy() for n in near]
    wanted = sum(s * p for s, p in zip(shares, parts, strict=True))
    room = 8 * EPS[str(made.dtype).removeprefix("torch.")] * np.max(np.abs(parts), axis=0)
    return bool((np.abs(made.detach().double().numpy() - wanted) > room).any())


def _whole(sim: Any) -> dict[str, dict[str, Any]]:
    """Copies of weights and moments of all units."""
    return {
        name: {
            "weights": {k: v.detach().clone() for k, v in unit.module.state_dict().items()},
            "moments": {
                i: {k: copy.deepcopy(v) for k, v in moments.items()}
                for i, moments in unit.optimizer.state_dict()["state"].items()
            },
        }
        for site in sim._sites
        for name, unit in site.units.items()
    }


def _equal(a: Any, b: Any) -> bool:
    import torch

    if isinstance(a, Mapping):
        return set(a) == set(b) and all(_equal(v, b[k]) for k, v in a.items())
    if isinstance(a, list):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


TWINS = {0: 1, 1: 0, 3: 4, 4: 3}


def simulated(
    *,
    seed: int,
    kills: Mapping[int, Collection[int]],
    steps: int = 3,
    rule: str = "grad",
    mode: str = "checkfree+",
    fallback: str = "raise",
    replicas: str = "full",
    double: bool = False,
    audit: bool = True,
    tamper: Callable[[Any, int], None] | None = None,
    twice: int | None = None,
    later: str | None = None,
    pickled: bool = False,
    inherits: bool = False,
    lists: bool = False,
) -> Simulated:
    """Five stages x + W tanh(V x), killed on the way.

    Parameters
    ----------
    kills : mapping of int to collection of int
        Iteration to stages.
    tamper : callable, optional
        Called between a kill and the recovery.
    twice : int, optional
        A stage whose optimizer steps twice in the second iteration.
    later : str, optional
        The rule after the first kill.
    pickled : bool
        Whether the pipeline is pickled and unpickled before each iteration.
    inherits, lists : bool
        Whether the optimizer's step calls that of Adam, and whether it keeps lists of tensors.
    """
    import torch
    from torch import nn

    from whp.distributed import Simulator
    from whp.distributed._checkfree.pipeline import _pickler

    Bent, _ = _kinds()
    torch.optim.Adam([nn.Parameter(torch.zeros(1))])  # from now on its step calls hooks

    class Upon(torch.optim.Adam):
        def step(self, closure: Any = None) -> Any:
            told = super().step(closure)
            for moments in self.state.values() if lists else ():
                moments.setdefault("kept", [torch.zeros(2), torch.ones(2)])
            return told

    optimizer = Upon if inherits or lists else torch.optim.Adam
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kind = torch.float64 if double else torch.float32
        ends = nn.Linear(3, 3).to(kind), nn.Linear(3, 1).to(kind)
        stages = [Bent(3).to(kind) for _ in range(5)]
        x, y = torch.randn(4, 3, dtype=kind), torch.randn(4, 1, dtype=kind)
    sim = Simulator(
        ends[0],
        stages,
        ends[1],
        nn.functional.mse_loss,
        optimizer=optimizer,
        lr=1e-2,
        microbatches=2,
        mode=mode,
        rule=rule,
        fallback=fallback,
        replicas=replicas,
        audit=audit,
        seed=seed,
    )
    fine = dict.fromkeys(("recovered-weights", "ends-restored", "others-untouched"), True)
    norms = [0.0] * 5
    since = dict.fromkeys([*map(str, range(5)), "embed", "head"], 0)
    for t in range(steps):
        if pickled:
            sim = pickle.loads(_pickler()(sim))
        lost = sorted(kills.get(t, ()))
        if lost:
            before = _whole(sim)
            for stage in lost:
                sim.kill(stage)
            if tamper is not None:
                tamper(sim, t)
            sim.marks()  # recovers
            if later is not None:
                sim.replace_rule(later)
            after = _whole(sim)
            if mode.startswith("checkfree") and rule != "random":
                for s in lost:
                    twin = TWINS.get(s) if mode == "checkfree+" else None
                    near = [s - 1, s + 1] if twin is None else [twin]
                    if twin is None and rule == "copy":
                        near = near[:1]
                    shares = [1.0] if len(near) == 1 else _shares([norms[i] for i in near], rule)
                    for k, made in after[str(s)]["weights"].items():
                        parts = [before[str(i)]["weights"][k] for i in near]
                        fine["recovered-weights"] &= not _differs(made, parts, shares)
            held = {0: "embed", 4: "head"}
            changed = {str(s) for s in lost} | {held[s] for s in lost if s in held}
            for s in lost:
                since[str(s)] = t
                if s in held:
                    name, parts_kept = held[s], ("weights", "moments")
                    kept = parts_kept if replicas == "full" else parts_kept[:1]
                    fine["ends-restored"] &= all(
                        _equal(before[name][p], after[name][p]) for p in kept
                    )
                    since[name] = t
            fine["others-untouched"] &= all(
                _equal(before[n], after[n]) for n in before if n not in changed
            )
        if twice is not None and t == 1:
            _step_twice(sim._sites[twice].units[str(twice)].optimizer)
        norms = list(sim.step((x, y)).grad_norms)
    once = sim.iteration == steps
    moments = _whole(sim)
    for name, unit in moments.items():
        counted = [int(v["step"]) for v in unit["moments"].values()]
        restored = name in ("embed", "head") and replicas == "full"
        once &= set(counted) == {steps if restored else steps - since[name]}
    return Simulated(sim.certificates(), {**fine, "each-iteration-once": bool(once)})


def _step_twice(optimizer: Any) -> None:
    step = optimizer.step

    def doubled() -> None:
        optimizer.step = step
        step()
        step()

    optimizer.step = doubled


@dataclass
class Shifted:
    """Gradient descent on ½‖Σb − r‖² + c, by four stages x + b, and its true mean squared gradient."""

    certificate: Certificate
    mean: float

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """The one."""
        return (self.certificate,)


def shifted(
    *,
    seed: int,
    q: float = 1.0,
    steps: int = 12,
    kills: Mapping[int, Collection[int]] | None = None,
    boost: float = 1.0,
    clip: float | None = None,
    momentum: float = 0.0,
    decay: float = 0.0,
    adam: bool = False,
    drop: float = 0.0,
    drift: float = 0.0,
    raised: float = 0.0,
    known: bool = True,
    passed: float = 1.0,
) -> Shifted:
    """Learning rate q/L, L = 4, on eight rows; the minimum is known in closed form.

    Parameters
    ----------
    drop : float
        Dropout of the shifts.
    drift : float
        By which share the loss grows at each call.
    raised : float
        By which share of h(θ₀) − h_inf the lower bound is too high.
    known : bool
        Whether L is handed in.
    passed : float
        Share of the gradient that goes backward.
    """
    import torch
    from torch import nn

    from whp.distributed import Simulator, descent_with_jumps

    _, Shift = _kinds()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stages = [Shift(3, drop) for _ in range(4)]
        x, y = (torch.randn(8, 3, dtype=torch.float64) for _ in range(2))
    r = (y - x).mean(dim=0)
    least = float((y - x - r).square().sum(dim=1).mean()) / 2
    calls = 0

    def loss(out: Any, target: Any) -> Any:
        nonlocal calls
        calls += 1
        value = (1 + drift * calls) * (out - target).square().sum(dim=1).mean() / 2
        return value if passed == 1 else passed * value + ((1 - passed) * value).detach()

    def sgd(parameters: Any, lr: float) -> torch.optim.Optimizer:
        if adam:
            return torch.optim.Adam(parameters, lr)
        return torch.optim.SGD(parameters, lr, momentum=momentum, weight_decay=decay)

    sim = Simulator(
        nn.Identity(),
        stages,
        nn.Identity(),
        loss,
        optimizer=sgd,
        lr=q / 4,
        microbatches=2,
        clip=clip,
        lr_boost=boost,
        seed=seed,
    )
    squares: list[float] = []
    step = sim.step

    def watched(batch: Any) -> Any:
        shift = [
            u.parameters[0].detach()
            for site in sim._sites
            for u in site.units.values()
            if u.parameters
        ]
        off = torch.stack(shift).sum(dim=0) - r
        squares.append(4 * float(off.square().sum()))
        return step(batch)

    sim.step = watched  # type: ignore[method-assign]
    first = torch.stack([p.detach() for s in stages for p in s.parameters()]).sum(dim=0) - r
    room = float(first.square().sum()) / 2
    certificate = descent_with_jumps(
        sim,
        (x, y),
        steps,
        floor=least + raised * room,
        kills=kills,
        smoothness=4.0 if known else None,
    )
    return Shifted(certificate, float(np.mean(squares)))
