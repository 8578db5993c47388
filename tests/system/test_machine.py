"""Memory as control groups leave it, of either kind and wherever in the tree."""

import pytest

from mrigen.system.machine import control_group_memory, usable_cores


def make(folder, group, limit, used, second, reclaimable=0):
    place = folder / group
    place.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if second else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    (place / names[0]).write_text(f"{limit}\n")
    (place / names[1]).write_text(f"{used}\n")
    key = "inactive_file" if second else "total_inactive_file"
    (place / "memory.stat").write_text(f"anon 5\n{key} {reclaimable}\n")


@pytest.fixture
def system(tmp_path):
    """(proc, root of control groups), and a way to say in which group the process is."""
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    root.mkdir()

    def be_in(lines):
        (proc / "self" / "cgroup").write_text(lines)

    return proc, root, be_in


def test_the_tightest_group_on_the_way_up_counts(system):
    proc, root, be_in = system
    be_in("0::/slurm/job_7/step_0\n")
    make(root, "slurm/job_7/step_0", "max", 100, second=True)
    make(root, "slurm/job_7", 1000, 300, second=True)
    make(root, "slurm", 5000, 600, second=True)
    assert control_group_memory(proc, root) == 700


def test_files_that_are_only_kept_in_memory_are_free(system):
    proc, root, be_in = system
    be_in("0::/\n")
    make(root, ".", 1000, 900, second=True, reclaimable=400)
    assert control_group_memory(proc, root) == 500


def test_the_older_kind_counts_beside_an_empty_newer_one(system):
    proc, root, be_in = system
    be_in("9:name=systemd:/\n4:cpu,memory:/docker/abc\n0::/\n")
    make(root, "memory/docker/abc", 1000, 250, second=False, reclaimable=50)
    assert control_group_memory(proc, root) == 800


def test_in_a_container_the_path_is_the_hosts_and_the_root_is_its_own(system):
    proc, root, be_in = system
    be_in("4:memory:/docker/abc\n")
    make(root, "memory", 1000, 250, second=False)
    assert control_group_memory(proc, root) == 750


def test_without_groups_or_limits_nothing_is_known(system):
    proc, root, be_in = system
    assert control_group_memory(proc, root) is None
    be_in("0::/user\n")
    make(root, "user", "max", 100, second=True)
    assert control_group_memory(proc, root) is None


def test_at_least_one_core_may_be_used():
    assert usable_cores() >= 1
