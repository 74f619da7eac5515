"""The stop-watch of the benchmarks: fair turns, ratios per round, whole files."""

import importlib.util
import json
import time
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "timing.py"


@pytest.fixture(scope="module")
def timing():
    spec = importlib.util.spec_from_file_location("timing", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_candidates_take_turns_and_every_other_round_runs_backwards(timing):
    calls = []
    names = ["a", "b", "c"]
    times = timing.alternate({n: lambda n=n: calls.append(n) for n in names}, repeats=4, warmup=1)
    assert "".join(calls) == "abc" + "abc" + "cba" + "abc" + "cba"
    assert all(len(times[name]["all"]) == 4 for name in names)


def test_seconds_are_seconds(timing):
    times = timing.alternate({"sleep": lambda: time.sleep(0.02)}, repeats=3, warmup=0)
    assert 0.02 <= times["sleep"]["min"] <= times["sleep"]["median"] <= times["sleep"]["max"] < 0.5


def test_ratios_are_formed_within_a_round(timing):
    # the machine slows down threefold in the second round: the ratio does not notice
    times = {"peer": timing.spread([2.0, 6.0, 2.0]), "ours": timing.spread([1.0, 3.0, 1.0])}
    peer, ours = timing.ratio_rows(times, "peer")
    assert ours["ratio"] == {"median": 2.0, "min": 2.0, "max": 2.0}
    assert peer["ratio"]["median"] == 1.0 and ours["seconds"]["max"] == 3.0
    json.dumps([peer, ours])


def test_machine_and_peak(timing):
    facts = timing.machine()
    assert facts["cores"] >= 1 and facts["torch"] == torch.__version__ and facts["processor"]
    assert timing.matrix_product_peak(torch.float32, size=128, repeats=2) > 0


def test_json_is_written_whole_or_not_at_all(timing, tmp_path):
    path = tmp_path / "new" / "figures.json"
    timing.write_json(path, {"ratio": 2.5})
    with pytest.raises(TypeError):
        timing.write_json(path, {"ratio": object()})
    assert json.loads(path.read_text()) == {"ratio": 2.5}
    assert [p.name for p in path.parent.iterdir()] == ["figures.json"]
