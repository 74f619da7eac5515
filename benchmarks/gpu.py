#!/usr/bin/env python3
"""Pretraining and extraction on a GPU: time, throughput, memory, and the share of the card's peak.

    python benchmarks/gpu.py [--json OUT]                 # on a machine with a CUDA card
    python benchmarks/gpu.py --device cpu --small         # the same code, tiny, anywhere

Pretraining: the recipe's own step (`PretrainBrain.fit_batch`) from a teacher of WavLM Large's size
to Vesper-4 and Vesper-12, 32 crops of 5 s, random weights. Extraction: pooled states of 64 x 5 s.
Eager and compiled, with scaled_dot_product_attention and with flex_attention, whose score_mod adds
the gated position bias without storing it for each utterance; bf16 autocast, and float32 as the
reference that losses, gradients and states are compared with.

Model FLOPs: two for each multiply-accumulate of convolutions, linear layers and attention's two
products (`benchmarks/complexity.py`, "true"), once for front end and teacher, three times for the
student's trained part (forward, and backward for inputs and weights). Nothing recomputed or padded
counts. MFU is that, over time, over the card's dense bf16 peak as its maker states it; beside it
stands the share of what a large matrix product reaches in the same process.

flex_attention knows no dropout on attention weights, so its student trains without that one.
"""

import argparse
import copy
import functools
import sys
import tempfile
import types

import torch
from pretrain_step import difference, losses_and_gradients, make_brain
from speechbrain import Stage
from speechbrain.dataio.batch import PaddedBatch
from timing import alternate, machine, matrix_product_peak, seconds_of, write_json
from torch.nn.attention.flex_attention import flex_attention
from torch.utils.flop_counter import FlopCounterMode

from vesper_lobes.attention import SelfAttention
from vesper_lobes.config import EncoderConfig
from vesper_lobes.encoder import Encoder
from vesper_lobes.lengths import SAMPLE_RATE
from vesper_lobes.losses import VesperLosses
from vesper_lobes.pooling import masked_mean
from vesper_lobes.pretrain_brain import PretrainBrain
from vesper_lobes.pretrain_student import build_student
from vesper_lobes.teacher import Teacher

PEAK_TFLOPS = {  # dense bf16, as the makers' data sheets have it; the first name that fits counts
    "B200": 2250,
    "H200": 989,
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
    "A10": 125,
    "RTX 4090": 165,
}
NO_GPU = """\
There is no CUDA device here: the GPU form of this benchmark has NOT been run on this machine, and
nothing was measured. Its small form runs anywhere:
    python benchmarks/gpu.py --device cpu --small"""
TOLERANCES = {"fp32": {"losses": 1e-3, "gradients": 2e-2}, "bf16": {"losses": 3e-2}}
STATES_TOLERANCE = 0.02  # of extraction in bf16, relative to the largest pooled value of a state


def flex_forward(self, x, padding=None, bias=None, kernel=flex_attention):
    """`SelfAttention.forward` by flex_attention; no dropout on the attention weights."""
    batch, frames, dim = x.shape

    def split(projected):  # (B, T, D) -> (B, H, T, D/H)
        return projected.view(batch, frames, self.num_heads, self.head_dim).transpose(1, 2)

    gate = self.gate(x).squeeze(-1)  # (B, H, T)
    bias = bias.contiguous()  # (H, T, T), one for the whole batch

    def score_mod(score, b, h, q, k):
        score = score + gate[b, h, q] * bias[h, q, k]
        return score if padding is None else score + padding[b, 0, 0, k]

    q, k, v = split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x))
    out = kernel(q, k, v, score_mod=score_mod)
    return self.out_proj(out.transpose(1, 2).reshape(batch, frames, dim))


def use_flex(encoder, kernel):
    """Have an encoder attend by flex_attention; `kernel` is it, or it compiled."""
    for module in encoder.modules():
        if isinstance(module, SelfAttention):
            forward = functools.partial(flex_forward, kernel=kernel)
            module.forward = types.MethodType(lambda self, *a, f=forward: f(self, *a), module)
    return encoder


def compile_parts(encoder):
    """Compile, in place, what an encoder is made of."""
    for part in (encoder.feature_extractor, encoder.feature_projection, encoder.encoder):
        part.compile(dynamic=False)
    return encoder


def prepared(encoder, how, device):
    """An encoder to be run in one of the ways: eager or compiled, sdpa or flex."""
    encoder.fast = False  # a CPU's only
    if "flex" in how:
        # inside a compiled model the plain function is compiled with it
        bare = "compiled" in how or torch.device(device).type == "cpu"
        use_flex(encoder, flex_attention if bare else torch.compile(flex_attention, dynamic=False))
    return compile_parts(encoder) if "compiled" in how else encoder


def flops_of(work):
    """Two for each multiply-accumulate of what `work()` does on the meta device."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        work()
    return counter.get_total_flops()


def model_flops(teacher_config, student_config, batch, seconds):
    """FLOPs of a pretraining step and of an extraction pass of the student (dict)."""
    with torch.device("meta"):
        teacher, encoder = Encoder(teacher_config).eval(), Encoder(student_config).eval()
        losses = VesperLosses(encoder.hidden_size)
        wavs = torch.empty(batch, round(seconds * SAMPLE_RATE))
        features, lengths = encoder.cnn(wavs)
        frames = torch.empty(batch, features.shape[1], encoder.hidden_size)
    front_end = flops_of(lambda: encoder.cnn(wavs))
    taught = flops_of(lambda: teacher.encode(features, lengths, padded=False))
    trained = flops_of(lambda: encoder.encode(features, lengths, padded=False))
    predictors = flops_of(lambda: [p(frames) for p in losses.predictors.values()])
    return {
        "pretraining": front_end + taught + 3 * (trained + predictors),
        "extraction": front_end + trained,
    }


def waited(device, work, times=1):
    """`work` so many times, done when the device is."""

    def run():
        for _ in range(times):
            work()
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize(device)

    return run


def peak_memory(device, work):
    """GB that a run takes above weights and optimizer state; None on a CPU."""
    work()  # the optimizer's state is made in the first step
    if torch.device(device).type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before) / 1e9


def peaks(device, small=False):
    """FLOP/s in bf16: as stated by the maker (None if unknown), and of a large matrix product."""
    if torch.device(device).type != "cuda":
        size = 256 if small else 2048
        return {"stated": None, "matrix_product": 1e9 * matrix_product_peak(torch.bfloat16, size)}
    name = torch.cuda.get_device_name(device)
    stated = next((1e12 * peak for key, peak in PEAK_TFLOPS.items() if key in name), None)
    size = 8192
    a, b = torch.randn(2, size, size, device=device, dtype=torch.bfloat16)
    product = waited(device, lambda: a @ b, times=10)
    product()
    fastest = min(seconds_of(product) for _ in range(5)) / 10
    return {"stated": stated, "matrix_product": 2 * size**3 / fastest}


def rows_of(times, memory, flops, audio_seconds, steps, peak):
    """A row for each candidate: time, throughput, memory, model FLOP/s, shares of the peak."""
    rows = []
    for name, values in times.items():
        seconds = {key: values[key] / steps for key in ("median", "min", "max")}
        speed = flops / seconds["median"]
        rows.append(
            {
                "name": name,
                "seconds": seconds,
                "audio_hours_per_hour": audio_seconds / seconds["median"],
                "peak_memory_gb": memory[name],
                "tflops": speed / 1e12,
                "mfu": speed / peak["stated"] if peak["stated"] else None,
                "share_of_matrix_product": speed / peak["matrix_product"],
            }
        )
    return rows


def pretraining(size, device, ways, batch, seconds, rounds, steps, peak, folder):
    """Rows and differences of pretraining a student of `size` (teacher's, student's configs)."""
    teacher_config, student_config = size
    torch.manual_seed(0)
    encoder = Encoder(teacher_config)
    student = build_student(Teacher(encoder), student_config.num_hidden_layers)
    crops = {f"u{n}": torch.randn(round(seconds * SAMPLE_RATE)) for n in range(batch)}
    brains, differences, reference = {}, {}, None
    for way in ways:
        precision = "fp32" if "fp32" in way else "bf16"
        mine = Teacher(prepared(copy.deepcopy(encoder), way, device))
        brain = make_brain(PretrainBrain, mine, copy.deepcopy(student), precision, folder, device)
        prepared(brain.modules.student.encoder, way, device)
        brain.on_fit_start()
        brain.on_stage_start(Stage.TRAIN, epoch=1)
        found = losses_and_gradients(brain, crops)
        if reference is None:
            reference = found
        differences[way] = difference(found, reference)
        for part, limit in TOLERANCES[precision].items():
            assert differences[way][part] <= limit, (way, differences[way])
        brains[way] = brain
    batch_of = PaddedBatch([{"id": name, "sig": wav} for name, wav in crops.items()])
    if torch.device(device).type == "cuda":
        batch_of = batch_of.pin_memory()

    def step(brain):
        brain.step += 1
        brain.fit_batch(copy.copy(batch_of))  # moving a batch changes it

    work = {way: waited(device, functools.partial(step, b), steps) for way, b in brains.items()}
    memory = {way: peak_memory(device, one) for way, one in work.items()}
    times = alternate(work, rounds)
    flops = model_flops(teacher_config, student_config, batch, seconds)["pretraining"]
    return rows_of(times, memory, flops, batch * seconds, steps, peak), differences


@torch.no_grad()
def extraction(size, device, ways, batch, seconds, rounds, steps, peak):
    """Rows and differences of pooled states by a student of `size`."""
    torch.manual_seed(0)
    encoder = Encoder(size[1]).freeze()
    wavs = torch.randn(batch, round(seconds * SAMPLE_RATE), device=device)

    def pooled(encoder, half):
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=half):
            states, lengths = encoder(wavs)
        return torch.stack([masked_mean(state.float(), lengths) for state in states])

    work, differences, reference = {}, {}, None
    for way in ways:
        mine = prepared(copy.deepcopy(encoder).freeze(), way, device).to(device)
        one = functools.partial(pooled, mine, "fp32" not in way)
        found = one()
        reference = found if reference is None else reference
        scale = reference.abs().amax((1, 2))
        differences[way] = float(((found - reference).abs().amax((1, 2)) / scale).max())
        assert differences[way] <= STATES_TOLERANCE, (way, differences[way])
        work[way] = waited(device, one, steps)
    memory = {way: peak_memory(device, one) for way, one in work.items()}
    times = alternate(work, rounds)
    flops = model_flops(*size, batch, seconds)["extraction"]
    return rows_of(times, memory, flops, batch * seconds, steps, peak), differences


def sizes(small):
    """Teacher's and student's configurations by the student's name."""
    if small:
        tiny = {"num_attention_heads": 3, "attention_dropout": 0.0}
        teacher = EncoderConfig.mini_large(num_hidden_layers=4, **tiny)
        return {"mini": (teacher, EncoderConfig.mini_large(num_hidden_layers=2, **tiny))}
    large = EncoderConfig.wavlm_large()
    return {f"Vesper-{n}": (large, EncoderConfig.wavlm_large(num_hidden_layers=n)) for n in (4, 12)}


def ways_of(device, task):
    """Candidates, the reference first. A CPU has no backward of flex, and compiles for minutes."""
    if torch.device(device).type == "cuda":
        kinds = ("eager sdpa", "eager flex", "compiled sdpa", "compiled flex")
        return ["eager sdpa fp32", *(f"{kind} bf16" for kind in kinds)]
    both = ["eager sdpa fp32", "eager sdpa bf16"]
    return both + ["eager flex fp32"] if task == "extraction" else both


def measure(device="cuda", small=False, rounds=7):
    """All figures, as a dict."""
    peak = peaks(device, small)
    batch, seconds, steps = (2, 1.0, 1) if small else (32, 5.0, 5)
    result = {"machine": machine(), "peak_flops": peak, "tasks": []}
    with tempfile.TemporaryDirectory() as folder:
        for name, size in sizes(small).items():
            shared = (rounds, steps, peak)
            tasks = {
                "pretraining": lambda size=size, shared=shared: pretraining(
                    size, device, ways_of(device, "pretraining"), batch, seconds, *shared, folder
                ),
                "extraction": lambda size=size, shared=shared: extraction(
                    size, device, ways_of(device, "extraction"), 2 * batch, seconds, *shared
                ),
            }
            for task, work in tasks.items():
                rows, differences = work()
                entry = {"task": task, "model": name, "batch": batch, "seconds": seconds}
                result["tasks"].append({**entry, "rows": rows, "differences": differences})
                torch.compiler.reset()
    return result


def show(result):
    """Print a table for each task."""
    peak = result["peak_flops"]
    stated = f"{peak['stated'] / 1e12:.0f}" if peak["stated"] else "unknown"
    card = result["machine"].get("accelerator", result["machine"]["processor"])
    reached = peak["matrix_product"] / 1e12
    print(f"{card}: bf16 peak {stated} TFLOP/s stated, {reached:.2f} by a large matrix product")
    for task in result["tasks"]:
        print(f"\n{task['task']}, {task['model']}, crops of {task['seconds']:g} s")
        print(
            f"{'':<18} {'ms':>9} {'h/h':>8} {'GB':>6} {'TFLOP/s':>8} {'MFU':>6} {'of product':>10}"
        )
        for row in task["rows"]:
            memory = f"{row['peak_memory_gb']:.1f}" if row["peak_memory_gb"] is not None else "-"
            mfu = f"{100 * row['mfu']:.0f} %" if row["mfu"] is not None else "-"
            print(
                f"{row['name']:<18} {1000 * row['seconds']['median']:9.1f} "
                f"{row['audio_hours_per_hour']:8.0f} {memory:>6} {row['tflops']:8.2f} {mfu:>6} "
                f"{100 * row['share_of_matrix_product']:8.0f} %"
            )
        print(f"differences from the first row: {task['differences']}")


def main(arguments=None):
    """Measure, print, write; exit status 2 without the GPU that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes: shows that it runs")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", default=None)
    options = parser.parse_args(arguments)
    if torch.device(options.device).type == "cuda" and not torch.cuda.is_available():
        print(NO_GPU)
        return 2
    result = measure(options.device, options.small, options.rounds)
    show(result)
    if options.json:
        write_json(options.json, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
