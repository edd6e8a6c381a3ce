import os

import pytest

from whp.distributed._in_memory_fault_tolerance.memory import room_for


def test_buffers_that_do_not_fit_are_refused(monkeypatch, tmp_path):
    class Full:
        f_bavail, f_frsize = 64, 1 << 20

    monkeypatch.setattr(os, "statvfs", lambda _: Full)
    with pytest.raises(
        MemoryError, match="has 64 MB free, 2 buffers of 151 MB needed; set smp_dir="
    ):
        room_for(tmp_path, 2, 151 << 20)
    room_for(tmp_path, 2, 30 << 20)
