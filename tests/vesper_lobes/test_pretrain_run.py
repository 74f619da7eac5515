"""Which utterances a self-supervised run trains on and validates on."""

import logging

import pandas as pd

from vesper_lobes.pretrain_run import fill_store, read_rows


def table(count, seconds=1.0, first=""):
    rows = pd.DataFrame({"ID": [f"{first}u{k}" for k in range(count)], "duration": seconds})
    rows.loc[0, "duration"] = 0.02
    return rows


def test_a_share_is_held_out_and_short_ones_are_left_out(caplog):
    hparams = {"speech": {"data_folder": "/speech"}, "shards": "", "valid_share": 0.3}
    with caplog.at_level(logging.WARNING):
        train, valid = read_rows(hparams, lambda data_folder, shards: table(21))
    assert "1 utterances are shorter than one frame: ['u0']" in caplog.text
    assert len(train) + len(valid) == 20 and len(valid) and not {*train["ID"]} & {*valid["ID"]}


def test_a_manifest_to_validate_on_takes_its_place():
    hparams = {"speech": {"data_folder": "/speech"}, "shards": "", "valid_share": 0.3}
    hparams |= {"valid_manifest": "v.csv", "save_folder": "/save", "data_folder": "/speech"}

    def read_speech(save_folder="", data_folder="", manifest="", shards=""):
        return table(5, first="v") if manifest == "v.csv" else table(4)

    train, valid = read_rows(hparams, read_speech)
    assert list(train["ID"]) == ["u1", "u2", "u3"]
    assert list(valid["ID"]) == ["vu1", "vu2", "vu3", "vu4"]


def test_without_a_folder_there_is_no_store():
    assert fill_store({"target_store": ""}, None, table(2)) is None
