"""One step of pretraining: it waits for nothing, and a run stops where losses are not finite."""

import functools
import traceback
from pathlib import Path
from types import SimpleNamespace

import pytest
import speechbrain as sb
import torch
from speechbrain.dataio.batch import PaddedBatch

import vesper_lobes
from vesper_lobes.encoder import Encoder
from vesper_lobes.masker import EmotionGuidedMasker
from vesper_lobes.pretrain_brain import PretrainBrain
from vesper_lobes.pretrain_student import build_student
from vesper_lobes.teacher import Teacher

PACKAGE = str(Path(vesper_lobes.__file__).parent)
READS = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__")


@pytest.fixture
def brain(tiny_config, tmp_path):
    """A PretrainBrain at the start of its first epoch."""
    teacher = Teacher(Encoder(tiny_config("wavlm_large")))
    brain = PretrainBrain(
        modules={"student": build_student(teacher, 2)},
        opt_class=functools.partial(torch.optim.AdamW, lr=1e-3),
        hparams={
            "seed": 0,
            "output_folder": str(tmp_path),
            "teacher_model": teacher,
            "masker": EmotionGuidedMasker(positions="scaled"),
            "weight_decay": 0.01,
            "schedule_per": "epoch",
            "scheduler": SimpleNamespace(lr_at=lambda epoch: 1e-3),
        },
        run_opts={"device": "cpu"},
    )
    brain.reader = SimpleNamespace(set_epoch=lambda epoch: None)
    brain.batches, brain.show_bar, brain.nonfinite_count = {sb.Stage.TRAIN: 9}, False, 0
    brain.on_fit_start()
    brain.on_stage_start(sb.Stage.TRAIN, epoch=1)
    return brain


def step(brain, samples=16000, scale=1.0):
    brain.step += 1
    wavs = scale * torch.randn(3, samples)
    return brain.fit_batch(
        PaddedBatch([{"id": name, "sig": w} for name, w in zip("abc", wavs, strict=True)])
    )


def test_a_step_reads_no_tensor(brain, monkeypatch):
    """On an accelerator each read waits for all kernels that are queued."""
    readers = set()

    def recorded(method):
        @functools.wraps(method)
        def read(self, *args, **kwargs):
            ours = [f for f in traceback.extract_stack() if f.filename.startswith(PACKAGE)]
            readers.add(ours[-1].name)
            return method(self, *args, **kwargs)

        return read

    for name in READS:
        monkeypatch.setattr(torch.Tensor, name, recorded(getattr(torch.Tensor, name)))
    brain.look_seconds = 1e9  # as between two looks on a GPU
    for encoder in (brain.student.encoder, brain.teacher.encoder):
        encoder.fast = False  # a CPU's only
    for _ in range(2):
        step(brain)
    # lengths before they leave the CPU; the front end looks at them on a CPU only
    assert readers <= {"audio_seconds", "cnn"}, readers
    brain.look(brain.means)
    assert "as_floats" in readers  # the recorder records
    assert brain.means.totals["steps"] == 2 and brain.means.totals["mask00"] > 0
    assert brain.means.means()["loss"] > 0


def test_the_optimizer_is_fused_where_it_can_be(brain):
    assert brain.optimizer.defaults["fused"]
    brain.opt_class = functools.partial(torch.optim.LBFGS, lr=1.0)
    brain.hparams.weight_decay = 0.0
    with pytest.raises(ValueError, match="parameter groups"):  # reached without `fused`
        brain.init_optimizers()


@pytest.mark.parametrize("look_seconds", [0.0, 1e9])
def test_losses_that_are_not_finite_stop_the_run_before_a_checkpoint(brain, look_seconds):
    brain.look_seconds = look_seconds
    brain.checkpointer = SimpleNamespace(save_and_keep_only=lambda **options: pytest.fail("saved"))
    with pytest.raises(ValueError, match="epoch 1: 4 losses were not finite"):
        for _ in range(4):  # SpeechBrain's patience is three
            step(brain, scale=float("inf"))
        brain._save_intra_epoch_ckpt()
