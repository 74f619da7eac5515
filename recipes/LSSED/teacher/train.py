#!/usr/bin/env python3
"""Train a small teacher from scratch, by masked prediction of k-means clusters of MFCCs.

For machines without WavLM: its export takes WavLM's place in `recipes/LSSED/pretrain`.

    cd recipes/LSSED/teacher
    python train.py hparams/mini_large.yaml --data_folder /path/to/speech [--key value]
"""

import logging
import os
import sys

import pandas as pd
import speechbrain as sb
from hyperpyyaml import load_hyperpyyaml
from speechbrain.utils.distributed import ddp_init_group, if_main_process, run_on_main

from data_prep.speech_sources import prepare_speech, read_speech
from vesper_lobes.brains import MaskedPredictionBrain
from vesper_lobes.checkpoints import save_encoder
from vesper_lobes.clusters import MfccClusters, fit_clusters
from vesper_lobes.epoch_order import ordered_loader
from vesper_lobes.keyed_random import keyed_seed
from vesper_lobes.pretrain_data import crop_dataset
from vesper_lobes.pretrain_record import write_record
from vesper_lobes.pretrain_run import read_rows
from vesper_lobes.process_group import leave_together

logger = logging.getLogger(__name__)


class TeacherBrain(MaskedPredictionBrain):
    """Nothing of its own: everything is in the YAML."""


def make_clusters(train_data, hparams):
    """K-means on the training crops, once; an interrupted run reads what it made."""
    if os.path.exists(hparams["clusters_file"]):
        return
    names = sorted(train_data.data_ids, key=keyed_seed)  # any order that mixes the sources
    wavs = (train_data.reader(name, **train_data.data[name]) for name in names)
    clusters = fit_clusters(
        wavs,
        hparams["num_clusters"],
        hparams["mfcc"],
        hparams["seed"],
        hparams["cluster_frames"],
    )
    clusters.save(hparams["clusters_file"])
    logger.info("fitted %d clusters", clusters.num_clusters)


def main(arguments):
    """Prepare, cluster, train, export."""
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
    train_data = crop_dataset(train_rows, hparams["train_reader"])
    run_on_main(make_clusters, args=[train_data, hparams])

    brain = TeacherBrain(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )
    brain.clusters = MfccClusters.load(hparams["clusters_file"]).to(brain.device)
    brain.fit(
        hparams["epoch_counter"],
        train_data,
        crop_dataset(valid_rows, hparams["valid_reader"]),
        train_loader_kwargs=ordered_loader(brain, train_data, hparams["train_loader"]),
        valid_loader_kwargs=hparams["valid_loader"],
    )
    if if_main_process():
        save_encoder(hparams["encoder"], hparams["export_folder"])
        heard = pd.concat([train_rows, valid_rows])
        write_record(hparams["export_folder"], heard, seed=hparams["seed"])
        logger.info("teacher exported to %s", hparams["export_folder"])
    leave_together()


if __name__ == "__main__":
    main(sys.argv[1:])
