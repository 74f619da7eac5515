"""Tables in README files come from committed metrics.json and are up to date."""

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

from vesper_lobes.run_metrics import build_metrics, write_metrics

ROOT = Path(__file__).resolve().parents[2]
PAGE = "# Title\n\n<!-- results: emodb -->\nstale\n<!-- end results -->\n\nText.\n"


@pytest.fixture(scope="module")
def tables():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "recipes" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
