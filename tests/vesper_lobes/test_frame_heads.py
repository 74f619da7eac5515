"""What both heads on frames promise: sizes, and answers that padding cannot change."""

import pytest
import torch

from vesper_lobes.packing import Packing
from vesper_lobes.shiftformer import ShiftFormerHead
from vesper_lobes.speechformer import SpeechFormerHead

HEADS = [ShiftFormerHead, SpeechFormerHead]
SIZES = {
    (ShiftFormerHead, 768): 9_451_780,
    (ShiftFormerHead, 1024): 16_796_676,
    (SpeechFormerHead, 768): 37_629_508,
    (SpeechFormerHead, 1024): 66_851_588,
}
# one frame; below, at and above the first merges; a block's edge; the longest
LENGTHS = [1, 2, 14, 15, 48, 49, 97, 150]


def batch(lengths=LENGTHS, dim=32):
    return torch.randn(len(lengths), max(lengths), dim), torch.tensor(lengths)


@pytest.fixture(params=HEADS)
def head(request):
    return request.param(32, 4).double().eval()


def trained(head):
    """Parameters that have a part in eval mode: all but ShiftFormer's mask vector."""
    return [p for name, p in head.named_parameters() if name != "mask_vector"]


@pytest.mark.parametrize(("head_class", "dim"), SIZES)
def test_trainable_parameters_at_four_classes(head_class, dim):
    with torch.device("meta"):
        head = head_class(dim, 4)
    count = sum(p.numel() for p in head.parameters() if p.requires_grad)
    assert count == SIZES[head_class, dim]


@pytest.mark.parametrize("head_class", HEADS)
def test_batched_equals_single(head_class):
    head = head_class(32, 4).eval()
    x, lengths = batch()
    together = head(x, lengths)
    alone = torch.cat([head(row[None, :n]) for row, n in zip(x, lengths, strict=True)])
    assert (together - alone).abs().max() / alone.abs().max() <= 1e-5
    assert (alone[1:] - alone[:-1]).abs().max(1).values.min() > 1e-3  # they do differ


@pytest.mark.parametrize("content", [float("nan"), float("inf"), 1e9])
def test_padding_reaches_neither_answer_nor_gradient(head, content):
    x, lengths = batch([3, 150, 49])
    x = x.double()
    padding = torch.arange(150) >= lengths[:, None]
    results = []
    for filling in (0.0, content):
        frames = x.masked_fill(padding[..., None], filling).requires_grad_()
        logits = head(frames, lengths)
        gradients = torch.autograd.grad(logits.square().sum(), [frames, *trained(head)])
        assert gradients[0][padding].eq(0).all()
        results.append([logits, *gradients])
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours, theirs)


def test_gradients_of_a_batch_are_the_sum_of_its_rows(head):
    x, lengths = batch([3, 60, 49])
    x = x.double()
    together = torch.autograd.grad(head(x, lengths).square().sum(), trained(head))
    alone = [
        torch.autograd.grad(head(row[None, :n]).square().sum(), trained(head))
        for row, n in zip(x, lengths, strict=True)
    ]
    for whole, *parts in zip(together, *alone, strict=True):
        torch.testing.assert_close(whole, sum(parts), rtol=1e-9, atol=1e-12)


def test_training_is_random_only_by_torchs_generator(head):
    x, lengths = batch([80, 150])
    x = x.double()
    head.train()
    torch.manual_seed(1)
    first, second = head(x, lengths), head(x, lengths)
    torch.manual_seed(1)
    assert torch.equal(head(x, lengths), first) and not torch.equal(first, second)
    head.eval()
    assert torch.equal(head(x, lengths), head(x, lengths))


def test_runs_under_autocast(head):
    x, lengths = batch([20, 150])
    head.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = head(x, lengths)
    assert (half.float() - head(x, lengths)).abs().max() < 0.1


def test_packing_goes_there_and_back():
    x, lengths = batch([2, 5, 1])
    packing = Packing(lengths, 5)
    tokens = packing.pack(x)
    assert torch.equal(tokens, torch.cat([row[:n] for row, n in zip(x, lengths, strict=True)]))
    assert packing.rows.tolist() == [0, 0, 1, 1, 1, 1, 1, 2]
    padding = torch.arange(5) >= lengths[:, None]
    assert torch.equal(packing.unpack(tokens), x.masked_fill(padding[..., None], 0))
    with pytest.raises(ValueError, match="a length of 5 in a batch of 4 frames"):
        Packing(lengths, 4)
