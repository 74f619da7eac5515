"""An emotion recipe's run: all encoders, seeds and folds, then ``metrics.json``.

Everything that differs between corpora is data: the YAML and the preparer it names. A recipe's
``train.py`` is a Brain subclass and one call of :func:`run_recipe`. What the YAML must hold is what
``recipes/EmoDB/emotion/hparams/vesper_mini.yaml`` holds; for a head that reads every frame also
``features: frames`` and ``states_dtype``, as in ``shiftformer_mini.yaml`` beside it.

``<output_folder>/seed<s>/fold<k>/`` are the cells of the encoder in question (see
:mod:`vesper_lobes.emotion_cells`), ``<output_folder>/baselines/<name>/...`` those it is compared
with. ``metrics.json`` is the result, ``run.json`` says how it was reached.
"""

import contextlib
import json
import logging
import math
import os
import time
from pathlib import Path

import speechbrain as sb
from hyperpyyaml import load_hyperpyyaml
from ruamel.yaml import YAML
from speechbrain.utils.distributed import infer_device
from tqdm import tqdm

from vesper_lobes import mfcc_ridge
from vesper_lobes.cache_keys import audio_keys
from vesper_lobes.cell_pool import CellTask, train_cells
from vesper_lobes.emotion_brain import DATASETS
from vesper_lobes.emotion_cells import (
    Corpus,
    cell_key,
    read_cell,
    read_folds,
    write_atomic,
    write_cell,
)
from vesper_lobes.emotion_encoders import (
    FLOOR,
    MAIN,
    make_encoder,
    saw_test_audio,
    split_baselines,
)
from vesper_lobes.emotion_export import export_best
from vesper_lobes.encoder_pass import windows
from vesper_lobes.feature_cache import PooledStateCache
from vesper_lobes.frame_cache import FrameStateCache
from vesper_lobes.long_audio import LONG_SECONDS
from vesper_lobes.run_metrics import build_metrics, git_commit, read_predictions, write_metrics

logger = logging.getLogger(__name__)

# Settings that decide where things are or what else is run, and so not what a cell comes to.
NOT_IN_KEY = (
    "data_folder output_folder manifest_folder states_folder cell_folder export encoder teacher "
    "head_seeds baselines bootstrap_unit ssl_saw_test_audio fold allow_partial"
).split()


def run_recipe(argv, brain_class, read_manifest):
    """The whole of an emotion recipe, from the command line to ``metrics.json``.

    Arguments
    ---------
    argv : list of str
        ``hparams/x.yaml --data_folder ... --encoder ... [--key value]``.
    brain_class : type
        :class:`vesper_lobes.emotion_brain.EmotionBrain` or a subclass.
    read_manifest : callable
        (path, data_root, classes) -> pandas.DataFrame, that of ``data_prep.manifest``.

    Returns
    -------
    dict
        What ``metrics.json`` holds.
    """
    hparams_file, run_opts, text = sb.parse_arguments(argv)
    overrides = parse_overrides(text)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError("heads train on cached states in seconds: run one process, not torchrun")
    with open(hparams_file, encoding="utf-8") as file:
        # without a checkpointer, which would make a folder: each cell has its own
        hparams = load_hyperpyyaml(file, {**overrides, "checkpointer": None})
    sb.create_experiment_directory(hparams["output_folder"], hparams_file, overrides)
    prepared = hparams["prepare"](
        hparams["data_folder"], hparams["manifest_folder"], protocol=hparams["protocol"]
    )
    corpus = Corpus(
        read_manifest(prepared.manifest, data_root=hparams["data_folder"]),
        hparams["classes"],
        read_folds(prepared.folds),
    )
    return EmotionRun(hparams_file, hparams, overrides, run_opts, brain_class, corpus).run()


def parse_overrides(text):
    """``--key value`` options as a dict; YAML 1.2, so that ``1e-3`` is a number."""
    return dict(YAML(typ="safe").load(text) or {}) if text else {}


def seed_list(value):
    """Seeds from a number, a list, or text such as ``1 2 3`` or ``1,2,3``.

    Example
    -------
    >>> seed_list("1, 2"), seed_list(5), seed_list([7, 8])
    ([1, 2], [5], [7, 8])
    """
    if isinstance(value, str):
        value = value.replace(",", " ").split()
    seeds = [int(seed) for seed in (value if isinstance(value, (list, tuple)) else [value])]
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"head_seeds must be distinct numbers, not {value}")
    return seeds


def check_features(hparams):
    """ValueError, before anything is computed, for features or an export that cannot be."""
    features = hparams.get("features", "pooled")
    if features not in DATASETS:
        raise ValueError(f"features {features!r} are unknown: choose one of {list(DATASETS)}")
    if features == "frames" and hparams["export"]:
        raise ValueError(
            "only a SuperbHead, which reads pooled features, can be exported: run heads on frames "
            "with --export null"
        )


class EmotionRun:
    """All cells of a run, made or taken up, and their evaluation.

    Arguments
    ---------
    hparams_file : str
    hparams : dict
        The YAML as loaded for the whole run; cells load it again for themselves.
    overrides : dict
        Of the command line.
    run_opts : speechbrain.utils.run_opts.RunOptions
    brain_class : type
    corpus : Corpus
    """

    def __init__(self, hparams_file, hparams, overrides, run_opts, brain_class, corpus):
        check_features(hparams)
        self.hparams_file, self.hparams, self.overrides = hparams_file, hparams, overrides
        self.run_opts, self.brain_class, self.corpus = run_opts, brain_class, corpus
        self.seeds = seed_list(hparams["head_seeds"])
        self.folder = Path(hparams["output_folder"])
        self.metric = hparams["selection_metrics"][hparams["protocol"]]
        self.audio = audio_keys(corpus.manifest)  # content of each utterance's audio, as hashes
        self.cells, self.facts = {}, {}
        self.seconds = {"states": 0.0}

    def run(self):
        """Makes what is missing, writes ``metrics.json``, ``run.json`` and the exported model."""
        began = time.perf_counter()
        teacher = self.hparams["teacher"]
        names, skipped = split_baselines(self.hparams["baselines"], teacher)
        for name, reason in skipped.items():
            logger.warning("baseline %s is left out: %s", name, reason)
        folds = len(self.corpus.folds)
        total = folds * sum(1 if name == FLOOR else len(self.seeds) for name in [MAIN, *names])
        with tqdm(total=total, unit="head", dynamic_ncols=True) as bar:
            for name in [MAIN, *names]:
                bar.set_description(name)
                self.floor_cells(bar) if name == FLOOR else self.encoder_cells(name, bar)
        self.seconds["total"] = round(time.perf_counter() - began, 2)
        metrics = self.evaluate(names)
        write_metrics(metrics, self.folder / "metrics.json")
        self.write_run_json(names, skipped)
        if self.hparams["export"]:
            export_best(self, metrics)
        print(summary(metrics, skipped))
        return metrics

    def encoder_cells(self, name, bar):
        """Trains the heads of one encoder on its pooled states or frames."""
        encoder = make_encoder(
            name, self.hparams["encoder"], self.hparams["teacher"], self.seeds[0]
        )
        cache = self.filled_cache(encoder)
        frames = isinstance(cache, FrameStateCache)
        states = cache if frames else cache.states()
        digest = cache.settings.weights
        self.facts[name] = {"weights": digest, "params": encoder.num_parameters()}
        num_states = cache.num_states if frames else encoder.num_layers + 1
        sizes = {"num_states": num_states, "input_dim": encoder.hidden_size}
        tasks = {}
        for seed in self.seeds:
            for fold in self.corpus.folds:
                place, folder = (name, seed, fold.number), self.cell_folder(name, seed, fold.number)
                overrides = {**self.overrides, **sizes, "seed": seed, "fold": fold.number}
                key = self.key(overrides, fold, digest)
                self.cells[place] = read_cell(folder, key)
                if self.cells[place] is None:
                    tasks[place] = CellTask(overrides, fold, str(folder), key)
                else:
                    bar.update()
        trained = train_cells(
            *(self.brain_class, self.hparams_file, self.run_opts),
            *(states, self.corpus, tasks.values(), self.steps_of_a_cell(), self.folder),
        )
        with contextlib.closing(trained):
            for place, cell in zip(tasks, trained, strict=True):
                self.cells[place] = cell
                bar.update()

    def steps_of_a_cell(self):
        """Training steps of a head, about."""
        batch = self.hparams["dataloader_options"]["batch_size"]
        return self.hparams["number_of_epochs"] * len(self.corpus.folds[0].train) // batch

    def filled_cache(self, encoder):
        """States of every utterance: their time means, or frames if the YAML asks for them."""
        began = time.perf_counter()
        options = {
            "crop_seconds": self.hparams["crop_seconds"],
            "device": self.run_opts.device or infer_device(),
        }
        folder = self.hparams["states_folder"]
        if self.hparams.get("features", "pooled") == "frames":
            kept = {"mix": self.hparams["mix"], "dtype": self.hparams["states_dtype"]}
            cache = FrameStateCache(encoder, folder, **kept, **options)
        else:
            cache = PooledStateCache(encoder, folder, **options)
        cache.fill(self.corpus.manifest)
        self.seconds["states"] += time.perf_counter() - began
        return cache

    def floor_cells(self, bar):
        """Fits the floor, which has no seed, on each fold."""
        features, seed = None, self.seeds[0]
        for fold in self.corpus.folds:
            folder = self.cell_folder(FLOOR, seed, fold.number)
            key = self.key({**self.overrides, "seed": 0}, fold, list(mfcc_ridge.ALPHAS))
            cell = read_cell(folder, key)
            if cell is None:
                began = time.perf_counter()
                if features is None:
                    features = mfcc_ridge.corpus_statistics(
                        self.corpus.manifest, self.hparams["crop_seconds"], progressbar=False
                    )
                probabilities, best = mfcc_ridge.fit_fold(features, self.corpus, fold, self.metric)
                seconds = round(time.perf_counter() - began, 3)
                facts = {"seed": seed, "best": best, "seconds": seconds}
                cell = write_cell(folder, key, self.corpus, fold, probabilities, **facts)
            self.cells[FLOOR, seed, fold.number] = cell
            bar.update()

    def cell_folder(self, name, seed, fold):
        """Folder of a cell: at the top for the encoder in question, under baselines/ else."""
        top = self.folder if name == MAIN else self.folder / "baselines" / name
        return top / f"seed{seed}" / f"fold{fold}"

    def key(self, overrides, fold, digest):
        """What a cell is made of: settings, encoder, and utterances with their labels."""
        neutral = {name: None for name in NOT_IN_KEY if name in self.hparams}
        rows = [self.corpus.take(ids) for ids in (fold.train, fold.dev, fold.test)]
        emotions = self.corpus.manifest["emotion"]
        utterances = [[(self.audio[i], emotions[i]) for i in part] for part in rows]
        options = [self.run_opts.debug, self.run_opts.precision]
        if (self.hparams["crop_seconds"] or math.inf) > LONG_SECONDS:
            options.append(windows())
        return cell_key(self.hparams_file, {**overrides, **neutral}, digest, utterances, options)

    def evaluate(self, names):
        """The content of ``metrics.json``."""
        self.seconds["heads"] = round(sum(cell["seconds"] for cell in self.cells.values()), 2)
        tables = {name: self.tables(name) for name in [MAIN, *names]}
        details = {
            (seed, fold): {
                "epoch": int(cell["best"]["epoch"]),
                "dev": float(cell["best"]["score"]),
                "selected_on_test": self.corpus.folds[fold - 1].selected_on_test,
            }
            for (name, seed, fold), cell in self.cells.items()
            if name == MAIN
        }
        first = self.cells[MAIN, self.seeds[0], self.corpus.folds[0].number]
        test = self.corpus.take([u for fold in self.corpus.folds for u in fold.test])
        return build_metrics(
            tables[MAIN],
            corpus=self.hparams["corpus"],
            protocol=self.hparams["protocol"],
            classes=self.corpus.classes,
            ssl_saw_test_audio=saw_test_audio(
                self.hparams["ssl_saw_test_audio"],
                self.hparams["encoder"],
                self.hparams["corpus"],
                set(self.corpus.manifest["speaker"].iloc[test]),
            ),
            params=self.facts[MAIN]["params"],
            trainable_params=first["trainable_params"],
            seconds=self.seconds,
            groups=self.hparams["bootstrap_unit"],
            baselines={name: tables[name] for name in names},
            fold_details=details,
            git=git_commit(Path(__file__).parent),
        )

    def tables(self, name):
        """predictions[seed][fold] of this run's cells alone (older seeds may lie beside them)."""
        seeds = [self.seeds[0]] if name == FLOOR else self.seeds
        top = self.cell_folder(name, seeds[0], 1).parent.parent
        found = read_predictions(top)
        numbers = [fold.number for fold in self.corpus.folds]
        return {seed: {k: found[seed][k] for k in numbers} for seed in seeds}

    def write_run_json(self, names, skipped):
        """How the run came about: encoders by hash, selection, layer weights, epochs."""
        cells = [cell for key, cell in self.cells.items() if key[0] == MAIN]
        weights = [cell["layer_weights"] for cell in cells if cell["layer_weights"]]
        run = {
            "encoder": Path(str(self.hparams["encoder"])).name,
            "teacher": Path(str(self.hparams["teacher"])).name if self.hparams["teacher"] else None,
            "encoders": self.facts,
            "selection_metric": self.metric,
            "crop_seconds": self.hparams["crop_seconds"],
            "skipped_baselines": skipped,
            "layer_weights": [sum(w) / len(w) for w in zip(*weights, strict=True)],
            "dev": {
                name: sum(c["best"]["score"] for k, c in self.cells.items() if k[0] == name)
                / sum(k[0] == name for k in self.cells)
                for name in [MAIN, *names]
            },
        }
        write_atomic(self.folder / "run.json", json.dumps(run, indent=1) + "\n")


def summary(metrics, skipped):
    """The run's figures as text: a line for the encoder, one for each baseline, chance."""
    transductive = ", transductive" if metrics["ssl_saw_test_audio"] else ""
    title = f"{metrics['corpus']}, protocol {metrics['protocol']}, {len(metrics['seeds'])} seeds"
    lines = [f"{title}{transductive}: UA in %, 95 % interval over speakers or dialogues"]
    rows = {
        MAIN: {"UA": metrics["pooled"]["UA"], "ci": metrics["ci"]["UA"]},
        **metrics["baselines"],
    }
    for name, row in rows.items():
        low, high = (100 * end for end in row["ci"])
        lines.append(f"  {name:<12} {100 * row['UA']:5.1f}  [{low:.1f}, {high:.1f}]")
    lines += [f"  {name:<12} left out: {reason}" for name, reason in skipped.items()]
    lines.append(f"  {'chance':<12} {100 * metrics['chance']['UA']:5.1f}")
    return "\n".join(lines)
