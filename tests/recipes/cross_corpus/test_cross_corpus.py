"""Protocol D from the command line to matrix, table and picture, on two invented corpora."""

import importlib.util
import json
import re

import pandas as pd
import pytest
from corpus_trees import pitch_of, sounding
from recipe_runs import RECIPES, kept_logging, save_tiny_encoder

from data_prep.manifest import read_manifest
from data_prep.ravdess_prepare import CLASSES as RAVDESS
from vesper_lobes.cross_corpus_run import outward_fold, run_cross_corpus
from vesper_lobes.emotion_brain import EmotionBrain
from vesper_lobes.emotion_cells import Fold
from vesper_lobes.run_metrics import read_metrics

RECIPE = RECIPES / "cross_corpus" / "emotion"
CLASSES = ["angry", "neutral", "happy", "sad"]
PITCH = pitch_of([*CLASSES, "calm"])


@pytest.fixture(scope="module")
def matrix():
    spec = importlib.util.spec_from_file_location("matrix", RECIPE / "matrix.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """EmoDB's five speakers, RAVDESS's first six actors: the same pitch for the same emotion."""
    root = tmp_path_factory.mktemp("trees")
    letters = dict(zip("WNFT", CLASSES, strict=True))
    write = sounding(lambda path: PITCH[letters[path.stem[5]]])
    for speaker in ("03", "08", "09", "10", "11"):
        for letter in letters:
            write(root / "emodb" / "wav" / f"{speaker}a01{letter}a.wav", 0.4)
    write = sounding(lambda path: PITCH[RAVDESS[int(path.stem[6:8]) - 1]])
    for actor in range(1, 7):
        for emotion in ("neutral", "calm", "happy", "sad", "angry"):
            name = f"03-01-{RAVDESS.index(emotion) + 1:02d}-01-01-01-{actor:02d}"
            write(root / "ravdess" / f"Actor_{actor:02d}" / f"{name}.wav", 0.4)
    return {"EmoDB": root / "emodb", "RAVDESS": root / "ravdess"}


@pytest.fixture(scope="module")
def launch(trees, tmp_path_factory):
    """``launch(output, *options)``; the encoder's record says it heard actors 01 to 04."""
    encoder = save_tiny_encoder(tmp_path_factory.mktemp("encoder"))
    record = {"speakers": {"RAVDESS": ["01", "02", "03", "04"]}}
    (encoder / "pretraining.json").write_text(json.dumps(record))

    def start(output, *options, corpora=("EmoDB", "RAVDESS")):
        argv = [str(RECIPE / "hparams" / "vesper_mini.yaml"), "--output_folder", str(output)]
        argv += ["--encoder", str(encoder), "--device", "cpu", "--allow_partial", "True"]
        argv += ["--number_of_epochs", "2", "--head_seeds", "1 2"]
        for name in corpora:
            argv += [f"--{name}", str(trees[name])]
        with kept_logging():
            return run_cross_corpus([*argv, *map(str, options)], EmotionBrain, read_manifest)

    return start


@pytest.fixture(scope="module")
def whole_run(launch, tmp_path_factory):
    output = tmp_path_factory.mktemp("run")
    return output, launch(output, "--baselines", "[mfcc_ridge]")


def test_every_pair_has_metrics_of_the_shared_classes(whole_run):
    output, run = whole_run
    sizes = {"EmoDB": 20, "RAVDESS": 24}  # calm is dropped
    assert set(run.metrics) == {(a, b) for a in sizes for b in sizes}
    for (train, test), metrics in run.metrics.items():
        path = output / "matrix" / f"{train}_to_{test}" / "metrics.json"
        assert metrics == read_metrics(path)
        assert metrics["corpus"] == test and metrics["n"] == sizes[test]
        assert metrics["protocol"] == ("B" if train == test else "D")
        assert metrics["classes"] == CLASSES and metrics["seeds"] == [1, 2]
        assert metrics["baselines"]["mfcc_ridge"]["UA"] > 0.7  # pitch carries over
        low, high = metrics["ci"]["UA"]
        assert low <= metrics["pooled"]["UA"] <= high


def test_heard_speakers_mark_their_cells_and_the_unheard_are_scored_by_themselves(whole_run):
    output, run = whole_run
    for (train, test), metrics in run.metrics.items():
        assert metrics["ssl_saw_test_audio"] == (test == "RAVDESS")
        path = output / "matrix" / f"{train}_to_{test}" / "unheard_speakers.json"
        assert path.is_file() == (test == "RAVDESS")
        if path.is_file():
            clean = read_metrics(path)
            assert clean["n"] == 8 and not clean["ssl_saw_test_audio"]  # actors 05 and 06


def test_no_test_corpus_has_a_part_in_training_or_selection(whole_run):
    _, run = whole_run
    for name in ("EmoDB", "RAVDESS"):
        devs = []
        for encoder, seed, fold, folder in (("encoder", *job[1:]) for job in run.jobs("encoder")):
            assert encoder == "encoder" and seed in (1, 2)
            train, dev, test = (
                {u.split("/")[0] for u in p} for p in (fold.train, fold.dev, fold.test)
            )
            if folder.parent.parent.name == "within":
                assert train == dev == test and len(train) == 1
            else:
                assert train == dev and not train & test
                devs += [sorted(fold.dev)] if train == {name} else []
        assert len(devs) == 2 and devs[0] != devs[1]  # another dev fold for another seed


def test_dev_speakers_are_not_trained_on(whole_run):
    _, run = whole_run
    speaker = dict(zip(run.corpus.manifest["ID"], run.corpus.manifest["speaker"], strict=True))
    for _, _, fold, _ in run.jobs("encoder"):
        train, dev = ({speaker[u] for u in part} for part in (fold.train, fold.dev))
        assert not train & dev


def test_outward_fold_takes_all_but_dev():
    manifest = pd.DataFrame({"ID": ["a/1", "a/2", "a/3", "b/1"], "corpus": list("aaab")})
    folds = [Fold(1, ["a/3"], ["a/2"], ["a/1"]), Fold(2, ["a/1"], ["a/3"], ["a/2"])]
    fold = outward_fold(manifest, folds, "a", turn=2)
    assert (fold.train, fold.dev, fold.test) == (["a/1", "a/3"], ["a/2"], ["b/1"])


def test_a_repeated_run_trains_nothing_and_gives_the_same(whole_run, launch):
    output, run = whole_run
    times = {path: path.stat().st_mtime_ns for path in output.rglob("cell.json")}
    again = launch(output, "--baselines", "[mfcc_ridge]")
    assert times == {path: path.stat().st_mtime_ns for path in output.rglob("cell.json")}
    pooled = {pair: metrics["pooled"] for pair, metrics in run.metrics.items()}
    assert pooled == {pair: metrics["pooled"] for pair, metrics in again.metrics.items()}


def test_table_and_picture(whole_run, matrix):
    output, run = whole_run
    text = matrix.write(output)
    assert text == (output / "matrix.md").read_text()
    value = f"{100 * run.metrics['EmoDB', 'RAVDESS']['pooled']['UA']:.1f}"
    (row,) = re.findall(rf"\| EmoDB \| \*.*\* \| {value} \[.*\] t \|", text)
    assert "chance 25.0" in text and "that no pretraining heard" in text and "(n = 8)" in text
    assert "floor: ridge on MFCC statistics" in text
    assert (output / "matrix.png").read_bytes().startswith(b"\x89PNG")


def test_published_are_metrics_and_picture_alone(whole_run, matrix, tmp_path):
    output, _ = whole_run
    stale = tmp_path / "mini" / "MELD_to_EmoDB"
    stale.mkdir(parents=True)
    written = matrix.publish(output, "mini", tmp_path)
    assert {path.name for path in written} == {
        "metrics.json",
        "unheard_speakers.json",
        "run.json",
        "matrix.png",
    }
    assert not stale.exists()
    page = "x\n<!-- matrix: mini -->\nold\n<!-- end matrix -->\ny\n"
    text = matrix.renewed(page, tmp_path)
    assert "old" not in text and "| EmoDB |" in text and text.startswith("x\n")
    assert matrix.renewed(text, tmp_path) == text
    assert "No results are published yet." in matrix.renewed(page.replace("mini", "none"), tmp_path)
    folder = str(output.parent)
    assert all(folder not in p.read_text() for p in written if p.suffix == ".json")


def test_the_recipes_own_table_is_up_to_date(matrix, capsys):
    assert matrix.main(["--check"]) == 0, capsys.readouterr().out


def test_one_corpus_is_not_enough(launch, tmp_path):
    with pytest.raises(ValueError, match="at least two corpora out of: --IEMOCAP FOLDER"):
        launch(tmp_path, corpora=("EmoDB",))
