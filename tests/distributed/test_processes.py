import contextlib
import multiprocessing
import os
import signal
import subprocess
import time

import pytest
import ranks

from whp.distributed.links import shaped_link, why_not
from whp.distributed.processes import Crew, Died, interrupted_once, quiet_store, run_ranks
from whp.distributed.timeline import Event, draw_timeline


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] == "Z"


def listening(port):
    """Local addresses, as the kernel writes them, of the sockets that listen at a port."""
    found = []
    for table in ("tcp", "tcp6"):
        with open(f"/proc/net/{table}") as file:
            rows = [line.split() for line in file][1:]
        found += [
            r[1].split(":")[0] for r in rows if r[3] == "0A" and r[1].endswith(f":{port:04X}")
        ]
    return found


@pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="needs /proc/net")
def test_the_store_listens_on_loopback_alone():
    store = quiet_store()
    assert listening(store.port) == ["0100007F"]
    store.set("key", "value")
    assert store.get("key") == b"value"
    port = store.port
    del store
    assert listening(port) == []


def test_messages_deaths_and_nothing_left():
    with Crew() as crew:
        one, two = crew.start(ranks.echo, name="one"), crew.start(ranks.echo, name="two")
        one.send("hello")
        assert [(w.name, m) for w, m in crew.wait(10)] == [("one", "hello")]
        two.kill()
        ((worker, message),) = list(crew.wait(10))
        assert (worker, message) == (two, Died(-9))
        assert not list(crew.wait(0.05))
        two.send("lost")
        pids = [one.pid, two.pid]
    assert all(gone(pid) for pid in pids)
    assert not [p for p in multiprocessing.active_children() if p.name in ("one", "two")]


@pytest.mark.parametrize("own", [False, True])
def test_impatience_does_not_skip_the_cleaning_up(own):
    told = []
    handler = (lambda *_: told.append("own")) if own else signal.default_int_handler
    before = signal.signal(signal.SIGINT, handler)
    try:
        with contextlib.suppress(KeyboardInterrupt), interrupted_once():
            try:
                signal.raise_signal(signal.SIGINT)
                told.append("not interrupted")
            finally:
                signal.raise_signal(signal.SIGINT)  # nobody ignores it yet
                told.append("cleaned")
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert told == (["own", "not interrupted", "own", "cleaned"] if own else ["cleaned"])


def test_workers_die_with_the_process_that_started_them(tmp_path):
    script = tmp_path / "coordinator.py"
    script.write_text(
        "import os, signal\n"
        "from whp.distributed.processes import Crew\n"
        "def idle(pipe):\n"
        "    pipe.send(os.getpid())\n"
        "    pipe.recv()\n"
        "if __name__ == '__main__':\n"
        "    crew = Crew()\n"
        "    crew.start(idle, name='idle')\n"
        "    for _, pid in crew.wait(60):\n"
        "        print(pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    import sys

    made = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    pid = int(made.stdout)
    for _ in range(100):
        if gone(pid):
            break
        time.sleep(0.05)
    assert gone(pid)


def test_ranks_return_in_order_and_failures_are_told():
    assert len(run_ranks(ranks.reduce_time, 2, 100)) == 2
    with pytest.raises(RuntimeError, match=r"rank 1 raised(.|\n)*ValueError: no"):
        run_ranks(ranks.refuse, 2)
    with pytest.raises(RuntimeError, match=r"rank 1 died with exit code -9|rank 0 raised"):
        run_ranks(ranks.stop, 2)


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "links can be shaped")
def test_a_link_is_as_slow_as_it_says():
    with shaped_link(100) as link:
        seconds = max(
            run_ranks(ranks.reduce_time, 2, 500_000, namespaces=link.namespaces, host=link.host)
        )
    assert (
        0.13 < seconds < 1.5
    )  # 2 MB each way at 100 Mbit/s take 0.16 s, and longer on a busy machine
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    assert f"whp{os.getpid()}" not in names


def test_a_link_without_rate_is_refused():
    with pytest.raises(ValueError, match="mbit"), shaped_link(0):
        pass


def test_a_timeline_marks_kills():
    from matplotlib.figure import Figure

    events = [
        Event("rank 0", "work", 0, 2),
        Event("rank 1", "work", 0, 1),
        Event("rank 1", "kill", 1, 1),
    ]
    ax = draw_timeline(events, Figure().subplots())
    assert [t.get_text() for t in ax.get_yticklabels()] == ["rank 1", "rank 0"]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["work", "killed"]
