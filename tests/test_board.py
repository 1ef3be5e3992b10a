"""What a run says of itself: blocked stages, time left, lines that are not too many."""

import time
from pathlib import Path

import pytest
from problems import ROOT

from pipeline.plan.board import Board, Display, kind_of, read_times, write_times

NEEDS = {"a": set(), "train@1": {"a"}, "train@2": {"a"}, "b": {"train@1"}, "c": {"b"}, "d": {"train@2"}}


def make_board(**expected: float) -> Board:
    return Board(NEEDS, dict.fromkeys(NEEDS, "waiting"), expected)


def test_all_that_needs_a_failed_stage_is_blocked_and_nothing_else():
    board = make_board()
    board.states["train@1"] = "failed"
    board.block("train@1")
    assert board.list("blocked") == ["b", "c"]
    assert board.list("waiting") == ["a", "train@2", "d"]


def test_the_time_left_is_that_of_earlier_runs_until_this_one_knows_better():
    board = make_board(train=10.0, a=1.0, b=1.0, c=1.0, d=1.0)
    assert board.foresee(1) == pytest.approx(24)
    assert board.foresee(2) == pytest.approx(12)
    board.seconds["train"] = [20.0, 40.0]
    assert board.foresee(1) == pytest.approx(64)
    board.states["train@1"], board.started["train@1"] = "running", time.monotonic() - 10
    assert board.foresee(1) == pytest.approx(54, abs=1)
    board.started["train@1"] = time.monotonic() - 1000
    assert board.foresee(1) == pytest.approx(34, abs=1)  # never less than nothing


def test_kinds_are_those_of_the_ledger():
    assert (
        kind_of("train_node_digits_more@digits-a=1-0") == kind_of("train_node_digits@digits-b-1") == "train_node_digits"
    )
    known = read_times(ROOT)
    assert {"train_node_digits", "train_ddpm_digits", "sample_digits", "measure_theory_features"} <= set(known)
    assert all(seconds > 0 for seconds in known.values())


def test_what_was_seen_is_kept_and_damage_forgotten(tmp_path: Path):
    (tmp_path / "logs").mkdir()
    board = make_board()
    board.seconds["train"] = [2.0, 4.0]
    write_times(tmp_path, board)
    assert read_times(tmp_path) == {"train": 3.0}
    (tmp_path / "logs" / "seconds.tsv").write_text("train\tthree\n")
    assert read_times(tmp_path) == {}


def test_a_log_gets_a_line_every_ten_seconds_at_most(capsys: pytest.CaptureFixture[str]):
    display, board = Display(), make_board()
    board.states["a"], board.started["a"] = "running", time.monotonic()
    for _ in range(50):
        display.show(board, 2)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "0 of 6 stages, 0 %; runs: a (0 s); next: train@1; at most about" in lines[0]
