import pytest

from igcv3det.measure.free_memory import free_mib

MIB = 2**20


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 16 * 1024),
        ({"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 2048 kB\n"}, 2),
        (
            {  # a container with 512 MiB, of which 200 are in use, 50 of them cached files
                "proc/meminfo": "MemAvailable: 8388608 kB\n",
                "sys/fs/cgroup/memory.max": f"{512 * MIB}\n",
                "sys/fs/cgroup/memory.current": f"{200 * MIB}\n",
                "sys/fs/cgroup/memory.stat": f"anon 1\ninactive_file {50 * MIB}\n",
            },
            362,
        ),
        (
            {  # no limit
                "proc/meminfo": "MemAvailable: 2048 kB\n",
                "sys/fs/cgroup/memory.max": "max\n",
                "sys/fs/cgroup/memory.current": f"{200 * MIB}\n",
            },
            2,
        ),
        (
            {  # version 1
                "proc/meminfo": "MemAvailable: 8388608 kB\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{100 * MIB}\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{70 * MIB}\n",
                "sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {5 * MIB}\n",
            },
            35,
        ),
    ],
)
def test_the_least_of_machine_and_container(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert free_mib(tmp_path) == expected


def test_this_machine_has_some():
    assert 0 < free_mib() < 2**24
