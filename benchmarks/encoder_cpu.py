#!/usr/bin/env python3
"""Encoder forward passes on a CPU, all states returned, beside the peers that people use.

    python benchmarks/encoder_cpu.py [--model vesper4] [--threads 2] [--repeats 7] [--json OUT]

Random weights, written as a folder that every peer opens; random waveforms; all in one process and
in turn (`timing.alternate`), so that a ratio is formed within a round.

transformers   WavLMModel with output_hidden_states, in float32 (what ratios refer to) and under
               bfloat16 autocast
SpeechBrain    its WavLM lobe around the same folder, float32
plain          our encoder with ``fast = False``, both precisions
fast           our encoder as it is, both precisions
int8           `vesper_lobes.int8`: linear layers on 8-bit integers, the rest float32 or bfloat16

Before the timing, every candidate's states are compared with transformers' in float32: largest
difference over the largest entry, the worst state. More than 1e-5 (float32) or 1e-2 (our fast
bfloat16) ends with exit code 1. For int8 the error is what it costs.

GFLOP/s are two operations for each multiply-accumulate of the network as defined, whatever the
candidate does to need fewer; the peak is that of a large matrix product in the same process. Two
breakdowns show where the time goes: by part of the network, and by kind of operation.
"""

import argparse
import contextlib
import tempfile
import time
from pathlib import Path

import torch
from timing import alternate, machine, matrix_product_peak, print_rows, ratio_rows, write_json
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import WavLMModel
from transformers.utils import logging as transformers_logging

from vesper_lobes import encoder as encoder_module
from vesper_lobes import fast_layers
from vesper_lobes.checkpoints import save_encoder
from vesper_lobes.config import EncoderConfig
from vesper_lobes.conv import normalize_waveform
from vesper_lobes.encoder import Encoder
from vesper_lobes.int8 import megabytes, quantize_int8
from vesper_lobes.lengths import SAMPLE_RATE

MODELS = {
    "mini": lambda: EncoderConfig.mini_large(num_hidden_layers=2),
    "vesper4": lambda: EncoderConfig.wavlm_large(num_hidden_layers=4),
    "vesper12": lambda: EncoderConfig.wavlm_large(num_hidden_layers=12),
    "large": lambda: EncoderConfig.wavlm_large(),
}
REFERENCE = "transformers fp32"
PROMISED = {"plain fp32": 1e-5, "fast fp32": 1e-5, "fast bf16": 1e-2}
PARTS = ("conv front end", "positional conv", "attention", "feed-forward")
KINDS = {
    "matrix products": ("mm", "addmm", "addmm_", "bmm", "baddbmm", "_linear_pointwise")
    + ("mkldnn_convolution", "linear_dynamic", "mkldnn_linear"),
    "attention kernel": ("_scaled_dot_product_flash_attention_for_cpu",),
    "GELU": ("gelu", "gelu_"),
    "LayerNorm": ("native_layer_norm",),
    "Fourier transforms": ("_fft_r2c", "_fft_c2r"),
    "softmax": ("_softmax",),
    "copies": ("copy_", "cat", "flip", "clone"),
}


def build(model, folder):
    """Our encoder and the two peers around one folder of random weights."""
    from speechbrain.integrations.huggingface.wavlm import WavLM

    torch.manual_seed(0)
    encoder = Encoder(MODELS[model]()).eval()
    save_encoder(encoder, folder)
    transformers_logging.disable_progress_bar()
    peer = WavLMModel.from_pretrained(folder).eval()
    lobe = WavLM(
        str(folder), str(Path(folder) / "speechbrain"), freeze=True, output_all_hiddens=True
    )
    return encoder.freeze(), peer, lobe.eval()


def make_candidates(encoder, peer, lobe, wavs):
    """Name -> function that returns all states, raw outputs of the layers."""
    normal = normalize_waveform(wavs, torch.full((len(wavs),), wavs.shape[1]))
    small = quantize_int8(encoder)

    def half(work):
        def run():
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return work()

        return run

    def plain():
        encoder.fast = False
        try:
            return encoder(wavs).states
        finally:
            encoder.fast = True

    def transformers():
        return peer(normal, output_hidden_states=True).hidden_states

    return {
        REFERENCE: transformers,
        "transformers bf16": half(transformers),
        "SpeechBrain fp32": lambda: lobe(wavs),
        "plain fp32": plain,
        "plain bf16": half(plain),
        "fast fp32": lambda: encoder(wavs).states,
        "fast bf16": half(lambda: encoder(wavs).states),
        "int8 fp32": lambda: small(wavs).states,
        "int8 bf16": half(lambda: small(wavs).states),
    }


def errors(candidates):
    """Of each candidate against the first: largest difference over largest entry, worst state."""
    reference = candidates[REFERENCE]()
    found = {}
    for name, work in candidates.items():
        pairs = zip(work(), reference, strict=True)
        found[name] = max(((a.float() - b).abs().max() / b.abs().max()).item() for a, b in pairs)
    return found


def count_flops(encoder, wavs):
    """Two for each multiply-accumulate of the network as defined, attention's products included."""
    with torch.device("meta"):
        shadow = Encoder(encoder.config).eval()
    with FlopCounterMode(display=False) as counter:
        shadow(torch.empty(wavs.shape, device="meta"))
    return counter.get_total_flops()


def parts_of_modules(model, work):
    """Share of each of `PARTS` in ``work()``, timed by hooks (ours take the plain path then)."""
    above = model.encoder
    modules = [
        ("conv front end", model.feature_extractor),
        ("positional conv", above.pos_conv_embed),
    ]
    modules += [("attention", layer.attention) for layer in above.layers]
    modules += [("feed-forward", layer.feed_forward) for layer in above.layers]
    clock, handles = Clock(), []
    for part, module in modules:
        handles.append(module.register_forward_pre_hook(lambda *_, p=part: clock.start(p)))
        handles.append(module.register_forward_hook(lambda *_, p=part: clock.stop(p)))
    try:
        return clock.shares(work)
    finally:
        for handle in handles:
            handle.remove()


def parts_of_fast_path(work):
    """The same for the fast path, whose parts are functions."""
    clock = Clock()
    functions = [
        ("conv front end", encoder_module, "front_end_features"),
        ("positional conv", fast_layers, "positions"),
        ("attention", fast_layers, "attention_output"),
        ("feed-forward", fast_layers, "feed_forward_output"),
    ]
    with contextlib.ExitStack() as stack:
        for part, module, name in functions:
            original = getattr(module, name)
            stack.callback(setattr, module, name, original)

            def timed(*args, _original=original, _part=part):
                clock.start(_part)
                try:
                    return _original(*args)
                finally:
                    clock.stop(_part)

            setattr(module, name, timed)
        return clock.shares(work)


class Clock:
    """Adds up seconds by part."""

    def __init__(self):
        self.seconds, self.began = dict.fromkeys((*PARTS, "whole"), 0.0), {}

    def start(self, part):
        self.began[part] = time.perf_counter()

    def stop(self, part):
        self.seconds[part] += time.perf_counter() - self.began[part]

    def shares(self, work, passes=3):
        """Shares of ``work()`` by part, and the rest."""
        for _ in range(passes):
            self.start("whole")
            work()
            self.stop("whole")
        shares = {part: self.seconds[part] / self.seconds["whole"] for part in PARTS}
        return {**shares, "rest": 1 - sum(shares.values())}


def kinds_of_operations(work):
    """Share of each of `KINDS` in the time that operations take, and the rest."""
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as record:
        work()
    times = {event.key.split("::")[-1]: 0.0 for event in record.key_averages()}
    for event in record.key_averages():
        times[event.key.split("::")[-1]] += event.self_cpu_time_total
    whole = sum(times.values())
    shares = {kind: sum(times.get(n, 0.0) for n in names) / whole for kind, names in KINDS.items()}
    return {**shares, "rest": 1 - sum(shares.values())}


def print_shares(title, columns):
    """Columns of shares (name -> {row: share}) as a table in per cent."""
    rows = next(iter(columns.values()))
    print(f"{title:<20}" + "".join(f"{name:>19}" for name in columns))
    for row in rows:
        print(f"{row:<20}" + "".join(f"{100 * column[row]:18.1f}%" for column in columns.values()))


def measure(models, batch, options, peaks):
    """One batch size: rows with times, ratios, errors and shares of the peak, and breakdowns."""
    encoder, peer, lobe = models
    wavs = torch.randn(batch, round(options.seconds * SAMPLE_RATE))
    candidates = make_candidates(encoder, peer, lobe, wavs)
    wrong = errors(candidates)
    rows = ratio_rows(alternate(candidates, options.repeats), REFERENCE)
    operations = count_flops(encoder, wavs)
    for row in rows:
        speed = operations / row["seconds"]["median"] / 1e9
        peak = peaks["bf16" if "bf16" in row["name"] else "fp32"]
        row.update(error=wrong[row["name"]], gflops=speed, share_of_peak=speed / peak)
    parts = {
        REFERENCE: parts_of_modules(peer, candidates[REFERENCE]),
        "plain fp32": parts_of_modules(encoder, candidates["fast fp32"]),
        "fast fp32": parts_of_fast_path(candidates["fast fp32"]),
        "fast bf16": parts_of_fast_path(candidates["fast bf16"]),
    }
    kinds = {name: kinds_of_operations(candidates[name]) for name in parts}
    return {"batch": batch, "gflop": operations / 1e9, "rows": rows, "parts": parts, "kinds": kinds}


def report(case, seconds):
    """Print one batch size's tables."""
    print(f"\nbatch {case['batch']} x {seconds:g} s, {case['gflop']:.1f} GFLOP")
    print_rows(case["rows"])
    for row in case["rows"]:
        share = f"{100 * row['share_of_peak']:4.0f} % of peak" if "int8" not in row["name"] else ""
        print(f"{row['name']:<18} error {row['error']:.1e}  {row['gflops']:7.1f} GFLOP/s {share}")
    print_shares("time by part", case["parts"])
    print_shares("by operation", case["kinds"])


def broken_promises(cases):
    """Sentences about candidates that err by more than they may."""
    return [
        f"{row['name']} at batch {case['batch']} errs by {row['error']:.1e}, not {limit:g}"
        for case in cases
        for row in case["rows"]
        if row["error"] > (limit := PROMISED.get(row["name"], float("inf")))
    ]


def main(arguments=None):
    """Build, compare, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=MODELS, default="vesper4")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each utterance")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", default=None)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16}
    with tempfile.TemporaryDirectory() as folder:
        models = build(options.model, folder)
    peaks = {name: matrix_product_peak(dtype) for name, dtype in dtypes.items()}
    result = {"machine": machine(), "model": options.model, "seconds": options.seconds}
    result["peak_gflops"] = peaks
    sizes = {"float32": megabytes(models[0]), "int8": megabytes(quantize_int8(models[0]))}
    result["weights_mb"] = sizes
    print(result["machine"], "peaks in GFLOP/s:", {k: round(v) for k, v in peaks.items()})
    print("weights in MB:", {name: round(size) for name, size in sizes.items()})
    result["cases"] = []
    for batch in options.batch:
        result["cases"].append(measure(models, batch, options, peaks))
        report(result["cases"][-1], options.seconds)
    if options.json:
        write_json(options.json, result)
    if broken := broken_promises(result["cases"]):
        raise SystemExit("\n".join(broken))


if __name__ == "__main__":
    main()
