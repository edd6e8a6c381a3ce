"""A study whose trials leave a trace when they really run, wait, fail or kill their process on demand."""

import os
import signal
import time
from pathlib import Path

from whp.experiment.study import Claim
from whp.intervals import mean

N = 12


def trials(scale):
    return [
        {
            "seed": s,
            "wait": 0.3 if scale == "standard" else 0.0,
            "raises": scale == "full" and s == 5,
        }
        for s in range(N)
    ]


def run(config, rng):
    with (Path(os.environ["TOY_TRACE"]) / f"{config['seed']}-{os.getpid()}-{time.time_ns()}").open(
        "w"
    ):
        time.sleep(config["wait"])
    if config["raises"]:
        raise RuntimeError("this one is meant to fail")
    once = Path(os.environ["TOY_TRACE"]) / "kill-once"
    if config["seed"] == 7 and once.exists():
        once.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return [{"value": float(rng.normal()), "part": part} for part in range(2)]


CLAIMS = (Claim("C1", "the mean is small", "none", "mean", "<=", 3.0, lambda r: mean(r["value"])),)
FIGURES = {}
