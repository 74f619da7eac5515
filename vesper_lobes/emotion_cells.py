"""One cell of an emotion run: one seed on one fold, trained, evaluated and kept on disk.

A cell's folder holds ``predictions.csv`` (one row a test utterance), ``cell.json`` (the epoch
picked, learning curves, layer weights, seconds), ``train_log.txt`` and ``save/`` (the checkpoint).
``cell.json`` is written last and carries a key made of the settings, the encoder, the audio and the
fold: a run that was interrupted goes on after its last finished cell, and a cell made with other
settings, another encoder or other folds is made anew, never reused.
"""

import contextlib
import csv
import hashlib
import json
import logging
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from hyperpyyaml import load_hyperpyyaml, resolve_references

from vesper_lobes.emotion_brain import DATASETS, collate

SETS = ("train", "dev", "test")


@dataclass
class Fold:
    """Utterance IDs of one fold; under protocol A `dev` equals `test`."""

    number: int
    train: list
    dev: list
    test: list

    @property
    def selected_on_test(self):
        """True where the epoch is picked on the test utterances themselves."""
        return bool(set(self.dev) & set(self.test))


@dataclass
class Corpus:
    """A labelled corpus as the cells see it.

    Attributes
    ----------
    manifest : pandas.DataFrame
        Rows sorted by ID, `wav` with the data root in place.
    classes : list of str
        The fixed order of classes; class numbers are positions in it.
    folds : list of Fold
    """

    manifest: pd.DataFrame
    classes: list
    folds: list

    def __post_init__(self):
        numbers = {name: i for i, name in enumerate(self.classes)}
        self.rows = {utterance: i for i, utterance in enumerate(self.manifest["ID"])}
        emotions = self.manifest["emotion"]
        known = [numbers.get(emotion, -1) for emotion in emotions]
        self.targets = torch.tensor(known, dtype=torch.long)  # (N,), -1: outside the classes
        for fold in self.folds:
            for name in SETS:
                self._check(fold, name)

    def _check(self, fold, name):
        """ValueError where a set is empty or names what the manifest or the classes lack."""
        where, utterances = f"fold {fold.number}, {name}", getattr(fold, name)
        if not utterances:
            raise ValueError(f"{where}: no utterances")
        missing = [utterance for utterance in utterances if utterance not in self.rows]
        if missing:
            raise ValueError(f"{where}: {len(missing)} IDs are not in the manifest: {missing[:3]}")
        labels = self.manifest["emotion"].iloc[self.take(utterances)]
        strange = sorted(set(labels) - set(self.classes))
        if strange:
            raise ValueError(f"{where}: emotions {strange} are none of the classes {self.classes}")

    def take(self, utterances):
        """Row numbers of some IDs."""
        return [self.rows[utterance] for utterance in utterances]


def read_folds(paths):
    """Folds from the csv files a preparer wrote, numbered from 1.

    Arguments
    ---------
    paths : iterable of (train, dev, test)
        Paths of csv files with a column ID.

    Returns
    -------
    list of Fold
    """
    folds = []
    for number, files in enumerate(paths, start=1):
        tables = [pd.read_csv(path, dtype=str, keep_default_na=False) for path in files]
        folds.append(Fold(number, *(table["ID"].tolist() for table in tables)))
    if not folds:
        raise ValueError("no folds: the preparer was not asked for a protocol")
    return folds


def cell_key(hparams_file, overrides, *parts):
    """What a finished cell was made of, as a hash: resolved YAML and further `parts`."""
    with open(hparams_file, encoding="utf-8") as file:
        settings = resolve_references(file, overrides).getvalue()
    text = json.dumps([settings, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def read_cell(folder, key):
    """``cell.json`` of a finished cell with this key, or None."""
    path = Path(folder) / "cell.json"
    if not path.is_file() or not (path.parent / "predictions.csv").is_file():
        return None
    cell = json.loads(path.read_text(encoding="utf-8"))
    return cell if cell.get("key") == key else None


def prediction_table(corpus, fold, probabilities):
    """``predictions.csv`` of a fold as a table: one row a test utterance, classes by name.

    Arguments
    ---------
    corpus : Corpus
    fold : Fold
    probabilities : numpy.ndarray
        (n, C), of the fold's test utterances in their order.

    Returns
    -------
    pandas.DataFrame
        Columns ID, speaker, dialogue, target, prediction, p_<class>...
    """
    probabilities = np.asarray(probabilities)
    rows = corpus.manifest.iloc[corpus.take(fold.test)]
    table = rows[["ID", "speaker", "dialogue"]].reset_index(drop=True)
    table["target"] = list(rows["emotion"])
    table["prediction"] = [corpus.classes[i] for i in probabilities.argmax(-1)]
    for i, name in enumerate(corpus.classes):
        table[f"p_{name}"] = [f"{p:.6g}" for p in probabilities[:, i]]
    return table


def write_cell(folder, key, corpus, fold, probabilities, **facts):
    """Writes ``predictions.csv``, then ``cell.json``, each atomically.

    Arguments
    ---------
    folder : str or pathlib.Path
    key : str
    corpus, fold, probabilities
        As for :func:`prediction_table`.
    **facts
        Further entries of ``cell.json``, plain Python.
    """
    table = prediction_table(corpus, fold, probabilities)
    text = table.to_csv(index=False, quoting=csv.QUOTE_MINIMAL, lineterminator="\n")
    write_atomic(Path(folder) / "predictions.csv", text)
    cell = {"key": key, "fold": fold.number, **facts}
    write_atomic(Path(folder) / "cell.json", json.dumps(cell, indent=1) + "\n")
    return cell


def write_atomic(path, text):
    """Text in place by a temporary name in the same folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def train_cell(brain_class, hparams_file, overrides, run_opts, states, corpus, fold, folder, key):
    """Trains and evaluates one head; everything in `folder` before is removed.

    The YAML is loaded anew with the cell's `overrides`, so that modules, optimizer, schedule and
    checkpointer are new and seeded: a cell's result does not depend on the cells before it.

    Arguments
    ---------
    brain_class : type
        :class:`vesper_lobes.emotion_brain.EmotionBrain` or a subclass.
    hparams_file : str
    overrides : dict
        Must hold `cell_folder`, `seed`, `num_states` and `input_dim`.
    run_opts : speechbrain.utils.run_opts.RunOptions or dict
    states : numpy.ndarray, torch.Tensor or vesper_lobes.frame_cache.FrameStateCache
        (N, L+1, D) pooled states, rows as in the manifest; or, where the YAML says
        ``features: frames``, the cache filled with the manifest.
    corpus : Corpus
    fold : Fold
    folder : str or pathlib.Path
    key : str

    Returns
    -------
    dict
        What ``cell.json`` holds.
    """
    began = time.perf_counter()
    shutil.rmtree(folder, ignore_errors=True)
    Path(folder).mkdir(parents=True)
    with quiet_speechbrain(), open(hparams_file, encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file, {**overrides, "cell_folder": str(folder)})
    features = hparams.get("features", "pooled")
    threads = one_thread() if features == "pooled" else contextlib.nullcontext()
    with quiet_speechbrain(), threads:
        brain = new_brain(brain_class, hparams, run_opts)
        train, dev, test = (
            DATASETS[features](states, corpus.targets, corpus.take(getattr(fold, name)))
            for name in SETS
        )
        evaluation = {**hparams["eval_dataloader_options"], "collate_fn": collate}
        brain.fit(
            hparams["epoch_counter"],
            train,
            dev,
            progressbar=False,
            train_loader_kwargs={**hparams["dataloader_options"], "collate_fn": collate},
            valid_loader_kwargs=evaluation,
        )
        brain.evaluate(test, progressbar=False, test_loader_kwargs=dict(evaluation))
    mix = getattr(brain.modules.layer_mix, "weights", None)
    return write_cell(
        folder,
        key,
        corpus,
        fold,
        brain.probabilities.numpy(),
        seed=int(hparams["seed"]),
        best=brain.best,
        history=brain.history,
        layer_weights=None if mix is None else mix.detach().softmax(0).tolist(),
        trainable_params=sum(p.numel() for p in brain.modules.parameters() if p.requires_grad),
        seconds=round(time.perf_counter() - began, 3),
    )


def new_brain(brain_class, hparams, run_opts):
    """The Brain of a loaded YAML."""
    return brain_class(
        modules=hparams["modules"],
        opt_class=hparams["opt_class"],
        hparams=hparams,
        run_opts=run_opts,
        checkpointer=hparams["checkpointer"],
    )


@contextlib.contextmanager
def one_thread():
    """One CPU thread: a head's matrices are so small that threads wait longer than they compute.

    On two busy cores, two threads made a head 40 times slower than one.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def quiet_speechbrain():
    """Warnings only: a run makes thousands of epochs, each with lines of its own otherwise.

    Nor the warning that a LayerMix of the last state alone, which has no parameters, was saved.
    """
    before = logging.root.manager.disable
    logging.disable(max(before, logging.INFO))
    checkpoints = logging.getLogger("speechbrain.utils.checkpoints")
    checkpoints.addFilter(_not_of_empty_states)
    try:
        yield
    finally:
        checkpoints.removeFilter(_not_of_empty_states)
        logging.disable(before)


def _not_of_empty_states(record):
    return "empty state_dict" not in record.getMessage()
