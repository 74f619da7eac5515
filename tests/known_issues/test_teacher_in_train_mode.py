"""A teacher inside ``modules`` would be put into train mode by every epoch, with dropout in its
targets. Ours is no module: Brain, its optimizer and its checkpoints never see it."""

import torch

from vesper_lobes.encoder import Encoder
from vesper_lobes.pretrain_brain import PretrainBrain
from vesper_lobes.pretrain_student import build_student
from vesper_lobes.teacher import Teacher


def test_targets_stay_the_same_after_modules_train(tiny_config, tmp_path):
    teacher = Teacher(Encoder(tiny_config("wavlm_large", hidden_dropout=0.5)))
    student = build_student(teacher, 2)
    hparams = {"output_folder": str(tmp_path), "teacher_model": teacher, "weight_decay": 0.0}
    brain = PretrainBrain({"student": student}, torch.optim.AdamW, hparams, {"device": "cpu"})
    wavs = torch.randn(2, 8000)
    before = teacher(wavs)
    brain.on_fit_start()
    brain.modules.train()
    assert student.encoder.training and not teacher.encoder.training
    assert torch.equal(before[1], teacher(wavs)[1])
    trained = {id(p) for group in brain.optimizer.param_groups for p in group["params"]}
    assert not trained & {id(p) for p in teacher.encoder.parameters()}
    assert not trained & {id(p) for p in student.encoder.feature_extractor.parameters()}
