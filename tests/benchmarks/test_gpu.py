"""The GPU benchmark in its small form: same code, checked against itself, honest without a card."""

import json

import pytest
import torch

from vesper_lobes.config import EncoderConfig
from vesper_lobes.encoder import Encoder
from vesper_lobes.lengths import n_frames


@pytest.fixture
def gpu(benchmark_script):
    return benchmark_script("gpu")


def test_the_small_form_runs_anywhere(gpu, tmp_path, capsys):
    out = tmp_path / "gpu.json"
    small = ["--device", "cpu", "--small", "--rounds", "1", "--json", str(out)]
    assert gpu.main(small) == 0
    result = json.loads(out.read_text())
    assert [task["task"] for task in result["tasks"]] == ["pretraining", "extraction"]
    for task in result["tasks"]:
        assert all(row["tflops"] > 0 and row["mfu"] is None for row in task["rows"])
    assert result["tasks"][1]["differences"]["eager flex fp32"] < 1e-5
    assert "large matrix product" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_that_nothing_was_run(gpu, tmp_path, capsys):
    assert gpu.main(["--json", str(tmp_path / "gpu.json")]) == 2
    assert "has NOT been run" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@torch.no_grad()
@pytest.mark.parametrize("padded", [False, True])
def test_flex_attention_is_the_encoders_own(gpu, padded):
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig.mini_large(num_hidden_layers=2, num_attention_heads=3)).freeze()
    for module in encoder.modules():  # gates and biases that matter
        if hasattr(module, "gru_rel_pos_const"):
            module.gru_rel_pos_const.normal_()
    encoder.encoder.layers[0].attention.rel_attn_embed.weight.normal_()
    wavs, lens = torch.randn(2, 16000), torch.tensor([1.0, 0.6]) if padded else None
    expected = encoder(wavs, lens)
    found = gpu.prepared(encoder, "eager flex", "cpu")(wavs, lens)
    for a, b in zip(found.states, expected.states, strict=True):
        for row, frames in enumerate(expected.lengths):
            difference = (a[row, :frames] - b[row, :frames]).abs().max()
            assert difference <= 1e-5 * b.abs().max()


def test_flops_of_a_step_by_hand(gpu):
    """Transformer layers by arithmetic: 3 x the student's, 1 x the teacher's."""
    config = EncoderConfig.mini_large
    less, more = (
        gpu.model_flops(config(num_hidden_layers=4), config(num_hidden_layers=n), 2, 1.0)
        for n in (2, 4)
    )
    dim, inner, frames, heads = 192, 768, n_frames(16000), 4
    linear = frames * (4 * dim * dim + 2 * dim * inner + dim * 8)  # gate: 48 x 8 in each of 4 heads
    layer = 2 * 2 * (linear + 2 * frames * frames * dim)  # 2 rows; 2 for each multiply-accumulate
    assert heads * 48 == dim
    assert more["extraction"] - less["extraction"] == 2 * layer
    assert more["pretraining"] - less["pretraining"] == 3 * 2 * layer
