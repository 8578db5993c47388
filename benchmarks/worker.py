"""One contender in a process of its own: made once, then asked for a round at a time.

Called as `python -m benchmarks.worker MODULE:FACTORY SETTINGS_JSON`. The factory returns (facts, run_round): what does
not change (a dict), and a function without arguments that does one round and returns its figures (a dict). Each line
on stdin asks for a round; each reply is a line of JSON on stdout.
"""

import importlib
import json
import os
import sys

from mrigen.system.machine import peak_rss_mb


def main() -> None:
    """Serves rounds until stdin ends."""
    # Whatever the libraries print goes to stderr: stdout belongs to the replies.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    factory, settings = sys.argv[1:]
    module, name = factory.split(":")
    try:
        facts, run_round = getattr(importlib.import_module(module), name)(**json.loads(settings))
    except ModuleNotFoundError as error:
        print(json.dumps({"problem": f"not installed: {error.name}"}), file=replies)
        return
    print(json.dumps({"facts": facts}), file=replies)
    for _ in sys.stdin:
        figures = run_round()
        print(json.dumps({"figures": {"peak_rss_mb": peak_rss_mb(), **figures}}), file=replies)


def without_tensorflow() -> None:
    """Hides TensorFlow from this process: MONAI loads it through tensorboard, where a user of PyTorch has none."""
    sys.modules["tensorflow"] = None


if __name__ == "__main__":
    main()
