import torch
from speechbrain.utils.checkpoints import Checkpointer

from vesper_lobes.encoder import Encoder
from vesper_lobes.logged_brain import decay_groups
from vesper_lobes.losses import VesperLosses
from vesper_lobes.pretrain_student import PretrainStudent
from vesper_lobes.run_history import History, RunningMeans


def test_weight_decay_spares_biases_norms_and_embeddings(tiny_config):
    encoder = Encoder(tiny_config("wavlm_large"))
    student = PretrainStudent(encoder, VesperLosses(encoder.hidden_size))
    names = {id(p): name for name, p in student.named_parameters()}
    decayed, spared = decay_groups(student, 0.01)
    assert decayed["weight_decay"] == 0.01 and spared["weight_decay"] == 0.0
    for parameter in decayed["params"]:
        name = names[id(parameter)]
        assert parameter.ndim >= 2 and "embed.weight" not in name and "norm" not in name
    spared_names = " ".join(names[id(p)] for p in spared["params"])
    for part in ("rel_attn_embed", "masked_spec_embed", "layer_norm", "bias", "original0"):
        assert part in spared_names
    every = {id(p) for p in student.parameters() if p.requires_grad}
    both = [id(p) for p in decayed["params"] + spared["params"]]
    assert len(both) == len(set(both)) and set(both) == every


def test_means_survive_a_checkpoint_within_an_epoch_only(tmp_path):
    means = RunningMeans()
    means.add({"loss": torch.tensor(2.0), "share": float("nan")}, weight=3)
    means.count(seconds=4)
    checkpointer = Checkpointer(tmp_path, {"means": means})
    checkpointer.save_checkpoint(end_of_epoch=False, name="middle")
    means.reset()
    checkpointer.recover_if_possible()
    assert means.means() == {"loss": 2.0} and means.totals == {"seconds": 4.0}
    checkpointer.save_checkpoint(end_of_epoch=True)
    checkpointer.recover_if_possible()
    assert means.means() == {}


def test_means_are_read_only_when_asked_for():
    """Adding must not read a tensor: on an accelerator that waits for all that is queued there."""
    means = RunningMeans()
    for loss in (1.0, 4.0, float("nan")):
        means.add({"loss": torch.tensor(loss)}, weight=loss)
        means.count(frames=torch.tensor(2), steps=1)
    assert means.sums == {} and means.totals == {"steps": 3}
    assert means.means() == {"loss": 17 / 5} and means.totals == {"steps": 3, "frames": 6}


def test_history_replaces_epochs_that_are_repeated(tmp_path):
    history = History(str(tmp_path / "history.json"))
    for epoch, loss in ((1, 3.0), (2, 2.0), (3, 1.0), (2, 1.5)):
        history.append({"epoch": epoch, "loss": loss})
    assert [(row["epoch"], row["loss"]) for row in history.rows()] == [(1, 3.0), (2, 1.5)]
    assert [path.name for path in tmp_path.iterdir()] == ["history.json"]
