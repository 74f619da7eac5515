import torch

from vesper_lobes.encoder import Encoder
from vesper_lobes.lengths import frame_mask
from vesper_lobes.masked_prediction import MaskedPredictor, masked_prediction_loss, span_mask


def test_about_half_is_hidden_in_spans_and_never_padding():
    lengths = torch.tensor([200, 100, 3, 1])
    mask = span_mask(torch.rand(4, 200), lengths)
    assert not (mask & ~frame_mask(lengths, 200)).any()
    assert 0.4 < mask[0].float().mean() < 0.75
    assert mask[2].any() and mask[3].any()  # short rows hide something
    starts = mask[0] & ~torch.nn.functional.pad(mask[0], (1, 0))[:-1]
    for start in starts.nonzero().flatten().tolist():
        assert mask[0, start : start + 10].all()


def test_rows_are_independent():
    noise, lengths = torch.rand(3, 80), torch.tensor([80, 50, 60])
    together = span_mask(noise, lengths)
    alone = span_mask(noise[1:2, :50], lengths[1:2])
    assert torch.equal(together[1, :50], alone[0])
    order = torch.tensor([2, 0, 1])
    assert torch.equal(span_mask(noise[order], lengths[order]), together[order])


def test_only_hidden_frames_count():
    logits = torch.randn(1, 6, 4, requires_grad=True)
    targets = torch.randint(4, (1, 6))
    mask = torch.tensor([[True, False, True, False, False, False]])
    loss = masked_prediction_loss(logits, targets, mask)["loss"]
    loss.backward()
    assert (logits.grad[0].abs().sum(-1) > 0).tolist() == mask[0].tolist()
    nothing = masked_prediction_loss(logits, targets, torch.zeros_like(mask))
    assert nothing["loss"] == 0 and nothing["loss"].requires_grad


def test_every_parameter_learns_but_the_unused_norm(tiny_config):
    for kind in ("wavlm_large", "wavlm_base"):
        model = MaskedPredictor(Encoder(tiny_config(kind)), num_clusters=5).train()
        mask = span_mask(torch.rand(2, 24), torch.tensor([24, 24]))
        logits = model(torch.randn(2, 8000), None, mask).logits
        targets = torch.randint(5, (2, 24))
        masked_prediction_loss(logits, targets, mask)["loss"].backward()
        without = {n for n, p in model.named_parameters() if p.requires_grad and p.grad is None}
        assert not without
        frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
        unused = {"encoder.encoder.layer_norm.weight", "encoder.encoder.layer_norm.bias"}
        assert frozen == (unused if kind == "wavlm_large" else set())


def test_the_hidden_frames_content_is_hidden(tiny_config):
    """With all frames hidden the logits know nothing of the waveform but its length."""
    model = MaskedPredictor(Encoder(tiny_config("wavlm_large")), num_clusters=5).eval()
    mask = torch.ones(1, 24, dtype=torch.bool)
    first, second = (model(torch.randn(1, 8000), None, mask).logits for _ in range(2))
    assert torch.equal(first, second)
