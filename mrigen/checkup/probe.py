"""Run in a process of its own (`python -m mrigen.checkup.probe`): what TensorFlow sees, as one line of JSON.

A process of its own, because a TensorFlow that does not fit the machine may end the process that loads it, and because
what its C++ says of GPUs goes to stderr, where only another process can read it.
"""

import json
import sys
import time


def look() -> dict:
    """Returns what TensorFlow sees of the machine."""
    began = time.perf_counter()
    import tensorflow as tf

    from mrigen.errors import UsageError
    from mrigen.training.precision import choose_precision
    from mrigen.training.refusals import check_precision
    from mrigen.training.workers import find_cluster

    gpus = []
    for device in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(device)
        capability = ".".join(map(str, details.get("compute_capability", ())))
        gpus.append({"name": details.get("device_name", "GPU"), "compute_capability": capability})
    policy, reason = choose_precision("auto")
    faults = {}
    try:
        check_precision(policy, max(1, len(gpus)))
    except UsageError as error:
        faults["precision"] = error.faults[0]
    try:
        find_cluster("auto")
    except UsageError as error:
        faults["workers"] = error.faults[0]
    build = tf.sysconfig.get_build_info()
    return {
        "version": tf.__version__,
        "built_with_cuda": tf.test.is_built_with_cuda(),
        "cuda_version": build.get("cuda_version"),
        "gpus": gpus,
        "precision": policy,
        "precision_reason": reason,
        "faults": faults,
        "seconds": round(time.perf_counter() - began, 1),
    }


if __name__ == "__main__":
    print(json.dumps(look()), file=sys.stdout, flush=True)
