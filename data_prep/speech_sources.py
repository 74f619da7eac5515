"""Speech to pretrain on: folders, LSSED, lists, ready manifests or shards, as one table.

``data_folder`` and ``manifest`` each take one path or several, with commas between. A folder with
``wav_all/`` in it is read as LSSED; any other is searched for audio. A manifest keeps its own rows,
and `data_folder` then says what stands for ``$data_root``: one folder for all, or one for each.
``shards`` names folders that `data_prep.write_shards` wrote; they take the place of both.
"""

from pathlib import Path

import pandas as pd

from data_prep.folder_prepare import prepare_folder
from data_prep.lssed_prepare import prepare_lssed
from data_prep.manifest import ManifestError, read_manifest
from data_prep.shards import read_index, read_shards


def split_paths(text):
    """Paths of a text with commas between (or of a list, or one Path).

    Examples
    --------
    >>> split_paths("a, b"), split_paths(""), split_paths(["a"])
    (['a', 'b'], [], ['a'])
    """
    parts = text or [] if isinstance(text, list) else str(text or "").split(",")
    return [str(part).strip() for part in parts if str(part).strip()]


def prepare_speech(save_folder, data_folder="", manifest="", file_list="", shards=""):
    """Write a manifest for each folder that has none yet.

    Parameters
    ----------
    save_folder : str or Path
        Manifests go to ``<save_folder>/source<k>/``.
    data_folder, manifest, shards : str or list
        See the module.
    file_list : str
        A text file with one path a line, below the only `data_folder`.

    Raises
    ------
    ManifestError
        If none is given, or their numbers do not fit together, or shards are not whole.
    """
    if split_paths(shards):
        for folder in split_paths(shards):
            read_index(folder)
        return
    folders, manifests = split_paths(data_folder), split_paths(manifest)
    if not folders:
        raise ManifestError(
            "no speech was named. Give --data_folder FOLDER[,FOLDER], "
            "with --manifest FILE[,FILE] if there are manifests of it, or --shards FOLDER."
        )
    if manifests:
        if len(folders) not in (1, len(manifests)):
            raise ManifestError(
                f"{len(manifests)} manifests and {len(folders)} data folders: give one folder for "
                "all, or one for each, in the same order."
            )
        return
    if file_list and len(folders) != 1:
        raise ManifestError("a file list needs exactly one --data_folder.")
    for source, folder in enumerate(folders):
        save = Path(save_folder) / f"source{source}"
        if (Path(folder) / "wav_all").is_dir() and not file_list:
            prepare_lssed(folder, save, allow_partial=True)
        else:
            prepare_folder(folder, save, file_list=file_list or None, allow_partial=True)


def read_speech(save_folder, data_folder="", manifest="", shards=""):
    """All rows of the sources that `prepare_speech` prepared, with real paths in `wav`.

    With several sources an ID becomes ``<corpus>/<ID>``, so that sources cannot collide.

    Returns
    -------
    pandas.DataFrame
        Columns of the manifest, sorted by ID.

    Raises
    ------
    ManifestError
        If two rows still have the same ID: the same source was given twice.
    """
    tables = _tables(save_folder, split_paths(data_folder), split_paths(manifest), shards)
    if len(tables) > 1:
        for table in tables:
            table["ID"] = table["corpus"] + "/" + table["ID"]
    rows = pd.concat(tables).sort_values("ID", ignore_index=True)
    twice = rows["ID"][rows["ID"].duplicated()]
    if len(twice):
        raise ManifestError(f"{len(twice)} IDs stand in two sources, such as {twice.iloc[0]}.")
    return rows


def _tables(save_folder, folders, manifests, shards):
    """Rows of each source."""
    if split_paths(shards):
        return [read_shards(folder) for folder in split_paths(shards)]
    if manifests:
        folders = folders * len(manifests) if len(folders) == 1 else folders
    else:
        manifests = [Path(save_folder) / f"source{k}/manifest.csv" for k in range(len(folders))]
    return [read_manifest(m, root) for m, root in zip(manifests, folders, strict=True)]
