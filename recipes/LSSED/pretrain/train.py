#!/usr/bin/env python3
"""Compress a teacher and pretrain it into Vesper, on LSSED or any folder of speech.

    cd recipes/LSSED/pretrain
    python train.py hparams/vesper4.yaml --data_folder /path/to/speech [--key value]
    torchrun --nproc_per_node=4 train.py hparams/vesper4.yaml --data_folder /path --batch_size 8

An interrupted run goes on when the same command is given again.
"""

import logging
import os
import sys

import pandas as pd
import speechbrain as sb
from hyperpyyaml import load_hyperpyyaml
from speechbrain.utils.distributed import (
    ddp_barrier,
    ddp_init_group,
    if_main_process,
    run_on_main,
)

from data_prep.speech_sources import prepare_speech, read_speech
from vesper_lobes.brains import PretrainBrain
from vesper_lobes.checkpoints import save_encoder
from vesper_lobes.epoch_order import ordered_loader
from vesper_lobes.pretrain_data import crop_dataset, drop_short, split_rows
from vesper_lobes.pretrain_record import write_record
from vesper_lobes.process_group import leave_together
from vesper_lobes.target_store import TargetStore

logger = logging.getLogger(__name__)


class VesperBrain(PretrainBrain):
    """Nothing of its own: everything is in the YAML."""


def read_rows(hparams):
    """Manifest rows to train on and to validate on."""
    rows, short = drop_short(read_speech(**hparams["speech"], shards=hparams["shards"]))
    if short:
        logger.warning("%d utterances are shorter than one frame: %s", len(short), short[:5])
    if hparams["valid_manifest"]:
        valid = read_speech(
            hparams["save_folder"], hparams["data_folder"], hparams["valid_manifest"]
        )
        return rows, drop_short(valid)[0]
    return split_rows(rows, hparams["valid_share"])


def fill_store(hparams, brain, rows):
    """The store of the teacher's outputs, each process doing its share; None without a folder."""
    if not hparams["target_store"]:
        return None
    store = TargetStore(
        hparams["target_store"],
        hparams["teacher_model"],
        hparams["train_reader"],
        dtype=hparams["store_dtype"],
        precision="bf16" if hparams["precision"] == "bf16" else "fp32",
        progressbar=if_main_process(),
    )
    processes = int(os.environ.get("WORLD_SIZE", 1))
    store.fill(rows, brain.device, rank=int(os.environ.get("RANK", 0)), world_size=processes)
    ddp_barrier()
    store.refresh()
    return store


def export(hparams, rows):
    """The pretrained encoder, with a record of what it heard."""
    save_encoder(hparams["student"].encoder, hparams["export_folder"])
    write_record(
        hparams["export_folder"],
        rows,
        teacher=hparams["teacher"],
        distilled=hparams["distilled"],
        compression=str(hparams["student"].plan),
        masking=hparams["masking"],
        seed=hparams["seed"],
    )
    logger.info("%s exported to %s", hparams["student"].plan, hparams["export_folder"])


def main(arguments):
    """Prepare, compress, pretrain, export."""
    hparams_file, run_opts, overrides = sb.parse_arguments(arguments)
    ddp_init_group(run_opts)
    with open(hparams_file, encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file, overrides)
    sb.create_experiment_directory(hparams["output_folder"], hparams_file, overrides)

    sources = {name: hparams[name] for name in ("file_list", "shards")}
    run_on_main(prepare_speech, kwargs={**hparams["speech"], **sources})
    train_rows, valid_rows = read_rows(hparams)
    logger.info(
        "%d utterances (%.2f h) to train on, %d held out",
        *(len(train_rows), train_rows["duration"].sum() / 3600, len(valid_rows)),
    )

    brain = VesperBrain(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    brain.store = fill_store(hparams, brain, pd.concat([train_rows, valid_rows]))
    train_data = crop_dataset(train_rows, hparams["train_reader"])
    brain.fit(
        hparams["epoch_counter"],
        train_data,
        crop_dataset(valid_rows, hparams["valid_reader"]),
        train_loader_kwargs=ordered_loader(brain, train_data, hparams["train_loader"]),
        valid_loader_kwargs=hparams["valid_loader"],
    )
    if if_main_process():
        export(hparams, pd.concat([train_rows, valid_rows]))
    leave_together()


if __name__ == "__main__":
    main(sys.argv[1:])
