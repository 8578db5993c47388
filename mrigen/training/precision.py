"""Which compute type the layers use on this machine."""

import platform

import tensorflow as tf

from mrigen.system.machine import cpu_flags

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
# x86 and Arm names of bfloat16 arithmetic in /proc/cpuinfo.
CPU_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")


def choose_precision(requested: str) -> tuple[str, str]:
    """Returns the Keras dtype policy for `training.precision`, and why.

    `auto` takes bfloat16 where the GPU (compute capability 8.0 or more) or the CPU (AMX, AVX512_BF16) has it in
    hardware, float16 with loss scaling on older GPUs with tensor cores (7.0 or more), and float32 otherwise.
    """
    if requested != "auto":
        return POLICIES[requested], "as the recipe says"
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        capability = details.get("compute_capability", (0, 0))
        name = f"{details.get('device_name', 'GPU')}, compute capability {'.'.join(map(str, capability))}"
        if capability >= (8, 0):
            return POLICIES["bfloat16"], f"{name} has bfloat16"
        if capability >= (7, 0):
            return POLICIES["float16"], f"{name} has float16 tensor cores and no bfloat16"
        return POLICIES["float32"], f"{name} is no faster with 16 bits"
    flag = next((flag for flag in CPU_FLAGS if flag in cpu_flags()), None)
    if flag:
        return POLICIES["bfloat16"], f"the CPU has {flag}"
    return POLICIES["float32"], f"the CPU ({platform.machine()}) has no bfloat16 arithmetic"
