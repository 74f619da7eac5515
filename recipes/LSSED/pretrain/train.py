#!/usr/bin/env python3
"""Compress a teacher and pretrain it into Vesper, on LSSED or any folder of speech.

    cd recipes/LSSED/pretrain
    python train.py hparams/vesper4.yaml --data_folder /path/to/speech [--key value]
    torchrun --nproc_per_node=4 train.py hparams/vesper4.yaml --data_folder /path --batch_size 8

An interrupted run goes on when the same command is given again.
"""

import logging
import sys

import pandas as pd
import speechbrain as sb
from hyperpyyaml import load_hyperpyyaml
from speechbrain.utils.distributed import ddp_init_group, if_main_process, run_on_main

from data_prep.speech_sources import prepare_speech, read_speech
from vesper_lobes.brains import PretrainBrain
from vesper_lobes.checkpoints import save_encoder
from vesper_lobes.epoch_order import ordered_loader
from vesper_lobes.pretrain_data import crop_dataset
from vesper_lobes.pretrain_record import write_record
from vesper_lobes.pretrain_run import fill_store, read_rows
from vesper_lobes.process_group import leave_together

logger = logging.getLogger(__name__)


class VesperBrain(PretrainBrain):
    """Nothing of its own: everything is in the YAML."""


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
    train_rows, valid_rows = read_rows(hparams, read_speech)
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
