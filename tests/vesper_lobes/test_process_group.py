"""Losses of two processes, each with half of a batch, are those of one with all of it."""

import os
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from vesper_lobes.config import EncoderConfig
from vesper_lobes.distillation import DistillStudent
from vesper_lobes.encoder import Encoder
from vesper_lobes.losses import VesperLosses
from vesper_lobes.masked_prediction import MaskedPredictor, masked_prediction_loss
from vesper_lobes.pretrain_student import PretrainStudent
from vesper_lobes.process_group import mean_over_processes, world_size
from vesper_lobes.run_history import RunningMeans

SIZES = dict(
    hidden_size=16,
    num_attention_heads=2,
    intermediate_size=16,
    conv_dim=(8,) * 7,
    num_conv_pos_embeddings=8,
    num_conv_pos_embedding_groups=2,
)
LENGTHS = torch.tensor([24, 11, 5, 2])  # frames; the second process has few


class Distilling(nn.Module):
    """As `DistillBrain` uses the student."""

    def __init__(self):
        super().__init__()
        self.student = DistillStudent(encoder(), num_outputs=32, tau=2.0, seed=0)

    def forward(self, batch):
        result = self.student(batch.features, batch.lengths, batch.targets[0])
        return {"loss": result["kl"], **result}


class Predicting(nn.Module):
    """As `MaskedPredictionBrain` uses the model."""

    def __init__(self):
        super().__init__()
        self.model = MaskedPredictor(encoder(), num_clusters=5)

    def forward(self, batch):
        mask = batch.masks.phoneme & (torch.arange(24) < batch.lengths.unsqueeze(1))
        logits = self.model(batch.wavs, batch.wav_lens, mask).logits
        return masked_prediction_loss(logits, batch.clusters, mask)


class Pretraining(nn.Module):
    """As `PretrainBrain` uses the student."""

    def __init__(self):
        super().__init__()
        self.student = PretrainStudent(encoder(), VesperLosses(16))

    def forward(self, batch):
        result = self.student(batch.features, batch.lengths, batch.targets, batch.masks)
        return {"loss": result["total"], **result}


MODELS = (Distilling, Predicting, Pretraining)


def encoder():
    return Encoder(EncoderConfig.mini_large(num_hidden_layers=2, **SIZES))


def batch_of(rows, hidden):
    """Some of four rows; in the first process nothing is masked where `hidden` is False."""
    random = torch.Generator().manual_seed(0)
    masks = torch.rand(2, 4, 24, generator=random) < 0.5
    masks[:, :2] &= hidden
    batch = SimpleNamespace(
        features=torch.randn(4, 24, 8, generator=random),
        lengths=LENGTHS,
        targets=tuple(torch.randn(2, 4, 24, 16, generator=random)),
        masks=masks,
        wavs=torch.randn(4, 8000, generator=random),
        wav_lens=(LENGTHS * 320 + 80) / 8000,
        clusters=torch.randint(5, (4, 24), generator=random),
    )
    batch.targets = tuple(target[rows] for target in batch.targets)
    batch.masks = SimpleNamespace(phoneme=masks[0, rows], word=masks[1, rows])
    for name in ("features", "lengths", "wavs", "wav_lens", "clusters"):
        setattr(batch, name, getattr(batch, name)[rows])
    return batch


def found(rows, wrap=lambda model: model):
    """(losses, gradients by name) of every model, and again with nothing masked on one side."""
    cases = []
    for kind in MODELS:
        for hidden in (True, False):
            torch.manual_seed(0)
            model = kind().eval()  # no dropout
            wrapped = wrap(model)  # alive until the backward pass is over
            results = wrapped(batch_of(rows, hidden))
            results["loss"].backward()
            losses = {name: mean_over_processes(v.detach().clone()) for name, v in results.items()}
            named = model.named_parameters()
            cases.append((losses, {n: p.grad for n, p in named if p.grad is not None}))
    return cases


def counted(ranks):
    """Means of what some processes count; the second has no share to tell."""
    means = RunningMeans()
    for rank in ranks:
        means.add(
            {"loss": 1.0 + rank, "share": float("nan") if rank else 0.25}, weight=1 + 2 * rank
        )
        means.count(steps=3, audio_seconds=10.0 * (1 + rank))
    return means


def assert_same(means, expected):
    """Fails unless they are the same."""
    assert means.means() == expected.means() == {"loss": 1.75, "share": 0.25}
    assert means.totals == expected.totals == {"steps": 6, "audio_seconds": 30}


def work(rank, folder):
    """One of two processes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    assert world_size() == 2
    parts = found(slice(2 * rank, 2 * rank + 2), DistributedDataParallel)
    if rank == 0:
        torch.save(parts, os.path.join(folder, "found.pt"))
    means = counted([rank])
    means.gather("cpu")
    if rank == 0:  # as a checkpoint is written
        means.save(os.path.join(folder, "means.json"))
    dist.barrier()
    resumed = RunningMeans()
    resumed.load(os.path.join(folder, "means.json"))
    assert_same(resumed.all_ranks("cpu"), counted([0, 1]))
    dist.destroy_process_group()


def test_two_processes_equal_one_with_the_doubled_batch(tmp_path):
    """Losses, what is logged with them, and gradients; rows of 24, 11, 5 and 2 frames.

    And what they counted before a checkpoint is all there after it, in two processes and in one.
    """
    torch.multiprocessing.start_processes(work, (str(tmp_path),), nprocs=2, start_method="spawn")
    resumed = RunningMeans()
    resumed.load(tmp_path / "means.json")
    assert_same(resumed, counted([0, 1]))
    two, one = torch.load(tmp_path / "found.pt"), found(slice(0, 4))
    assert len(one) == len(two) == 2 * len(MODELS)
    for (losses, gradients), (others, theirs) in zip(one, two, strict=True):
        assert losses["loss"] > 0
        assert {k: float(v) for k, v in others.items()} == pytest.approx(
            {k: float(v) for k, v in losses.items()}, rel=1e-5
        )
        assert gradients.keys() == theirs.keys()
        largest = max(gradient.abs().max() for gradient in gradients.values())
        for name, gradient in gradients.items():
            assert (gradient - theirs[name]).abs().max() <= 1e-5 * largest, name


def test_alone_a_count_is_what_it_is():
    assert world_size() == 1
    assert mean_over_processes(torch.tensor([3.0, 0.0])).tolist() == [3.0, 0.0]
