"""Intervals: equal to the slow definition, wider than by utterance, paired ones narrower."""

import time

import numpy as np
import pandas as pd
import pytest

from vesper_lobes.bootstrap import bootstrap_ci, contrast_draws, paired_bootstrap
from vesper_lobes.metrics import METRICS, scores

CLASSES = ["angry", "neutral", "happy", "sad"]


def table(seed=0, speakers=10, each=30, skill=0.7, spread=0.0):
    """Predictions of one seed; ``spread`` makes speakers differ in how well they are read."""
    rng = np.random.default_rng(seed)
    size = speakers * each
    speaker = np.repeat(np.arange(speakers), each)
    targets = np.random.default_rng(99).integers(0, 4, size)
    ease = skill + spread * np.linspace(-1, 1, speakers)[speaker]
    predictions = np.where(rng.random(size) < ease, targets, rng.integers(0, 4, size))
    return pd.DataFrame(
        {
            "ID": [f"utt{i:04d}" for i in range(size)],
            "speaker": [f"{s:02d}" for s in speaker],
            "target": targets,
            "prediction": predictions,
        }
    )


def test_equals_resampling_rows_one_draw_at_a_time():
    tables = [table(0), table(1)]
    names = sorted(tables[0]["speaker"].unique())
    counts = np.random.default_rng(0).multinomial(10, np.full(10, 0.1), size=50)
    slow = {name: [] for name in METRICS}
    for draw in counts:
        found = []
        for one in tables:
            rows = [
                one[one["speaker"] == n] for n, k in zip(names, draw, strict=True) for _ in range(k)
            ]
            sample = pd.concat(rows)
            found.append(scores(sample["target"], sample["prediction"], 4))
        for name in METRICS:
            slow[name].append(np.mean([f[name] for f in found]))
    ours = bootstrap_ci(tables, CLASSES, draws=50)
    for name in METRICS:
        np.testing.assert_allclose(ours[name], np.percentile(slow[name], [2.5, 97.5]))


def test_deterministic_plain_and_around_the_score():
    one = table(spread=0.2)
    first = bootstrap_ci([one], CLASSES)
    assert first == bootstrap_ci([one], CLASSES)
    assert first != bootstrap_ci([one], CLASSES, seed=1)
    point = scores(one["target"], one["prediction"], 4)
    for name, (low, high) in first.items():
        assert type(low) is float and low < point[name] < high


def test_row_order_and_class_names_do_not_matter():
    one = table(spread=0.2)
    named = one.sample(frac=1, random_state=3)
    for column in ("target", "prediction"):
        named[column] = [CLASSES[i] for i in named[column]]
    assert bootstrap_ci([one], CLASSES) == bootstrap_ci([named], CLASSES)


def test_speakers_that_differ_widen_the_interval():
    def width(spread, groups):
        low, high = bootstrap_ci([table(spread=spread)], CLASSES, groups)["WA"]
        return high - low

    assert width(0.3, "speaker") > 1.5 * width(0.3, "ID")
    assert width(0.0, "speaker") < 1.6 * width(0.0, "ID")


def test_difference_is_surer_when_paired():
    strong = table(seed=1, skill=0.70, spread=0.25)
    weak = strong.copy()
    wrong = weak.groupby("speaker").cumcount() % 10 == 0  # a tenth of every speaker, made wrong
    weak.loc[wrong, "prediction"] = (weak.loc[wrong, "target"] + 1) % 4
    gap = paired_bootstrap([strong], [weak], CLASSES)["WA"]
    ours, theirs = (bootstrap_ci([t], CLASSES)["WA"] for t in (strong, weak))
    assert ours[0] < theirs[1]  # the two intervals overlap
    assert gap["ci"][0] > 0 and gap["share_above_zero"] == 1.0
    assert gap["ci"][0] <= gap["difference"] <= gap["ci"][1]


def test_run_against_itself_is_zero():
    same = paired_bootstrap([table(0), table(1)], [table(0), table(1)], CLASSES)
    assert all(entry["difference"] == 0 and entry["ci"] == [0, 0] for entry in same.values())


def test_numbers_of_seeds_may_differ():
    gap = paired_bootstrap([table(0), table(1), table(2)], [table(3)], CLASSES)
    assert gap["UA"]["ci"][0] < gap["UA"]["difference"] < gap["UA"]["ci"][1]


def test_what_is_not_comparable_is_refused():
    one = table()
    with pytest.raises(ValueError, match="not in all tables"):
        paired_bootstrap([one], [one.iloc[1:]], CLASSES)
    other = one.assign(target=(one["target"] + 1) % 4)
    with pytest.raises(ValueError, match="differs between tables"):
        paired_bootstrap([one], [other], CLASSES)
    with pytest.raises(ValueError, match="predicted twice"):
        paired_bootstrap([pd.concat([one, one])], [one], CLASSES)
    for empty in (None, "", " "):
        nameless = one.astype({"speaker": object})
        nameless.loc[7, "speaker"] = empty
        with pytest.raises(ValueError, match="row 7 has no speaker"):
            bootstrap_ci([nameless], CLASSES)
    with pytest.raises(ValueError, match="none of the classes"):
        bootstrap_ci([one.assign(target="bored")], CLASSES)


def test_a_contrast_of_four_runs_is_a_difference_of_differences():
    a, b, c, d = ([table(seed, skill=skill)] for seed, skill in enumerate((0.8, 0.5, 0.7, 0.6)))
    whole = contrast_draws([a, d], [b, c], CLASSES, draws=50)
    first, second = (contrast_draws([x], [y], CLASSES, draws=50) for x, y in ((a, b), (c, d)))
    for name in METRICS:
        assert whole[name][0] == pytest.approx(first[name][0] - second[name][0])
        assert np.allclose(whole[name][1], first[name][1] - second[name][1])
    pair = paired_bootstrap(a, b, CLASSES, draws=50)["UA"]
    assert pair["difference"] == first["UA"][0]
    assert pair["ci"] == list(np.percentile(first["UA"][1], [2.5, 97.5]))


def test_one_group_warns(caplog):
    low, high = bootstrap_ci([table(speakers=1)], CLASSES)["WA"]
    assert low == high and "one group" in caplog.text


def test_a_corpus_of_iemocaps_size_takes_a_moment():
    tables = [table(seed, speakers=10, each=553) for seed in range(5)]
    began = time.perf_counter()
    bootstrap_ci(tables, CLASSES)
    assert time.perf_counter() - began < 5  # 0.1 s on one core
