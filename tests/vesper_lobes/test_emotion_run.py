"""Pieces of a run: options, folds, keys of cells, and what is known of the encoder's past."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from vesper_lobes.checkpoints import save_encoder, weights_hash
from vesper_lobes.emotion_cells import Corpus, Fold, cell_key, read_cell, read_folds, write_cell
from vesper_lobes.emotion_encoders import make_encoder, saw_test_audio, split_baselines
from vesper_lobes.emotion_run import parse_overrides, seed_list
from vesper_lobes.encoder import Encoder


@pytest.fixture
def corpus():
    columns = {"ID": ["a", "b", "c"], "emotion": ["x", "y", "x"], "speaker": ["1", "2", "3"]}
    manifest = pd.DataFrame({**columns, "dialogue": ""})
    return Corpus(manifest, ["x", "y"], [Fold(1, ["a"], ["b"], ["c"])])


def test_numbers_on_the_command_line_are_numbers():
    assert parse_overrides("lr: 1e-3\nseeds: [1, 2]\nname: B") == {
        "lr": 0.001,
        "seeds": [1, 2],
        "name": "B",
    }
    assert parse_overrides("") == {}


def test_the_same_seed_twice_is_refused():
    with pytest.raises(ValueError, match="distinct"):
        seed_list("3 3")


@pytest.mark.parametrize(
    ("fold", "complaint"),
    [
        (Fold(2, ["a"], [], ["c"]), "fold 2, dev: no utterances"),
        (Fold(2, ["a"], ["b"], ["zz"]), "not in the manifest"),
    ],
)
def test_bad_folds_are_refused(corpus, fold, complaint):
    with pytest.raises(ValueError, match=complaint):
        Corpus(corpus.manifest, corpus.classes, [fold])


def test_an_emotion_outside_the_classes_is_refused(corpus):
    with pytest.raises(ValueError, match=r"\['y'\] are none of the classes"):
        Corpus(corpus.manifest, ["x"], corpus.folds)


def test_speakers_and_ids_stay_text(tmp_path):
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.csv").write_text("ID,speaker\n007,03\nNA,1\n")
    (fold,) = read_folds([[tmp_path / f"{name}.csv" for name in ("train", "dev", "test")]])
    assert fold.number == 1 and fold.train == ["007", "NA"]


def test_a_cell_counts_only_with_its_key_and_its_predictions(corpus, tmp_path):
    probabilities = np.array([[0.25, 0.75]])
    write_cell(tmp_path, "k", corpus, corpus.folds[0], probabilities, best={"score": 1.0})
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert table[["ID", "target", "prediction"]].to_numpy().tolist() == [["c", "x", "y"]]
    assert read_cell(tmp_path, "k")["best"] == {"score": 1.0}
    assert read_cell(tmp_path, "other") is None
    (tmp_path / "predictions.csv").unlink()
    assert read_cell(tmp_path, "k") is None


def test_a_cells_key_knows_settings_and_parts(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("lr: 1\nhalf: !ref <lr> / 2\n")
    key = cell_key(path, {}, "part")
    assert key == cell_key(path, {"lr": 1}, "part")
    assert key != cell_key(path, {"lr": 2}, "part") and key != cell_key(path, {}, "other")


def test_baselines_are_what_they_say(tiny_config, tmp_path):
    student = Encoder(tiny_config(num_hidden_layers=2))
    teacher = Encoder(tiny_config(num_hidden_layers=4))
    save_encoder(student, tmp_path / "student"), save_encoder(teacher, tmp_path / "teacher")
    sources = tmp_path / "student", tmp_path / "teacher"
    made = {
        name: make_encoder(name, *sources, seed=3)
        for name in ("encoder", "random_init", "teacher", "extraction")
    }
    assert weights_hash(made["encoder"]) == weights_hash(student)
    assert weights_hash(made["teacher"]) == weights_hash(teacher)
    assert made["random_init"].config == student.config
    assert weights_hash(made["random_init"]) == weights_hash(
        make_encoder("random_init", *sources, seed=3)
    )
    assert weights_hash(made["random_init"]) != weights_hash(student)
    layers, source = made["extraction"].encoder.layers, teacher.encoder.layers
    own = dict(layers[1].named_parameters())  # layer 2 of 2 comes from layer 3 of 4
    for name, value in source[2].named_parameters():
        assert torch.equal(own[name], value)
    for encoder in made.values():
        encoder.train()
        assert not any(module.training for module in encoder.modules())


def test_an_unknown_baseline_is_refused():
    with pytest.raises(ValueError, match="whisper"):
        split_baselines(["whisper"], None)


def test_what_pretraining_heard(tmp_path):
    assert saw_test_audio(False, tmp_path, "EmoDB", ["03"]) is False
    assert saw_test_audio(None, tmp_path, "EmoDB", ["03"]) is True  # nothing known: not clean
    record = {"speakers": {"RAVDESS": ["01"], "EmoDB": ["08"]}}
    (tmp_path / "pretraining.json").write_text(json.dumps(record))
    assert saw_test_audio(None, tmp_path, "EmoDB", ["03"]) is False
    assert saw_test_audio(None, tmp_path, "EmoDB", ["03", "08"]) is True
    (tmp_path / "pretraining.json").write_text(json.dumps({"speakers": {"EmoDB": [""]}}))
    assert saw_test_audio(None, tmp_path, "EmoDB", ["03"]) is True  # clips without a speaker
    (tmp_path / "pretraining.json").write_text(json.dumps({"speakers": {"emodb4": [""]}}))
    assert saw_test_audio(None, tmp_path, "EmoDB", ["03"]) is True  # named after its folder
    assert saw_test_audio(None, "microsoft/wavlm-large", "EmoDB", ["03"]) is False
