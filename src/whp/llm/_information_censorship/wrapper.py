"""A text model behind a censor: questions in, answers or silence out, and everything that was asked remembered."""

from __future__ import annotations

import json
import math
import os
import secrets
import tempfile
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from whp.certificate import Answer, Certificate
from whp.llm._information_censorship import theorems as th
from whp.llm._information_censorship.mechanism import Censor, any_prior
from whp.provenance import forget, made_here, register
from whp.validate import as_bool, as_int, as_real, as_rng

__all__ = ["CensoredModel", "censor_unknown"]

NO_LINK = getattr(os, "O_NOFOLLOW", 0)


def censor_unknown(
    probabilities: Sequence[float] | None,
    k: int,
    eps: float,
    *,
    impermissible: Sequence[int] | None = None,
    answers: int | None = None,
    mechanism: str = "erase",
) -> Censor:
    """A censor for a system of which no table is known: the universal calibration.

    Parameters
    ----------
    probabilities : sequence of float, shape (m,), or None
        P(a) of the answers of the impermissible question, as the adversary holds before asking; None covers every prior.
    k : int
        Interactions that one adversary may have.
    eps : float
        Budget in nats.
    impermissible : sequence of int, optional
        Numbers of the answers that must not become inferable; all by default.
    answers : int, optional
        Their number, where there are no probabilities.
    mechanism : {"erase", "krr"}
        Silence, or another answer.

    Raises
    ------
    ValueError
        If something is out of range.

    Examples
    --------
    >>> censor_unknown([0.945, 0.055], 3, 0.01).strength
    0.0159...
    """
    from whp.llm._information_censorship.leakage import Measure
    from whp.llm._information_censorship.mechanism import _universal

    eps, k = as_real(eps, "eps", low=0.0), as_int(k, "k", low=1)
    if mechanism not in ("erase", "krr"):
        raise ValueError(f"mechanism must be 'erase' or 'krr', got {mechanism!r}")
    if probabilities is not None and answers is not None:
        raise ValueError("answers must be left out where probabilities are given")
    if probabilities is None:
        if answers is None:
            raise ValueError("answers must be given where no probabilities are")
        m = as_int(answers, "answers", low=1)
        chosen = list(range(m)) if impermissible is None else sorted(set(impermissible))
        ceiling, mass = any_prior(m, len(chosen)), 1.0
    else:
        P = np.asarray(probabilities, dtype=np.float64)
        if P.ndim != 1 or not np.isfinite(P).all() or (P < 0).any() or abs(P.sum() - 1) > 1e-6:
            raise ValueError("probabilities must be at least 0 and sum to 1")
        m = len(P)
        chosen = list(range(m)) if impermissible is None else sorted(set(impermissible))
        mask = np.isin(np.arange(m), chosen)
        ceiling, mass = Measure(mask).ceiling(P / P.sum()), float(P[mask].sum())
    if not chosen or not all(isinstance(a, int | np.integer) and 0 <= a < m for a in chosen):
        raise ValueError(
            f"impermissible must be numbers of answers from 0 to {m - 1}, got {impermissible}"
        )
    censor = Censor(mechanism, k, eps, 0.0, ceiling, mass)
    return Censor(mechanism, k, eps, _universal(censor), ceiling, mass)


class CensoredModel:
    """Any ``answer(question) -> str`` behind a censor.

    Parameters
    ----------
    answer : callable
        Called for every new question, whether its answer leaves or not, so that both take as long. What it raises, and answers
        that are not in `alphabet`, become the first of the alphabet and are counted.
    censor : Censor
        Of a result, or of :func:`censor_unknown`.
    alphabet : sequence of str, optional
        All answers there are; wanted for swapping, which draws others out of it.
    sticky : bool
        Keep the returned answer of each question, and return it again. Without it every repetition is an interaction.
    state : Path, optional
        File that every interaction is written to before its answer is returned, readable by its owner alone, so that a crash
        or restart forgets nothing. A copy of it, or an old one put back, is a second account, which nobody can see.
    rng : None, int or Generator
        Coins; by default the operating system's. Whoever knows a seed knows the coins.

    Attributes
    ----------
    log : DataFrame
        Every interaction: `question`, `answered`, `answer`. **Secret**: it holds what was erased.
    mapped : int
        Answers that were no text of the alphabet, or errors.

    Raises
    ------
    ValueError
        If an option is out of range, or the state is of another censor or damaged.

    Examples
    --------
    >>> model = CensoredModel(lambda question: "yes", censor_unknown([0.9, 0.1], 2, 10.0))
    >>> [model.ask(q) for q in ("a?", "A? ", "b?", "c?")]
    ['yes', 'yes', 'yes', None]
    """

    def __init__(
        self,
        answer: Callable[[str], str],
        censor: Censor,
        *,
        alphabet: Sequence[str] | None = None,
        sticky: bool = True,
        state: Path | str | None = None,
        rng: Any = None,
    ) -> None:
        if not callable(answer):
            raise TypeError(f"answer must be callable, got {type(answer).__name__}")
        if not isinstance(censor, Censor):
            raise TypeError(f"censor must be a Censor, got {type(censor).__name__}")
        self.answer, self.censor = answer, censor
        if isinstance(alphabet, str):
            raise TypeError(f"alphabet must be a sequence of answers, got the text {alphabet!r}")
        self.alphabet = None if alphabet is None else tuple(alphabet)
        if self.alphabet is not None and (
            not self.alphabet or len(set(self.alphabet)) < len(self.alphabet)
        ):
            raise ValueError("alphabet must hold at least one answer, each once")
        if censor.name == "krr" and self.alphabet is None:
            raise ValueError("alphabet must be given for swapping")
        self.sticky = as_bool(sticky, "sticky")
        self.state = None if state is None else Path(state)
        self._rng = None if rng is None else as_rng(rng)
        self._entries: list[tuple[str, bool, str]] = []
        self._kept: dict[str, str | None] = {}
        self.mapped = 0
        self.resumed = False
        if self.state is not None and self.state.exists():
            self._load()
        self._renew_lock()
        register(self, "censor", "answer", "alphabet", "sticky", "state", "_rng")

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._renew_lock()

    def _renew_lock(self) -> None:
        self._lock, self._process = threading.RLock(), os.getpid()

    @property
    def used(self) -> int:
        """Interactions so far."""
        return len(self._entries)

    @property
    def log(self) -> pd.DataFrame:
        """Every interaction, in order; secret."""
        return pd.DataFrame(self._entries, columns=["question", "answered", "answer"])

    def ask(self, question: str) -> str | None:
        """The answer, or None for silence; after k interactions None for good.

        Raises
        ------
        TypeError
            If the question is no text.
        OSError
            If the state cannot be written: nothing is returned then.
        """
        if not isinstance(question, str):
            raise TypeError(f"question must be text, got {type(question).__name__}")
        asked = " ".join(question.casefold().split())
        if self._process != os.getpid():  # a fork while another thread asked: nobody would let go
            self._renew_lock()
        with self._lock, self._alone():
            if not made_here(self, CensoredModel):  # an answer by other settings is never undone
                forget(self)
            if self.sticky and asked in self._kept:
                return self._kept[asked]
            if self.used >= self.censor.k:
                return None
            coin, other = self._draw(), self._draw()  # both before the answer exists
            said = self._said(question)
            returned = self._returned(said, coin, other)
            self._entries.append((asked, returned is not None, said))
            self._kept[asked] = returned
            if self.state is not None:
                try:
                    self._save()
                except OSError:
                    self._entries.pop()
                    del self._kept[asked]
                    raise
        return returned

    def _draw(self) -> float:
        if self._rng is None:
            return secrets.randbits(53) / 2**53
        return float(self._rng.random())

    def _said(self, question: str) -> str:
        try:
            said = self.answer(question)
        except Exception as error:  # an error that shows is an answer, too
            with suppress(Warning):  # where warnings are errors they would tell it, too
                warnings.warn(
                    f"answer raised {type(error).__name__}: taken as an answer", stacklevel=3
                )
            said = None
        if isinstance(said, str) and (self.alphabet is None or said in self.alphabet):
            return said
        self.mapped += 1
        return "" if self.alphabet is None else self.alphabet[0]

    def _returned(self, said: str, coin: float, other: float) -> str | None:
        strength = self.censor.strength
        if self.censor.name == "erase":
            return said if coin < strength else None
        assert self.alphabet is not None
        size = len(self.alphabet)
        kept = 1 / (1 + (size - 1) * math.exp(-strength))
        if size == 1 or coin < kept:
            return said
        others = [a for a in self.alphabet if a != said]
        return others[min(int(other * len(others)), len(others) - 1)]

    def certificates(
        self, side: str = "latency and wording of refusals were not looked at"
    ) -> tuple[Certificate, ...]:
        """The universal bound for this model; the system behind it is not known, so that nothing is measured."""
        ours = made_here(self, CensoredModel)
        if ours and self._rng is None and not self.resumed:
            coins = th.COINS.by_construction(
                f"{self.used} coins of the operating system, each drawn before its answer existed"
            )
        elif self.resumed:
            coins = th.COINS.unchecked("some coins were drawn by the run that wrote the state")
        elif ours:
            coins = th.COINS.unchecked("coins come from a seed: whoever knows it knows them")
        else:
            coins = th.COINS.unchecked("the object was altered, copied, or is of another class")
        double = Censor(**{**vars(self.censor), "k": 2 * self.censor.k})
        answers: tuple[Answer, ...] = (
            coins,
            th.LIMIT.unchecked(
                f"{self.used} of {self.censor.k} used here; with a second account the bound is {double.bound:.4g}"
            )
            if self.used <= self.censor.k
            else th.LIMIT.check(False, f"{self.used} interactions, allowed are {self.censor.k}"),
            th.PRIOR.unchecked("what an adversary believes beforehand is not in any data"),
            th.SIDE.unchecked(side),
        )
        return (th.universal(self.censor, None, answers),)

    @contextmanager
    def _alone(self) -> Any:
        """Hold the state against other processes, with what they wrote."""
        if self.state is None:
            yield
            return
        import fcntl

        handle = os.open(f"{self.state}.lock", os.O_CREAT | os.O_RDWR | NO_LINK, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if self.state.exists():
                self._load()
            elif self._entries:
                raise RuntimeError(
                    f"{self.state}: the state is gone; restore it: without it questions count anew"
                )
            yield
        finally:
            os.close(handle)

    def _settings(self) -> dict[str, Any]:
        strength = self.censor.strength
        return {
            "schema": "whp-censored-model/1",
            **{k: v for k, v in vars(self.censor).items() if k != "strength"},
            "strength": "inf" if strength == math.inf else strength,
            "alphabet": None if self.alphabet is None else list(self.alphabet),
            "sticky": self.sticky,
        }

    def _save(self) -> None:
        assert self.state is not None
        text = json.dumps(
            {
                **self._settings(),
                "mapped": self.mapped,
                "entries": self._entries,
                "kept": self._kept,
            }
        )
        handle, name = tempfile.mkstemp(
            dir=self.state.parent, prefix=f".{self.state.name}."
        )  # 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self.state)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _load(self) -> None:
        assert self.state is not None
        try:
            found = json.loads(self.state.read_text(encoding="utf-8"))
            settings = {k: found.get(k) for k in self._settings()}
            entries = [(str(q), bool(c), str(a)) for q, c, a in found["entries"]]
            kept = {str(q): None if a is None else str(a) for q, a in found["kept"].items()}
            mapped = int(found["mapped"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{self.state}: state is damaged: {error}") from None
        if settings != self._settings():
            other = [k for k, v in self._settings().items() if settings[k] != v]
            raise ValueError(f"{self.state}: state was written with another {', '.join(other)}")
        if len(entries) < len(self._entries):
            raise RuntimeError(f"{self.state}: an older state was put back")
        self.resumed |= len(entries) > len(self._entries)
        self._entries, self._kept, self.mapped = entries, kept, mapped
