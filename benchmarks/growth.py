#!/usr/bin/env python3
"""How time and memory grow: with an utterance's length, a batch's size and a corpus's rows.

    python benchmarks/growth.py [--small] [--json OUT]  # and a plot beside it, OUT with .png

Each point is a fresh process. Time is the median of up to seven passes (fewer where they take long:
the count is in the JSON). Memory is the highest resident memory during the passes above what the
process held before them (libraries, weights, what the fast path makes of the weights in a first
pass over one second), read from Linux's own counter.

length    one utterance of 1 to 60 s, whole, through a mini encoder and Vesper-4 (random weights)
batch     4 and 16 utterances of 5 s
windows   long audio as `vesper_lobes.long_audio` hears it, one and ten minutes
corpus    a manifest of so many rows: read, checked, made into a training set

Also how far windows move the pooled states of one minute from the whole pass, by context.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from timing import machine, seconds_of, write_json
from tqdm import tqdm

from vesper_lobes.config import EncoderConfig
from vesper_lobes.encoder import Encoder
from vesper_lobes.lengths import SAMPLE_RATE
from vesper_lobes.long_audio import pool_long
from vesper_lobes.pooling import masked_mean

ROOT = Path(__file__).resolve().parents[1]
MODELS = {
    "mini": lambda: EncoderConfig.mini_large(num_hidden_layers=6),
    "Vesper-4": lambda: EncoderConfig.wavlm_large(num_hidden_layers=4),
}
LENGTHS, BATCHES, WINDOWED = (1, 5, 15, 30, 60), (4, 16), (60, 600)
ROWS = (1_000, 10_000, 100_000)
REPEATS, PATIENCE = 7, 5.0  # passes of a point; seconds after which no further one is begun
CONTEXTS = (0.0, 2.0, 5.0)


def points(small=False):
    """All points: dicts of kind, model, seconds, batch or rows."""
    if small:
        one = {"kind": "length", "model": "mini", "seconds": 1, "batch": 1}
        windows = {"kind": "windows", "model": "mini", "seconds": 2, "batch": 1}
        return [one, {**one, "kind": "batch", "batch": 2}, windows, {"kind": "corpus", "rows": 50}]
    made = []
    for model in MODELS:
        made += [{"kind": "length", "model": model, "seconds": s, "batch": 1} for s in LENGTHS]
        made += [{"kind": "batch", "model": model, "seconds": 5, "batch": b} for b in BATCHES]
    made += [{"kind": "windows", "model": "mini", "seconds": s, "batch": 1} for s in WINDOWED]
    made += [{"kind": "windows", "model": "Vesper-4", "seconds": 60, "batch": 1}]
    return made + [{"kind": "corpus", "rows": rows} for rows in ROWS]


def memory_mb(field):
    """A line of /proc/self/status in MB: VmRSS now, VmHWM the highest so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1000
    raise ValueError(f"no {field} in /proc/self/status")


def forget_peak():
    """Let VmHWM start from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def work_of(point, folder):
    """What a point times, as a function."""
    if point["kind"] == "corpus":
        return corpus_work(point["rows"], folder)
    torch.manual_seed(0)
    encoder = Encoder(MODELS[point["model"]]()).freeze()
    wavs = torch.randn(point["batch"], round(point["seconds"] * SAMPLE_RATE))
    with torch.no_grad():
        encoder(wavs[:1, :SAMPLE_RATE])
    if point["kind"] == "windows":
        return lambda: pool_long(encoder, wavs[0])

    def forward():
        with torch.no_grad():
            states, lengths = encoder(wavs)
            return [masked_mean(state, lengths) for state in states]

    return forward


def corpus_work(count, folder):
    """Manifest to training set, on rows as long as LSSED's."""
    from data_prep.manifest import read_manifest, write_manifest
    from vesper_lobes.pretrain_data import CropReader, crop_dataset, drop_short

    path = Path(folder) / "manifest.csv"
    names = (f"speaker{n % 820:03d}/video{n // 200:06d}_{n:08d}" for n in range(count))
    write_manifest(
        [
            {"ID": n, "wav": f"$data_root/{n}.wav", "duration": 5.04, "start": 0, "stop": -1}
            | {"split": "train", "corpus": "LSSED"}
            for n in names
        ],
        path,
    )

    def prepare():
        rows, _ = drop_short(read_manifest(path, data_root="/data"))
        return crop_dataset(rows, CropReader(5.0, seed=0))

    return prepare


def measure_point(point):
    """Seconds and MB of a point; to be called in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        work = work_of(point, folder)
        before = memory_mb("VmRSS")
        forget_peak()
        began, seconds = time.perf_counter(), []
        while len(seconds) < REPEATS and (
            not seconds or time.perf_counter() - began < PATIENCE - seconds[-1]
        ):
            seconds.append(seconds_of(work))
        peak = memory_mb("VmHWM")
    return {
        **point,
        "seconds_taken": statistics.median(seconds),
        "passes": len(seconds),
        "memory_mb": peak - before,
        "process_mb": peak,
    }


def in_fresh_process(point):
    """`measure_point` in a process of its own."""
    command = [sys.executable, __file__, "--point", json.dumps(point)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{point}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


@torch.no_grad()
def window_differences(model, seconds=60.0, window=30.0):
    """Largest relative difference of pooled states from the whole pass, by seconds of context.

    Noise in bursts that grow louder; random weights, which attend far and wide: trained ones look
    nearer. Relative to the largest pooled value of each state, the worst state.
    """
    torch.manual_seed(0)
    encoder = Encoder(MODELS[model]()).freeze()
    clock = torch.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    wav = torch.randn(len(clock)) * (0.1 + torch.sin(9 * clock) ** 2) * (0.2 + clock / seconds)
    states, lengths = encoder(wav.unsqueeze(0))
    whole = torch.stack([masked_mean(state, lengths)[0] for state in states])
    scale = whole.abs().amax(1, keepdim=True)
    found = {}
    for context in CONTEXTS:
        ours = pool_long(encoder, wav, window_seconds=window, context_seconds=context)
        found[f"{context:g}"] = float(((ours - whole).abs() / scale).max())
    return found


def measure(small=False):
    """All figures, as a dict."""
    rows = [in_fresh_process(point) for point in tqdm(points(small), desc="growth", unit="point")]
    sizes = {"seconds": 4.0, "window": 2.0} if small else {}
    models = ["mini"] if small else list(MODELS)
    return {
        "machine": machine(),
        "rows": rows,
        "windows_against_whole": {model: window_differences(model, **sizes) for model in models},
    }


def show(result):
    """Print the table."""
    print(f"{'':<8} {'model':<9} {'s':>5} {'batch':>5} {'rows':>8} {'took s':>8} {'MB':>8}")
    for row in result["rows"]:
        cells = (row.get("seconds", ""), row.get("batch", ""), row.get("rows", ""))
        print(
            f"{row['kind']:<8} {row.get('model', ''):<9} {cells[0]:>5} {cells[1]:>5} {cells[2]:>8} "
            f"{row['seconds_taken']:8.3f} {row['memory_mb']:8.0f}"
        )
    for model, found in result["windows_against_whole"].items():
        words = ", ".join(f"{context} s {100 * d:.2f} %" for context, d in found.items())
        print(f"{model}: windows move the pooled states of a minute by, with context of: {words}")


def is_single(row, model):
    """Whether a point is one utterance of a batch's length."""
    return row["kind"] == "length" and row["model"] == model and row["seconds"] == 5


def draw(result, path):
    """Time and memory over length, batch and corpus, as a PNG."""
    sys.path.insert(0, str(ROOT / "recipes"))
    import drawing
    import matplotlib
    from matplotlib import pyplot as plt

    axes_of = {"length": "seconds", "batch": "batch", "corpus": "rows"}
    names = {"seconds": "utterance, s", "batch": "batch of 5 s", "rows": "rows of a manifest"}
    marks = {"mini": (drawing.LIGHT.blue, "o-"), "Vesper-4": (drawing.LIGHT.orange, "s--")}
    with matplotlib.rc_context(drawing.style(drawing.LIGHT)):
        figure, axes = plt.subplots(2, 3, figsize=(9, 5), layout="constrained")
        for column, (kind, across) in enumerate(axes_of.items()):
            found = [row for row in result["rows"] if row["kind"] == kind]
            for model in dict.fromkeys(row.get("model") for row in found):
                line = [row for row in found if row.get("model") == model]
                if kind == "batch":  # the batch of one stands among the lengths
                    line = [r for r in result["rows"] if is_single(r, model)] + line
                colour, mark = marks.get(model, (drawing.LIGHT.green, "^-"))
                for axis, value in zip(
                    axes[:, column], ("seconds_taken", "memory_mb"), strict=True
                ):
                    pairs = [row[across] for row in line], [row[value] for row in line]
                    axis.plot(*pairs, mark, color=colour, label=model)
                    axis.set(xscale="log", yscale="log", xlabel=names[across])
                    axis.set_xticks(pairs[0], [f"{value:,}" for value in pairs[0]])
                    axis.minorticks_off()
                    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes[0, 0].set_ylabel("seconds")
        axes[1, 0].set_ylabel("memory of the pass, MB")
        axes[0, 0].legend()
        drawing.write_png(figure, path)


def main(arguments=None):
    """Measure, print, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="tiny sizes: shows that it runs")
    parser.add_argument("--json", default=None)
    parser.add_argument("--point", help=argparse.SUPPRESS)  # of `in_fresh_process`
    options = parser.parse_args(arguments)
    if options.point:
        print(json.dumps(measure_point(json.loads(options.point))))
        return
    result = measure(options.small)
    show(result)
    if options.json:
        write_json(options.json, result)
        draw(result, Path(options.json).with_suffix(".png"))


if __name__ == "__main__":
    main()
