"""Figure 6: features of each encoder, their picture, and a figure computed without it."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

sys.path.append(str(Path(__file__).resolve().parents[3] / "recipes" / "paper"))
sys.path.append(str(Path(__file__).resolve().parents[2]))
from figure6 import last_layer, main, neighbours_of_others, project
from recipe_runs import save_tiny_encoder

from data_prep.manifest import read_manifest, write_manifest
from vesper_lobes.checkpoints import load_encoder
from vesper_lobes.pooling import masked_mean

CLASSES = ["angry", "calm"]


def rows_of(speakers=4, each=12):
    """Speakers with as many utterances of both classes."""
    names = [f"{s:02d}" for s in range(speakers) for _ in range(each)]
    rows = pd.DataFrame({"speaker": names, "emotion": CLASSES * (speakers * each // 2)})
    return rows.assign(ID=[f"u{i}" for i in range(len(rows))])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A folder of tones, low or high by class, with its manifest."""
    folder = tmp_path_factory.mktemp("corpus")
    random, lines = np.random.default_rng(0), []
    for row in rows_of(speakers=3, each=6).itertuples():
        time = np.arange(6000) / 16000
        pitch = (150 if row.emotion == "calm" else 900) + 20 * random.random()
        noise = 0.01 * random.normal(size=6000)
        soundfile.write(folder / f"{row.ID}.wav", 0.3 * np.sin(6.28 * pitch * time) + noise, 16000)
        line = {"ID": row.ID, "duration": 0.375, "wav": f"$data_root/{row.ID}.wav"}
        line |= {"start": 0, "stop": -1, "speaker": row.speaker, "emotion": row.emotion}
        lines.append({**line, "dialogue": "", "session": "", "split": "", "corpus": "tones"})
    write_manifest(lines, folder / "manifest.csv")
    return folder


def run(corpus, out, *more):
    """The command on two tiny encoders."""
    encoders = [f"v4={save_tiny_encoder(corpus / 'v4')}"]
    encoders += [f"large={save_tiny_encoder(corpus / 'large', layers=4)}"]
    words = ["--manifest", f"{corpus / 'manifest.csv'}", "--data_folder", f"{corpus}"]
    words += ["--states_folder", f"{corpus / 'states'}", "--out", f"{out}", *more]
    return main([*words, "--encoders", *encoders])


def test_pictures_and_numbers(corpus, tmp_path, capsys):
    out = tmp_path / "figure6.png"
    assert run(corpus, out) == 0
    facts = json.loads(out.with_suffix(".json").read_text())
    svg = out.with_suffix(".svg").read_text()
    assert 0 < out.stat().st_size < 300_000 and svg.startswith("<svg") and "var(--ink)" in svg
    assert list(facts["encoders"]) == ["v4", "large"] and facts["utterances"] == 18
    assert facts["encoders"]["large"]["shape"] == "4 layers of 32"
    assert facts["encoders"]["v4"]["UA"] == 1  # a tone's pitch shows in any features
    assert "v4 (2 layers of 32): 5-NN UA, other speakers: 100.0 % [100.0, 100.0]" in (
        capsys.readouterr().out
    )
    assert "v4=.../" in facts["command"] and str(corpus) not in facts["command"] + svg
    again = tmp_path / "again.png"
    assert run(corpus, again) == 0  # the same picture from the cached states
    assert again.read_bytes() == out.read_bytes()


def test_features_are_the_time_means_of_the_last_layer(corpus):
    rows = read_manifest(corpus / "manifest.csv", corpus)
    source = save_tiny_encoder(corpus / "v4")
    features, shape = last_layer(source, rows, corpus / "states")
    encoder = load_encoder(source)
    wav, _ = soundfile.read(rows["wav"][3], dtype="float32")
    states = encoder(torch.from_numpy(wav)[None])
    expected = masked_mean(states.states[-1], states.lengths)[0].detach().numpy()
    assert np.allclose(features[3], expected, atol=1e-5) and shape == "2 layers of 32"


def test_neighbours_find_a_class_that_shows_in_all_speakers():
    rows, random = rows_of(), np.random.default_rng(0)
    features = random.normal(size=(len(rows), 8))
    features += 10 * (rows["emotion"] == "calm").to_numpy()[:, None]
    assert neighbours_of_others(features, rows, CLASSES)["UA"] == 1


def test_neighbours_of_ones_own_voice_are_of_no_use():
    """Classes that differ within each speaker in a way of his own tell nothing about others."""
    rows, random = rows_of(speakers=8), np.random.default_rng(0)
    own = random.normal(size=(8, 2, 16)) * 10  # (speaker, class, D)
    place = (rows["speaker"].astype(int), (rows["emotion"] == "calm").astype(int))
    features = own[place] + random.normal(size=(len(rows), 16))
    found = neighbours_of_others(features, rows, CLASSES)
    assert found["UA"] < 0.75 and found["ci"][0] < 0.55  # with his own utterances it would be 1


def test_scale_of_a_feature_does_not_matter_and_tsne_repeats():
    rows, random = rows_of(), np.random.default_rng(0)
    features = random.normal(size=(len(rows), 8))
    features[:, :2] += 3.0 * (rows["emotion"] == "calm").to_numpy()[:, None]
    scaled = features * np.logspace(-3, 3, 8)
    one, other = (neighbours_of_others(f, rows, CLASSES) for f in (features, scaled))
    assert one["UA"] == pytest.approx(other["UA"]) and one["UA"] > 0.8
    assert np.array_equal(project(features, seed=1), project(features, seed=1))
    assert project(features[:5]).shape == (5, 2)  # fewer points than the usual perplexity


def test_what_cannot_be_drawn_is_refused(corpus, tmp_path, capsys):
    assert run(corpus, tmp_path / "a.jpg") == 2
    assert "ends in .png" in capsys.readouterr().err
    assert run(corpus, tmp_path / "a.png", "--classes", "angry") == 2
    assert "two speakers and two classes" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--manifest", "m", "--data_folder", "d", "--out", "o.png", "--encoders", "nameless"])
