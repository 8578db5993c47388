"""Keras that is set up for something else is refused before anything is loaded."""

import sys

import pytest

from mrigen.errors import UsageError
from mrigen.system.backend import keras_faults, load_tensorflow


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """A process that has not loaded Keras, with a settings file of its own."""
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("content", "backend", "expected"),
    [
        (None, None, []),
        ('{"backend": "tensorflow", "floatx": "float32"}', None, []),
        ("{not json", None, []),
        ("[1]", None, []),
        ('{"backend": "jax"}', None, ["keras.json: backend: got 'jax', expected 'tensorflow'"]),
        ('{"backend": "jax"}', "tensorflow", []),
        (None, "torch", ["KERAS_BACKEND: backend: got 'torch'"]),
        ('{"image_data_format": "channels_first", "floatx": "float16"}', None, ["channels_first", "float16"]),
    ],
)
def test_settings_of_keras_are_read_without_it(fresh, monkeypatch, content, backend, expected):
    if content is not None:
        (fresh / "keras.json").write_text(content)
    if backend is not None:
        monkeypatch.setenv("KERAS_BACKEND", backend)
    faults = keras_faults()
    assert len(faults) == len(expected) and all(part in fault for part, fault in zip(expected, faults, strict=True))
    if expected:
        with pytest.raises(UsageError, match="Correct it, and begin a new process"):
            load_tensorflow()


def test_of_a_keras_that_is_loaded_its_own_word_counts(monkeypatch):
    class Config:
        backend = staticmethod(lambda: "torch")
        image_data_format = staticmethod(lambda: "channels_last")
        floatx = staticmethod(lambda: "float32")

    class Keras:
        config = Config

    monkeypatch.setitem(sys.modules, "keras", Keras)
    assert keras_faults() == [
        "Keras, in this process: backend: got 'torch', expected 'tensorflow'. Correct it, and begin a new process."
    ]
