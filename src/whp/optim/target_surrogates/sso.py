"""The optimiser for torch models: one call of an expensive oracle a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from whp.validate import as_choice, as_int, as_real

__all__ = ["SSO", "StepInfo", "loss_oracle"]

Oracle = Callable[[Tensor], tuple[Any, Any]]
SMOOTHNESS: dict[type, float] = {
    nn.MSELoss: 2.0,
    nn.BCEWithLogitsLoss: 0.25,
    nn.CrossEntropyLoss: 0.5,
    nn.HuberLoss: 1.0,
    nn.SmoothL1Loss: 1.0,
}


class _LossOracle:
    """A torch loss as an oracle; knows its smoothness."""

    def __init__(self, loss: Callable[[Tensor, Any], Tensor], y: Any, L: float | None) -> None:
        self.loss, self.y, self.L = loss, y, L

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor]:
        z = z.detach().requires_grad_(True)
        with torch.enable_grad():
            value = self.loss(z, self.y)
            (gradient,) = torch.autograd.grad(value, z)
        return value.detach(), gradient

    def value(self, z: Tensor) -> float:
        """The loss alone."""
        with torch.no_grad():
            return float(self.loss(z, self.y))


def loss_oracle(
    loss: Callable[[Tensor, Any], Tensor], y: Any, *, L: float | None = None
) -> _LossOracle:
    """A torch loss and its targets as an oracle for :meth:`SSO.step`.

    Parameters
    ----------
    loss : Module or callable
        ``loss(z, y)``, a sum over samples: ``reduction="sum"``.
    y : Tensor
    L : float, optional
        Smoothness in z of the sum; known for MSE (2), BCE with logits (1/4), cross-entropy (1/2) and Huber (1). Without it steps
        are found by search.

    Raises
    ------
    ValueError
        If the loss takes a mean: the step would be too small by the number of samples.
    """
    reduction = getattr(loss, "reduction", "sum")
    if reduction != "sum":
        raise ValueError(
            f"loss must have reduction='sum', got {reduction!r}: every sample counts by itself here"
        )
    if L is None:
        L = SMOOTHNESS.get(type(loss))
        if isinstance(loss, nn.SmoothL1Loss):
            L = 1 / loss.beta if loss.beta > 0 else None
    else:
        L = as_real(L, "L", low=0, high=1e12, open_ends=True)
    return _LossOracle(loss, y, None if L is None else float(L))


@dataclass(frozen=True)
class StepInfo:
    """What a step did.

    Attributes
    ----------
    loss : float
        Of the outputs asked about, as a sum.
    surrogate : float
        Its upper bound afterwards, if eta is at most 1/L.
    inner_steps, n_oracle, n_values, n_forward, n_backward : int
    eta : float
    target_step : float
        ‖z_new − z_t‖.
    kept : bool
        Whether the parameters stayed, since no step was better.
    restarts : int
        Times the inner rate was halved for infinities.
    """

    loss: float
    surrogate: float
    inner_steps: int
    eta: float
    target_step: float
    n_oracle: int
    n_values: int
    n_forward: int
    n_backward: int
    kept: bool
    restarts: int


class SSO:
    """Surrogate optimiser: ``info = opt.step(forward, oracle)``.

    The oracle is called once a step; `m` steps follow on a surrogate that needs passes through the model alone.

    Parameters
    ----------
    params : iterable of Tensor
    eta : float or "auto"
        Step in the outputs; ``"auto"`` is 1/L of an oracle that knows it (:func:`loss_oracle`), else a search.
    m : int
        Steps on the surrogate.
    inner : {"adam", "gd", "armijo", "lbfgs"}
        Adam keeps its moments over steps, which is best for networks.
    inner_lr : float
        Of Adam and gradient descent; where Armijo's search starts.
    rule : {"sgd", "sls", "adagrad"}
        Keep η; search it by the oracle's ``value(z)`` (or the oracle itself); or divide by the root of summed squared gradients.
    schedule : {"constant", "sqrt", "exponential"}
    T : int, optional
        Steps in all, for ``"exponential"``.
    tol : float
        Norm of the surrogate's gradient at which to stop.
    weight_decay : float
        Added to the surrogate, never to the oracle.
    armijo : dict, optional
        ``c``, ``beta``, ``expand``.

    Examples
    --------
    >>> import torch
    >>> from whp.optim import SSO, loss_oracle
    >>> model = torch.nn.Linear(4, 3)
    >>> X, y = torch.randn(64, 4), torch.randint(0, 3, (64,))
    >>> opt = SSO(model.parameters(), m=10, inner_lr=1e-2)
    >>> info = opt.step(lambda: model(X), loss_oracle(torch.nn.CrossEntropyLoss(reduction="sum"), y))
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        eta: float | str = "auto",
        *,
        m: int = 20,
        inner: Literal["adam", "gd", "armijo", "lbfgs"] = "adam",
        inner_lr: float = 1e-3,
        rule: Literal["sgd", "sls", "adagrad"] = "sgd",
        schedule: Literal["constant", "sqrt", "exponential"] = "constant",
        T: int | None = None,
        tol: float = 1e-6,
        weight_decay: float = 0.0,
        armijo: dict[str, float] | None = None,
    ) -> None:
        self.params = [p for p in params if p.requires_grad]
        if not self.params:
            raise ValueError("params must hold at least one tensor that requires a gradient")
        self.eta = None if eta == "auto" else as_real(eta, "eta", low=0, high=1e12, open_ends=True)
        self.m = as_int(m, "m", low=1)
        self.inner = as_choice(inner, "inner", ("adam", "gd", "armijo", "lbfgs"))
        self.inner_lr = as_real(inner_lr, "inner_lr", low=0, high=1e6, open_ends=True)
        self.rule = as_choice(rule, "rule", ("sgd", "sls", "adagrad"))
        self.schedule = as_choice(schedule, "schedule", ("constant", "sqrt", "exponential"))
        if schedule == "exponential" and T is None:
            raise ValueError(
                "T must be given for schedule='exponential': the number of steps in all"
            )
        self.T = None if T is None else as_int(T, "T", low=1)
        self.tol = as_real(tol, "tol", low=0, high=1e9)
        self.weight_decay = as_real(weight_decay, "weight_decay", low=0, high=1e9)
        self.armijo = {"c": 0.1, "beta": 0.5, "expand": 1.8} | (armijo or {})
        if set(self.armijo) != {"c", "beta", "expand"}:
            raise ValueError(f"armijo must hold c, beta and expand, got {sorted(self.armijo)}")
        self.t, self.squares, self.searched, self.trial = 0, 0.0, 1e4, self.inner_lr
        self.random = True  # whether forward draws random numbers; seen at each step
        self.optimizer = self._made()

    def _made(self) -> torch.optim.Optimizer | None:
        if self.inner == "adam":
            return torch.optim.Adam(self.params, lr=self.inner_lr, weight_decay=0.0)
        return torch.optim.SGD(self.params, lr=self.inner_lr) if self.inner == "gd" else None

    def step(self, forward: Callable[[], Tensor], oracle: Oracle) -> StepInfo:
        """One call of the oracle, then up to m steps on the surrogate.

        Parameters
        ----------
        forward : callable
            Gives the outputs z, shape (b,) or (b, p), of the same rows and augmentations every time it is called in one step.
        oracle : callable
            ``oracle(z)`` gives the loss, summed over rows, and its gradient in z; tensors or arrays, no autograd needed.

        Raises
        ------
        ValueError
            If the gradient has another shape than z.
        FloatingPointError
            If the oracle gives infinities or NaN.
        RuntimeError
            If `forward` gives other outputs for the same parameters.
        """
        state = torch.random.get_rng_state()

        latest: list[Tensor] = [torch.empty(0)]

        def outputs() -> Tensor:
            if self.random:
                torch.random.set_rng_state(state)  # dropout masks stay the same within a step
            latest[0] = forward()
            return latest[0]

        with torch.enable_grad():
            z = outputs()
            start = z.detach().clone()
            after = torch.random.get_rng_state()
            self.random = not torch.equal(state, after)
            loss, G = self._asked(oracle, start)
            eta, values = self._rate(oracle, start, G, loss)
            rows = len(start)
            counts = {"forward": 1, "backward": 0}
            if self.t == 0:
                with torch.no_grad():
                    again = outputs()
                counts["forward"] += 1
                if not torch.allclose(again, start, rtol=1e-4, atol=1e-6):
                    raise RuntimeError(
                        "forward() is not deterministic: fix augmentations, seeds of workers and random layers within a step"
                    )

            def surrogate(z: Tensor) -> Tensor:
                moved = z - start
                s = ((G * moved).sum() + moved.square().sum() / (2 * eta)) / rows
                if self.weight_decay:
                    s = s + self.weight_decay / 2 * sum(p.square().sum() for p in self.params)
                return s

            offset = float(surrogate(start).detach())
            before = [p.detach().clone() for p in self.params]
            best, kept = offset, [b.clone() for b in before]
            steps, restarts = 0, 0
            s = surrogate(z)
            if self.inner == "lbfgs":
                steps = self._lbfgs(outputs, surrogate, counts)
            else:
                for k in range(self.m):
                    grads = torch.autograd.grad(s, self.params, allow_unused=True)
                    counts["backward"] += 1
                    grads = [
                        torch.zeros_like(p) if g is None else g
                        for g, p in zip(grads, self.params, strict=True)
                    ]
                    if float(nn.utils.get_total_norm(grads)) <= self.tol:
                        break
                    s = self._inner(grads, outputs, surrogate, s, counts)
                    steps = k + 1
                    now = float(s.detach())
                    if not math.isfinite(now):
                        restarts += 1
                        self._reset(before)
                        s = surrogate(outputs())
                        counts["forward"] += 1
                    elif now < best:
                        best = now
                        if k < self.m - 1:
                            for kept_p, p in zip(kept, self.params, strict=True):
                                kept_p.copy_(p.detach())
            with torch.no_grad():
                if self.inner == "lbfgs":
                    final = float(surrogate(outputs()))
                    counts["forward"] += 1
                else:
                    final = float(s.detach())
                stayed = not (math.isfinite(final) and final <= best)
                if (
                    stayed
                ):  # the last step was not the best: go back to the one that was, or to the start
                    for p, b in zip(self.params, kept, strict=True):
                        p.copy_(b)
                    if self.inner == "lbfgs":
                        best = offset
                    outputs()
                    counts["forward"] += 1
                moved = float((latest[0] - start).norm())
            torch.random.set_rng_state(after)
        self.t += 1
        value = min(best, final) if math.isfinite(final) else best
        return StepInfo(
            loss=loss,
            surrogate=loss + rows * (value - offset),
            inner_steps=steps,
            eta=eta,
            target_step=moved,
            n_oracle=1,
            n_values=values,
            n_forward=counts["forward"],
            n_backward=counts["backward"],
            kept=moved == 0.0,
            restarts=restarts,
        )

    def _asked(self, oracle: Oracle, z: Tensor) -> tuple[float, Tensor]:
        answer = oracle(z.clone())
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise TypeError("oracle must return (loss, gradient)")
        loss, G = float(answer[0]), torch.as_tensor(answer[1])
        if G.shape != z.shape:
            raise ValueError(f"grad_z has shape {tuple(G.shape)}, expected {tuple(z.shape)}")
        G = G.detach().to(z.dtype)
        if not math.isfinite(loss) or not torch.isfinite(G).all():
            raise FloatingPointError(f"the oracle is not finite at step {self.t + 1}")
        return loss, G

    def _rate(self, oracle: Oracle, z: Tensor, G: Tensor, loss: float) -> tuple[float, int]:
        L = getattr(oracle, "L", None)
        values = 0
        if self.rule == "sls" or (self.eta is None and L is None):
            value = getattr(oracle, "value", None) or (lambda u: float(oracle(u)[0]))
            eta, size = min(1e4, 2 * self.searched), float(G.square().sum())
            for _ in range(400):
                values += 1
                found = value(z - eta * G)
                if math.isfinite(found) and found <= loss - 0.5 * eta * size:
                    break
                eta *= 0.9
            self.searched = eta
        else:
            eta = self.eta if self.eta is not None else 1 / L  # type: ignore[operator]
        if self.rule == "adagrad":
            self.squares += float(G.square().sum())
            eta = (self.eta or 1.0) / math.sqrt(max(self.squares, 1e-300))
        if self.schedule == "sqrt":
            eta /= math.sqrt(self.t + 1)
        elif self.schedule == "exponential":
            assert self.T is not None
            eta *= (1 / self.T) ** (self.t / self.T)
        return float(eta), values

    def _inner(
        self,
        grads: list[Tensor],
        outputs: Callable[[], Tensor],
        surrogate: Callable[[Tensor], Tensor],
        s: Tensor,
        counts: dict[str, int],
    ) -> Tensor:
        """One step, and the surrogate after it with its graph."""
        if self.optimizer is not None:
            for p, g in zip(self.params, grads, strict=True):
                p.grad = g
            self.optimizer.step()
            counts["forward"] += 1
            return surrogate(outputs())
        c, beta, expand = (self.armijo[k] for k in ("c", "beta", "expand"))
        size = sum(float(g.square().sum()) for g in grads)
        here = float(s.detach())
        base = [p.detach().clone() for p in self.params]
        found, tries = s, 0
        while tries == 0 or (
            tries < 100 and not float(found.detach()) <= here - c * self.trial * size
        ):
            self.trial *= beta if tries else 1.0
            with torch.no_grad():
                for p, b, g in zip(self.params, base, grads, strict=True):
                    p.copy_(b - self.trial * g)
            found = surrogate(outputs())
            counts["forward"] += 1
            tries += 1
        self.trial *= expand
        return found

    def _lbfgs(
        self,
        outputs: Callable[[], Tensor],
        surrogate: Callable[[Tensor], Tensor],
        counts: dict[str, int],
    ) -> int:
        optimizer = torch.optim.LBFGS(
            self.params,
            lr=1.0,
            max_iter=self.m,
            tolerance_grad=self.tol,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            s = surrogate(outputs())
            s.backward()
            counts["forward"] += 1
            counts["backward"] += 1
            return s

        optimizer.step(closure)
        return int(optimizer.state[self.params[0]].get("n_iter", 0))

    def _reset(self, before: list[Tensor]) -> None:
        """Back to the start with half the rate: a step led to infinities."""
        with torch.no_grad():
            for p, b in zip(self.params, before, strict=True):
                p.copy_(b)
        self.inner_lr /= 2
        self.trial = self.inner_lr
        self.optimizer = self._made()

    def state_dict(self) -> dict[str, Any]:
        """Steps, rates, and the inner optimiser."""
        return {
            "t": self.t,
            "squares": self.squares,
            "searched": self.searched,
            "trial": self.trial,
            "inner_lr": self.inner_lr,
            "inner": None if self.optimizer is None else self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        if (state["inner"] is None) != (self.optimizer is None):
            raise ValueError("state belongs to another inner optimiser")
        self.t, self.squares = int(state["t"]), float(state["squares"])
        self.searched, self.trial, self.inner_lr = (
            float(state["searched"]),
            float(state["trial"]),
            float(state["inner_lr"]),
        )
        if self.optimizer is not None:
            self.optimizer = self._made()
            assert self.optimizer is not None
            self.optimizer.load_state_dict(state["inner"])
