"""SpeechFormer-S against its description: windows, positions, merges, initialisation."""

import math

import pytest
import torch
from torch import nn

from vesper_lobes.packing import Packing
from vesper_lobes.speechformer import LocalAttention, SpeechFormerHead, sinusoids


def attend(layer, x, window):
    """Multi-head attention of one utterance (T, D) with an explicit T x T mask."""
    heads = layer.num_heads
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(0, 1) for part in layer.qkv(x).chunk(3, 1))
    scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])  # (H, T, T)
    if window is not None:
        places = torch.arange(len(x))
        far = (places[:, None] - places[None, :]).abs() > window // 2
        scores = scores.masked_fill(far, float("-inf"))
    return layer.out((scores.softmax(-1) @ v).transpose(0, 1).flatten(1))


def reference(head, x, windows=(3, 11, 9, None), merges=(2, 6, 4, None)):
    """Logits of one utterance (T, D), stage by stage as the guide describes the head."""
    tokens = []
    positions = sinusoids(*x.shape).to(x)
    for stage, window, merge in zip(head.stages, windows, merges, strict=True):
        tokens.append(len(x))
        x = stage.norm(x)
        for layer in stage.layers:
            inputs = x + positions if window == 3 else x
            x = layer.norms[0](x + attend(layer, inputs, window))
            first, _, second = layer.ffn
            x = layer.norms[1](x + second(first(x).relu()))
        if merge is not None:
            x = torch.stack([group.mean(0) for group in x.split(merge)])
            x = stage.merge.norm(stage.merge.linear(x))
    return head.classifier(x.mean(0)), tokens


@pytest.mark.parametrize("lengths", [[324, 224, 149], [1, 2, 3, 13, 48, 49, 100]])
def test_equals_its_description(lengths):
    head = SpeechFormerHead(16, 4).double().eval()
    x = torch.randn(len(lengths), max(lengths), 16).double()
    for row, n, logits in zip(x, lengths, head(x, torch.tensor(lengths)), strict=True):
        torch.testing.assert_close(logits, reference(head, row[:n])[0], rtol=1e-9, atol=1e-9)


def test_tokens_of_the_papers_crops():
    head = SpeechFormerHead(16, 4).double().eval()
    tokens = {n: reference(head, torch.randn(n, 16).double())[1] for n in (324, 224, 149)}
    assert tokens == {324: [324, 162, 27, 7], 224: [224, 112, 19, 5], 149: [149, 75, 13, 4]}


@pytest.mark.parametrize("window", [3, 9, 11])
def test_local_attention_is_linear_in_time(window):
    """Scores of all queries are as many as the mask's entries: some five windows a frame."""
    for frames in (3_000, 6_000):
        mask = LocalAttention(Packing(torch.tensor([frames]), frames), window).mask
        assert mask.numel() < 6 * window * frames


def test_stage_layers_are_xavier_uniform_and_others_are_not():
    head = SpeechFormerHead(64, 4)
    for stage in head.stages:
        for layer in stage.layers:
            narrow, _, wide = layer.ffn
            for weight in (
                *layer.qkv.weight.chunk(3),
                layer.out.weight,
                narrow.weight,
                wide.weight,
            ):
                bound = math.sqrt(6 / sum(weight.shape))
                assert 0.97 * bound < weight.abs().max() <= bound
    bound = math.sqrt(6 / 128)
    assert head.stages[0].merge.linear.weight.abs().max() <= math.sqrt(1 / 64) < bound


def test_misfits_are_refused():
    with pytest.raises(ValueError, match="20 inputs"):
        SpeechFormerHead(20, 4)
    with pytest.raises(ValueError, match="odd"):
        SpeechFormerHead(16, 4, windows=(4, 11, 9))


def test_dropout_is_on_branches_and_in_the_classifier():
    head = SpeechFormerHead(16, 4)
    rates = [module.p for module in head.modules() if isinstance(module, nn.Dropout)]
    assert rates == [0.1] * 12 + [0.5] * 2
