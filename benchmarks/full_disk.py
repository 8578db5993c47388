"""What a full disk does to a fit: python -m benchmarks.full_disk (Linux, as root: it mounts small file systems)

For disks of several sizes: the exit status, the message, what stands in the run folder, and whether an earlier file on
the same disk is whole. Expected: status 1 (0 where everything fits), one line, no half-written file.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = "from mrigen_cli.main import main; main()"
SIZES_KB = (40, 60, 100, 1600, 3600, 4000, 4200, 4600, 5200, 8000)


def main() -> None:
    """Prints one paragraph a size."""
    for size in SIZES_KB:
        with tempfile.TemporaryDirectory() as disk:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", disk], check=True)
            try:
                _fit_on(Path(disk), size)
            finally:
                subprocess.run(["umount", disk], check=True)


def _fit_on(disk: Path, size: int) -> None:
    earlier = disk / "earlier.txt"
    earlier.write_text("precious")
    run = disk / "run"
    command = [sys.executable, "-c", PROGRAM, "fit", "smoke", "--run", str(run), "-q"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=disk)
    halves = [path.name for path in disk.rglob(".tmp-*")]
    print(f"{size} kB: status {ended.returncode}; {len(ended.stderr.splitlines())} line(s): {ended.stderr.strip()}")
    print(f"    run: {sorted(path.name for path in run.glob('*'))}; half-written: {halves}")
    print(f"    earlier file whole: {earlier.read_text() == 'precious'}")


if __name__ == "__main__":
    main()
