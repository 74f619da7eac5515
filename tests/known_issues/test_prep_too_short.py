"""Clips shorter than one encoder frame (25 ms) have no state to pool: left out by name."""

import json

from corpus_trees import write_sparse_wav

from data_prep.folder_prepare import prepare_folder


def test_clips_below_one_frame_are_left_out_by_name(tmp_path):
    write_sparse_wav(tmp_path / "data" / "one_frame.wav", 0.025)
    write_sparse_wav(tmp_path / "data" / "less.wav", 0.0249)
    prepared = prepare_folder(tmp_path / "data", tmp_path / "out")
    (entry,) = json.loads(prepared.summary.read_text())["left_out"]
    assert entry["name"] == "less.wav" and entry["reason"].startswith("too short: 0.0249 s")
