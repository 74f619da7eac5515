"""Table II to the digit, and the counts against sums by hand and by module."""

import json
from decimal import ROUND_HALF_UP, Decimal

import pytest
import torch
from torch import nn
from transformers import WavLMConfig, WavLMModel

from vesper_lobes.lengths import n_frames


@pytest.fixture(scope="module")
def complexity(benchmark_script):
    return benchmark_script("complexity")


@pytest.fixture(scope="module")
def rows(complexity):
    return complexity.complexity()


def by_hand(config, samples):
    """MACs by arithmetic: (convolutions and linears, attention's two products)."""
    macs, length, channels = 0, samples, 1
    for width, kernel, stride in zip(
        config.conv_dim, config.conv_kernel, config.conv_stride, strict=True
    ):
        length = (length - kernel) // stride + 1
        macs += length * kernel * channels * width
        channels = width
    dim, heads = config.hidden_size, config.num_attention_heads
    macs += length * channels * dim
    kernel, groups = config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups
    macs += (length + 1) * kernel * (dim // groups) * dim  # an even kernel makes a frame too many
    gate = heads * (dim // heads) * 8
    layer = length * (4 * dim * dim + 2 * dim * config.intermediate_size + gate)
    attention = 2 * length * length * dim
    return macs + config.num_hidden_layers * layer, config.num_hidden_layers * attention


def test_table_ii_to_the_last_printed_digit(complexity, rows):
    assert len(rows) == 12
    for row in rows:
        assert list(row) == ["model", "params", "seconds", "macs_paper", "macs_true"]
        millions, printed = complexity.TABLE_II[row["model"]]
        expected = printed[complexity.SECONDS.index(row["seconds"])]
        three_digits = Decimal(f"{row['macs_paper'] / 1e9:.3f}")
        assert str(three_digits.quantize(Decimal("0.01"), ROUND_HALF_UP)) == expected
        if row["model"].startswith("Vesper"):
            assert f"{row['params'] / 1e6:.2f}" == millions


def test_the_paper_s_three_digits_and_the_true_counts(rows):
    found = {(row["model"], row["seconds"]): row for row in rows}
    paper = {"Vesper-4": (35.163, 24.327, 16.199), "Vesper-12": (67.799, 46.890, 31.208)}
    paper |= {"WavLM Large": (116.753, 80.735, 53.721), "WavLM Base": (45.153, 31.232, 20.791)}
    true = {"Vesper-4": (36.02, 24.74, 16.38), "Vesper-12": (70.38, 48.12, 31.75)}
    for model, figures in paper.items():
        for seconds, figure in zip((6.5, 4.5, 3.0), figures, strict=True):
            assert found[model, seconds]["macs_paper"] / 1e9 == pytest.approx(figure, abs=6e-4)
    for model, figures in true.items():
        for seconds, figure in zip((6.5, 4.5, 3.0), figures, strict=True):
            assert round(found[model, seconds]["macs_true"] / 1e9, 2) == figure


def test_counter_equals_arithmetic(complexity, rows):
    for row in rows:
        plain, attention = by_hand(complexity.MODELS[row["model"]], round(row["seconds"] * 16000))
        assert row["macs_paper"] == plain
        assert row["macs_true"] == plain + attention


@pytest.mark.parametrize("model", ["Vesper-4", "WavLM Base"])
def test_layers_of_transformers_count_the_same(complexity, rows, model):
    """What a tool that looks at layers sees on the reference implementation."""
    config = complexity.MODELS[model].to_transformers()
    with torch.device("meta"):
        reference = WavLMModel(WavLMConfig(**config)).eval()
    macs = []

    def counted(module, _, output):
        if isinstance(module, nn.Linear):
            macs.append(output.numel() * module.in_features)
        else:
            macs.append(
                output.numel() * module.in_channels // module.groups * module.kernel_size[0]
            )

    for module in reference.modules():
        if isinstance(module, (nn.Linear, nn.Conv1d)):
            module.register_forward_hook(counted)
    frames = n_frames(48000)
    attention = [layer.attention for layer in reference.encoder.layers]
    assert len(attention) == complexity.MODELS[model].num_hidden_layers
    with torch.no_grad():
        features = reference.feature_extractor(torch.empty(1, 48000, device="meta"))
        hidden, _ = reference.feature_projection(features.transpose(1, 2))
        reference.encoder.pos_conv_embed(hidden)
        for layer in reference.encoder.layers:
            for linear in (layer.attention.q_proj, layer.attention.k_proj, layer.attention.v_proj):
                linear(hidden)
            heads = hidden.view(1, frames, layer.attention.num_heads, -1)
            layer.attention.gru_rel_pos_linear(heads)
            layer.attention.out_proj(hidden)
            layer.feed_forward(hidden)
    expected = next(r for r in rows if r["model"] == model and r["seconds"] == 3.0)
    assert sum(macs) == expected["macs_paper"]


def test_parameters_that_transformers_loads(complexity, rows):
    """Large holds 2,048 more: its unused final LayerNorm. Neither count is the printed one."""
    for model, loaded, unused in (
        ("WavLM Base", 94_381_936, 0),
        ("WavLM Large", 315_453_120, 2048),
    ):
        with torch.device("meta"):
            config = WavLMConfig(**complexity.MODELS[model].to_transformers())
            reference = WavLMModel(config)
        assert sum(p.numel() for p in reference.parameters()) == loaded
        ours = next(row["params"] for row in rows if row["model"] == model)
        assert ours == loaded - unused
        assert f"{loaded / 1e6:.2f}" != complexity.TABLE_II[model][0]
    heads = {"WavLM Base": (768, 256), "WavLM Large": (1024, 768)}  # the note's guess
    sums = {
        model: next(r["params"] for r in rows if r["model"] == model) + dim * out + out + 500 * out
        for model, (dim, out) in heads.items()
    }
    assert f"{sums['WavLM Base'] / 1e6:.2f}" == "94.71"
    assert f"{sums['WavLM Large'] / 1e6:.2f}" == "316.62"


def test_table_and_file(complexity, rows, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(complexity, "complexity", lambda: rows)
    complexity.main(["--json", str(tmp_path / "out.json")])
    printed = capsys.readouterr().out
    assert "63,515,872" in printed and "Not known" in printed
    assert json.loads((tmp_path / "out.json").read_text())["rows"] == rows


def test_the_committed_file_is_current(rows, request):
    root = request.config.rootpath
    committed = json.loads((root / "results/benchmarks/complexity.json").read_text())
    assert committed["rows"] == rows
