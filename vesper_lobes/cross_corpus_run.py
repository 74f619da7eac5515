"""Protocol D: train a head on one corpus, test it on the others, over the classes they share.

What a deployer will see: other speakers, microphones, languages and acting than those of training.
Every corpus is a training corpus once. Its heads are tested on all of every other corpus; one more
set of heads gives the diagonal, protocol B within the corpus over the same shared classes.

Heads for other corpora train on all speakers of the training corpus but those of one of its own
dev folds, which picks the epoch; seed after seed takes the next dev fold. No utterance of a test
corpus has a part in training or selection. The encoder may have heard it unlabelled: such cells are
marked transductive, and where it heard some speakers only, the others are scored by themselves too.

``<output_folder>/<train>/seed<s>/fold<k>/`` are heads for other corpora, ``<train>/within/...``
those of the diagonal, ``baselines/<name>/...`` the same of what the encoder is compared with, and
``matrix/<train>_to_<test>/metrics.json`` the result. Finished cells are never made twice.
"""

import json
import logging
import math
import os
import time
from pathlib import Path

import pandas as pd
import speechbrain as sb
from hyperpyyaml import load_hyperpyyaml
from speechbrain.utils.distributed import infer_device
from tqdm import tqdm

from vesper_lobes import mfcc_ridge
from vesper_lobes.cache_keys import audio_keys
from vesper_lobes.emotion_cells import (
    SETS,
    Corpus,
    Fold,
    cell_key,
    read_cell,
    read_folds,
    train_cell,
    write_atomic,
    write_cell,
)
from vesper_lobes.emotion_encoders import (
    FLOOR,
    MAIN,
    RECORD,
    make_encoder,
    saw_test_audio,
    split_baselines,
)
from vesper_lobes.emotion_run import NOT_IN_KEY, parse_overrides, seed_list
from vesper_lobes.encoder_pass import windows
from vesper_lobes.feature_cache import PooledStateCache
from vesper_lobes.long_audio import LONG_SECONDS
from vesper_lobes.run_metrics import build_metrics, git_commit, write_metrics

logger = logging.getLogger(__name__)

PROTOCOL = "D"
WITHIN = "B"  # of the diagonal


def run_cross_corpus(argv, brain_class, read_manifest):
    """The whole matrix, from the command line to ``matrix/*/metrics.json``.

    Arguments
    ---------
    argv : list of str
        ``hparams/x.yaml --encoder FOLDER --EmoDB FOLDER --RAVDESS FOLDER [--key value]``.
    brain_class : type
        :class:`vesper_lobes.emotion_brain.EmotionBrain` or a subclass.
    read_manifest : callable
        (path, data_root) -> pandas.DataFrame, that of ``data_prep.manifest``.

    Returns
    -------
    CrossCorpusRun
        Its ``metrics`` holds what was written, by (train, test).

    Raises
    ------
    ValueError
        Fewer than two corpora were given.
    """
    hparams_file, run_opts, text = sb.parse_arguments(argv)
    overrides = parse_overrides(text)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError("heads train on cached states in seconds: run one process, not torchrun")
    with open(hparams_file, encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file, {**overrides, "checkpointer": None})
    given = {name: c for name, c in hparams["corpora"].items() if c["data_folder"]}
    if len(given) < 2:
        known = " ".join(f"--{name} FOLDER" for name in hparams["corpora"])
        raise ValueError(f"give the folders of at least two corpora out of: {known}")
    sb.create_experiment_directory(hparams["output_folder"], hparams_file, overrides)
    prepared = {}
    for name, corpus in given.items():
        folder = Path(hparams["manifest_folder"]) / name
        paths = corpus["prepare"](corpus["data_folder"], folder, protocol=WITHIN)
        rows = read_manifest(paths.manifest, data_root=corpus["data_folder"])
        prepared[name] = rows, read_folds(paths.folds)
    corpora = join_corpora(prepared, {name: c["labels"] for name, c in given.items()})
    run = CrossCorpusRun(hparams_file, hparams, overrides, run_opts, brain_class, *corpora)
    run.run()
    return run


def join_corpora(prepared, labels):
    """One manifest of all corpora over the shared classes, and each corpus's own folds.

    Arguments
    ---------
    prepared : dict
        Corpus -> (manifest, list of Fold).
    labels : dict of dict
        Corpus -> {its own label: shared class}; utterances with other labels are dropped.

    Returns
    -------
    manifest : pandas.DataFrame
        IDs are ``<corpus>/<ID>``, emotions shared classes, column corpus as named here.
    folds : dict of list of Fold
        Corpus -> its folds, with the new IDs, without what was dropped.
    """
    tables, folds = [], {}
    for name, (rows, own_folds) in prepared.items():
        rows = rows.assign(ID=f"{name}/" + rows["ID"], corpus=name)
        rows["emotion"] = rows["emotion"].map(labels[name])
        rows = rows[rows["emotion"].notna()]
        tables.append(rows)
        kept = set(rows["ID"])
        folds[name] = [
            Fold(fold.number, *([i for u in part if (i := f"{name}/{u}") in kept] for part in sets))
            for fold in own_folds
            for sets in [[getattr(fold, part) for part in SETS]]
        ]
    return pd.concat(tables, ignore_index=True), folds


def outward_fold(manifest, folds, name, turn):
    """What a head for other corpora trains on: all of one corpus but a dev fold.

    Arguments
    ---------
    manifest : pandas.DataFrame
        Of all corpora.
    folds : list of Fold
        Of the training corpus.
    name : str
        The training corpus.
    turn : int
        Which dev fold, from 0; beyond the last the first comes again.

    Returns
    -------
    Fold
        Tests all utterances of all other corpora.
    """
    dev = folds[turn % len(folds)].dev
    own = manifest["corpus"] == name
    train = manifest["ID"][own & ~manifest["ID"].isin(dev)].tolist()
    return Fold(folds[turn % len(folds)].number, train, dev, manifest["ID"][~own].tolist())


class CrossCorpusRun:
    """All heads of the matrix, made or taken up, and their evaluation.

    Arguments
    ---------
    hparams_file : str
    hparams : dict
    overrides : dict
        Of the command line.
    run_opts : speechbrain.utils.run_opts.RunOptions
    brain_class : type
    manifest : pandas.DataFrame
    folds : dict of list of Fold
        As :func:`join_corpora` makes them.
    """

    def __init__(self, hparams_file, hparams, overrides, run_opts, brain_class, manifest, folds):
        self.hparams_file, self.hparams, self.overrides = hparams_file, hparams, overrides
        self.run_opts, self.brain_class, self.folds = run_opts, brain_class, folds
        self.names = list(folds)
        self.seeds = seed_list(hparams["head_seeds"])
        self.folder = Path(hparams["output_folder"])
        self.metric = hparams["selection_metrics"][hparams["protocol"]]
        within = [fold for own in folds.values() for fold in own]
        self.corpus = Corpus(manifest, hparams["classes"], within)  # checks IDs and classes
        self.audio = audio_keys(manifest)
        self.facts, self.metrics, self.best = {}, {}, {}
        self.seconds = {"states": 0.0}

    def run(self):
        """Makes what is missing, then writes every cell of the matrix."""
        began = time.perf_counter()
        baselines, skipped = split_baselines(self.hparams["baselines"], self.hparams["teacher"])
        for name, reason in skipped.items():
            logger.warning("baseline %s is left out: %s", name, reason)
        jobs = {name: list(self.jobs(name)) for name in [MAIN, *baselines]}
        with tqdm(total=sum(map(len, jobs.values())), unit="head", dynamic_ncols=True) as bar:
            tables = {name: self.cells(name, jobs[name], bar) for name in jobs}
        self.seconds["total"] = round(time.perf_counter() - began, 2)
        for train in self.names:
            for test in self.names:
                self.write_cell_metrics(train, test, tables, baselines)
        self.write_run_json(skipped)

    def jobs(self, encoder):
        """(training corpus, seed, fold, folder) of every head of one encoder."""
        top = self.folder if encoder == MAIN else self.folder / "baselines" / encoder
        seeds = self.seeds[:1] if encoder == FLOOR else self.seeds
        for name in self.names:
            for turn, seed in enumerate(seeds):
                fold = outward_fold(self.corpus.manifest, self.folds[name], name, turn)
                yield name, seed, fold, top / name / f"seed{seed}" / f"fold{fold.number}"
                for fold in self.folds[name]:
                    folder = top / name / "within" / f"seed{seed}" / f"fold{fold.number}"
                    yield name, seed, fold, folder

    def cells(self, encoder, jobs, bar):
        """Trains one encoder's heads; tables[train, test][seed][fold] of their predictions."""
        bar.set_description(encoder)
        make = self.floor_maker() if encoder == FLOOR else self.head_maker(encoder)
        found = {}
        for train, seed, fold, folder in jobs:
            cell = make(seed, fold, folder)
            if encoder == MAIN:
                inner = folder.parent.parent.name == "within"
                self.best[train, "within" if inner else "outward", seed, fold.number] = cell["best"]
            text = {name: str for name in ("ID", "speaker", "dialogue", "target", "prediction")}
            table = pd.read_csv(folder / "predictions.csv", dtype=text, keep_default_na=False)
            owner = table["ID"].str.partition("/")[0]
            for test, rows in table.groupby(owner):
                by_seed = found.setdefault((train, test), {})
                by_seed.setdefault(seed, {})[fold.number] = rows.reset_index(drop=True)
            bar.update()
        return found

    def head_maker(self, name):
        """A function (seed, fold, folder) -> cell for an encoder's heads."""
        hparams = self.hparams
        encoder = make_encoder(name, hparams["encoder"], hparams["teacher"], self.seeds[0])
        began = time.perf_counter()
        device = self.run_opts.device or infer_device()
        cache = PooledStateCache(
            encoder, hparams["states_folder"], crop_seconds=hparams["crop_seconds"], device=device
        )
        states = cache.fill(self.corpus.manifest).states()  # (N, L+1, D)
        self.seconds["states"] += time.perf_counter() - began
        digest = cache.settings.weights
        self.facts[name] = {"weights": digest, "params": encoder.num_parameters()}
        sizes = {"num_states": encoder.num_layers + 1, "input_dim": encoder.hidden_size}

        def make(seed, fold, folder):
            overrides = {**self.overrides, **sizes, "seed": seed, "fold": fold.number}
            key = self.key(overrides, fold, digest)
            cell = read_cell(folder, key) or train_cell(
                *(self.brain_class, self.hparams_file, overrides, self.run_opts),
                *(states, self.corpus, fold, folder, key),
            )
            self.facts[name]["trainable_params"] = cell["trainable_params"]
            return cell

        return make

    def floor_maker(self):
        """The same for the ridge classifier."""
        features = []

        def make(seed, fold, folder):
            key = self.key({**self.overrides, "seed": 0}, fold, list(mfcc_ridge.ALPHAS))
            cell = read_cell(folder, key)
            if cell is None:
                if not features:
                    rows, crop = self.corpus.manifest, self.hparams["crop_seconds"]
                    features.append(mfcc_ridge.corpus_statistics(rows, crop, progressbar=False))
                fitted = mfcc_ridge.fit_fold(features[0], self.corpus, fold, self.metric)
                facts = {"seed": seed, "best": fitted[1]}
                cell = write_cell(folder, key, self.corpus, fold, fitted[0], **facts)
            return cell

        return make

    def key(self, overrides, fold, digest):
        """What a cell is made of: settings, encoder, and utterances with their labels."""
        places = [*NOT_IN_KEY, *self.hparams["corpora"]]
        neutral = {name: None for name in places if name in self.hparams}
        emotions = self.corpus.manifest["emotion"]
        rows = [self.corpus.take(getattr(fold, part)) for part in SETS]
        utterances = [[(self.audio[i], emotions[i]) for i in part] for part in rows]
        options = [self.run_opts.debug, self.run_opts.precision]
        if (self.hparams["crop_seconds"] or math.inf) > LONG_SECONDS:
            options.append(windows())
        return cell_key(self.hparams_file, {**overrides, **neutral}, digest, utterances, options)

    def write_cell_metrics(self, train, test, tables, baselines):
        """``matrix/<train>_to_<test>/metrics.json``, and the unheard speakers' own."""
        own = {name: tables[name][train, test] for name in [MAIN, *baselines]}
        heard = heard_speakers(self.hparams["encoder"], test)
        speakers = set(next(iter(next(iter(own[MAIN].values())).values()))["speaker"])
        for table in (t for folds in own[MAIN].values() for t in folds.values()):
            speakers |= set(table["speaker"])
        setting, source = self.hparams["ssl_saw_test_audio"], self.hparams["encoder"]
        saw = saw_test_audio(setting, source, test, speakers)
        folder = self.folder / "matrix" / f"{train}_to_{test}"
        self.metrics[train, test] = self.build(train, test, own, saw)
        write_metrics(self.metrics[train, test], folder / "metrics.json")
        unheard = speakers - heard
        clean = folder / "unheard_speakers.json"
        clean.unlink(missing_ok=True)
        if saw and heard and "" not in heard and len(unheard) > 1:
            parts = {name: only_speakers(value, unheard) for name, value in own.items()}
            write_metrics(self.build(train, test, parts, False), clean)

    def build(self, train, test, tables, saw):
        """metrics.json of one cell of the matrix."""
        facts, kind = self.facts[MAIN], "within" if train == test else "outward"
        details = {
            (seed, fold): {"epoch": int(self.best[train, kind, seed, fold]["epoch"])}
            for seed, folds in tables[MAIN].items()
            for fold in folds
        }
        return build_metrics(
            tables[MAIN],
            corpus=test,
            protocol=WITHIN if train == test else PROTOCOL,
            classes=self.corpus.classes,
            ssl_saw_test_audio=saw,
            params=facts["params"],
            trainable_params=facts["trainable_params"],
            seconds=self.seconds,
            groups=self.hparams["corpora"][test]["bootstrap_unit"],
            baselines={name: table for name, table in tables.items() if name != MAIN},
            fold_details=details,
            git=git_commit(Path(__file__).parent),
        )

    def write_run_json(self, skipped):
        """How the matrix came about: corpora, counts, encoders by hash."""
        rows = self.corpus.manifest
        counts = rows.groupby(["corpus", "emotion"]).size().unstack(fill_value=0)
        run = {
            "encoder": Path(str(self.hparams["encoder"])).name,
            "encoders": self.facts,
            "corpora": {name: counts.loc[name].astype(int).to_dict() for name in self.names},
            "selection_metric": self.metric,
            "crop_seconds": self.hparams["crop_seconds"],
            "skipped_baselines": skipped,
        }
        write_atomic(self.folder / "run.json", json.dumps(run, indent=1) + "\n")


def heard_speakers(source, corpus):
    """Speakers of a corpus that an encoder's record names; empty without a record."""
    path = Path(str(source)) / RECORD
    if not path.is_file():
        return set()
    return set(json.loads(path.read_text(encoding="utf-8")).get("speakers", {}).get(corpus, []))


def only_speakers(predictions, speakers):
    """``predictions[seed][fold]`` of some speakers; folds without any of them are left out."""
    kept = {
        seed: {k: table[table["speaker"].isin(speakers)] for k, table in folds.items()}
        for seed, folds in predictions.items()
    }
    return {
        seed: {k: table.reset_index(drop=True) for k, table in folds.items() if len(table)}
        for seed, folds in kept.items()
    }
