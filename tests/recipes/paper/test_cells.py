"""The grid: every row of the paper's tables is there, each by a command that the recipes take."""

import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT / "recipes" / "paper"))
from cells import LOSSES, TABLES, VARIANTS, Grid, read_size  # noqa: E402

SIZES = ("mini", "full", "masking_study")


def rows(grid, **wanted):
    return [r for r in grid.rows if all(r[name] == value for name, value in wanted.items())]


@pytest.mark.parametrize("size", SIZES)
def test_cells_come_after_what_they_need(size):
    seen = set()
    for name, cell in Grid(read_size(size)).cells.items():
        assert set(cell.needs) <= seen, name
        seen.add(name)


@pytest.mark.parametrize("size", ["mini", "full"])
def test_every_table_has_its_rows(size):
    grid = Grid(read_size(size))
    corpora = len(read_size(size)["corpora"])
    shown = {t: [r for r in grid.rows if t in r["tables"] and r["protocol"] == "B"] for t in TABLES}
    assert len(shown["III"]) == len(shown["VIII"]) == 4 * corpora  # four models
    assert len(shown["IV"]) == 2 * 4 * corpora  # two heads
    for table in ("V", "VI", "VII"):  # four ways, two depths
        assert len(shown[table]) == 4 * 2 * corpora, table
    by_mask = {r["masking"] for r in shown["VI"]}
    assert by_mask == {"guided", "random", "random_matched", "published_code"}
    by_start = {r["compression"] for r in shown["V"]}
    assert by_start == {"random", "distillation", "averaging", "extraction"}
    assert {r["losses"] for r in shown["VII"]} == {"h", "lh", "hx", "lhx"}
    assert "complexity" in grid.cells
    both = [r for r in grid.rows if r["protocol"] == "A"]
    assert len(both) * 2 == len(grid.rows)


def test_names_of_variants_are_distinct():
    assert len({v.name for v in VARIANTS}) == len(VARIANTS)
    assert {v.losses for v in VARIANTS} == set(LOSSES)


@pytest.mark.parametrize("size", SIZES)
def test_every_option_is_a_key_of_its_yaml(size):
    run_options = {"--precision", "--device"}
    for cell in Grid(read_size(size)).cells.values():
        if cell.command[1] != "train.py":
            continue
        text = (ROOT / cell.folder / cell.command[2]).read_text()
        options = [word for word in cell.command if word.startswith("--")]
        assert len(set(options)) == len(options), "SpeechBrain takes no option twice"
        for option in set(options) - run_options:
            assert f"\n{option[2:]}:" in text, f"{cell.folder}/{cell.command[2]} has no {option}"


def test_mini_pairs_pretraining_seeds_with_head_seeds():
    grid = Grid(read_size("mini"))
    (row,) = rows(grid, model="v4", masking="random", corpus="EmoDB", protocol="B")
    assert [e.rsplit("-", 1)[1] for e in row["encoders"]] == ["2013", "2014", "2015"]
    seeds = [grid.cells[run.removeprefix("cells/")].command for run in row["runs"]]
    seeds = [words[words.index("--head_seeds") + 1] for words in seeds]
    assert seeds == ["[1986]", "[1987]", "[1988]"]
    (row,) = rows(grid, model="v12", losses="h", corpus="EmoDB", protocol="B")
    words = grid.cells[row["runs"][0].removeprefix("cells/")].command
    assert words[words.index("--head_seeds") + 1] == "[1986, 1987, 1988]"


def test_mini_never_hears_the_corpus_it_calls_clean():
    for name, cell in Grid(read_size("mini")).cells.items():
        if cell.folder.startswith("recipes/LSSED"):
            assert "emodb" not in " ".join(cell.command).lower(), name


def test_one_table_plans_no_more_than_it_shows():
    grid = Grid(read_size("mini"), ["VI"])
    trained = [n for n, c in grid.cells.items() if c.folder.endswith("pretrain")]
    assert len(trained) == 4 * 3 + 4  # four maskers; three seeds of v4, one of v12
    assert not any("averaging" in n or "shiftformer" in n for n in grid.cells)
    assert "teacher-large" in grid.cells and "teacher-base" not in grid.cells
    assert set(Grid(read_size("mini"), ["II"]).cells) == {"complexity"}


def test_losses_are_those_of_the_table():
    weights = {name: yaml.safe_load(text) for name, text in LOSSES.items()}
    full = weights["lhx"]
    assert full == {"l": 1.0, "h": 0.1, "x": 1.0}  # eq. 17
    for name, found in weights.items():
        assert found == {k: v if k in name else 0.0 for k, v in full.items()}


def test_the_study_scales_with_the_corpus():
    settings = read_size("masking_study")
    one, four = (Grid(settings, ["VI"], scale) for scale in (1, 4))
    name = "v4-guided-2014"
    assert four.cells[name].minutes == 4 * one.cells[name].minutes
    assert len([n for n in one.cells if n.startswith("v4-")]) == 12
    words = one.cells[name].command
    assert int(words[words.index("--number_of_epochs") + 1]) <= 20


def test_an_unknown_size_names_the_known():
    with pytest.raises(ValueError, match="full, masking_study, mini"):
        read_size("huge")
