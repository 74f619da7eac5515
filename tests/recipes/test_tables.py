"""Tables in README files come from committed metrics.json and are up to date."""

import importlib.util
import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from vesper_lobes.run_metrics import build_metrics, write_metrics

ROOT = Path(__file__).resolve().parents[2]
MEMORY = "100 MB beyond the weights"
PAGE = "# Title\n\n<!-- results: emodb -->\nstale\n<!-- end results -->\n\nText.\n"


def recipe_module(name):
    sys.path.insert(0, str(ROOT / "recipes"))  # as where its main file lies
    try:
        spec = importlib.util.spec_from_file_location(name, ROOT / "recipes" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(ROOT / "recipes"))


@pytest.fixture(scope="module")
def tables():
    return recipe_module("tables")


@pytest.fixture(scope="module")
def speed_tables():
    return recipe_module("speed_tables")


@pytest.fixture
def checkout(tmp_path):
    """A README with a marked place, and one run's metrics."""
    columns = {"ID": list("abcd"), "speaker": list("1122"), "dialogue": ""}
    table = pd.DataFrame({**columns, "target": list("xyxy"), "prediction": list("xyxx")})
    metrics = build_metrics(
        {1: {1: table}},
        corpus="EmoDB",
        protocol="A",
        classes=["x", "y"],
        ssl_saw_test_audio=True,
        params=1_230_000,
        trainable_params=10,
        seconds={"total": 1.0},
        baselines={"mfcc_ridge": {1: {1: table}}, "teacher": {1: {1: table}}},
        fold_details={(1, 1): {"selected_on_test": True}},
        draws=50,
    )
    write_metrics(metrics, tmp_path / "results" / "emodb" / "vesper_mini" / "metrics.json")
    (tmp_path / "README.md").write_text(PAGE)
    return tmp_path


def test_every_table_of_this_checkout_is_up_to_date(tables, capsys):
    assert tables.main(["--check"]) == 0, capsys.readouterr().out


def test_check_names_a_stale_file_and_writes_nothing(tables, checkout, capsys):
    assert tables.main(["--check"], root=checkout) == 1
    assert "README.md" in capsys.readouterr().out
    assert (checkout / "README.md").read_text() == PAGE


def test_tables_are_replaced_whole_and_twice_is_once(tables, checkout):
    assert tables.main([], root=checkout) == 0
    text = (checkout / "README.md").read_text()
    assert text.startswith("# Title") and text.endswith("Text.\n") and "stale" not in text
    assert tables.main(["--check"], root=checkout) == 0


def test_what_a_reader_must_know_stands_in_the_row(tables, checkout):
    lines = tables.table("emodb", checkout / "results").splitlines()
    row = {line.split(" | ")[0].strip("|* "): line for line in lines[2:]}
    own = row["vesper_mini (1.23 M)"]
    assert "| 75.0 | 75.0 [" in own and "transductive, epoch selected on test" in own
    assert "mean of folds WA 75.0 / UA 75.0 / WF1 73.3" in own  # protocol A's headline
    floor = row["floor: ridge on MFCC statistics"]
    assert "transductive" not in floor and "epoch selected on test" in floor
    assert "transductive" in row["its teacher"]
    assert "| 50.0 |" in row["chance"]


def test_without_results_the_table_says_so(tables, tmp_path):
    assert tables.table("meld", tmp_path) == "No results are published yet.\n"


def test_speed_is_a_table_of_what_the_benchmarks_wrote(tables, tmp_path):
    """Ratio rows anywhere in a result; the peer named; no GPU claimed that was not run."""
    spread = {"median": 2.0, "min": 1.5, "max": 2.5}
    one = dict.fromkeys(spread, 1.0)
    rows = [
        {"name": "transformers", "seconds": dict.fromkeys(spread, 0.8), "ratio": one},
        {"name": "ours", "seconds": dict.fromkeys(spread, 0.4), "ratio": spread},
    ]
    machine = {"processor": "A CPU", "threads": 2, "cores": 4, "capability": "AVX", "torch": "2"}
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "step.json").write_text(json.dumps({"machine": machine, "rows": rows}))
    (folder / "other.json").write_text(json.dumps({"machine": machine, "batch 8": rows}))
    cases = [{"batch": 1, "rows": rows}, {"batch": 8, "rows": rows}]
    (folder / "encoder.json").write_text(json.dumps({"machine": machine, "cases": cases}))
    (folder / "complexity.json").write_text(json.dumps({"rows": [{"model": "a"}]}))
    text = tables.table("benchmarks", tmp_path)
    assert "| step | transformers | 800 ms | peer |  |" in text
    assert "| other, batch 8 | transformers |" in text
    assert text.count("|  | ours | 400 ms | 2.00 [1.50, 2.50] |  |") == 4  # titles stand once
    assert "| encoder, batch 1 |" in text and "| encoder, batch 8 |" in text
    assert text.count("Measured on A CPU, 2 of 4 cores") == 1 and "has not been run" in text
    alone = tables.table("benchmarks/step", tmp_path)
    assert "other" not in alone and "has not been run" not in alone
    both = tables.table("benchmarks/step+other+gpu", tmp_path)
    assert both.index("| step |") < both.index("| other, batch 8 |") < both.index("not been run")
    assert tables.table("benchmarks/missing", tmp_path) == tables.NOTHING


def test_lines_of_forward_passes_tell_error_and_rate(speed_tables):
    one = dict.fromkeys(("median", "min", "max"), 1.0)
    row = {"name": "fast", "seconds": one, "ratio": one, "error": 2e-6, "gflops": 250.4}
    rows = [{**row, "share_of_peak": 0.8}, {**row, "name": "int8 fp32", "share_of_peak": 1.1}]
    result = {"model": "vesper4", "seconds": 5.0, "cases": [{"batch": 8, "rows": rows}]}
    first, second = speed_tables.speed_lines("encoder_cpu", result)
    assert first[0] == "forward, Vesper-4, batch 8 x 5 s"
    assert first[4] == "error 2.0e-06, 250 GFLOP/s, 80 % of a matrix product's"
    assert second[4] == "error 2.0e-06, 250 GFLOP/s"


def test_lines_of_the_input(speed_tables):
    speed = {"median": 100.0, "min": 90.0, "max": 110.0}
    loader = [
        {"name": "loader: wav, 0 workers", "batches_per_second": speed},
        {"name": "step: mini", "batches_per_second": {**speed, "median": 4.0}},
    ]
    memory = [{"rows": 1000, "kept_in": "arrays", "uss_start": 8.0, "uss_end": 9.2}]
    result = {"crops": [], "loader": loader, "memory": memory}
    result["padding"] = {"bucketed": 0.027, "as_they_come": 0.56}
    lines = speed_tables.speed_lines("input", result)
    assert lines[0][1:4] == ["loader: wav, 0 workers", "10 ms", "25 to a mini step"]
    assert lines[1][1:3] == ["training step: mini", "250 ms"]
    assert lines[2][1] == "1,000 rows in arrays: a worker copies 1 MB"
    assert lines[3][1] == "2.7 % of a batch in buckets of like length, 56 % as they come"


def test_lines_of_precisions_have_the_exact_one_as_peer(speed_tables):
    row = {"error": 0.0, "same_decision": 1.0, "ua": 70.0, "weights_mb": 5.0, "seconds": 2.0}
    rows = [{**row, "precision": "fp32"}, {**row, "precision": "int8", "error": 0.021}]
    lines = speed_tables.precision_lines("", {"encoder": "a", "corpus": "b", "rows": rows})
    assert lines[0] == ["precision of a on b", "fp32", "2 s", "peer", "UA 70.0 %"]
    assert lines[1][4].startswith("states off by 2.1 %, 100.0 % same decisions, UA 70.0 %")


def test_lines_of_a_store(speed_tables):
    store = {
        "fill_hours_lssed": {"bf16": 20.0, "int8": 21.0},
        "break_even_epochs": {"bf16": 1.25},
        "lssed_gb": {"int8": 95.2},
        "errors": {"int8": {"8 outlier dimensions": {"last": {"rms": 0.0091}}}},
    }
    result = {"setting": "tiny", "rows": [], "store": store}
    lines = speed_tables.speed_lines("pretrain_step", result)
    assert lines[0][2:] == ["20 h", "paid after 1.2 epochs", ""] and lines[1][3] == ""
    assert lines[2][1] == "int8: 95 GB for LSSED, rms error 0.91 %"


def test_lines_of_fine_tuning_and_of_growth(speed_tables):
    finetune = {
        "setting": "9 utterances",
        "encoder_pass_seconds": {"extrapolated": 1000.0},
        "heads_seconds": 42.0,
        "frames_seconds": {"reading": {"median": 0.1}, "step": {"median": 2.0}},
        "total_seconds": {"cached": 1042.0, "encoder_every_time_extrapolated": 72000.0},
        "ratio": 69.1,
    }
    lines = speed_tables.speed_lines("finetune", finetune)
    assert lines[0][2:4] == ["20 h", "peer"] and lines[1][2:4] == ["17.4 min", "69"]
    assert lines[-1][1:4] == ["reading its batch from the disk", "100 ms", "20"]
    point = {"kind": "length", "model": "mini", "memory_mb": 99.6}
    growth = [{**point, "seconds": s, "seconds_taken": s / 100} for s in (1, 60)]
    growth.append({"kind": "corpus", "rows": 1000, "seconds_taken": 0.01, "memory_mb": 2.0})
    growth.append({**point, "kind": "batch", "seconds": 5, "batch": 4, "seconds_taken": 0.2})
    moved = {"mini": {"0": 0.004, "2": 0.001}}
    lines = speed_tables.speed_lines("growth", {"rows": growth, "windows_against_whole": moved})
    lines = {(line[0], line[1]): line[2:] for line in lines}
    assert lines["one recording, whole", "mini, 60 s"][::2] == ["600 ms", MEMORY]
    assert lines["batch", "mini, 4 x 5 s"][0] == "200 ms"
    assert lines["manifest read and checked", "1,000 rows"][0] == "10 ms"
    windows = lines[
        "pooled states of a minute, windows against whole", "mini: context on both sides"
    ]
    assert windows[2] == "0.4 % with 0 s, 0.1 % with 2 s"


def test_claims_of_the_paper_with_their_intervals(tables, tmp_path):
    pair = {"mean": {"UA": {"difference": 0.012, "ci": [-0.01, 0.034]}}}
    noisy = {**pair, "notes": ["within pretraining noise"]}
    claims = [
        {
            "table": "VI",
            "claim": "A",
            "of_paper": True,
            "verdict": "undecided",
            "pairs": [pair, noisy],
        },
        {"table": "VI", "claim": "B", "of_paper": False, "verdict": "not run", "pairs": [{}]},
    ]
    folder = tmp_path / "paper/mini"
    folder.mkdir(parents=True)
    (folder / "verdicts.json").write_text(json.dumps({"claims": claims}))
    lines = tables.table("paper/mini", tmp_path).splitlines()
    assert lines[2] == "| VI | A | undecided | +1.2 [-1.0, +3.4]; +1.2 [-1.0, +3.4] \\* |"
    assert lines[3] == "| VI | B (our control) | not run |  |"
    assert tables.table("paper/full", tmp_path) == tables.NOTHING
