import pytest
import tensorflow as tf

from mrigen.training import precision


@pytest.mark.parametrize(
    ("flags", "policy"),
    [
        ({"avx512_bf16", "avx2"}, "mixed_bfloat16"),
        ({"amx_bf16"}, "mixed_bfloat16"),
        ({"bf16", "asimd"}, "mixed_bfloat16"),
        ({"avx2"}, "float32"),
        (set(), "float32"),
    ],
)
def test_auto_looks_at_the_cpu(monkeypatch, flags, policy):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [])
    monkeypatch.setattr(precision, "cpu_flags", lambda: flags)
    chosen, reason = precision.choose_precision("auto")
    assert chosen == policy
    assert "CPU" in reason


@pytest.mark.parametrize(
    ("capability", "policy"), [((9, 0), "mixed_bfloat16"), ((7, 5), "mixed_float16"), ((6, 1), "float32")]
)
def test_auto_looks_at_the_gpu_first(monkeypatch, capability, policy):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: ["a GPU"])
    details = {"compute_capability": capability, "device_name": "Card"}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda device: details)
    chosen, reason = precision.choose_precision("auto")
    assert chosen == policy
    assert "Card" in reason


def test_the_recipe_decides_where_it_says_so():
    assert precision.choose_precision("float16") == ("mixed_float16", "as the recipe says")
