"""Read thousands of damaged and hostile variants of checkpoint files: each must give a value or our own error.

Example:
    python tools/fuzz_checkpoints.py ../shared/fixtures/nvlabs ../shared/fixtures/rosinality --mutants 10000 --jobs 2

Every variant is read and converted in a worker process with a time limit and a limit on memory. A finding is: an
exception other than CheckpointError, memory exhausted, a hang, a dead worker, a marker file (the payloads create it
when they run), or a forbidden event of Python's audit hooks while a file is read. Findings are saved; the exit code is
1 if there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import encodings.cp437  # zipfile takes it on first need; taken now, so that it is no event  # noqa: F401
import importlib
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))
from mutations import Seed, mutate, take_apart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess
    from types import FrameType

DEFAULT_READER = "fuzz_checkpoints:load"
GRAPH = {".xml", ".bin"}  # an OpenVINO IR is several files: one is changed, the others lie beside it
SUFFIXES = {".pkl", ".pt", ".pth", ".safetensors", ".xml", ".bin"}
COUNTS = ["mutants", "read", "refused", "exceptions", "memory", "hangs", "deaths", "markers", "events"]
FINDINGS = COUNTS[3:]
FORBIDDEN = (
    *("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile", "pty.spawn"),
    *("subprocess.Popen", "compile", "exec", "code.__new__", "import", "marshal.loads", "pickle.find_class"),
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.putenv", "os.kill"),
    *("shutil.rmtree", "tempfile.mkdtemp", "tempfile.mkstemp", "socket.connect", "socket.__new__", "ctypes.dlopen"),
    *("urllib.Request", "webbrowser.open", "sys.settrace", "sys.setprofile"),
)


@dataclass(frozen=True)
class Job:
    """What one worker does: the variants ``first`` to ``last`` - 1 of a file."""

    paths: list[Path]
    which: int
    first: int
    last: int
    seed: int
    reader: str
    seconds: float
    memory: int


class _HangError(BaseException):
    """The time limit of one variant, thrown wherever it is."""


def load(path: Path) -> object:
    """Do what a user's command does with a file: read it, tell what it is and convert it."""
    from labels4free.checkpoints.foreign.formats import read_foreign
    from labels4free.checkpoints.loading import load_generator
    from labels4free.checkpoints.native import is_native

    if path.suffix in GRAPH:
        return read_foreign(path.parent)
    return load_generator(path) if is_native(path) else read_foreign(path)


def find_reader(name: str) -> Callable[[Path], object]:
    """The function that ``module:function`` names."""
    module, _, function = name.partition(":")
    found: Callable[[Path], object] = getattr(importlib.import_module(module), function)
    return found


class Watch:
    """Collects the forbidden events of Python's audit hooks while it is switched on."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        known = event == "import" and arguments[0] in sys.modules
        if (event in FORBIDDEN and not known) or writes:
            self.seen.append(f"{event} {arguments!r}"[:300])


def work(job: Job, counts: Any, current: Any, pipe: Connection) -> None:
    """Read the variants of one job: counts go to shared memory, findings through the pipe."""
    reader = find_reader(job.reader)
    seeds = [take_apart(path.read_bytes()) for path in job.paths]
    path = job.paths[job.which]
    watch = Watch()
    for warm in job.paths:  # imports what is imported on first use, so that later imports stand out
        with contextlib.suppress(Exception):
            reader(warm)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + job.memory, used + job.memory))
    signal.signal(signal.SIGALRM, _ring)
    others = [seed for i, seed in enumerate(seeds) if i != job.which]
    with tempfile.TemporaryDirectory() as folder:
        marker = Path(folder) / "marker"
        os.environ["L4F_MARKER"] = str(marker)
        target = Path(folder) / "files" / path.name
        target.parent.mkdir()
        for sibling in path.parent.iterdir() if path.suffix in GRAPH else ():
            shutil.copy(sibling, target.parent)
        for index in range(job.first, job.last):
            data = variant(seeds[job.which], others, job, index)
            target.write_bytes(data)
            current[0] = index
            found = _read_one(reader, target, job.seconds, watch)
            if marker.exists():
                marker.unlink()
                found = ("markers", "the marker file exists: something in the file was run")
            counts[0] += 1
            counts[COUNTS.index(found[0])] += 1
            if found[0] in FINDINGS:
                pipe.send((index, *found))
    pipe.send(None)


def variant(seed: Seed, others: list[Seed], job: Job, index: int) -> bytes:
    """The variant of this number: always the same one."""
    return mutate(seed, others, random.Random(f"{job.seed}/{job.paths[job.which].name}/{index}"))


def _ring(_: int, __: FrameType | None) -> None:
    raise _HangError


def _read_one(reader: Callable[[Path], object], path: Path, seconds: float, watch: Watch) -> tuple[str, str]:
    """Read one variant. Returns what it counts as, and the details of a finding."""
    from labels4free.errors import CheckpointError

    watch.seen.clear()
    caught: BaseException | None = None
    signal.setitimer(signal.ITIMER_REAL, seconds)
    watch.on = True
    try:
        reader(path)
    except (Exception, _HangError) as error:  # noqa: BLE001  whatever it is, it is what is looked for
        caught = error
    finally:
        watch.on = False  # formatting an error opens source files
        signal.setitimer(signal.ITIMER_REAL, 0)
    if watch.seen:
        return "events", "\n".join(watch.seen)
    if caught is None:
        return "read", ""
    kind = "hangs" if isinstance(caught, _HangError) else "exceptions"
    if _out_of_memory(caught):
        kind = "memory"
    elif isinstance(caught, CheckpointError):
        return "refused", ""
    return kind, "".join(traceback.format_exception(caught))


def _out_of_memory(error: BaseException | None) -> bool:
    """Whether an error was caused by a lack of memory: a file of this size must not need so much."""
    while error is not None:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


@dataclass
class Worker:
    """A running job, and what it has told so far."""

    job: Job
    process: SpawnProcess
    counts: Any
    current: Any
    pipe: Connection
    last: int = -1
    since: float = 0.0
    finished: bool = False


def start(job: Job) -> Worker:
    """Start a worker process."""
    context = multiprocessing.get_context("spawn")
    counts, current = context.Array("q", len(COUNTS), lock=False), context.Array("q", [-1], lock=False)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(job, counts, current, sender), daemon=True)
    process.start()
    sender.close()
    return Worker(job, process, counts, current, receiver, since=time.monotonic())


def follow(worker: Worker, findings: list[tuple[Job, int, str, str]]) -> Job | None:
    """Look after a worker: collect its findings, end it if it hangs in native code. Returns what is left if it died."""
    with contextlib.suppress(EOFError):
        while worker.pipe.poll():
            message = worker.pipe.recv()
            if message is None:
                worker.finished = True
                break
            findings.append((worker.job, *message))
    if worker.current[0] != worker.last:
        worker.last, worker.since = worker.current[0], time.monotonic()
    stuck = time.monotonic() - worker.since > worker.job.seconds + 60
    if stuck:
        worker.process.kill()
        worker.process.join()
    if worker.process.is_alive() or worker.finished:
        return None
    index = int(worker.current[0])
    if index < 0:
        raise SystemExit(f"A worker ended before it read anything of {worker.job.paths[worker.job.which]}.")
    kind = "hangs" if stuck else "deaths"
    findings.append((worker.job, index, kind, f"exit code {worker.process.exitcode}"))
    worker.counts[0] += 1
    worker.counts[COUNTS.index(kind)] += 1
    worker.finished = True
    job = worker.job
    return Job(job.paths, job.which, index + 1, job.last, job.seed, job.reader, job.seconds, job.memory)


def run(jobs: list[Job], parallel: int, out: Path) -> list[list[int]]:
    """Run all jobs, save the findings. Returns the counts of each file."""
    totals = [[0] * len(COUNTS) for _ in jobs[0].paths]
    running: list[Worker] = []
    waiting = jobs[::-1]
    while waiting or running:
        while waiting and len(running) < parallel:
            running.append(start(waiting.pop()))
        time.sleep(0.2)
        findings: list[tuple[Job, int, str, str]] = []
        for worker in list(running):
            rest = follow(worker, findings)
            if worker.finished:
                running.remove(worker)
                worker.process.join()
                row = totals[worker.job.which]
                row[:] = [a + b for a, b in zip(row, worker.counts, strict=True)]
            if rest is not None and rest.first < rest.last:
                waiting.append(rest)
        for finding in findings:
            save(out, *finding)
    return totals


def save(out: Path, job: Job, index: int, kind: str, details: str) -> None:
    """Save the file of a finding and what happened; say so for the first few."""
    path = job.paths[job.which]
    out.mkdir(parents=True, exist_ok=True)
    stem = f"{kind}-{path.stem}-{index}"
    if len(list(out.glob(f"{kind}-*"))) < 100:
        seeds = [take_apart(p.read_bytes()) for p in job.paths]
        others = [seed for i, seed in enumerate(seeds) if i != job.which]
        (out / f"{stem}{path.suffix}").write_bytes(variant(seeds[job.which], others, job, index))
        (out / f"{stem}.txt").write_text(details, encoding="utf-8")
    if len(list(out.glob(f"{kind}-*.txt"))) <= 3:
        print(f"--- {kind}: {path.name}, variant {index}\n{details}")


def files_of(sources: Iterable[Path]) -> list[Path]:
    """The checkpoint files among files and folders."""
    found: list[Path] = []
    for source in sources:
        inside = sorted(p for p in source.rglob("*") if p.suffix in SUFFIXES) if source.is_dir() else [source]
        found.extend(p.resolve() for p in inside)
    return found


def main() -> int:
    """Parse the command line, run, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("seeds", nargs="+", type=Path, help="good files, or folders of them")
    parser.add_argument("--mutants", type=int, default=1000, help="variants of each file")
    parser.add_argument("--seed", type=int, default=0, help="another number gives other variants")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes")
    parser.add_argument("--limit-seconds", type=float, default=20.0, help="time for one variant")
    parser.add_argument("--limit-mb", type=int, default=2000, help="memory for one variant")
    parser.add_argument("--reader", default=DEFAULT_READER, help="module:function that is given the path of a variant")
    parser.add_argument("--out", type=Path, default=Path("fuzz-findings"), help="folder for the files of findings")
    arguments = parser.parse_args()
    paths = files_of(arguments.seeds)
    if not paths:
        parser.error("no checkpoint file among " + ", ".join(map(str, arguments.seeds)))
    step = max(1, -(-arguments.mutants // arguments.jobs))
    limits = (arguments.seed, arguments.reader, arguments.limit_seconds, arguments.limit_mb * 1_000_000)
    jobs = [
        Job(paths, which, first, min(first + step, arguments.mutants), *limits)
        for which in range(len(paths))
        for first in range(0, arguments.mutants, step)
    ]
    began = time.monotonic()
    totals = run(jobs, arguments.jobs, arguments.out)
    width = max(len(path.name) for path in paths)
    print(" " * width + "".join(f"{name:>12}" for name in COUNTS))
    for path, row in [*zip(paths, totals, strict=True), (Path("all"), [sum(c) for c in zip(*totals, strict=True)])]:
        print(f"{path.name:<{width}}" + "".join(f"{count:>12,}" for count in row))
    bad = sum(sum(row[COUNTS.index(FINDINGS[0]) :]) for row in totals)
    print(f"{time.monotonic() - began:.0f} s; {bad} findings" + (f" in {arguments.out}" if bad else ""))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
