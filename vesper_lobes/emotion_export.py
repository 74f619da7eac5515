"""The classifier a run leaves behind: its encoder with the head of one cell.

A run has a head for every seed and fold, and none of them was trained on all speakers. The one with
the best score on its dev set is exported, the first of equals: no test score takes part (but under
protocol A, where dev is test).
"""

import logging
from pathlib import Path

from hyperpyyaml import load_hyperpyyaml

from vesper_lobes.emotion_cells import quiet_speechbrain
from vesper_lobes.emotion_encoders import MAIN, make_encoder
from vesper_lobes.export import export_classifier

logger = logging.getLogger(__name__)


def best_cell(cells):
    """(seed, fold) of the cell with the best dev score, the first of equals.

    Example
    -------
    >>> cells = {(1, 1): {"best": {"score": 0.5}}, (1, 2): {"best": {"score": 0.7}}}
    >>> best_cell({**cells, (2, 1): {"best": {"score": 0.7}}})
    (1, 2)
    """
    return max(sorted(cells), key=lambda place: cells[place]["best"]["score"])


def export_best(run, metrics):
    """Writes the exported classifier of a run to the folder its YAML names.

    Arguments
    ---------
    run : vesper_lobes.emotion_run.EmotionRun
    metrics : dict
        The run's ``metrics.json``, for a line in the model card.

    Returns
    -------
    pathlib.Path
        A folder for ``EncoderClassifier.from_hparams`` and ``vesper_lobes.export.load_classifier``.
    """
    cells = {(seed, k): cell for (name, seed, k), cell in run.cells.items() if name == MAIN}
    seed, fold = best_cell(cells)
    encoder = make_encoder(MAIN, run.hparams["encoder"])
    overrides = {
        **run.overrides,
        "num_states": encoder.num_layers + 1,
        "input_dim": encoder.hidden_size,
        "seed": seed,
        "fold": fold,
        "cell_folder": str(run.cell_folder(MAIN, seed, fold)),
    }
    with quiet_speechbrain(), open(run.hparams_file, encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file, overrides)
        hparams["checkpointer"].recover_if_possible()
    low, high = metrics["ci"]["UA"]
    seen = ", speakers heard unlabelled in pretraining" if metrics["ssl_saw_test_audio"] else ""
    folder = export_classifier(
        run.hparams["export"],
        encoder,
        hparams["modules"]["layer_mix"],
        hparams["modules"]["head"],
        run.corpus.classes,
        crop_seconds=run.hparams["crop_seconds"],
        source=Path(str(run.hparams["encoder"])).name,
        trained_on=f"{metrics['corpus']}, protocol {metrics['protocol']}, seed {seed}, fold {fold}",
        scores=(
            f"UA {100 * metrics['pooled']['UA']:.1f} % [{100 * low:.1f}, {100 * high:.1f}] over "
            f"{len(cells)} heads of all seeds and folds{seen}; of these, this is the head with the "
            "best dev score"
        ),
    )
    logger.info("exported the head of seed %d, fold %d to %s", seed, fold, folder)
    return folder
