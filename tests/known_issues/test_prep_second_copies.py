"""Some RAVDESS archives hold every clip twice; both copies in, a clip trains and tests."""

import json

from corpus_trees import ravdess_names, write_sparse_wav

from data_prep.manifest import read_manifest
from data_prep.ravdess_prepare import prepare_ravdess


def test_second_copies_are_left_out_by_name(tmp_path):
    for name in ravdess_names():
        for inner in ("", "audio_speech_actors_01-24/"):
            folder = tmp_path / "data" / f"{inner}Actor_{name[-2:]}"
            write_sparse_wav(folder / f"{name}.wav", 0.1)
    prepared = prepare_ravdess(tmp_path / "data", tmp_path / "out")
    summary = json.loads(prepared.summary.read_text())
    assert len(read_manifest(prepared.manifest)) == 1440 == len(summary["left_out"])
    assert "a second time" in summary["left_out"][0]["reason"]
