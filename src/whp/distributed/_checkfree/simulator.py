"""The same training in one process, to the same last bit: for studies, and to foresee what a rate of failures costs."""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from whp.distributed._checkfree.compute import (
    Mark,
    Stage,
    Unit,
    draws_of_its_own,
    from_bytes,
    to_bytes,
)
from whp.distributed._checkfree.recovery import (
    RULES,
    SMALL,
    Recovery,
    Transfer,
    copied,
    neighbour_weights,
    recover,
    sources,
)
from whp.distributed._checkfree.routes import Op, timeline
from whp.distributed._checkfree.trainer import Batch, StepResult, Trainer, _checked, check_rule
from whp.validate import as_choice, as_int

__all__ = ["Simulator"]


class Simulator(Trainer):
    """A pipeline in one process: stages are lost by :meth:`kill` alone, and nothing dies.

    Takes what :class:`whp.distributed._checkfree.trainer.Trainer` takes, and does what
    :class:`whp.distributed._checkfree.pipeline.PipelineTrainer` does, bit for bit.
    """

    def __init__(self, *model: Any, **training: Any) -> None:
        super().__init__(*model, **training)
        self.before_update: Callable[[Simulator], None] | None = None  # sees gradients, clipped
        self._sites = [
            Stage(i, self.setting, copy.deepcopy(m), {}) for i, m in enumerate(self._modules)
        ]
        self._save_if_due()

    def kill(self, stage: int) -> None:
        """Lose a stage before the next step."""
        self._lost.add(as_int(stage, "stage", low=0, high=self.setting.stages - 1))

    def step(self, batch: Batch) -> StepResult:
        """Train on one batch, after whatever was lost has been regained."""
        recoveries = () if not self._lost else (self._heal(),)
        self._save_if_due()
        xs, ys, shares = self._split(batch)
        done = self.iteration
        try:
            with draws_of_its_own(self.device):
                loss = self._run(xs, ys, shares)
        except BaseException:
            if any(site.iteration > done for site in self._sites):
                # Some have stepped, so that all must: whose optimizer raised has missed its update.
                for site in self._sites:
                    if site.iteration == done:
                        with contextlib.suppress(Exception):
                            site.commit()
                self._stepped(done)
            else:
                for site in self._sites:
                    site.discard()
            raise
        self._stepped(done)
        return StepResult(done, loss, tuple(self._norms), recoveries)

    def _stepped(self, done: int) -> None:
        self.iteration = done + 1
        self.committed.append(done)
        self._norms = [s.units[str(s.rank)].new_norm for s in self._sites]

    @property
    def device(self) -> torch.device:
        """Where the first stage computes."""
        return self._sites[0].device

    def marks(self) -> dict[int, dict[str, Mark]]:
        """Of each stage's units: when they began, updates since then, and with audit their digests."""
        if self._lost:
            self._heal()
        return {r: site.marks(self.audit) for r, site in enumerate(self._sites)}

    def _run(self, xs: list[Tensor], ys: list[Tensor], shares: list[float]) -> float:
        how = self.setting
        order = timeline(len(xs), how.stages, how.swap, how.head)
        value: list[Any] = list(xs)
        for op in order:
            m = op.microbatch
            value[m] = self._sites[op.rank].forward(
                op, value[m], ys[m] if op.unit == "head" else None, shares[m]
            )
        value = [None] * len(xs)
        for op in reversed(order):
            value[op.microbatch] = self._sites[op.rank].backward(op, value[op.microbatch])
        loss = float(self._sites[how.head].loss)
        for site in self._sites:
            site.finish()
        if self.before_update is not None:
            self.before_update(self)
        for site in self._sites:
            site.commit()
        return loss

    @torch.no_grad()
    def objective(self, batch: Batch) -> float:
        """The loss of a batch on the ways that training takes, swaps included, without dropout."""
        if self._lost:
            self._heal()
        xs, ys, shares = self._split(batch)
        how, total = self.setting, 0.0
        value: list[Any] = list(xs)
        for op in timeline(len(xs), how.stages, how.swap, how.head):
            m = op.microbatch
            last = ys[m] if op.unit == "head" else None
            value[m] = self._sites[op.rank].predict(op, value[m], last)
            if op.unit == "head":
                total += shares[m] * float(value[m])
        return total

    def evaluate(self, batches: Iterable[Batch]) -> float:
        """Mean loss of batches, in the normal order and without dropout."""
        return fmean(self.losses(batches))

    def losses(self, batches: Iterable[Batch], *, rows: bool = False) -> list[float]:
        """Loss of each batch, or of each of its rows, in the normal order and without dropout."""
        if self._lost:
            self._heal()
        found = []
        for batch in batches:
            x, y = _checked(batch)
            value = x
            for op in timeline(1, self.setting.stages, False, self.setting.head):
                last = y if op.unit == "head" else None
                value = self._sites[op.rank].predict(op, value, last, rows)
            found += value.reshape(-1).tolist()
        if not found:
            raise ValueError("batches must hold at least one batch, got none")
        return found

    def _weights(self, ranks: Collection[int]) -> dict[int, dict[str, Tensor]]:
        return {
            r: {k: copied(v) for k, v in self._sites[r].units[str(r)].weights().items()}
            for r in ranks
        }

    def _states(self, ranks: Collection[int] | None = None) -> dict[int, bytes]:
        if self._lost and ranks is None:
            self._heal()
        chosen = range(self.setting.stages) if ranks is None else ranks
        return {r: to_bytes(self._sites[r].state()) for r in chosen}

    def _heal(self) -> Recovery:
        lost, at = set(self._lost), self.iteration
        how, transfers, reason = self._decide(lost)
        rolled = how == "rolled back"
        audited = self.audit and not rolled
        averages = self._averages(transfers) if audited else []
        before = self._weights({s for t in averages for s in t.sources})
        was: dict[str, tuple[str, ...]] = {}
        for stage in lost:
            self._failures[stage] = self._failures.get(stage, 0) + 1
            marks = self._sites[stage].marks()
            was |= {name: m.committed for name, m in marks.items()}
            self._count_lost(marks, self.iteration)
        if rolled:
            assert self._vault is not None
            states = [from_bytes(self._vault.read(r)) for r in range(self.setting.stages)]
            for site, state in zip(self._sites, states, strict=True):
                site.load(state)
            self.iteration, self._norms = self._vault.iteration, list(self._vault.norms)
        else:
            with draws_of_its_own(self.device):
                kept = {stage: self._sites[stage].state()["units"] for stage in lost}
                for stage in lost:
                    self._sites[stage].begin_anew(self._modules[stage])
                for transfer in transfers:
                    self._transfer(transfer, kept)
        self._lost.clear()
        seen: dict[str, Any] = {}
        if audited:
            marks_now = {r: site.marks(True) for r, site in enumerate(self._sites)}
            after = self._weights([t.to for t in averages])
            seen = self._inspect(transfers, lost, before, after, was, marks_now)
        noted = self._note(how, at, transfers, lost, reason=reason, **seen)
        if not rolled:
            self._regained(transfers)
        return noted

    def _transfer(self, transfer: Transfer, kept: Mapping[int, Mapping[str, Any]]) -> None:
        """From neighbours, or from `kept`, which is what copies of lost units are."""
        unit: Unit | None = self._sites[transfer.to].units.get(transfer.unit)
        if transfer.how == "rebuild":
            assert unit is not None
            near = [self._sites[s].units[str(s)].state() for s in transfer.sources]
            unit.rebuild(near, transfer.to, self.iteration, self._failures.get(transfer.to, 0))
        elif transfer.how == "restore" and unit is not None:
            full = self.setting.replicas == "full"
            unit.load(kept[transfer.to][transfer.unit], self.iteration, moments=full)

    def jump(
        self, stage: int, batches: Iterable[Batch], rule: Any = None, before: float | None = None
    ) -> float:
        """What losing a stage now would do to the loss of `batches`; afterwards all is as it was.

        Parameters
        ----------
        stage : int
        batches : iterable of (Tensor, Tensor)
        rule : {"grad", "uniform", "copy", "zero", "random", "skip"}, optional
            By default the trainer's; ``"skip"`` leaves the stage out. A twin is copied in CheckFree+.
        before : float, optional
            The loss of `batches` as it is, if it is known.
        """
        held = list(batches)
        unit = self._sites[stage].units[str(stage)]
        before = self.evaluate(held) if before is None else before
        kept = copy.deepcopy(unit.weights())
        calls = self._sites[stage].calls
        try:
            if rule == "skip":
                calls[str(stage)] = nn.Identity()
            else:
                with draws_of_its_own(self.device):
                    self._replace(stage, rule or self.setting.rule)
            return self.evaluate(held) - before
        finally:
            calls[str(stage)] = unit.module
            unit.module.load_state_dict(kept)

    def replace_rule(self, rule: Any) -> None:
        """Rebuild by another rule from now on."""
        rule = as_choice(rule, "rule", RULES)
        check_rule(rule, self._modules[1]["1"])
        self.setting = replace(self.setting, rule=rule)
        for site in self._sites:
            site.setting = self.setting
            for unit in site.units.values():
                unit.setting = self.setting

    def _replace(self, stage: int, rule: str) -> None:
        unit = self._sites[stage].units[str(stage)]
        made = Unit(copy.deepcopy(unit.module), replace(self.setting, rule=rule))
        made.module.load_state_dict(self._modules[stage][str(stage)].state_dict())
        near = [
            self._sites[s].units[str(s)].state()
            for s in sources(stage, self.setting.stages, self.setting.mode, rule)
        ]
        made.rebuild(near, stage, self.iteration, 1)
        unit.module.load_state_dict(made.weights())

    @torch.no_grad()
    def omission(self, stage: int, x: Tensor) -> tuple[float, float]:
        """Error terms of the paper's convergence statement for an inner stage that is still known.

        Parameters
        ----------
        stage : int
            Neither first nor last.
        x : Tensor
            A batch of inputs of the model.

        Returns
        -------
        functions, weights : float
            Mean squared distance of the averaged neighbours' functions, and of the function of the averaged weights, from the
            stage's own branch (its output less its input), over the mean square of that branch.
        """
        stage = as_int(stage, "stage", low=1, high=self.setting.stages - 2)
        value = x
        for op in itertools.takewhile(
            lambda op: op.unit != str(stage),
            timeline(1, self.setting.stages, False, self.setting.head),
        ):
            value = self._sites[op.rank].predict(op, value)
        near = [self._sites[s].units[str(s)] for s in (stage - 1, stage + 1)]
        a, b = neighbour_weights(near[0].norm, near[1].norm, "grad", SMALL)
        own = self._sites[stage].units[str(stage)].module
        mixed = copy.deepcopy(own)
        mixed.load_state_dict(
            recover(near[0].weights(), near[1].weights(), near[0].norm, near[1].norm, eps=SMALL)
        )

        def branch(module: nn.Module) -> Tensor:
            op = Op(str(stage), stage, 0, None, None)
            calls, kept = self._sites[stage].calls, self._sites[stage].calls[str(stage)]
            calls[str(stage)] = module
            out = self._sites[stage].predict(op, value) - value
            calls[str(stage)] = kept
            return out

        true = branch(own)
        size = float(true.square().mean())
        functions = float(
            (a * branch(near[0].module) + b * branch(near[1].module) - true).square().mean()
        )
        return functions / size, float((branch(mixed) - true).square().mean()) / size
