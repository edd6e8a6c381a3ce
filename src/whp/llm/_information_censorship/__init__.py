"""Answers that leave at random, so that no chain of innocent questions gives away what is refused.

Problem: filters and refusals judge each answer by itself. Whoever takes a refused question apart into innocent ones and puts
the answers together learns it all the same: each of two bits says nothing of their parity, both say everything.

Idea: count what an adversary gains as impermissible information leakage, Σ p(a|h) ln p(a|h)/p(a), over the whole conversation.
An answer leaves with probability p, by a coin that knows nothing, or is swapped for another one. p is the largest that keeps
the leakage of k answers within ε: for whatever system (universal), for what is asked of a table (answers), or exactly.

Cost: O(W √C) a set of questions with C histories by one matrix product; 2^J sets of up to 12 questions from one tensor.

What is proven: one answer leaks exactly p times as much; k leak at most (1 − (1 − p)^k) H, whatever answers and however the
questions are chosen; swapping bounds even the worst history; the paper's composition, corrected where only some answers are
impermissible; what it must cost honest users. All of it is about the table, and a text model is as safe as its conditions.

References
----------
D. Glukhov, Z. Han, I. Shumailov, V. Papyan, N. Papernot. A False Sense of Safety: Unsafe Information Leakage in "Safe" AI
Responses. ICLR 2025 (Breach by a Thousand Leaks). arXiv:2407.02551.
"""

from whp.llm._information_censorship.accountant import LeakageAccountant
from whp.llm._information_censorship.attack import decompose
from whp.llm._information_censorship.audit import (
    AdversaryAudit,
    LogAudit,
    audit_adversary,
    audit_log,
    impermissible_leakage,
)
from whp.llm._information_censorship.front_door import information_censorship
from whp.llm._information_censorship.mechanism import Censor
from whp.llm._information_censorship.result import CensorshipResult
from whp.llm._information_censorship.system import System, read_system
from whp.llm._information_censorship.wrapper import CensoredModel, censor_unknown

__all__ = [
    "AdversaryAudit",
    "Censor",
    "CensoredModel",
    "CensorshipResult",
    "LeakageAccountant",
    "LogAudit",
    "System",
    "audit_adversary",
    "audit_log",
    "censor_unknown",
    "decompose",
    "impermissible_leakage",
    "information_censorship",
    "read_system",
]
