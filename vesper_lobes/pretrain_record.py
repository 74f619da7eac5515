"""`pretraining.json`: what an exported encoder has heard and how it was made.

Scores on speakers whose audio was heard in pretraining, the teacher's included, are transductive;
this record is how an evaluation knows.
"""

import json
import os
from pathlib import Path

RECORD = "pretraining.json"


def heard_speakers(rows):
    """Corpus -> sorted speakers of manifest rows ("" where a speaker is unknown).

    Example
    -------
    >>> import pandas as pd
    >>> heard_speakers(pd.DataFrame({"corpus": ["A", "A"], "speaker": ["2", "1"]}))
    {'A': ['1', '2']}
    """
    groups = rows.groupby("corpus")["speaker"]
    return {corpus: sorted(set(speakers)) for corpus, speakers in groups}


def write_record(folder, rows, teacher="", distilled="", **facts):
    """Write the record beside an export, atomically.

    Arguments
    ---------
    folder : str
        The export's.
    rows : pandas.DataFrame
        Manifest rows heard, held-out ones included.
    teacher : str
        Folder of the teacher; what its record names was heard too. A teacher without a record
        (such as WavLM) is told by its name alone.
    distilled : str
        Folder of the distilled student that training began with, if any: heard too.
    **facts
        Further JSON values.

    Returns
    -------
    dict
        What was written.
    """
    speakers = heard_speakers(rows)
    for source in (teacher, distilled):
        for corpus, names in read_record(source).get("speakers", {}).items():
            speakers[corpus] = sorted(set(names) | set(speakers.get(corpus, [])))
    record = {
        "speakers": speakers,
        "utterances": len(rows),
        "hours": round(float(rows["duration"].sum()) / 3600, 4),
        "teacher": Path(teacher).name if os.path.isdir(teacher) else teacher,
        **facts,
    }
    path = Path(folder) / RECORD
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)
    return record


def read_record(folder):
    """The record of an encoder's folder; empty where there is none."""
    path = Path(folder or "") / RECORD
    if not folder or not path.is_file():
        return {}
    return json.loads(path.read_text(encoding="utf-8"))
