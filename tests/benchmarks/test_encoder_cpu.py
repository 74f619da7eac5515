"""The encoder's benchmark in its small form: it compares, measures, accounts, tells on errors."""

import json

import pytest


@pytest.fixture(scope="module")
def script(benchmark_script):
    return benchmark_script("encoder_cpu")


@pytest.fixture
def settings():
    """Threads and gradients are the process's: put back what the benchmark changes."""
    import torch

    threads, gradients = torch.get_num_threads(), torch.is_grad_enabled()
    yield ["--model", "mini", "--batch", "2", "--seconds", "1", "--repeats", "1"]
    torch.set_num_threads(threads)
    torch.set_grad_enabled(gradients)


def test_small_form(script, settings, tmp_path, capsys):
    out = tmp_path / "encoder_cpu.json"
    script.main([*settings, "--threads", "1", "--json", str(out)])
    result = json.loads(out.read_text())
    (case,) = result["cases"]
    rows = {row["name"]: row for row in case["rows"]}
    assert list(rows) == [
        "transformers fp32",
        "transformers bf16",
        "SpeechBrain fp32",
        "plain fp32",
        "plain bf16",
        "fast fp32",
        "fast bf16",
        "int8 fp32",
        "int8 bf16",
    ]
    assert rows["SpeechBrain fp32"]["error"] < 1e-5 and rows["fast fp32"]["error"] < 1e-5
    assert 1e-5 < rows["fast bf16"]["error"] < 0.01
    assert 1e-4 < rows["int8 fp32"]["error"] < 0.05
    for row in rows.values():
        assert row["gflops"] == pytest.approx(case["gflop"] / row["seconds"]["median"])
        assert row["share_of_peak"] > 0
    for shares in (*case["parts"].values(), *case["kinds"].values()):
        assert sum(shares.values()) == pytest.approx(1) and min(shares.values()) > -0.01
    # the fast path's parts are its own functions: all of them were seen
    assert all(case["parts"]["fast bf16"][part] > 0 for part in script.PARTS)
    assert case["kinds"]["fast fp32"]["Fourier transforms"] > 0
    assert "GFLOP/s" in capsys.readouterr().out


def test_operations_are_those_of_the_table(script):
    """1 s of the mini form by hand: what the counter says is no more and no less."""
    import torch

    from vesper_lobes.encoder import Encoder

    config = script.MODELS["mini"]()
    encoder = Encoder(config)
    frames, macs, width, channels = [], 0, 16000, 1
    for kernel, stride, out in zip(
        config.conv_kernel, config.conv_stride, config.conv_dim, strict=True
    ):
        width = (width - kernel) // stride + 1
        macs += width * kernel * channels * out
        channels = out
        frames.append(width)
    t, d, heads = frames[-1], config.hidden_size, config.num_attention_heads
    macs += t * channels * d
    # an even kernel pads by half and drops the last output, which is computed all the same
    macs += (t + 1) * d * d // config.num_conv_pos_embedding_groups * config.num_conv_pos_embeddings
    layer = 4 * t * d * d + 2 * t * d * config.intermediate_size + 2 * t * t * d
    macs += config.num_hidden_layers * (layer + t * heads * (d // heads) * 8)
    assert script.count_flops(encoder, torch.empty(1, 16000)) == 2 * macs


def test_an_error_beyond_its_promise_is_told(script):
    good = {"name": "fast fp32", "error": 1e-6}
    case = {"batch": 8, "rows": [good, {"name": "int8 fp32", "error": 0.1}]}
    assert script.broken_promises([case]) == []
    case["rows"].append({"name": "fast bf16", "error": 0.02})
    assert script.broken_promises([case]) == ["fast bf16 at batch 8 errs by 2.0e-02, not 0.01"]
