import pandas as pd

from vesper_lobes.pretrain_record import read_record, write_record


def rows(corpus, speakers):
    return pd.DataFrame({"corpus": corpus, "speaker": speakers, "duration": 1800.0})


def test_a_student_has_heard_what_its_teacher_heard(tmp_path):
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    teacher.mkdir(), student.mkdir()
    write_record(teacher, rows("A", ["1", "2"]))
    write_record(student, pd.concat([rows("A", ["2", "3"]), rows("B", [""])]), str(teacher), seed=1)
    record = read_record(student)
    assert record["speakers"] == {"A": ["1", "2", "3"], "B": [""]}
    assert record["hours"] == 1.5 and record["utterances"] == 3 and record["seed"] == 1
    assert record["teacher"] == "teacher" and str(tmp_path) not in str(record)


def test_a_teacher_without_a_record_is_told_by_name(tmp_path):
    assert write_record(tmp_path, rows("A", ["1"]), "microsoft/wavlm-large")["teacher"] == (
        "microsoft/wavlm-large"
    )
    assert read_record("") == {}
