import json

from keepers import random_shards

from whp.distributed._in_memory_fault_tolerance.fleet import Fleet


def test_the_command_line(memory, capsys):
    from whp.distributed._in_memory_fault_tolerance.command import guard

    def say(*words):
        assert guard([*words, "--smp-dir", str(memory)], result_action="return_value") == 0
        return capsys.readouterr().out

    assert "no keepers" in say("status")
    with Fleet(2, 1, length=640, directory=memory) as fleet:
        fleet.save(random_shards(fleet))
        rows = json.loads(say("status", fleet.run, "--json"))
        assert [(r["member"], r["state"], r["step"]) for r in rows] == [
            (0, "committed", 1),
            (1, "committed", 1),
        ]
        assert "committed" in say("status")
        assert "0 files of dead keepers removed, 0 keepers ended" in say("clean")
        assert "2 keepers ended" in say("clean", "--run", fleet.run)
    assert "coding, 4 data + 2 parity" in say("bench", "--mb", "2", "--steps", "2")
