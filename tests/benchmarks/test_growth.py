"""The growth benchmark at tiny sizes: fresh processes, memory read right, a figure."""

import json

import pytest
import torch


@pytest.fixture
def growth(benchmark_script):
    return benchmark_script("growth")


def test_a_small_run_is_whole(growth, tmp_path, capsys):
    out, plot = tmp_path / "growth.json", tmp_path / "growth.png"
    growth.main(["--small", "--json", str(out)])
    result = json.loads(out.read_text())
    assert [row["kind"] for row in result["rows"]] == ["length", "batch", "windows", "corpus"]
    assert all(row["seconds_taken"] > 0 and row["passes"] >= 1 for row in result["rows"])
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "windows move the pooled states" in capsys.readouterr().out


def test_the_peak_is_that_of_the_pass(growth):
    block = torch.ones(50_000_000 // 4)  # 50 MB that are there before
    del block
    growth.forget_peak()
    before = growth.memory_mb("VmRSS")
    block = torch.ones(200_000_000 // 4)
    del block
    assert growth.memory_mb("VmHWM") - before == pytest.approx(200, abs=20)


def test_a_point_that_fails_says_which(growth):
    with pytest.raises(RuntimeError, match="no such model"):
        growth.in_fresh_process({"kind": "length", "model": "no such model"})
