"""Verdicts: planted effects are found, noise is not, and the paper's own cells are read right."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.append(str(Path(__file__).resolve().parents[3] / "recipes" / "paper"))
import claims
import verdicts
from claims import Claim, Pair, read_claims
from invented_grid import CORPORA, predictions, write_grid
from rows import Grid, Row, key_of, read_grid, read_targets
from verdicts import (
    CONTRADICTED,
    NOT_RUN,
    SUPPORTED,
    UNDECIDED,
    judge,
    judge_pair,
)

V4, V12, BASE, LARGE = (key_of({"model": name}) for name in ("v4", "v12", "base", "large"))
RANDOM = key_of({"model": "v4", "masking": "random"})
H = key_of({"model": "v4", "losses": "h"})


def rows_of(skills, corpora=tuple(CORPORA), pretrainings=1):
    """Rows in memory: key -> skill, each with noise of its own."""
    found = {}
    for number, (key, skill) in enumerate(skills.items()):
        for corpus in corpora:
            runs = []
            for run in range(pretrainings):
                tables = [
                    predictions(corpus, skill, 100 * number + 10 * run + seed, 0)
                    for seed in range(2)
                ]
                runs.append(tables)
            metrics = {"classes": CORPORA[corpus][2], "seeds": [1, 2], "ssl_saw_test_audio": False}
            found[key, corpus, "B"] = Row(key, corpus, "B", metrics, runs, [key.slug()])
    return found


def grid_of(rows, corpora=tuple(CORPORA)):
    """A grid of such rows."""
    return Grid("mini", rows, {}, list(corpora), [], {}, Path("."))


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A work folder with planted effects, judged by the project's claims."""
    skills = [
        ({"model": "base"}, 0.45, 1),
        ({"model": "v4"}, 0.62, 3),
        ({"model": "large"}, 0.75, 1),
        ({"model": "v12"}, 0.60, 1),
        ({"model": "v4", "masking": "random"}, 0.62, 3),
        ({"model": "v4", "losses": "h"}, 0.72, 1),
        ({"model": "v4", "losses": "lh"}, None, 1),
    ]
    grid = read_grid(write_grid(tmp_path_factory.mktemp("planted"), skills))
    return judge(grid, read_targets(), read_claims(), draws=500)


def test_planted_effects_are_recovered(planted):
    found = {claim["id"]: claim["verdict"] for claim in planted["claims"]}
    assert found["III-v4-base"] == found["III-v12-base"] == SUPPORTED
    assert found["III-v12-large"] == CONTRADICTED
    assert found["III-v12-v4"] == UNDECIDED
    assert found["IV-v4-base"] == found["V-extraction-random"] == NOT_RUN
    assert found["VI-guided-random"] == NOT_RUN  # Vesper-12's pair was not run
    assert found["VII-all"] == CONTRADICTED  # one pair is, and the others were not run


def test_what_a_pair_tells(planted):
    pairs = {claim["id"]: claim["pairs"] for claim in planted["claims"]}
    pair = pairs["VI-guided-random"][0]
    assert pair["verdict"] == UNDECIDED and len(pair["by_seed"]) == 3
    assert pair["label"] == "Vesper-4: guided > random, as many positions"
    assert pair["paper_difference"] == pytest.approx(np.mean([0.026, 0.023, 0.016]), abs=1e-4)
    missing = pairs["VI-guided-random"][1]
    assert missing["verdict"] == NOT_RUN and "v12-extraction-random" in missing["missing"][0]
    assert verdicts.ONE_PRETRAINING in pairs["III-v4-base"][0]["notes"]
    ua = pairs["III-v4-base"][0]["mean"]["UA"]
    corpora = pairs["III-v4-base"][0]["corpora"].values()
    assert ua["difference"] == pytest.approx(np.mean([c["UA"]["difference"] for c in corpora]))
    assert ua["ci"][0] < ua["difference"] < ua["ci"][1] and ua["share_above_zero"] == 1
    assert planted["transductive"] == ["RAVDESS"]


def test_less_is_greater_the_other_way_round():
    grid = grid_of(rows_of({V4: 0.7, H: 0.5}))
    less, greater = (
        judge_pair(grid, pair, "UA", 200) for pair in (Pair((H,), (V4,), -1), Pair((V4,), (H,), 1))
    )
    assert less == greater and less["verdict"] == SUPPORTED
    back = judge_pair(grid, Pair((H,), (V4,), 1), "UA", 200)
    assert back["verdict"] == CONTRADICTED
    assert back["mean"]["UA"]["ci"] == pytest.approx(
        [-v for v in greater["mean"]["UA"]["ci"][::-1]]
    )


def test_corpora_are_drawn_independently_and_detectable_is_two_point_eight_errors():
    grid = grid_of(rows_of({V4: 0.6, BASE: 0.55}))
    draws = [
        verdicts._draws_of([grid.rows[V4, c, "B"]], [grid.rows[BASE, c, "B"]], 2000, c)["UA"][1]
        for c in CORPORA
    ]
    assert abs(np.corrcoef(draws)[0, 1]) < 0.08
    found = judge_pair(grid, Pair((V4,), (BASE,), 1), "UA", 2000)["mean"]["UA"]
    error = np.sqrt(draws[0].var() + draws[1].var()) / 2
    assert found["detectable"] == pytest.approx(2.80 * error, rel=0.05)


def test_a_difference_of_differences():
    last = {key: key._replace(mix="last") for key in (BASE, V4)}
    skills = {BASE: 0.7, last[BASE]: 0.4, V4: 0.7, last[V4]: 0.65}
    grid = grid_of(rows_of(skills))
    pair = Pair((BASE, last[V4]), (last[BASE], V4), 1)
    found = judge_pair(grid, pair, "UA", 300)
    assert found["verdict"] == SUPPORTED and 0.15 < found["mean"]["UA"]["difference"] < 0.35
    assert found["label"] == "WavLM Base loses more than Vesper-4"


def test_a_pair_on_one_corpus_says_so_and_seeds_that_disagree_are_told():
    rows = rows_of({V4: 0.7, BASE: 0.5})
    del rows[BASE, "RAVDESS", "B"]
    found = judge_pair(grid_of(rows), Pair((V4,), (BASE,), 1), "UA", 200)
    assert "EmoDB only" in found["notes"] and list(found["corpora"]) == ["EmoDB"]
    rows = rows_of({V4: 0.6, RANDOM: 0.6}, pretrainings=3)
    turned = judge_pair(grid_of(rows), Pair((V4,), (RANDOM,), 1), "UA", 200)
    assert len(turned["by_seed"]) == 3
    signs = {value > 0 for value in turned["by_seed"]}
    assert (verdicts.DISAGREE in turned["notes"]) == (len(signs) == 2)


def repeated(skill, number):
    """Verdicts on that skill against 0.6, in many repetitions of the whole experiment."""
    rows, found = rows_of({V4: 0.6, BASE: 0.6}), []
    random = np.random.default_rng(0)
    tables = {c: pd.concat([predictions(c, 1.0, 0, fold) for fold in range(2)]) for c in CORPORA}
    for _ in range(number):
        for (key, corpus, _), row in rows.items():
            table, classes = tables[corpus], CORPORA[corpus][2]
            right = random.random(len(table)) < (skill if key == V4 else 0.6)
            wrong = np.roll(classes, 1)[table["target"].map(classes.index)]
            row.runs[:] = [[table.assign(prediction=np.where(right, table["target"], wrong))]]
        found.append(judge_pair(grid_of(rows), Pair((V4,), (BASE,), 1), "UA", 200))
    return found


def test_rows_that_were_tested_on_other_utterances_stop_no_report():
    rows = rows_of({V4: 0.7, BASE: 0.5})
    tables = rows[BASE, "EmoDB", "B"].runs[0]
    tables[:] = [table[table["ID"] != "2-5"] for table in tables]
    found = judge_pair(grid_of(rows), Pair((V4,), (BASE,), 1), "UA", 100)
    assert list(found["corpora"]) == ["RAVDESS"] and "not in all tables" in found["notes"][-1]
    found = judge_pair(grid_of(rows, ["EmoDB"]), Pair((V4,), (BASE,), 1), "UA", 100)
    assert found["verdict"] == NOT_RUN and "not in all tables" in found["notes"][0]


def test_noise_is_seldom_decided_and_the_detectable_difference_mostly():
    """Few of the pairs without a difference are decided; at the detectable one, about 80 %."""
    null = repeated(0.6, 40)
    assert np.mean([pair["verdict"] != UNDECIDED for pair in null]) < 0.18
    size = np.mean([pair["mean"]["UA"]["detectable"] for pair in null])
    found = repeated(0.6 + size, 40)
    assert 0.6 < np.mean([pair["verdict"] == SUPPORTED for pair in found]) < 0.95
    assert not any(pair["verdict"] == CONTRADICTED for pair in found)


def test_pretraining_noise_is_measured_and_small_differences_are_marked():
    keys = [key_of({"model": "v4", "masking": m}) for m in ("guided", "random", "random_matched")]
    rows = rows_of(dict.fromkeys(keys, 0.6), pretrainings=3)
    base = rows_of({BASE: 0.6})
    grid = grid_of({**rows, **base})
    shifts = {key: np.random.default_rng(n).normal(0, 0.06, 3) for n, key in enumerate(keys)}
    tables = {c: pd.concat([predictions(c, 1.0, 0, fold) for fold in range(2)]) for c in CORPORA}
    random = np.random.default_rng(1)
    for (key, corpus, _), row in grid.rows.items():
        table, classes = tables[corpus], CORPORA[corpus][2]
        wrong = np.roll(classes, 1)[table["target"].map(classes.index)]
        for place in range(len(row.runs)):  # each pretraining is better or poorer on all corpora
            right = random.random(len(table)) < 0.6 + (shifts[key][place] if key in shifts else 0)
            own = table.assign(prediction=np.where(right, table["target"], wrong))
            row.runs[place][:] = [own]
    noise = verdicts.pretraining_noise(grid)
    planted = np.sqrt(np.mean([shift.var(ddof=1) for shift in shifts.values()]))
    assert noise["degrees"] == 6 and noise["deviation"] == pytest.approx(planted, abs=0.02)
    alone = verdicts.pretraining_reach(grid, Pair((V4,), (BASE,), 1), noise)
    three = verdicts.pretraining_reach(grid, Pair((V4,), (RANDOM,), 1), noise)
    assert alone == pytest.approx(2.447 * noise["deviation"] * np.sqrt(4 / 3), rel=1e-3)
    assert three == pytest.approx(alone / np.sqrt(2))
    last = V4._replace(mix="last")
    for corpus in CORPORA:  # another reading of the same encoders
        grid.rows[last, corpus, "B"] = grid.rows[V4, corpus, "B"]._replace(key=last)
    assert verdicts.pretraining_reach(grid, Pair((V4,), (last,), 1), noise) is None
    judged = judge(grid, read_targets(), read_claims(), draws=100)
    for claim in judged["claims"]:
        for pair in claim["pairs"]:
            decided = pair["verdict"] in (SUPPORTED, CONTRADICTED)
            small = pair["mean"] and abs(pair["mean"]["UA"]["difference"]) < (
                pair["pretraining_reach"] or 0
            )
            assert (verdicts.WITHIN in pair["notes"]) == bool(decided and small)


def test_the_papers_own_cells_that_do_not_bear_a_claim_out():
    targets = read_targets()
    found = {claim.id: claims.in_paper(targets, claim) for claim in read_claims()}
    assert found["III-v12-large"] == {
        "cells": 7,  # IEMOCAP's UA and WF1 of Large are not in the paper
        "against": ["Vesper-12 > WavLM Large: MELD WA 53.5 < 54.2"],
    }
    assert "Vesper-4: all three > h alone: MELD WA 50.1 < 50.6" in found["VII-h"]["against"]
    assert found["III-v4-base"]["against"] == [] and found["V-random-last"]["against"] == []
    assert len(found["VIII-sum"]["against"]) == 9
    assert found["VI-guided-matched"]["cells"] == 0
    assert found["VIII-less-loss-v12"]["against"] == [
        "WavLM Large loses more than Vesper-12: MELD UA \N{MINUS SIGN}1.0 against 0.2 points"
    ]


def test_equal_figures_do_not_bear_a_claim_out():
    targets = read_targets()
    one, other = key_of({"model": "v4"}), key_of({"model": "v12"})
    figures = {key: {"MELD": {"WA": 0.5, "UA": 0.25, "WF1": 0.4}} for key in (one, other)}
    claim = Claim("a", "III", "", True, "UA", [Pair((one,), (other,), 1)])
    found = claims.in_paper(targets._replace(figures=figures), claim)
    assert found["cells"] == 3 and "MELD WA 50.0 = 50.0" in found["against"][0]


def test_every_claim_names_rows_that_a_table_shows():
    targets = read_targets()
    shown = {key for table in targets.tables.values() for key, _ in table["rows"]}
    known = read_claims()
    assert len(known) == 22 and sum(claim.of_paper for claim in known) == 20
    for claim in known:
        assert claim.table in targets.tables and claim.pairs and claim.metric == "UA"
        for pair in claim.pairs:
            assert set(pair.left) | set(pair.right) <= shown, claim.id


def test_what_chance_would_decide_and_how_narrow_few_speakers_are(planted):
    low, high = planted["expected_by_chance"]
    assert low == pytest.approx(0.05 * planted["pairs_run"], abs=0.05)
    assert low < high == pytest.approx(0.095 * planted["pairs_run"], abs=0.1)
    assert planted["coverage"]["EmoDB"] == {
        "groups": 10,
        "coverage": pytest.approx(0.905, abs=0.005),
    }
    assert planted["pairs"] > planted["pairs_run"] > 4
