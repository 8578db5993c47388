"""Whether a run shows faces, and that this is said once."""

import logging
from types import SimpleNamespace

import pandas as pd
import pytest

from mrigen.recipe import load_recipe
from mrigen.runs import faces
from mrigen.runs.faces import shows_faces, warn_of_faces


def make_run(*changes, files=True, directory="runs/a", size=3100.0, **columns):
    table = pd.DataFrame({"scan_id": list("abcd"), "head_volume_ml": size} | columns)
    return SimpleNamespace(
        recipe=load_recipe("vae", [*(["data.root=/data"] if files else []), *changes]),
        subjects=table,
        directory=directory,
    )


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (make_run(), True),
        (make_run("data.source=phantom", files=False), False),
        (make_run(size=1400.0), False),
        (make_run(skull_stripped=list("yyyn")), False),
        (make_run(skull_stripped=list("nnnn"), defaced=list("nnny")), True),
        (make_run(defaced="y"), False),
        (make_run("data.mask=dlmuse", "data.apply_mask=true", mask_path="/data/mask"), False),
        (make_run("data.mask=dlmuse", "data.apply_mask=true", mask_path=[None, None, None, "/data/mask"]), True),
        (make_run("data.mask=dlmuse", mask_path="/data/mask"), True),
    ],
)
def test_faces_are_where_heads_are_whole(run, expected):
    assert shows_faces(run) is expected


def test_it_is_said_once_a_run(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(faces, "_TOLD", set())
    with caplog.at_level(logging.WARNING, "mrigen"):
        for name in ("a", "a", "b"):
            warn_of_faces(make_run(directory=tmp_path / name))
        warn_of_faces(make_run("data.source=phantom", files=False, directory=tmp_path / "c"))
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        str(tmp_path / "a"),
        str(tmp_path / "b"),
    ]


def test_images_of_a_run_say_it_when_they_are_written_and_means_of_many_do_not(run_copy, tmp_path, monkeypatch, caplog):
    from mrigen.generation import sample, template

    monkeypatch.setattr(faces, "_TOLD", set())
    monkeypatch.setattr(faces, "shows_faces", lambda run: True)

    def told():
        return [record for record in caplog.records if "people's faces" in record.getMessage()]

    with caplog.at_level(logging.WARNING, "mrigen"):
        template(run_copy).write(tmp_path / "template")
        assert not told()
        sample(run_copy, 1).write(tmp_path / "samples")
    assert len(told()) == 1
