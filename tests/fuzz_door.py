"""One method's front door under hostile arguments; run in a process of its own by test_fuzz_doors."""

import json
import random
import resource
import signal
import sys
import traceback
import warnings

import numpy as np
import pandas as pd

warnings.simplefilter("ignore")


class Hostile:
    def __array__(self, *args, **kwargs):
        return np.array([[1.0, np.nan]])


VALUES = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**31,
    2**63,
    10**400,
    0.0,
    -0.0,
    0.5,
    -1.5,
    1e308,
    5e-324,
    float("nan"),
    float("inf"),
    -float("inf"),
    1j,
    "",
    "x",
    "no",
    "0.5",
    "\x1b[31m",
    b"bytes",
    [],
    [1],
    [1, 2, 3],
    ["a", "b"],
    [[1], [1, 2]],
    (),
    {},
    {"a": 1},
    set(),
    object(),
    Hostile(),
    lambda: 1,
    np.array([]),
    np.array(1.0),
    np.zeros((0, 3)),
    np.zeros((3, 0)),
    np.ones(5),
    np.ones((4, 4)),
    np.full((6, 2), np.nan),
    np.array([1, 2, np.inf]),
    np.array(["a", "b"]),
    np.array([1 + 1j, 2]),
    np.array(["2020-01-01"], dtype="M8[D]"),
    np.array([b"x"]),
    np.array([1, "a", None], dtype=object),
    np.ma.masked_array([1.0, 2.0, 3.0], [0, 1, 0]),
    np.ones((2, 2, 2)),
    np.float16(0.1),
    np.int8(3),
    np.bool_(True),
    np.str_("x"),
    np.arange(7)[::-1],
    np.asfortranarray(np.ones((5, 3))),
    pd.DataFrame(),
    pd.Series([1, 2]),
    pd.DataFrame({"a": [1.0, None]}),
    pd.DataFrame({"a": ["x", "y"]}),
    range(5),
    iter([1, 2]),
    Exception("x"),
    int,
    np.random.default_rng(0),
    np.random.SeedSequence(1),
]
ACCEPTED = (ValueError, TypeError, np.linalg.LinAlgError)


def main(slug: str, n: int) -> None:
    from test_every_method import EXAMPLES

    from whp.catalogue import find

    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    door = find(slug).load()
    import inspect

    names = list(inspect.signature(door).parameters)
    choose = random.Random(slug)
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError("20 s")))
    counts = {"accepted": 0, "refused": 0, "unnamed": 0}
    bad = []
    for _ in range(n):
        arguments = EXAMPLES[slug].make()
        chosen = choose.sample(names, 1 if choose.random() < 0.8 else 2)
        values = [choose.randrange(len(VALUES)) for _ in chosen]
        arguments |= {k: VALUES[v] for k, v in zip(chosen, values, strict=True)}
        signal.alarm(20)
        try:
            door(**arguments)
            counts["accepted"] += 1
        except ACCEPTED as error:
            counts["refused"] += 1
            counts["unnamed"] += not any(k in str(error) for k in names)
        except BaseException:  # whatever else comes out of a front door is what this looks for
            line = traceback.format_exc(limit=-2)
            bad.append(f"{dict(zip(chosen, values, strict=True))}: {line}")
        finally:
            signal.alarm(0)
    print(json.dumps({**counts, "bad": bad}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
