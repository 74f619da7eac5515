#!/usr/bin/env python3
"""Fine-tuning at IEMOCAP's size: one pass of a frozen Vesper-4, then heads on cached means.

    python benchmarks/finetune.py [--sample 16] [--json OUT]

5,531 utterances of 6.5 s, 5 folds by session, 50 epochs, SUPERB head, one seed. The heads are
trained in full, by the cells of `recipes/IEMOCAP/emotion` (`vesper4.yaml`, Table I), on invented
means of the true size: the time of an epoch does not depend on what the numbers are. The pass of
the encoder is measured on a sample of noise with random weights and multiplied by 5,531 / sample.

The peer is the same training with the encoder run on every utterance whenever it is used, as in
the usual loop: its time is computed, not measured, from the pass's.

For heads on frames: a batch of 32 read from the cache on disk (warm) beside a training step of the
fastest of them, ShiftFormer, on it.

Checked first: the head on cached means has the outputs and gradients of the head on frames.
"""

import argparse
import contextlib
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import speechbrain as sb
import torch
from timing import alternate, machine, spread, without_list, write_json
from tqdm import tqdm

from vesper_lobes.cell_pool import CellTask, train_cells
from vesper_lobes.config import EncoderConfig
from vesper_lobes.emotion_brain import EmotionBrain
from vesper_lobes.emotion_cells import Corpus, Fold
from vesper_lobes.encoder import Encoder
from vesper_lobes.feature_cache import PooledStateCache
from vesper_lobes.frame_cache import FrameStateCache
from vesper_lobes.heads import SuperbHead
from vesper_lobes.pooling import LayerMix, masked_mean
from vesper_lobes.shiftformer import ShiftFormerHead

ROOT = Path(__file__).resolve().parents[1]
YAML = ROOT / "recipes" / "IEMOCAP" / "emotion" / "hparams" / "vesper4.yaml"
CLASSES = {"ang": 1103, "neu": 1708, "hap": 1636, "sad": 1084}  # IEMOCAP's 5,531
SESSIONS, SECONDS, EPOCHS = 5, 6.5, 50


def invented_corpus(utterances, num_states, dim):
    """A corpus of IEMOCAP's shares of classes, and means of states that tell a little of them.

    Returns
    -------
    Corpus, torch.Tensor (N, L+1, D)
    """
    random = np.random.default_rng(0)
    total = sum(CLASSES.values())
    shares = [count / total for count in CLASSES.values()]
    emotions = random.choice(list(CLASSES), utterances, p=shares)
    sessions = np.arange(utterances) % SESSIONS
    frame = pd.DataFrame({"ID": [f"u{n:05d}" for n in range(utterances)], "emotion": emotions})
    frame["speaker"] = [f"s{session}" for session in sessions]
    frame["dialogue"] = frame["session"] = frame["speaker"]
    ids = [list(frame["ID"][sessions == session]) for session in range(SESSIONS)]
    folds = []
    for test in range(SESSIONS):  # IEMOCAP's protocol B: test a session, dev the next
        dev = (test + 1) % SESSIONS
        train = [name for k in range(SESSIONS) if k not in (test, dev) for name in ids[k]]
        folds.append(Fold(test + 1, train, ids[dev], ids[test]))
    corpus = Corpus(frame, list(CLASSES), folds)
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(len(CLASSES), num_states, dim, generator=generator)
    states = torch.randn(utterances, num_states, dim, generator=generator)
    return corpus, states + 0.05 * means[corpus.targets]


def seconds_of_heads(corpus, states, epochs, folder):
    """Seconds of all folds' cells and of each: training, scoring, writing; as the recipe does."""
    run_opts = sb.parse_arguments([str(YAML), "--device", "cpu"])[1]
    sizes = {"num_states": states.shape[1], "input_dim": states.shape[2]}
    fixed = {"data_folder": "", "encoder": "", "output_folder": str(folder), "export": None}
    tasks = [
        CellTask(
            {**fixed, **sizes, "seed": 1986, "fold": fold.number, "number_of_epochs": epochs},
            *(fold, f"{folder}/fold{fold.number}", "key"),
        )
        for fold in corpus.folds
    ]
    steps = epochs * len(corpus.folds[0].train) // 32  # 32: the YAML's batches
    began = time.perf_counter()
    cells = train_cells(EmotionBrain, str(YAML), run_opts, states, corpus, tasks, steps, folder)
    with contextlib.closing(cells):
        seconds = [cell["seconds"] for cell in tqdm(cells, "heads", len(tasks), unit="fold")]
    return time.perf_counter() - began, seconds


def seconds_of_pass(encoder, sample, seconds, folder):
    """Seconds an utterance takes through the cache that recipes fill, reading and hashing too."""
    rows = write_noise(folder, sample, seconds)
    cache = PooledStateCache(encoder, f"{folder}/states", crop_seconds=seconds, progressbar=False)
    began = time.perf_counter()
    cache.fill(pd.DataFrame(rows))
    return (time.perf_counter() - began) / sample


def write_noise(folder, count, seconds):
    """Files of noise; their rows."""
    random, rows = np.random.default_rng(0), []
    for number in range(count):
        wav = f"{folder}/{number}.wav"
        soundfile.write(wav, 0.1 * random.standard_normal(round(seconds * 16000)), 16000)
        rows.append({"ID": str(number), "wav": wav, "start": 0, "stop": -1, "duration": seconds})
    return rows


def frames_beside_head(encoder, seconds, folder, batch):
    """Seconds of reading a batch of frames and of the head's step on it, in turn."""
    rows = pd.DataFrame(write_noise(folder, batch, seconds))
    cache = FrameStateCache(encoder, f"{folder}/frames", crop_seconds=seconds, progressbar=False)
    cache.fill(rows)
    mix, head = LayerMix(cache.num_states), ShiftFormerHead(encoder.hidden_size, len(CLASSES))
    parameters = [*mix.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    targets = torch.arange(batch) % len(CLASSES)
    states, lengths = cache.batch(list(rows["ID"]))

    def step():
        logits = head(mix(states.float()), lengths)
        torch.nn.functional.cross_entropy(logits, targets).backward()
        optimizer.step(), optimizer.zero_grad()

    work = {"reading": lambda: cache.batch(list(rows["ID"])), "step": step}
    times = alternate(work, repeats=7)
    return {name: without_list(seconds) for name, seconds in times.items()}


def check_equal(encoder):
    """Head and mix on frames against those on cached means: relative differences.

    Raises
    ------
    AssertionError
        Beyond 1e-5 in outputs or 1e-4 in gradients.
    """
    torch.manual_seed(0)
    wavs, relative = torch.randn(3, 16000), torch.tensor([1.0, 0.7, 0.4])
    with torch.no_grad():
        states, lengths = encoder(wavs, relative)
    mix = LayerMix(len(states))
    head = SuperbHead(encoder.hidden_size, len(CLASSES), 256)
    framewise = torch.nn.functional.linear(  # the order the SUPERB head is defined in
        mix(states), head.projector.weight, head.projector.bias
    )
    on_frames = head.classifier(masked_mean(framewise, lengths))
    pooled = torch.stack([masked_mean(state, lengths) for state in states], dim=1)
    on_means = head(mix(pooled))
    parameters = [*mix.parameters(), *head.parameters()]
    target = torch.tensor([0, 1, 2])
    first, second = (
        torch.autograd.grad(torch.nn.functional.cross_entropy(logits, target), parameters)
        for logits in (on_frames, on_means)
    )
    found = {
        "outputs": relative_difference(on_means, on_frames),
        "gradients": max(map(relative_difference, second, first)),
    }
    assert found["outputs"] < 1e-5 and found["gradients"] < 1e-4, found
    return found


def relative_difference(ours, exact):
    """max |a - b| / max |b|."""
    return float((ours - exact).detach().abs().max() / exact.detach().abs().max())


def measure(utterances=5531, sample=16, epochs=EPOCHS, seconds=SECONDS, small=False):
    """All figures, as a dict."""
    torch.manual_seed(0)
    size = EncoderConfig.mini_large if small else EncoderConfig.wavlm_large
    encoder = Encoder(size(num_hidden_layers=4)).freeze()
    differences = check_equal(encoder)
    corpus, states = invented_corpus(utterances, encoder.num_layers + 1, encoder.hidden_size)
    with tempfile.TemporaryDirectory() as folder:
        per_utterance = seconds_of_pass(encoder, sample, seconds, folder)
        frames = frames_beside_head(encoder, seconds, folder, 4 if small else 32)
        heads, folds = seconds_of_heads(corpus, states, epochs, folder)
    one_pass = per_utterance * utterances
    # each fold: train and dev in every epoch, test once
    uses = sum(epochs * (len(f.train) + len(f.dev)) + len(f.test) for f in corpus.folds)
    passes = uses / utterances
    cached, repeated = one_pass + heads, passes * one_pass + heads
    return {
        "setting": f"{utterances:,} utterances of {seconds:g} s, {SESSIONS} folds x {epochs} "
        f"epochs, {encoder.num_layers + 1} states of {encoder.hidden_size}",
        "machine": machine(),
        "sample": sample,
        "relative_differences": differences,
        "states_mb": states.numel() * 4 / 1e6,
        "encoder_pass_seconds": {"per_utterance": per_utterance, "extrapolated": one_pass},
        "heads_seconds": heads,
        "fold_seconds": without_list(spread(folds)),
        "frames_seconds": frames,
        "passes_saved": passes,
        "total_seconds": {"cached": cached, "encoder_every_time_extrapolated": repeated},
        "ratio": repeated / cached,
    }


def show(result):
    """Print the figures."""
    encoder, fold = result["encoder_pass_seconds"], result["fold_seconds"]
    total = result["total_seconds"]
    print(result["setting"])
    print(f"states kept                       {result['states_mb']:8.0f} MB")
    print(
        f"one pass of the encoder           {encoder['extrapolated']:8.0f} s, from "
        f"{result['sample']} utterances of {encoder['per_utterance']:.2f} s each"
    )
    print(
        f"all heads, measured in full       {result['heads_seconds']:8.1f} s, a fold "
        f"{fold['median']:.1f} [{fold['min']:.1f}, {fold['max']:.1f}]"
    )
    print(f"together                          {total['cached']:8.0f} s")
    print(
        f"with the encoder run every time   {total['encoder_every_time_extrapolated']:8.0f} s, "
        f"computed: {result['passes_saved']:.0f} passes"
    )
    print(f"ratio                             {result['ratio']:8.0f}")
    reading, step = (result["frames_seconds"][name]["median"] for name in ("reading", "step"))
    print(
        f"heads on frames: a batch of 32 read in {1000 * reading:.0f} ms, a step takes "
        f"{1000 * step:.0f} ms"
    )
    found = result["relative_differences"]
    print(f"equal to frames: outputs {found['outputs']:.1e}, gradients {found['gradients']:.1e}")


def main(arguments=None):
    """Check, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sample", type=int, default=16, help="utterances through the encoder")
    parser.add_argument("--small", action="store_true", help="tiny sizes: shows that it runs")
    parser.add_argument("--json", default=None)
    options = parser.parse_args(arguments)
    sizes = {"utterances": 50, "epochs": 2, "seconds": 1.0, "small": True} if options.small else {}
    result = measure(sample=options.sample, **sizes)
    show(result)
    if options.json:
        write_json(options.json, result)


if __name__ == "__main__":
    main()
