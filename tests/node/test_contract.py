"""What a job's spec asks of an engine."""

from node.contract import container_limits, container_of
from node.runtime.port import AttemptKey, Image
from tests.node.scripted_market import spec


def test_the_class_gives_a_slot_its_share_and_the_job_asks_for_its_disk() -> None:
    limits = container_limits(spec("busy"))
    assert limits.milli_cpus == 1000
    assert limits.memory_bytes == 2_000_000_000
    assert limits.disk_bytes == 1_000_000_000


def test_what_the_spec_says_is_what_the_engine_is_asked_for() -> None:
    job = spec("busy", env={"A": "1"}, secrets={"B": "3"}, shm_mb=64, ulimits={"nofile": 100})
    key = AttemptKey("alloc_1", 1)
    made = container_of(job, key, Image("busy", "busy", "sha256:" + "0" * 64, 1), container_limits(job), "input.txt")
    assert made.env == (("A", "1"), ("B", "3"))
    assert (made.shm_bytes, made.ulimits, made.input_name) == (64_000_000, (("nofile", 100),), "input.txt")
    assert made.checkpoint is False
