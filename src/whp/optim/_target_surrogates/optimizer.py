"""The optimizer for torch models: one call of an expensive oracle a step."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from whp.certificate import Certificate
from whp.optim._target_surrogates.oracles import knows, lacks, least_of
from whp.optim._target_surrogates.records import Record, certificates
from whp.validate import as_bool, as_choice, as_int, as_real

__all__ = ["SSO", "StepInfo"]

Oracle = Callable[[Tensor], tuple[Any, Any]]
INNER = ("adam", "gd", "armijo", "lbfgs")
RULES = ("sgd", "sls", "adagrad")
SCHEDULES = ("constant", "sqrt", "exponential")
SAME = 1e-4  # of the outputs' norm, by which a second pass may differ from the first
SLACK = 1e-9
ARMIJO_TRIES = 1000
IGNORED = ("betas", "eps", "amsgrad", "maximize", "momentum", "dampening", "nesterov")
SETTINGS = ("eta", "m", "inner", "rule", "schedule", "T", "tol", "armijo", "measure", "progress")


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
        Steps on the surrogate, calls of the oracle with a gradient and of its value alone, passes
        through the model.
    eta : float
    target_step : float
        ‖z_new − z_t‖.
    kept : bool
        Whether the parameters stayed, since no step was better.
    restarts : int
        Times the inner rate was halved for infinities.
    after : float or None
        The loss of the same outputs after the step, with ``measure=True``.
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
    after: float | None = None


@dataclass
class Progress:
    """What must not be forgotten between steps, nor by saving and loading."""

    t: int = 0
    squares: float = 0.0
    searched: float = 1e4
    trial: float = 1.0
    random: bool = True  # whether the forward pass draws random numbers
    loaded: bool = False  # whether records came from elsewhere
    records: list[Record] = field(default_factory=list)


@dataclass
class _Counts:
    forward: int = 0
    backward: int = 0
    values: int = 0


class SSO(torch.optim.Optimizer):
    """Surrogate optimizer: ``info = opt.step(forward, oracle)``.

    The oracle is called once a step; `m` steps follow on a surrogate that needs passes through the
    model alone. A `torch.optim.Optimizer`: groups may have an ``lr`` and a ``weight_decay`` of their
    own, schedulers act on ``lr``, which is the rate of the inner steps.

    Parameters
    ----------
    params : iterable of Tensor or of dict
        Parameters, or groups of them.
    eta : float or "auto"
        Step in the outputs; ``"auto"`` is 1/L of an oracle that knows it (:func:`loss_oracle`, or an
        attribute ``L``), else a search by its method ``value``; an oracle with neither is refused.
    m : int
        Steps on the surrogate.
    inner : {"adam", "gd", "armijo", "lbfgs"}
        Adam keeps its moments over steps, which is best for networks.
    inner_lr : float
        Rate of Adam and gradient descent; where Armijo's search starts.
    rule : {"sgd", "sls", "adagrad"}
        Keep η; search it by the oracle's ``value(z)``; or divide by the root of summed squared
        gradients.
    schedule : {"constant", "sqrt", "exponential"}
        Of η.
    T : int, optional
        Steps in all, for ``"exponential"``.
    tol : float
        Norm of the surrogate's gradient at which to stop.
    weight_decay : float
        Added to the surrogate, never to the oracle.
    armijo : dict, optional
        ``c``, ``beta``, ``expand``.
    measure : bool
        Ask for the oracle's value after each step, and four times more at the first one, so that
        :meth:`certificates` can be decided; these calls are counted in ``n_values``.

    Examples
    --------
    >>> import torch
    >>> from whp.optim import SSO, loss_oracle
    >>> model = torch.nn.Linear(4, 3)
    >>> X, y = torch.randn(64, 4), torch.randint(0, 3, (64,))
    >>> opt = SSO(model.parameters(), m=10, inner_lr=1e-2, measure=True)
    >>> oracle = loss_oracle(torch.nn.CrossEntropyLoss(reduction="sum"), y)
    >>> info = opt.step(lambda: model(X), oracle)
    >>> str(opt.certificates()[0].verdict)
    'holds'
    """

    def __init__(
        self,
        params: Iterable[Any],
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
        measure: bool = False,
    ) -> None:
        self.eta = None if eta == "auto" else as_real(eta, "eta", low=0, high=1e12, open_ends=True)
        self.m = as_int(m, "m", low=1)
        self.inner = as_choice(inner, "inner", INNER)
        rate = as_real(inner_lr, "inner_lr", low=0, high=1e6, open_ends=True)
        self.rule = as_choice(rule, "rule", RULES)
        self.schedule = as_choice(schedule, "schedule", SCHEDULES)
        if (schedule == "exponential") != (T is not None):
            raise ValueError(
                "T must be the number of steps in all for schedule='exponential', and None otherwise"
            )
        if rule == "sls" and self.eta is not None:
            raise ValueError("eta must be 'auto' for rule='sls', which searches it")
        self.T = None if T is None else as_int(T, "T", low=1)
        self.tol = as_real(tol, "tol", low=0, high=1e9)
        decay = as_real(weight_decay, "weight_decay", low=0, high=1e9)
        if armijo is not None and inner != "armijo":
            raise ValueError("armijo goes with inner='armijo'")
        self.armijo = {"c": 0.1, "beta": 0.5, "expand": 1.8} | (armijo or {})
        if set(self.armijo) != {"c", "beta", "expand"}:
            raise ValueError(f"armijo must hold c, beta and expand, got {sorted(self.armijo)}")
        for name, high in (("c", 1), ("beta", 1), ("expand", 1e3)):
            as_real(self.armijo[name], f"{name} of armijo", low=0, high=high, open_ends=True)
        self.measure = as_bool(measure, "measure")
        self.progress = Progress(trial=rate)
        self._inner: torch.optim.Optimizer | None = None
        self._last: Tensor | None = None
        self._penalised = 0.0  # at the end of the last step
        self._overflowed = False
        groups = list(params)
        if not groups:
            raise ValueError("params must hold at least one tensor that requires a gradient")
        super().__init__(groups, {"lr": rate, "weight_decay": decay})
        if not self._trained():
            raise ValueError("params must hold at least one tensor that requires a gradient")
        self._step_supports_amp_scaling = True  # GradScaler hands over its scale
        self.zero_grad()

    @property
    def inner_lr(self) -> float:
        """Rate of the inner steps of the first group."""
        return float(self.param_groups[0]["lr"])

    # What torch expects of an optimizer

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, with an ``lr`` and a ``weight_decay`` of their own if wanted."""
        unused = sorted(set(param_group) & set(IGNORED))
        if unused:
            raise ValueError(f"a group has lr and weight_decay of its own, {unused[0]} is not used")
        super().add_param_group(param_group)
        try:
            _check_groups(self.param_groups, self.inner)
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise
        self._inner = None

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop gradients but for one, since GradScaler asks for some before each step.

        It is of zeros, or infinite after an overflow that GradScaler is still to see.
        """
        super().zero_grad(set_to_none)
        least = min(self._trained(), key=Tensor.numel, default=None)
        if least is not None and (least.grad is None or self._overflowed):
            least.grad = torch.full_like(least, math.inf if self._overflowed else 0.0)

    def state_dict(self) -> dict[str, Any]:
        """Parameter groups, moments of the inner optimizer, and what the certificates rest on."""
        own = {"inner": self.inner, **asdict(self.progress)}
        return {**super().state_dict(), "surrogates": own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        own = dict(state_dict.get("surrogates", {}))
        if own.pop("inner", None) != self.inner:
            raise ValueError("state belongs to another inner optimizer")
        records = [Record(**r) for r in own.pop("records")]
        progress = Progress(**{**own, "records": records, "loaded": True})
        super().load_state_dict(state_dict)
        self.progress = progress
        self._inner, self._last = None, None

    def __getstate__(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in SETTINGS}
        own["progress"] = Progress(**{**vars(self.progress), "loaded": True})
        return {**super().__getstate__(), **own, "_step_supports_amp_scaling": True}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._penalised = 0.0
        self._inner, self._last, self._overflowed = None, None, False

    # The method

    def step(self, closure: Callable[[], Tensor], oracle: Oracle | None = None) -> StepInfo:  # type: ignore[override]
        """One call of the oracle, then up to m steps on the surrogate.

        Parameters
        ----------
        closure : callable
            Gives the outputs z, shape (b,) or (b, p), of the same rows and augmentations every time
            it is called in one step. Not the loss, unlike closures of other optimizers.
        oracle : callable
            ``oracle(z)`` gives the loss, summed over rows, and its gradient in z; tensors or arrays,
            no autograd needed.

        Raises
        ------
        TypeError
            If there is no oracle, or it answers with something else than a loss and a gradient.
        ValueError
            If the gradient has another shape than z, η can neither be known nor searched, or there
            are no rows or nothing to train.
        FloatingPointError
            If the oracle gives infinities or NaN.
        RuntimeError
            If `closure` gives other outputs for the same parameters.

        Whatever is raised, parameters and η are as they were before the step.
        """
        if oracle is None:
            raise TypeError(
                "step wants a closure that gives outputs, and an oracle of loss and gradient in them"
            )
        with torch.enable_grad():
            return _Step(self, closure, oracle).take()

    def certificates(self, lower: float = 0.0) -> tuple[Certificate, Certificate]:
        """``majorisation`` and ``descent`` of the steps so far; networks are welcome.

        Parameters
        ----------
        lower : float
            A number that the loss is never below.

        Raises
        ------
        ValueError
            If no step was made.
        """
        lower = as_real(lower, "lower", low=-1e300, high=1e300)
        return certificates(self.progress.records, lower, self.progress.loaded)

    def _trained(self) -> list[Tensor]:
        return [p for g in self.param_groups for p in g["params"] if p.requires_grad]

    def _penalty(self) -> Tensor | float:
        return sum(
            g["weight_decay"] / 2 * p.abs().square().sum()
            for g in self.param_groups
            if g["weight_decay"]
            for p in g["params"]
            if p.requires_grad
        )

    def _optimizer(self) -> torch.optim.Optimizer:
        """The inner one, its moments kept as this one's state."""
        if self._inner is None:
            groups = [{"params": g["params"], "lr": g["lr"]} for g in self.param_groups]
            kind = torch.optim.Adam if self.inner == "adam" else torch.optim.SGD
            self._inner = kind(groups)
        self._inner.state = self.state
        for inner, outer in zip(self._inner.param_groups, self.param_groups, strict=True):
            inner["lr"] = outer["lr"]
        return self._inner


class _Step:
    """One step: what lives no longer than it."""

    def __init__(self, opt: SSO, closure: Callable[[], Tensor], oracle: Oracle) -> None:
        self.opt, self.closure, self.oracle = opt, closure, oracle
        self.params, self.trained = opt._trained(), _which(opt.param_groups)
        self.counts, self.restarts = _Counts(), 0
        self.decays = any(g["weight_decay"] for g in opt.param_groups)
        self.random = _random_states(self.params)
        scale = getattr(opt, "grad_scale", None)
        self.scale = 1.0 if scale is None else float(scale)
        self.latest = torch.empty(0)
        opt._overflowed = False
        if not self.params:
            raise ValueError("no parameter requires a gradient any more")
        _check_groups(opt.param_groups, opt.inner)

    def take(self) -> StepInfo:
        """The whole step."""
        progress, before = replace(self.opt.progress), [p.detach().clone() for p in self.params]
        try:
            return self._taken(before)
        except BaseException:
            # A simulator that is not there for once, or Ctrl-C, costs this step alone.
            self.opt.progress = replace(progress, random=self.opt.progress.random)
            with torch.no_grad():
                for p, b in zip(self.params, before, strict=True):
                    p.copy_(b)
            raise

    def _taken(self, before: list[Tensor]) -> StepInfo:
        progress = self.opt.progress
        z = self._outputs()
        self.start = start = z.detach().clone()
        if not z.numel():
            raise ValueError("closure must give outputs of at least one row")
        # Where the numbers that others draw, the oracle above all, go on.
        self.outside = _random_states(self.params)
        progress.random = not _same_states(self.random, self.outside)
        try:
            self._deterministic()
            self.loss, self.G = self._asked(start)
            self.eta = self._rate()
            self.rows = start.shape[0] if start.ndim else 1
            self.offset = float(self._surrogate(start).detach())
            steps, value, self.norm2 = self._minimise(z, before)
            return self._told(steps, value)
        finally:
            if progress.random:
                _restore(self.outside)

    def _outputs(self) -> Tensor:
        if self.opt.progress.random:
            _restore(self.random)  # dropout masks stay the same within a step
        z = self.closure()
        if not isinstance(z, Tensor):
            raise TypeError(f"closure must give a tensor of outputs, got {type(z).__name__}")
        if z.is_complex():
            raise TypeError("closure must give real outputs; take torch.view_as_real")
        self.counts.forward += 1
        # Gradients are as coarse as outputs and parameters, whatever the outputs are turned into.
        self.coarse = max(torch.finfo(t.dtype).eps for t in (z, *self.params))
        # Sums of squares overflow in half precision.
        self.latest = z.float() if z.dtype in (torch.float16, torch.bfloat16) else z
        return self.latest

    def _deterministic(self) -> None:
        with torch.no_grad():
            off = float((self._outputs() - self.start).norm())
            if not off <= SAME * float(self.start.norm()):
                raise RuntimeError(
                    "forward() is not deterministic: fix augmentations, seeds of workers and random "
                    "layers within a step"
                )

    def _ask(self, what: Callable[[Tensor], Any], z: Tensor) -> Any:
        """What the oracle says of z, which it may change; what it draws at random goes on."""
        if not self.opt.progress.random:
            return what(z.clone())
        _restore(self.outside)
        answer = what(z.clone())
        self.outside = _random_states(self.params)
        return answer

    def _asked(self, z: Tensor) -> tuple[float, Tensor]:
        answer = self._ask(self.oracle, z)
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise TypeError("oracle must return (loss, gradient)")
        loss, G = float(answer[0]), torch.as_tensor(answer[1])
        if G.shape != z.shape:
            raise ValueError(f"grad_z has shape {tuple(G.shape)}, expected {tuple(z.shape)}")
        coarse = [t.dtype for t in (z, G) if t.dtype.is_floating_point]
        self.unit = max(torch.finfo(kind).eps for kind in coarse)
        G = G.detach().to(z, copy=True)  # an oracle may use its memory again
        self.long = float(G.norm())
        if not math.isfinite(loss) or not math.isfinite(self.long):
            raise FloatingPointError(f"the oracle is not finite at step {self.opt.progress.t + 1}")
        return loss, G

    def _value(self, z: Tensor) -> float:
        self.counts.values += 1
        value = getattr(self.oracle, "value", None)
        if value is not None:
            return float(self._ask(value, z))
        return float(self._ask(self.oracle, z)[0])

    def _rate(self) -> float:
        opt, progress = self.opt, self.opt.progress
        L = getattr(self.oracle, "L", None)
        self.L = None if L is None else as_real(float(L), "L of the oracle", low=0, high=1e300)
        unknown = opt.rule == "sgd" and opt.eta is None and self.L is None
        search = opt.rule == "sls" or unknown
        if search and getattr(self.oracle, "value", None) is None:
            raise ValueError(
                "eta must be a number, or the oracle must have L or a method value(z): a search "
                "would call the whole oracle many times a step"
            )
        eta = opt.eta if opt.eta is not None else 1 / (self.L or 1.0)
        if search:
            eta = min(1e4, 2 * progress.searched)
            for _ in range(400):
                found = self._value(self.start - eta * self.G)
                if math.isfinite(found) and found <= self.loss - 0.5 * eta * self.long**2:
                    break
                eta *= 0.9
            progress.searched = eta
        if opt.rule == "adagrad":
            progress.squares += self.long**2
            eta /= math.sqrt(max(progress.squares, 1e-300))
        if opt.schedule == "sqrt":
            eta /= math.sqrt(progress.t + 1)
        elif opt.schedule == "exponential":
            assert opt.T is not None
            eta *= (1 / opt.T) ** (progress.t / opt.T)
        return float(eta)

    def _surrogate(self, z: Tensor) -> Tensor:
        """Less the loss, and divided by the rows."""
        moved = z - self.start
        s = ((self.G * moved).sum() + moved.square().sum() / (2 * self.eta)) / self.rows
        return s + self.opt._penalty() if self.decays else s

    def _minimise(self, z: Tensor, before: list[Tensor]) -> tuple[int, float, float]:
        """Up to m inner steps; how many, the surrogate at their best, and ‖∇s‖² at the start."""
        s, best = self._surrogate(z), self.offset
        kept = [b.clone() for b in before]
        if self.opt.inner == "lbfgs":
            steps, norm2 = self._lbfgs()
            final = float(self._surrogate(self._outputs()).detach())
        else:
            steps, norm2, final = 0, 0.0, best
            for k in range(self.opt.m):
                grads = self._gradients(s)
                norm = float(nn.utils.get_total_norm(grads)) if grads else math.inf
                norm2 = norm**2 if k == 0 else norm2
                if norm <= self.opt.tol or not grads:
                    break
                ended = self._inner(grads, s)
                if ended is None:
                    break
                s, steps, final = ended, k + 1, float(ended.detach())
                if not math.isfinite(final):
                    self.restarts += 1
                    self._reset(before)
                    s = self._surrogate(self._outputs())
                    final = self.offset
                elif final < best:
                    best = final
                    if k < self.opt.m - 1:
                        for saved, p in zip(kept, self.params, strict=True):
                            saved.copy_(p.detach())
        if not (math.isfinite(final) and final <= best):
            # The last step was not the best: back to the one that was, or to the start.
            with torch.no_grad():
                for p, b in zip(self.params, kept, strict=True):
                    p.copy_(b)
                self._outputs()
            return steps, best, norm2
        return steps, final, norm2

    def _gradients(self, s: Tensor) -> list[Tensor]:
        """Of the surrogate; none where the scale of GradScaler made them overflow."""
        found = torch.autograd.grad(
            s * self.scale if self.scale != 1 else s, self.params, allow_unused=True
        )
        self.counts.backward += 1
        grads = [
            torch.zeros_like(p) if g is None else g for g, p in zip(found, self.params, strict=True)
        ]
        if self.scale != 1:
            for p, g in zip(self.params, grads, strict=True):
                p.grad = g  # where GradScaler sees at its next step what overflowed
            if not all(bool(g.isfinite().all()) for g in grads):
                self.opt._overflowed = True
                return []
            grads = [g / self.scale for g in grads]
        return grads

    def _inner(self, grads: list[Tensor], s: Tensor) -> Tensor | None:
        """One inner step, and the surrogate after it with its graph; None where a search finds none."""
        if self.opt.inner in ("adam", "gd"):
            for p, g in zip(self.params, grads, strict=True):
                p.grad = g
            self.opt._optimizer().step()
            return self._surrogate(self._outputs())
        c, beta, expand = (self.opt.armijo[k] for k in ("c", "beta", "expand"))
        size = sum(float(g.abs().square().sum()) for g in grads)
        here, progress = float(s.detach()), self.opt.progress
        base = [p.detach().clone() for p in self.params]
        # Steps that promise less than rounding are no steps; to shrink on would stall all later ones.
        terms = float((self.G.abs() * self.start.abs()).sum()) / self.rows
        least, trial = self.unit * (abs(here) + terms), progress.trial
        for _ in range(ARMIJO_TRIES):
            with torch.no_grad():
                for p, b, g in zip(self.params, base, grads, strict=True):
                    p.copy_(b - trial * g)
            found = self._surrogate(self._outputs())
            if float(found.detach()) <= here - c * trial * size:
                progress.trial = trial * expand
                return found
            trial *= beta
            if trial * size <= least:
                break
        with torch.no_grad():
            for p, b in zip(self.params, base, strict=True):
                p.copy_(b)
            self._outputs()
        return None

    def _lbfgs(self) -> tuple[int, float]:
        optimizer = torch.optim.LBFGS(
            self.params,
            lr=1.0,
            max_iter=self.opt.m,
            tolerance_grad=self.opt.tol,
            line_search_fn="strong_wolfe",
        )
        norms: list[float] = []

        def closure() -> Tensor:
            optimizer.zero_grad()
            s = self._surrogate(self._outputs())
            s.backward()
            self.counts.backward += 1
            if not norms:
                held = [p.grad for p in self.params if p.grad is not None]
                norms.append(float(nn.utils.get_total_norm(held)))
            return s

        optimizer.step(closure)
        return int(optimizer.state[self.params[0]].get("n_iter", 0)), norms[0] ** 2

    def _reset(self, before: list[Tensor]) -> None:
        """Back to the start with half the rates: a step led to infinities."""
        with torch.no_grad():
            for p, b in zip(self.params, before, strict=True):
                p.copy_(b)
        for group in self.opt.param_groups:
            group["lr"] /= 2
        self.opt.progress.trial = self.opt.param_groups[0]["lr"]
        self.opt.state.clear()

    def _told(self, steps: int, value: float) -> StepInfo:
        """What the user is given, and what the certificates are made of."""
        opt, progress = self.opt, self.opt.progress
        end = self.latest.detach()
        moved = end - self.start
        step, linear = float(moved.norm()), float((self.G * moved).sum())
        terms = float((self.G.abs() * (moved.abs() + self.start.abs())).sum())
        after, bend = None, 0.0
        bent = step**2 / (2 * self.eta)
        radius = 16 * self.unit * (abs(self.loss) + terms + bent)
        if opt.measure:
            after = self._value(end)
            if not math.isfinite(after):
                after, bend = math.inf, math.inf  # as no loss with an L is
            elif step > 0:
                radius += 16 * self.unit * abs(after)
                bend = max(abs(after - self.loss - linear) - 2 * radius, 0.0) * 2 / step**2
            if progress.t == 0:
                bend = max(bend, self._probed())
        surrogate = self.loss + linear + bent  # without penalty, which the oracle knows nothing of
        first = progress.records[0].loss if progress.records else self.loss
        fell = self.rows * (self.offset - value)
        squared = self.rows**2 * self.norm2
        same = None
        if self.opt._last is not None:
            last = self.opt._last
            same = last.shape == self.start.shape and float((last - self.start).abs().max()) == 0
            # Weights that the outputs do not show may have changed.
            same &= abs(self.offset - opt._penalised) <= 64 * self.coarse * opt._penalised
        opt._last = end.clone()
        with torch.no_grad():
            opt._penalised = float(opt._penalty())
        progress.records.append(
            Record(
                loss=self.loss,
                after=after,
                surrogate=surrogate,
                slack=SLACK * (abs(first) + self.long * step) + 4 * radius,
                rounding=radius,
                eta=self.eta,
                L=self.L,
                known=knows(self.oracle),
                none=lacks(self.oracle),
                least=least_of(self.oracle),
                bend=bend,
                gradient=squared,
                share=max(fell - 2 * radius, 0.0) / squared if squared > 0 else 0.0,
                penalty=self.rows * self.offset,
                same=same,
                unit=max(self.unit, self.coarse),
                trained=self.trained,
            )
        )
        progress.t += 1
        return StepInfo(
            loss=self.loss,
            surrogate=surrogate,
            inner_steps=steps,
            eta=self.eta,
            target_step=step,
            n_oracle=1,
            n_values=self.counts.values,
            n_forward=self.counts.forward,
            n_backward=self.counts.backward,
            kept=step == 0.0,
            restarts=self.restarts,
            after=after,
        )

    def _probed(self) -> float:
        """How much the loss must bend for its values along two lines, were G its gradient."""
        if not self.long > 0:
            return 0.0
        h, least = 0.1 * self.eta, 0.0
        other = torch.zeros_like(self.G).flatten()
        other[torch.argmax(self.G.abs().flatten())] = self.long
        for d in (self.G, other.view_as(self.G)):
            high, low = self._value(self.start + h * d), self._value(self.start - h * d)
            expected, size = 2 * h * float((self.G * d).sum()), (h * self.long) ** 2
            terms = abs(high) + abs(low) + float((self.G.abs() * self.start.abs()).sum())
            off = abs(high - low - expected) - 32 * self.unit * (terms + abs(expected))
            least = max(least, off / size) if math.isfinite(off) and size > 0 else least
        return least


def _check_groups(groups: list[dict[str, Any]], inner: str) -> None:
    """Rates and weight decay must be numbers that are used; a negative decay has no least value."""
    for g in groups:
        as_real(float(g["lr"]), "lr of a group", low=0, high=1e6)
        as_real(float(g["weight_decay"]), "weight_decay of a group", low=0, high=1e9)
    if inner in ("armijo", "lbfgs") and len({float(g["lr"]) for g in groups}) > 1:
        raise ValueError(f"lr must be the same in all groups for inner={inner!r}, which searches")


def _which(groups: list[dict[str, Any]]) -> str:
    """A few letters for which parameters are trained, and with which weight decay."""
    held = [(g["weight_decay"], [p.requires_grad for p in g["params"]]) for g in groups]
    return f"{zlib.crc32(repr(held).encode()):08x}"


def _random_states(params: list[Tensor]) -> list[tuple[torch.device | None, Tensor]]:
    """States of the generators of the processor and of the devices where parameters live."""
    states: list[tuple[torch.device | None, Tensor]] = [(None, torch.random.get_rng_state())]
    for device in dict.fromkeys(p.device for p in params):
        module: Any = getattr(torch, device.type, None)  # torch.cuda, torch.mps
        if hasattr(module, "get_rng_state") and module.is_available():
            states.append((device, module.get_rng_state(device)))
    return states


def _same_states(a: list[Any], b: list[Any]) -> bool:
    return all(torch.equal(x, y) for (_, x), (_, y) in zip(a, b, strict=True))


def _restore(states: list[tuple[torch.device | None, Tensor]]) -> None:
    for device, state in states:
        if device is None:
            torch.random.set_rng_state(state)
        else:
            getattr(torch, device.type).set_rng_state(state, device)
