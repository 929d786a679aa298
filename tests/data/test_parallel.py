from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from labels4free.data.parallel import available_cores, ordered_map
from labels4free.errors import DataError

pytestmark = pytest.mark.slow


def slow_for_even_chunks(index: int) -> tuple[int, int]:
    if index // 8 % 2 == 0:
        time.sleep(0.002)
    return index, os.getpid()


def die_at_twenty(index: int) -> int:
    if index == 20:
        os._exit(1)
    return index


def raise_at_twenty(index: int) -> int:
    return 1 // (20 - index)


def test_results_come_in_order_from_other_processes():
    results = list(ordered_map(slow_for_even_chunks, range(3, 60), 2))
    assert [index for index, _ in results] == list(range(3, 60))
    assert os.getpid() not in {process for _, process in results}


@pytest.mark.parametrize(("indices", "workers"), [(range(50), 1), (range(8), 4)])
def test_little_work_or_one_worker_needs_no_other_process(indices, workers):
    assert {process for _, process in ordered_map(slow_for_even_chunks, indices, workers)} == {os.getpid()}


def test_no_work():
    assert list(ordered_map(slow_for_even_chunks, range(5, 5), 4)) == []


def test_a_worker_that_dies():
    with pytest.raises(DataError, match=r"A worker process died, perhaps for want of memory: .* fewer than 2 workers"):
        list(ordered_map(die_at_twenty, range(50), 2))


def test_an_error_comes_through():
    with pytest.raises(ZeroDivisionError):
        list(ordered_map(raise_at_twenty, range(50), 2))


def test_stopping_early_ends_the_workers():
    results = ordered_map(slow_for_even_chunks, range(10_000), 2)
    _, process = next(results)
    results.close()
    assert not alive(process)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_workers_end_with_a_parent_that_was_killed(tmp_path):
    (tmp_path / "parent.py").write_text(
        "import os, time\n"
        "from labels4free.data.parallel import ordered_map\n"
        "def work(index):\n    time.sleep(0.01)\n    return os.getpid()\n"
        "if __name__ == '__main__':\n"
        "    for process in ordered_map(work, range(100_000), 2):\n        print(process, flush=True)\n"
    )
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py")], stdout=subprocess.PIPE, text=True)
    workers = {int(parent.stdout.readline()) for _ in range(20)}
    assert all(map(alive, workers))
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    deadline = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(alive, workers))


def test_cores(monkeypatch):
    assert 1 <= available_cores() <= os.cpu_count()
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == 1
