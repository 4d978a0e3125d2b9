"""What the benchmarks share: runs that take turns, what a program took, and rows of the tables.

$BENCH_RUNS sets how often each thing is done (7).
"""
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

RUNS = int(os.environ.get("BENCH_RUNS", "7"))
QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


class Took(NamedTuple):
    seconds: float
    cpu: float  # seconds of all threads, in user mode and in the kernel
    memory: float  # MiB that were resident at most


def run(*command):
    """Its errors are shown when it fails only: some peers have much to say."""
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {result.stderr[-2000:]}")


def took(command):
    """Runs a command. By time(1), as the kernel counts the memory of who forks for the one that is
    forked until it is another program: Python's would be the least that one could see."""
    with tempfile.NamedTemporaryFile("r") as report:
        start = time.monotonic()
        run("time", "-q", "-o", report.name, "-f", "%U %S %M", *command)
        seconds = time.monotonic() - start
        user, system, kib = report.read().split()
    return Took(seconds, float(user) + float(system), int(kib) / 1024)


def in_turns(actions, runs=RUNS):
    """Name → what its runs returned. They take turns, so that a busy moment hits all alike."""
    results = {name: [] for name in actions}
    for turn in range(runs):
        for name, action in actions.items():
            results[name].append(action())
            print(f"run {turn + 1} of {runs}, {name}: {results[name][-1]}", file=sys.stderr)
    return results


def span(values, form):
    """The median, and the range if there is one."""
    low, middle, high = (form.format(value) for value in (min(values), statistics.median(values), max(values)))
    return middle if low == high else f"{middle} ({low} … {high})"


def medians(results):
    return {name: statistics.median(values) for name, values in results.items()}


class Goal(NamedTuple):
    what: str
    measured: str
    reached: bool


def goals_table(goals):
    rows = "\n".join(f"| {goal.what} | {goal.measured} | {'yes' if goal.reached else 'NO'} |" for goal in goals)
    return f"| goal | measured | reached |\n|---|---|---|\n{rows}\n" if goals else ""


def at_least(what, ours, theirs, factor):
    """A goal to be so many times as fast as another, from the seconds of both."""
    return Goal(what, f"{theirs / ours:.2f} times", theirs / ours >= factor)


def program(section):
    """The main program of who prints a section alone. Ended by a signal, it cleans up all the same."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    print(section(*sys.argv[1:]))
