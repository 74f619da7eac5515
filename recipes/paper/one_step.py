"""One training step at batch 2 of each distinct configuration of the full size, random weights.

    python recipes/paper/one_step.py --work DIR

Pretraining and distillation run by their own commands on four noises of five seconds, from a WavLM
Large of random weights; heads take a step in this process on states of random encoders. Shows that
nothing is left to go wrong but what needs the real weights and corpora. Needs 6 GB of memory and
12 GB of disk, which it frees at its end, about 20 minutes on two cores. After a failure the same
command goes on with what had not yet run.
"""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
from hyperpyyaml import load_hyperpyyaml
from speechbrain import Stage
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]

from cells import READOUTS, Grid, read_size  # noqa: E402

from vesper_lobes.brains import EmotionBrain  # noqa: E402
from vesper_lobes.checkpoints import load_encoder, save_encoder  # noqa: E402
from vesper_lobes.config import EncoderConfig  # noqa: E402
from vesper_lobes.emotion_brain import StatesBatch  # noqa: E402
from vesper_lobes.emotion_cells import new_brain, quiet_speechbrain  # noqa: E402
from vesper_lobes.encoder import Encoder  # noqa: E402
from vesper_lobes.pooling import masked_mean  # noqa: E402

STEP = {
    "--batch_size": "2",
    "--number_of_epochs": "1",
    "--warmup_epochs": "0",
    "--optimizer_step_limit": "1",
    "--valid_share": "0",
    "--num_workers": "0",
}


def random_weights(work):
    """Folders of a WavLM Large and Base of random weights, and one of noises."""
    for name, config in (
        ("large", EncoderConfig.wavlm_large()),
        ("base", EncoderConfig.wavlm_base()),
    ):
        if not (work / name / "config.json").is_file():
            torch.manual_seed(0)
            save_encoder(Encoder(config), work / name)
    speech = work / "speech"
    speech.mkdir(parents=True, exist_ok=True)
    for number in range(4):
        noise = np.random.default_rng(number).normal(0, 0.1, 80000)
        soundfile.write(speech / f"noise{number}.wav", noise, 16000)


def with_options(words, options):
    """A command with some options set, whether it names them or not (twice is an error)."""
    words = list(words)
    for name, value in options.items():
        if name in words:
            words[words.index(name) + 1] = value
        else:
            words += [name, value]
    return words


def distinct_trainings(grid):
    """Names of pretraining and distillation cells, one for each configuration."""
    seen, names = set(), []
    for name, cell in grid.cells.items():
        if cell.folder.startswith("recipes/LSSED"):
            words = with_options(cell.command, {"--seed": "0", "--output_folder": ""})
            if tuple(words) not in seen:
                seen.add(tuple(words))
                names.append(name)
    return names


def train(cell, work):
    """One step by the recipe's own command; raises where it fails. What ran before is kept."""
    out = work / "cells" / cell.name
    if (out / "export" / "model.safetensors").is_file():
        return
    shutil.rmtree(out, ignore_errors=True)
    words = with_options(cell.command, {**STEP, "--teacher": str(work / "large")})
    words = [w.replace("{work}", str(work)).replace("{lssed}", str(work / "speech")) for w in words]
    done = subprocess.run(
        [sys.executable, *words[1:]],
        cwd=ROOT / cell.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode or not (out / "export" / "model.safetensors").is_file():
        raise RuntimeError(f"{cell.name}: exit status {done.returncode}\n{done.stdout[-3000:]}")
    shutil.rmtree(out / "save", ignore_errors=True)


def head_step(path, states, lengths):
    """One step of the head of a YAML on (2, L+1, T, D) states; its loss."""
    overrides = {"num_states": states.shape[1], "input_dim": states.shape[3], "checkpointer": None}
    placeholders = {"data_folder": "-", "encoder": "-", "train_logger": None}
    with open(path[0], encoding="utf-8") as file:
        keys = {**overrides, **placeholders, "mix": path[1]}
        hparams = load_hyperpyyaml(file, keys)
    with quiet_speechbrain():
        brain = new_brain(EmotionBrain, hparams, {"device": "cpu"})
        brain.on_fit_start()
        brain.step = brain.steps_per_epoch = 1
        brain.on_stage_start(Stage.TRAIN, epoch=1)
    targets = torch.tensor([0, 1])
    if path[2] == "superb":
        states = torch.stack([masked_mean(s, lengths) for s in states.unbind(1)], 1)
        lengths = None
    loss = brain.fit_batch(StatesBatch(states, targets, lengths))
    if not torch.isfinite(loss):
        raise RuntimeError(f"{path}: loss {loss}")
    return float(loss)


def head_configurations(settings):
    """(model, corpus, head, mix, YAML) of every kind of emotion run."""
    for model in [*settings["teachers"], *settings["pretrain"]["models"]]:
        for corpus in settings["corpora"]:
            for head, mix, _ in READOUTS:
                config = settings["emotion"]["configs"][head]
                config = config[model] if isinstance(config, dict) else config
                yield (
                    model,
                    corpus,
                    head,
                    mix,
                    (ROOT / f"recipes/{corpus}/emotion/hparams/{config}.yaml"),
                )


def crop_of(path):
    """Seconds of the crops that a YAML takes."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return float(next(line for line in lines if line.startswith("crop_seconds:")).split()[1])


def heads(settings, folders, bar):
    """A step of every head on the states of every model."""
    encoder, states, current = None, None, None
    for model, corpus, head, mix, path in head_configurations(settings):
        if current != (model, corpus):
            encoder = encoder if current and current[0] == model else load_encoder(folders[model])
            current, samples = (model, corpus), int(16000 * crop_of(path))
            with torch.no_grad():
                out = encoder(torch.randn(2, samples) * 0.1, torch.tensor([1.0, 0.6]))
            states = torch.stack(out.states, 1)  # (2, L+1, T, D)
        bar.set_description(f"{corpus} {model} {head} {mix}")
        head_step((path, mix, head), states, out.lengths)
        bar.update()


def main(argv=None):
    """The command; 0, or 1 with the name of what failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    work = parser.parse_args(argv).work.resolve()
    settings, began = read_size("full"), time.perf_counter()
    grid = Grid(settings)
    names, kinds = distinct_trainings(grid), list(head_configurations(settings))
    random_weights(work)
    try:
        with tqdm(total=len(names) + len(kinds), unit="step") as bar:
            for name in names:
                bar.set_description(name)
                train(grid.cells[name], work)
                bar.update()
            folders = {"large": work / "large", "base": work / "base"}
            seed = settings["pretrain"]["first_seed"]
            for model in settings["pretrain"]["models"]:
                folders[model] = work / f"cells/{model}-guided-{seed}/export"
            heads(settings, folders, bar)
    except RuntimeError as error:
        print(f"one step: error: {error}", file=sys.stderr)
        return 1
    shutil.rmtree(work)
    minutes = (time.perf_counter() - began) / 60
    print(f"one step: {len(names)} trainings, {len(kinds)} heads, all well, {minutes:.0f} minutes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
