"""A fit, samples and a probe touch no network; what they write has the permissions that the umask asks for."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os
import stat
import sys

tried = []


def hook(event, arguments):
    address = arguments[1] if event.startswith("socket.") and len(arguments) > 1 else None
    if event == "socket.bind" and address[0] in ("::1", "127.0.0.1"):
        return  # urllib3 asks so whether there is IPv6; nobody hears it.
    # Sockets between processes of one machine that have a path are no network.
    if event in ("socket.connect", "socket.sendto", "socket.bind") and not isinstance(address, (str, bytes)):
        tried.append((event, arguments[1]))
        raise OSError(f"the network was touched: {event} {arguments[1]}")
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "urllib.Request", "webbrowser.open"):
        tried.append((event, arguments[:2]))
        raise OSError(f"the network was touched: {event} {arguments[:2]}")


sys.addaudithook(hook)
os.umask(0o027)

from mrigen_cli.main import main


def run(*words):
    try:
        main(list(words))
    except SystemExit as ended:
        assert not ended.code, (words, ended.code)


small = ["data.num_subjects=10", "preprocess.zooms=12", "preprocess.volume_shape=[16,20,16]", "training.epochs=1"]
run("fit", "smoke", *[word for change in small for word in ("--set", change)], "--run", "runs/one", "-q")
run("sample", "--run", "runs/one", "-n", "2", "-q")
run("qc", "--run", "runs/one", "-q")

assert not tried, tried
foreign = {"wandb", "mlflow", "huggingface_hub", "sentry_sdk", "requests_toolbelt"} & set(sys.modules)
assert not foreign, foreign
wrong = []
for folder, _, files in os.walk("."):
    for path, expected in [(folder, 0o750), *((os.path.join(folder, name), 0o640) for name in files)]:
        mode = stat.S_IMODE(os.stat(path).st_mode)
        if path != "." and mode != expected:
            wrong.append((path, oct(mode)))
assert not wrong, wrong
print("looked at", sum(len(files) for _, _, files in os.walk(".")), "files")
"""


def test_nothing_is_sent_or_fetched_and_permissions_follow_the_umask(tmp_path):
    folder, cache = tmp_path / "here", tmp_path / "here" / "cache"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**_environment(), "MRIGEN_CACHE": str(cache)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split("looked at ")[1].split()[0]) > 20
    assert (folder / "runs" / "one" / "samples").is_dir() and any(cache.iterdir())


def _environment():
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))}
