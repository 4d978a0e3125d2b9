#!/usr/bin/env python3
"""faults_test.py [NAME…]: runs the tests of test_NAME.py, or all: what readers and commands see
when the registry is faulty, which requests are made, and how long it takes. NAME may also stand for
some of them: bodies.Slow. Needs root, for mounts.

The tests wait more than they work, so many run at once.
"""
import concurrent.futures
import os
import pathlib
import sys
import unittest

import scene

AT_ONCE = 8


def tests_in(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from tests_in(test)
        else:
            yield test


def run(test):
    result = unittest.TestResult()
    test.run(result)
    return result


def report(test, result):
    """Prints it, and returns whether it is as it should be."""
    for kind, entries in (("FAILED", result.failures), ("ERROR", result.errors)):
        for _, trace in entries:
            print(f"{kind}: {test.id()}\n{trace}")
    for _ in result.unexpectedSuccesses:
        print(f"FAILED: {test.id()}: it works, so take its expectedFailure away")
    for _, trace in result.expectedFailures:
        print(f"expected to fail: {test.id()}: {trace.splitlines()[-1][:150]}")
    return result.wasSuccessful()


def main():
    if os.geteuid() != 0:
        print("Skipped: needs root, for mounts.")
        sys.exit(77)
    folder = pathlib.Path(__file__).parent
    names = [f"test_{name}" for name in sys.argv[1:]] or sorted(
        file.stem for file in folder.glob("test_*.py"))
    tests = list(tests_in(unittest.TestLoader().loadTestsFromNames(names)))
    scene.image()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        results = list(pool.map(run, tests))
    good = [report(test, result) for test, result in zip(tests, results)]
    print(f"{len(tests)} tests, {good.count(False)} failed")
    sys.exit(0 if tests and all(good) else 1)


if __name__ == "__main__":
    main()
