"""What the self-supervised recipes do before they train: their utterances, their store."""

import logging
import os

from speechbrain.utils.distributed import ddp_barrier, if_main_process

from vesper_lobes.pretrain_data import drop_short, split_rows
from vesper_lobes.target_store import TargetStore

logger = logging.getLogger(__name__)


def read_rows(hparams, read_speech):
    """Manifest rows to train on and to validate on.

    Arguments
    ---------
    hparams : dict
        YAML keys used: speech, shards, valid_share, and, where a recipe has them, valid_manifest
        with save_folder and data_folder.
    read_speech : callable
        `data_prep.speech_sources.read_speech`.

    Returns
    -------
    tuple of pandas.DataFrame
        Without utterances that are shorter than one frame; their number is logged.
    """
    rows, short = drop_short(read_speech(**hparams["speech"], shards=hparams["shards"]))
    if short:
        logger.warning("%d utterances are shorter than one frame: %s", len(short), short[:5])
    if hparams.get("valid_manifest"):
        valid = read_speech(
            hparams["save_folder"], hparams["data_folder"], hparams["valid_manifest"]
        )
        return rows, drop_short(valid)[0]
    return split_rows(rows, hparams["valid_share"])


def fill_store(hparams, brain, rows):
    """The store of the teacher's outputs, each process doing its share; None without a folder.

    Arguments
    ---------
    hparams : dict
        YAML keys used: target_store (a folder, or empty), teacher_model, train_reader, store_dtype,
        precision.
    brain : speechbrain.Brain
        On whose device the teacher runs.
    rows : pandas.DataFrame
        All that the run reads.

    Returns
    -------
    TargetStore or None
    """
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
