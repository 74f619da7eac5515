#!/usr/bin/env python3
"""What bfloat16 and 8-bit integers cost in accuracy, with a trained encoder and labelled speech.

    python benchmarks/precision.py ENCODER MANIFEST --data_root FOLDER [--json OUT]

    ENCODER   an exported encoder's folder
    MANIFEST  of a corpus with emotions and speakers, as `data_prep` writes them

For each precision: how far the states of all frames are from float32's (root mean square of the
difference over that of the state; the worst state), and a downstream score: ridge regression to the
classes on the mean of all states over time, each speaker predicted by the others. Nothing is chosen
(one fixed penalty), so the scores compare precisions and are no entry for a results table. The
encoder of each precision sees the same batches; time is that of the passes alone.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from timing import machine, write_json
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from data_prep.manifest import read_manifest
from vesper_lobes.audio import read_audio
from vesper_lobes.checkpoints import load_encoder
from vesper_lobes.int8 import megabytes, quantize_int8
from vesper_lobes.metrics import scores

PENALTY = 100.0  # on standardised inputs, of which there are about as many as utterances


def pass_through(encoders, wavs):
    """Pooled states, squared errors and seconds of one batch, for each precision.

    Returns
    -------
    dict
        Name -> (pooled (B, (N+1) D), squared error and squared size of each state (2, N+1), s).
    """
    lengths = torch.tensor([len(wav) for wav in wavs])
    batch = pad_sequence(wavs, batch_first=True)
    relative, reference, results = lengths.double() / batch.shape[1], None, {}
    for name, encoder in encoders.items():
        began = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled="bf16" in name):
            states, frames = encoder(batch, relative)
        seconds = time.perf_counter() - began
        real = torch.arange(states[0].shape[1]) < frames.unsqueeze(1)  # (B, T)
        states = torch.stack(states).float() * real.unsqueeze(-1)  # (N+1, B, T, D)
        reference = states if reference is None else reference
        pooled = states.sum(2) / frames.unsqueeze(-1)  # (N+1, B, D)
        sums = [x.double().square().sum((1, 2, 3)) for x in (states - reference, reference)]
        results[name] = pooled.transpose(0, 1).flatten(1).numpy(), torch.stack(sums), seconds
    return results


def unweighted_recall(features, rows):
    """UA in per cent, each speaker predicted by a classifier of the others."""
    classes = sorted(set(rows["emotion"]))
    targets = np.array([classes.index(emotion) for emotion in rows["emotion"]])
    model = make_pipeline(StandardScaler(), RidgeClassifier(alpha=PENALTY, class_weight="balanced"))
    predicted = cross_val_predict(
        model, features, targets, groups=rows["speaker"], cv=LeaveOneGroupOut()
    )
    return 100 * scores(targets, predicted, len(classes))["UA"], predicted


def compare(encoder, rows, batch_size):
    """A row for each precision: name, error, UA, share of equal decisions, seconds, weights_mb."""
    small = quantize_int8(encoder)
    encoders = {"fp32": encoder, "bf16": encoder, "int8": small, "int8 + bf16": small}
    results = {name: [] for name in encoders}
    for first in tqdm(range(0, len(rows), batch_size), desc="batches"):
        part = rows.iloc[first : first + batch_size]
        wavs = [
            read_audio(*item) for item in part[["wav", "start", "stop"]].itertuples(index=False)
        ]
        for name, result in pass_through(encoders, [torch.as_tensor(w) for w in wavs]).items():
            results[name].append(result)
    table, exact = [], None
    for name, parts in results.items():
        pooled, sums, seconds = zip(*parts, strict=True)
        wrong, size = sum(sums)
        recall, predicted = unweighted_recall(np.concatenate(pooled), rows)
        exact = predicted if exact is None else exact
        row = {"precision": name, "error": (wrong / size).sqrt().max().item(), "ua": recall}
        row["same_decision"] = float((predicted == exact).mean())
        table.append({**row, "seconds": sum(seconds), "weights_mb": megabytes(encoders[name])})
    return table


def main(arguments=None):
    """Read, compare, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("encoder")
    parser.add_argument("manifest")
    parser.add_argument("--data_root", default=None)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--json", default=None)
    options = parser.parse_args(arguments)
    rows = read_manifest(options.manifest, options.data_root)
    encoder = load_encoder(options.encoder).freeze()
    with torch.no_grad():
        table = compare(encoder, rows, options.batch_size)
    print(f"{len(rows)} utterances, {rows['speaker'].nunique()} speakers")
    print("precision       error     UA  same decision       s  weights, MB")
    for row in table:
        print(
            f"{row['precision']:<12} {row['error']:8.1e} {row['ua']:6.1f} "
            f"{100 * row['same_decision']:12.1f} % {row['seconds']:7.1f} {row['weights_mb']:12.1f}"
        )
    if options.json:
        facts = {"encoder": Path(options.encoder).name, "corpus": rows["corpus"].iloc[0]}
        facts |= {"machine": machine(), "utterances": len(rows), "rows": table}
        write_json(options.json, facts)


if __name__ == "__main__":
    main()
