"""Records: append-only, named by content, checked when read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from harness_support import record_of

from harness import records
from sia_gen.core.errors import UserError, VerificationError


def test_a_record_survives_and_is_written_once(tmp_path: Path) -> None:
    record = record_of()
    path = records.write(tmp_path, record)
    assert records.read(path) == record
    before = path.stat().st_mtime_ns
    again = records.write(tmp_path, record | {"created": "2027-05-05T05:05:05Z"})
    assert again == path  # the time is no part of a result
    assert path.stat().st_mtime_ns == before
    assert records.write(tmp_path, record_of(value=0.81)) != path
    assert len(records.find([tmp_path, tmp_path])) == 2


def test_key_order_does_not_matter(tmp_path: Path) -> None:
    record = record_of()
    turned = dict(reversed(record.items()))
    assert records.write(tmp_path, record) == records.write(tmp_path, turned)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_never_recorded(value: float, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="NaN or infinite"):
        records.write(tmp_path, record_of(value=value))
    assert not (tmp_path / records.FOLDER).exists()
    path = records.write(tmp_path, record_of())
    path.write_text(path.read_text().replace("0.8", "NaN"))
    with pytest.raises(UserError, match="not readable JSON"):
        records.find([tmp_path])


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"kind": "other"}, "kind"),
        ({"seed": "0"}, "seed"),
        ({"metrics": {}}, "metrics"),
        ({"metrics": {"pro": {"metric": "pro", "version": 1}}}, "metrics/pro"),
        ({"category": ""}, "category"),
        ({"extra": 1}, "top level"),
        ({"created": "yesterday"}, "created"),
    ],
)
def test_what_does_not_follow_the_schema_is_refused(
    change: dict[str, Any], place: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"is no result record: at {place}"):
        records.write(tmp_path, record_of() | change)


def test_a_value_or_a_reason_never_both_never_neither(tmp_path: Path) -> None:
    for value, reason in ((None, None), (0.5, "because")):
        record = record_of()
        entry = {"metric": "pro", "version": 1, "higher_is_better": True, "value": value}
        record["metrics"] = {"pro": entry | ({"reason": reason} if reason else {})}
        with pytest.raises(UserError, match="metrics/pro"):
            records.write(tmp_path, record)


def test_a_newer_schema_is_named() -> None:
    with pytest.raises(UserError, match="schema 2 is not 1"):
        records.validate(record_of() | {"schema": 2}, "here")


def test_changed_records_are_found_out(tmp_path: Path) -> None:
    path = records.write(tmp_path, record_of())
    path.write_text(path.read_text().replace("0.8", "0.9"))
    with pytest.raises(VerificationError, match="changed after it was written") as caught:
        records.find([tmp_path])
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', '"text"'])
def test_foreign_json_is_named_not_skipped(content: str, tmp_path: Path) -> None:
    records.write(tmp_path, record_of())
    (tmp_path / records.FOLDER / "foreign.json").write_text(content)
    with pytest.raises(UserError, match=r"foreign\.json"):
        records.find([tmp_path])


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        records.find([tmp_path / "none"])
    with pytest.raises(UserError, match="holds no record"):
        records.find([tmp_path])
    assert records.find([tmp_path / "none", tmp_path], empty=True) == []


def test_temporary_files_of_other_writers_are_no_records(tmp_path: Path) -> None:
    path = records.write(tmp_path, record_of())
    (path.parent / f".tmp-{path.name}").write_text("{")
    assert len(records.find([tmp_path])) == 1


def test_concurrent_writers_spoil_nothing(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(json.dumps(record_of()))
    code = (
        "import json, sys; from pathlib import Path; from harness import records\n"
        "record = json.loads(Path(sys.argv[1]).read_text())\n"
        "for i in range(20):\n"
        "    record['seed'] = i\n"
        "    records.write(Path(sys.argv[2]), record)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "record.json"), str(tmp_path / "out")]
    writers = [subprocess.Popen(command) for _ in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    assert {r["seed"] for _, r in records.find([tmp_path / "out"])} == set(range(20))
    assert len(list((tmp_path / "out" / records.FOLDER).iterdir())) == 20


def test_examples_are_named_by_content(tmp_path: Path) -> None:
    name = records.write_example(tmp_path, b"jpeg")
    assert records.write_example(tmp_path, b"jpeg") == name
    assert (tmp_path / name).read_bytes() == b"jpeg"
    example = {"file": "../../etc/passwd", "path": "x", "defect": "d", "score": 1.0,
               "outcome": "found"}  # fmt: skip
    with pytest.raises(UserError, match="artifacts/examples/0/file"):
        records.write(tmp_path, record_of(examples=[example]))
