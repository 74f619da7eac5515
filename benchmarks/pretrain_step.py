#!/usr/bin/env python3
"""A pretraining step on the CPU beside the straightforward one, and what a store of targets costs.

    python benchmarks/pretrain_step.py [--rounds 7] [--json OUT]

Teacher of WavLM Large's size, student Vesper-4, 4 crops of 5 s, random weights. A step is the
recipe's own (`PretrainBrain.fit_batch`): front end, teacher, masks, student, losses, backward,
clipping, AdamW.

straightforward   transformers' WavLM as teacher, returning all hidden states; the student runs a
                  front end of its own; float32, AdamW as PyTorch gives it
ours              one front end for both, no attention weights, fused AdamW; float32 and bf16
store             front end and teacher replaced by what `TargetStore` read from disk

Before the timing, all must have the same losses and gradients (dropout off): ours in float32 to
1e-5 and 1e-4, the store and bf16 to their rounding, which is printed.
"""

import argparse
import contextlib
import copy
import functools
import tempfile
from math import inf
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import numpy as np
import pandas as pd
import soundfile
import speechbrain as sb
import torch
from speechbrain.dataio.batch import PaddedBatch
from timing import alternate, machine, print_rows, ratio_rows, write_json
from transformers import WavLMConfig, WavLMModel

from vesper_lobes.compression import compress
from vesper_lobes.config import EncoderConfig
from vesper_lobes.conv import normalize_waveform
from vesper_lobes.encoder import Encoder
from vesper_lobes.lengths import SAMPLE_RATE, sample_lengths
from vesper_lobes.logged_brain import decay_groups
from vesper_lobes.losses import VesperLosses
from vesper_lobes.masker import EmotionGuidedMasker
from vesper_lobes.pretrain_brain import PretrainBrain
from vesper_lobes.pretrain_data import CropReader
from vesper_lobes.pretrain_student import PretrainStudent
from vesper_lobes.target_store import PARTS, TargetStore, pack, unpack
from vesper_lobes.teacher import Teacher

FILLED = ("bf16",)  # precisions in which filling a store is timed
LSSED_UTTERANCES, LSSED_HOURS = 147_025, 206  # the paper, section IV
TOLERANCES = {
    "ours, fp32": {"losses": 1e-5, "gradients": 1e-4},
    "ours, bf16": {"losses": 2e-2, "gradients": 0.1},
    "store, fp32": {"losses": 1e-3, "gradients": 1e-2},
    "store, bf16": {"losses": 2e-2, "gradients": 0.1},
}


class StraightforwardBrain(PretrainBrain):
    """The same training as one writes it first."""

    def frozen_outputs(self, batch):
        """The student's front end, and transformers' teacher from the waveform up."""
        self.student.encoder.fast = False  # the plain path
        wavs, wav_lens = batch.sig
        features, lengths = self.student.encoder.cnn(wavs, wav_lens)
        with torch.no_grad():
            normed = normalize_waveform(wavs, sample_lengths(wavs, wav_lens))
            states = self.peer(normed, output_hidden_states=True).hidden_states
        return features, lengths, (states[len(states) // 2], states[-1])

    def init_optimizers(self):
        """AdamW without further options."""
        groups = decay_groups(self.modules, self.hparams.weight_decay)
        self.optimizer = self.opt_class(groups)
        self.optimizers_dict = {"opt_class": self.optimizer}


def transformers_teacher(encoder):
    """transformers' WavLM over the very weights of an encoder of ours, in eval mode."""
    with torch.device("meta"):
        model = WavLMModel(WavLMConfig(**encoder.config.to_transformers()))
    model.load_state_dict(encoder.state_dict(), strict=True, assign=True)
    return model.eval().requires_grad_(False)


def make_brain(kind, teacher, student, precision, folder, device="cpu"):
    """A brain with a copy of the student (predictors too)."""
    brain = kind(
        modules={"student": copy.deepcopy(student)},
        opt_class=functools.partial(torch.optim.AdamW, lr=5e-4),
        hparams={
            "seed": 0,
            "output_folder": str(folder),
            "teacher_model": teacher,
            "masker": EmotionGuidedMasker(positions="scaled"),
            "weight_decay": 0.01,
            "schedule_per": "epoch",
            "scheduler": SimpleNamespace(lr_at=lambda epoch: 1e-5),
        },
        run_opts={"device": device, "precision": precision, "eval_precision": precision},
    )
    brain.reader = SimpleNamespace(set_epoch=lambda epoch: None)
    brain.batches, brain.show_bar, brain.nonfinite_count = {sb.Stage.TRAIN: None}, False, 0
    return brain


def one_step(brain, crops):
    """A training step on crops {ID: (S,)}, as the recipe's loop takes it."""
    brain.step += 1
    batch = PaddedBatch([{"id": name, "sig": wav} for name, wav in crops.items()])
    return brain.fit_batch(batch)


@contextlib.contextmanager
def without_dropout(module):
    """Every dropout at 0, in train mode."""
    changed = []
    for part in module.modules():
        for name in ("p", "dropout"):
            if isinstance(getattr(part, name, None), float):
                changed.append((part, name, getattr(part, name)))
                setattr(part, name, 0.0)
    try:
        yield
    finally:
        for part, name, value in changed:
            setattr(part, name, value)


def losses_and_gradients(brain, crops):
    """Losses by name and all gradients in one vector, of one step that changes no weight."""
    brain.modules.train()
    step, brain.optimizers_step = brain.optimizers_step, lambda: None
    with without_dropout(brain.modules):
        one_step(brain, crops)
    brain.optimizers_step = step
    parameters = [p for p in brain.modules.parameters() if p.grad is not None]
    gradients = torch.cat([p.grad.flatten() for p in parameters])
    brain.optimizer.zero_grad(set_to_none=True)
    return {name: float(value) for name, value in brain.shown.items()}, gradients


def check_equal(brains, crops):
    """Every candidate against the first: relative differences of losses and gradients.

    Raises
    ------
    AssertionError
        A difference beyond `TOLERANCES`.
    """
    (_, first), *others = brains.items()
    expected, found = losses_and_gradients(first, crops), {}
    for name, brain in others:
        found[name] = difference(losses_and_gradients(brain, crops), expected)
        within = [found[name][part] <= limit for part, limit in TOLERANCES[name].items()]
        assert all(within), (name, found[name], TOLERANCES[name])
    return found


def difference(ours, expected):
    """Largest relative difference of the losses; norm of the gradients' difference over theirs."""
    (losses, gradients), (true_losses, true_gradients) = ours, expected
    return {
        "losses": max(abs(losses[name] / true - 1) for name, true in true_losses.items()),
        "gradients": float((gradients - true_gradients).norm() / true_gradients.norm()),
    }


def int8_difference(brains, stores, crops):
    """What int8 targets change in a step, against the exact ones of `ours, fp32`."""
    brain = brains["store, fp32"]
    kept, brain.store = brain.store, stores["int8"]
    found = difference(
        losses_and_gradients(brain, crops), losses_and_gradients(brains["ours, fp32"], crops)
    )
    brain.store = kept
    return found


def write_speech(folder, count, seconds):
    """Noise in bursts, as wav files; their manifest rows and crops."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(count):
        time_axis = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
        loud = np.sin(np.pi * (1 + 0.3 * number) * time_axis) ** 2
        wav = Path(folder) / f"{number}.wav"
        soundfile.write(wav, 0.1 * loud * random.standard_normal(len(time_axis)), SAMPLE_RATE)
        rows.append({"ID": f"u{number}", "duration": seconds, "wav": str(wav)})
    return pd.DataFrame(rows).assign(start=0, stop=-1)


def store_errors(frames, widths):
    """Errors of both types: largest over largest value, and root mean square over the same.

    Once for the frames as they are, once with eight dimensions of each part a hundred times as
    large, as last layers of trained models have them.
    """
    outliers = frames.copy()
    starts = np.cumsum([0, *widths[:-1]])
    for start in starts:
        outliers[:, start : start + 8] *= 100
    found = {}
    for dtype in ("fp16", "int8"):
        found[dtype] = {}
        for name, exact in (("as they are", frames), ("8 outlier dimensions", outliers)):
            error = np.abs(unpack(pack(exact, dtype), dtype, sum(widths)) - exact)
            parts = {}
            for part, start, width in zip(PARTS, starts, widths, strict=True):
                here = slice(start, start + width)
                scale = np.sqrt(np.square(exact[:, here]).mean(0)).clip(1e-12)  # of each column
                parts[part] = {
                    "max_over_max": float(error[:, here].max() / np.abs(exact[:, here]).max()),
                    "rms": float(np.sqrt(np.square(error[:, here] / scale).mean())),
                }
            found[dtype][name] = parts
    return found


def store_facts(stores, rows, times):
    """Sizes for LSSED, errors, time to fill, megabytes that a batch of 32 reads."""
    mean = LSSED_HOURS * 3600 / LSSED_UTTERANCES
    lssed = pd.DataFrame({"duration": np.full(LSSED_UTTERANCES, mean)})
    sizes = {store.dtype: store.bytes_of(lssed) / 1e9 for store in stores.values()}
    exact = stores["fp32"]
    frames = np.concatenate(exact._frames(exact._crops(rows), "cpu", rows))
    per_crop = {p: times[f"filling, {p}"]["median"] / len(rows) for p in FILLED}
    return {
        "lssed_gb": sizes,
        "mb_per_batch_of_32": {name: 32e3 * gb / LSSED_UTTERANCES for name, gb in sizes.items()},
        "errors": store_errors(frames, exact.widths),
        "fill_seconds_per_crop": per_crop,
        "fill_hours_lssed": {k: s * LSSED_UTTERANCES / 3600 for k, s in per_crop.items()},
        "break_even_epochs": break_even(times),
    }


def break_even(times):
    """Epochs after which filling a store has paid: median over rounds, None where it never does.

    Filling is timed in the rounds of the steps, warm, so that a busy machine slows both.
    """
    epochs = {}
    for precision in [name.partition(", ")[2] for name in times if name.startswith("filling")]:
        names = (f"filling, {precision}", f"ours, {precision}", f"store, {precision}")
        rounds = zip(*(times[name]["all"] for name in names), strict=True)
        paid = [
            fill / (plain - stored) if plain > stored else inf for fill, plain, stored in rounds
        ]
        epochs[precision] = median(paid) if median(paid) < inf else None
    return epochs


def build(small):
    """Teacher and student of random weights: WavLM Large and Vesper-4, or tiny ones."""
    torch.manual_seed(0)
    config = EncoderConfig.mini_large(num_hidden_layers=4) if small else EncoderConfig.wavlm_large()
    teacher = Teacher(Encoder(config))
    student, _ = compress(teacher.encoder, 2 if small else 4)
    return teacher, PretrainStudent(student, VesperLosses(student.hidden_size))


def fill_stores(folder, teacher, reader, rows):
    """Stores of the crops by name.

    "fp32" and "bf16" name the teacher's precision, of fp16 numbers; "int8" has int8 ones.
    """
    stores = {}
    for name in ("fp32", "bf16", "int8"):
        options = {"dtype": "int8"} if name == "int8" else {"precision": name}
        stores[name] = TargetStore(folder, teacher, reader, progressbar=False, **options)
        stores[name].fill(rows)
    return stores


def filling(store, rows):
    """What filling does for these rows, but for the writing: reading, both networks, packing."""
    return [pack(f, store.dtype) for f in store._frames(store._crops(rows), "cpu", rows)]


def make_brains(teacher, student, stores, folder):
    """All candidates at the start of an epoch, the straightforward one first."""
    plain = make_brain(StraightforwardBrain, teacher, student, "fp32", folder)
    plain.peer = transformers_teacher(teacher.encoder)
    brains = {"straightforward": plain}
    for name in TOLERANCES:
        source, precision = name.split(", ")
        brains[name] = make_brain(PretrainBrain, teacher, student, precision, folder)
        brains[name].store = stores[precision] if source == "store" else None
    for brain in brains.values():
        brain.on_fit_start()
        brain.on_stage_start(sb.Stage.TRAIN, epoch=1)
    return brains


def measure(small=False, rounds=7, batch=4, seconds=5.0):
    """All figures, as a dict."""
    with tempfile.TemporaryDirectory() as folder:
        teacher, student = build(small)
        rows = write_speech(folder, batch, seconds)
        reader = CropReader(seconds, seed=0, fixed=True)
        crops = {row.ID: reader(row.ID, row.wav) for row in rows.itertuples()}
        stores = fill_stores(folder, teacher, reader, rows)
        brains = make_brains(teacher, student, stores, folder)
        differences = check_equal(brains, crops)
        differences["store of int8, fp32"] = int8_difference(brains, stores, crops)
        work = {name: functools.partial(one_step, brain, crops) for name, brain in brains.items()}
        for precision in FILLED:
            fill = functools.partial(filling, stores[precision], rows)
            work[f"filling, {precision}"] = fill
        times = alternate(work, rounds)
        facts = store_facts(stores, rows, times)
    timed = ratio_rows({name: times[name] for name in brains}, "straightforward")
    return {
        "setting": f"{teacher.num_layers}-layer teacher, {student.encoder.num_layers}-layer "
        f"student, {batch} crops of {seconds:g} s",
        "machine": machine(),
        "rounds": rounds,
        "rows": timed,
        "relative_differences": differences,
        "store": facts,
    }


def show(result):
    """Print the table and the store's facts."""
    print(result["setting"])
    print_rows(result["rows"])
    for name, found in result["relative_differences"].items():
        print(f"{name}: losses within {found['losses']:.1e}, gradients {found['gradients']:.1e}")
    facts = result["store"]
    for dtype, gb in facts["lssed_gb"].items():
        print(
            f"store in {dtype}: {gb:.0f} GB for LSSED, {facts['mb_per_batch_of_32'][dtype]:.0f} MB"
        )
        for name, parts in facts["errors"][dtype].items():
            words = ", ".join(f"{part} {100 * e['rms']:.3f} %" for part, e in parts.items())
            print(f"    rms error over each dimension's rms, {name}: {words}")
    for precision, hours in facts["fill_hours_lssed"].items():
        epochs = facts["break_even_epochs"].get(precision)
        paid = f", paid after {epochs:.1f} epochs" if epochs else ""
        print(f"filling in {precision}: {hours:.0f} h for LSSED on this machine{paid}")


def main(arguments=None):
    """Check, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--small", action="store_true", help="tiny sizes: shows that it runs")
    parser.add_argument("--json", default=None)
    options = parser.parse_args(arguments)
    sizes = {"batch": 2, "seconds": 1.0} if options.small else {}
    result = measure(options.small, options.rounds, **sizes)
    show(result)
    if options.json:
        write_json(options.json, result)


if __name__ == "__main__":
    main()
