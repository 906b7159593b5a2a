"""Runners: order, errors, and what is refused."""

from __future__ import annotations

import os

import pytest

from sparcode.build import runners
from sparcode.build.runners import RUNNERS, build_runner
from sparcode.errors import ConfigError, SparcodeError


def double(value: int) -> int:
    return 2 * value


def fail_at_three(value: int) -> int:
    if value == 3:
        raise ValueError("three")
    return value


def die(value: int) -> int:
    os._exit(9)


@pytest.mark.parametrize("name", RUNNERS)
def test_results_come_in_order(name):
    runner = build_runner(name, 2)
    assert list(runner.map_blocks(double, [3, 1, 2])) == [6, 2, 4]
    assert list(runner.map_blocks(double, [])) == []


@pytest.mark.parametrize("name", ["serial", "threads"])
def test_errors_reach_the_caller(name):
    with pytest.raises(ValueError, match="three"):
        list(build_runner(name, 2).map_blocks(fail_at_three, [1, 2, 3, 4]))


def test_a_dead_worker_is_one_clear_line():
    with pytest.raises(SparcodeError, match="worker process died"):
        list(build_runner("processes", 1).map_blocks(die, [1, 2]))


def test_what_is_refused():
    with pytest.raises(ConfigError, match="expected one of serial, threads, processes"):
        build_runner("ray")
    with pytest.raises(ConfigError, match="at least 1"):
        build_runner("threads", 0)


def test_where_no_process_can_be_started_threads_do_the_work(monkeypatch, caplog):
    def refuse(*arguments, **options):
        raise OSError(30, "Read-only file system")  # as in a container whose /dev/shm may not be written

    monkeypatch.setattr(runners, "ProcessPoolExecutor", refuse)
    assert list(build_runner("processes", 2).map_blocks(double, [3, 1])) == [6, 2]
    assert "blocks run in threads" in caplog.text
