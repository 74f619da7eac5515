#!/usr/bin/env python3
"""Whether audio comes as fast as a step takes it: crops, loaders, workers' memory, padding.

    python benchmarks/input.py [--sections crops loader memory padding] [--steps mini vesper4]
        [--rows 150000] [--runs 7] [--json OUT]

All speech is generated for the purpose (buzzing syllables in a folder of its own, deleted
afterwards), all of it read from a warm disk. In each section candidates are timed in turn.

crops    5 s out of 60 s files: only the crop decoded, the whole file decoded, the same in shards
loader   batches of 4 x 5 s by 0, 1 and 2 workers, from wav, flac and shards, beside the training
         step that takes them (teacher, student, backward, optimizer; random weights)
memory   what each worker has to itself once every row was looked at: rows in arrays (ours) and in
         a dictionary of dictionaries (SpeechBrain's DynamicItemDataset)
padding  share of padding in an extraction's batches, in buckets of like length and as they come
"""

import argparse
import functools
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import torch
from speechbrain.dataio.dataloader import make_dataloader
from speechbrain.dataio.dataset import DynamicItemDataset
from timing import alternate, machine, print_rows, ratio_rows, write_json
from torch.utils.data import DataLoader
from tqdm import tqdm

from data_prep.folder_prepare import prepare_folder
from data_prep.speech_sources import read_speech
from data_prep.write_shards import write_shards
from vesper_lobes.audio import read_audio
from vesper_lobes.cache_keys import CacheSettings
from vesper_lobes.checkpoints import weights_hash
from vesper_lobes.config import EncoderConfig
from vesper_lobes.encoder import Encoder
from vesper_lobes.encoder_pass import EncoderPass
from vesper_lobes.masker import EmotionGuidedMasker, mask_noise
from vesper_lobes.pretrain_data import CropReader, crop_dataset, spare_parents_memory
from vesper_lobes.pretrain_student import build_student
from vesper_lobes.teacher import Teacher

RATE, CROP, BATCH = 16000, 5.0, 4
SECTIONS = ("crops", "loader", "memory", "padding")
STEPS = {"mini": ("mini_large", 2), "vesper4": ("wavlm_large", 4)}


@functools.cache
def buzzing():
    """A minute of a gliding pitch under syllables, and some noise: packs like speech."""
    time = np.arange(60 * RATE) / RATE
    phase = 2 * np.pi * np.cumsum(150 + 40 * np.sin(2 * np.pi * 0.7 * time)) / RATE
    wave = sum(np.sin(k * phase) / k for k in range(1, 6))
    wave *= np.clip(np.sin(2 * np.pi * 3 * time), 0, 1)
    return 0.1 * (wave + 0.02 * np.random.default_rng(0).standard_normal(len(time)))


def speech_like(seconds, seed):
    """Up to a minute of it, from another place for each seed."""
    return np.roll(buzzing(), -997 * seed)[: round(seconds * RATE)]


def write_corpus(folder, seconds):
    """Files of these lengths as wav and as flac, and flac in shards; their manifest rows."""
    for kind in ("wav", "flac"):
        (folder / kind).mkdir(parents=True)
        for k, length in enumerate(tqdm(seconds, desc=f"writing {kind}", leave=False)):
            soundfile.write(folder / kind / f"u{k:05d}.{kind}", speech_like(length, k), RATE)
        prepare_folder(folder / kind, folder / f"{kind}_prep")
    manifest = str(folder / "flac_prep/manifest.csv")
    write_shards(manifest, str(folder / "flac"), folder / "shards", shard_mb=50)
    rows = {
        kind: read_speech(None, folder / kind, folder / f"{kind}_prep/manifest.csv")
        for kind in ("wav", "flac")
    }
    return {**rows, "shards": read_speech(None, shards=folder / "shards")}


def measure_crops(folder, runs):
    """Milliseconds of a crop, each candidate over all files."""
    corpus = write_corpus(folder / "long", [60.0] * 24)
    reader = CropReader(CROP, seed=0)

    def part(rows):
        return lambda: [reader(*row) for row in rows]

    def whole(rows):
        keep = round(CROP * RATE)

        def read():
            for _, wav, *_ in rows:
                crop = read_audio(wav)[RATE : RATE + keep].clone()
                assert len(crop) == keep

        return read

    candidates = {}
    for kind, table in corpus.items():
        rows = table[["ID", "wav", "start", "stop"]].to_numpy().tolist()
        if kind != "shards":
            candidates[f"{kind}: whole file"] = whole(rows)
        candidates[f"{kind}: crop alone"] = part(rows)
    times = alternate(candidates, runs)
    for values in times.values():
        values["all"] = [seconds / 24 for seconds in values["all"]]
        values |= {key: values[key] / 24 for key in ("median", "min", "max")}
    rows = ratio_rows(times, "wav: whole file")
    print("\n5 s crops out of 60 s files, per crop, warm disk")
    print_rows(rows)
    return rows


def endless_loader(rows, workers):
    """Batches without end, as training's loader makes them."""
    dataset = crop_dataset(rows, CropReader(CROP, seed=0))
    order = np.random.default_rng(0).permutation(len(dataset)).tolist()
    options = {"persistent_workers": True} if workers else {}
    loader = make_dataloader(
        dataset, batch_size=BATCH, num_workers=workers, sampler=order * 1000, **options
    )
    return iter(loader)


def training_step(size):
    """A function that takes one plain training step on random audio of 4 x 5 s."""
    kind, layers = STEPS[size]
    teacher = Teacher(Encoder(getattr(EncoderConfig, kind)()))
    student = build_student(teacher, layers)
    optimizer = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad])
    masker = EmotionGuidedMasker()
    wavs, lens = torch.randn(BATCH, round(CROP * RATE)), torch.ones(BATCH)

    def step():
        features, lengths = student.encoder.cnn(wavs, lens)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            targets = teacher(wavs, lens, cnn_output=(features, lengths))
        noise = mask_noise(0, 0, list("abcd"), features.shape[1])
        masks = masker(wavs, (lens * wavs.shape[1]).long(), noise)
        student(features, lengths, targets, masks)["total"].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def measure_loader(folder, runs, sizes, batches=40):
    """Batches a second of loaders alone and of steps."""
    lengths = np.random.default_rng(0).uniform(3, 14, 200)
    corpus = write_corpus(folder / "mixed", lengths)
    loaders = {
        f"{kind}, {workers} workers": endless_loader(rows, workers)
        for kind, rows in corpus.items()
        for workers in (0, 1, 2)
    }
    candidates = {
        name: lambda loader=loader: [next(loader) for _ in range(batches)]
        for name, loader in loaders.items()
    }
    times = {f"loader: {name}": t for name, t in alternate(candidates, runs).items()}
    rates = {name: [batches / s for s in values["all"]] for name, values in times.items()}
    for size in sizes:
        values = alternate({size: training_step(size)}, runs if size == "mini" else min(runs, 3))
        rates[f"step: {size}"] = [1 / s for s in values[size]["all"]]
    rows = [
        {
            "name": n,
            "batches_per_second": {"median": float(np.median(r)), "min": min(r), "max": max(r)},
        }
        for n, r in rates.items()
    ]
    print(f"\nbatches of {BATCH} x {CROP:g} s a second, [min, max]")
    for row in rows:
        low, mid, high = (row["batches_per_second"][key] for key in ("min", "median", "max"))
        print(f"{row['name']:<28} {mid:9.2f} [{low:.2f}, {high:.2f}]")
    return rows


def invented_rows(count):
    """Manifest rows as long as LSSED's."""
    numbers = np.arange(count)
    names = [f"speaker{n % 820:03d}/video{n // 200:06d}_{n:08d}" for n in numbers]
    wavs = [f"/data/speech/LSSED/wav_all/{name}.wav" for name in names]
    return pd.DataFrame({"ID": names, "wav": wavs, "start": 0, "stop": -1})


def read_nothing(name, wav, start, stop):
    """In a reader's place: looks at every field."""
    return torch.tensor(float(len(name) + len(wav) + start + stop))


def rows_as(kind, rows):
    """A dataset of these rows in arrays, or in a dictionary of dictionaries."""
    if kind == "arrays":
        return crop_dataset(rows, read_nothing)
    records = rows.to_dict("records")
    data = {r.pop("ID"): r for r in records}
    dataset = DynamicItemDataset(data)
    dataset.add_dynamic_item(read_nothing, ["id", "wav", "start", "stop"], "sig")
    dataset.set_output_keys(["id", "sig"])
    return dataset


def worker_memory(kind, count, workers=2):
    """MB that a worker has to itself (USS) and its share of all (PSS), at the start and at the end.

    To be called in a fresh process.
    """
    import gc

    dataset = rows_as(kind, invented_rows(count))
    gc.collect()
    spare = spare_parents_memory if kind == "arrays" else None
    loader = DataLoader(
        dataset, batch_size=500, num_workers=workers, collate_fn=len, worker_init_fn=spare
    )
    iterator, seen = iter(loader), []
    for number, _ in enumerate(iterator):
        if number in (2 * workers, len(loader) - 1 - 2 * workers):
            seen.append([smaps(worker.pid) for worker in iterator._workers])
    (uss, pss), (uss_end, pss_end) = (np.mean(part, axis=0).tolist() for part in seen)
    return {"uss_start": uss, "uss_end": uss_end, "pss_start": pss, "pss_end": pss_end}


def smaps(pid):
    """USS and PSS of a process, MB (Linux)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    private = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return private / 1024, kilobytes["Pss"] / 1024


def measure_memory(counts):
    """Memory of workers, each case in a process of its own."""
    rows = []
    for count, kind in itertools.product(counts, ("arrays", "dictionaries")):
        command = [sys.executable, __file__, "--one_memory", kind, str(count)]
        out = subprocess.run(command, check=True, capture_output=True)
        rows.append({"rows": count, "kept_in": kind, **json.loads(out.stdout)})
    print("\nMB of each of two workers: to itself (USS) and share (PSS), first batches -> last")
    for row in rows:
        print(
            f"{row['rows']:>9,} rows in {row['kept_in']:<12} USS {row['uss_start']:6.0f} -> "
            f"{row['uss_end']:6.0f}   PSS {row['pss_start']:6.0f} -> {row['pss_end']:6.0f}"
        )
    return rows


def measure_padding(folder, count=400):
    """Share of padded frames in batches of 40 s: by the extraction's own pass, and unsorted."""
    random = np.random.default_rng(0)
    seconds = np.clip(random.lognormal(np.log(3.6), 0.65, count), 0.6, 34)  # as IEMOCAP's
    wav = str(folder / "a.wav")
    soundfile.write(wav, speech_like(35, 0), RATE)
    stops = (seconds * RATE).astype(int)
    rows = {"ID": [str(k) for k in range(count)], "wav": wav, "start": 0, "stop": stops}
    tiny = dict(hidden_size=16, num_attention_heads=2, intermediate_size=16, conv_dim=(4,) * 7)
    encoder = Encoder(EncoderConfig.mini_large(num_hidden_layers=2, **tiny)).freeze()
    settings = CacheSettings("padding", weights_hash(encoder), True)
    jobs = EncoderPass(encoder, settings).jobs(
        pd.DataFrame({**rows, "duration": seconds}), rows["ID"]
    )
    real = padded = 0
    for _, output in EncoderPass(encoder, settings).outputs(jobs):
        real += int(output.lengths.sum())
        padded += output.states[0].shape[0] * output.states[0].shape[1]
    size = max(1, int(40 // seconds.mean()))
    parts = [seconds[k : k + size] for k in range(0, count, size)]
    unsorted = 1 - seconds.sum() / sum(len(part) * part.max() for part in parts)
    result = {"bucketed": 1 - real / padded, "as_they_come": float(unsorted)}
    print("\npadding in batches:", ", ".join(f"{k} {100 * v:.1f} %" for k, v in result.items()))
    return result


def main():
    """Measure what was asked for, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--steps", nargs="*", choices=STEPS, default=["mini"])
    parser.add_argument("--rows", nargs="+", type=int, default=[150_000])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", help="write the figures here")
    parser.add_argument("--one_memory", nargs=2, help=argparse.SUPPRESS)  # of `measure_memory`
    arguments = parser.parse_args()
    if arguments.one_memory:
        kind, count = arguments.one_memory
        print(json.dumps(worker_memory(kind, int(count))))
        return
    found = {"machine": machine()}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        measures = {
            "crops": lambda: measure_crops(folder, arguments.runs),
            "loader": lambda: measure_loader(folder, arguments.runs, arguments.steps),
            "memory": lambda: measure_memory(arguments.rows),
            "padding": lambda: measure_padding(folder),
        }
        for section in arguments.sections:
            found[section] = measures[section]()
    if arguments.json:
        write_json(arguments.json, found)


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    main()
