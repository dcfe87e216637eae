"""What is remembered of builds while they run, and when it is."""

from __future__ import annotations

import asyncio
import os

import pytest

from rocmbuild.events import StepEnded, TaskEnded, TaskFailed, TaskStarted
from rocmbuild.run.efforts import Efforts
from rocmbuild.run.measured import Measured
from rocmbuild.run.recorder import Place, Recorder, disk_usage, longest_edge
from rocmbuild.run.task import Task

AREA = "debian-forky/debian-forky-amd64"


@pytest.fixture
def measured(tmp_path):
    return Measured(tmp_path / "measured" / "cpu-2")


class Build:
    """A component that is built, by the events and files that a run makes."""

    def __init__(self, tmp_path, measured, **options):
        self.directory = tmp_path / "build" / "comgr"
        (self.directory / "build").mkdir(parents=True)
        (self.directory / "stage").mkdir()
        (self.directory / "stage/lib.so").write_bytes(b"x" * 100_000)
        self.place = Place(AREA, "comgr", self.directory, self.directory / "build", self.directory / "tree.json")
        self.measured = measured
        self.options = options

    def configure(self):
        self.place.configured.unlink(missing_ok=True)
        (self.directory / "new").write_text("{}")
        (self.directory / "new").rename(self.place.configured)
        log = "# ninja log v7\n0\t90000\t1\ta.o\tabc\n0\t90000\t1\ta.d\tabc\n0\t10000\t1\tb.o\tdef\n"
        (self.place.build / ".ninja_log").write_text(log)

    def run(self, *ended, anew=True, steps=(("build", 60.0, 95.0),)):
        """Send the events of a run; return what is known then, and the efforts."""
        efforts = Efforts([Task("comgr", ())], 2, 2)
        recorder = Recorder(self.measured, {"comgr": self.place}, efforts, **self.options)

        async def send():
            for event in (TaskStarted(0.0, "comgr"), *(StepEnded(1.0, "comgr", *step, 3 << 20) for step in steps)):
                if isinstance(event, StepEnded) and event.step == "build" and anew:
                    self.configure()
                efforts(event)
                recorder(event)
            for event in ended or (TaskEnded(2.0, "comgr", "done", 70.0),):
                recorder(event)
            await recorder.finish()

        asyncio.run(send())
        return self.measured.known(AREA, ["comgr"]).here.get("comgr"), efforts


def test_a_component_is_recorded_as_soon_as_it_is_built(tmp_path, measured):
    build = Build(tmp_path, measured)
    found, efforts = build.run(steps=[("configure", 5.0, 4.0), ("build", 60.0, 95.0), ("package", 3.0, 1.0)])
    assert (found.seconds, found.cpu_seconds, found.serial, found.shared) == (68.0, 100.0, 8.0, 95.0)
    assert (found.memory, found.jobs, found.whole) == (3 << 20, 2, True)
    assert found.disk >= 100_000
    assert found.longest == efforts.of("comgr").longest == 85.0


def test_what_goes_on_in_an_earlier_tree_does_not_shrink_the_record(tmp_path, measured):
    build = Build(tmp_path, measured)
    whole, _ = build.run()
    found, _ = build.run(anew=False, steps=[("build", 1.0, 1.0)])
    assert found == whole


def test_the_first_that_is_known_of_a_component_may_be_a_part_of_it(tmp_path, measured):
    build = Build(tmp_path, measured)
    build.configure()
    found, _ = build.run(anew=False, steps=[("build", 1.0, 1.0)])
    assert (found.whole, found.shared, found.longest) == (False, 1.0, 0.0)


def test_with_a_compiler_cache_nothing_is_whole(tmp_path, measured):
    found, _ = Build(tmp_path, measured, helped=True).run()
    assert not found.whole


@pytest.mark.parametrize(
    "ended",
    [TaskEnded(2.0, "comgr", "kept", 1.0), TaskEnded(2.0, "comgr", "failed", 1.0), TaskFailed(2.0, "comgr", "b", "m")],
)
def test_what_was_not_built_to_its_end_is_not_recorded(tmp_path, measured, ended):
    assert Build(tmp_path, measured).run(ended)[0] is None


def test_of_a_build_that_failed_the_peak_of_memory_is_recorded(tmp_path, measured):
    build = Build(tmp_path, measured)
    failed = TaskFailed(2.0, "comgr", "build", "killed", memory=5 << 30)
    found, _ = build.run(failed)
    assert (found.memory, found.cpu_seconds, found.whole) == (5 << 30, 0.0, False)
    whole, _ = build.run()
    assert (whole.memory, whole.whole) == (3 << 20, True)
    found, _ = build.run(failed)
    assert (found.memory, found.shared, found.whole) == (5 << 30, whole.shared, True)


def test_what_was_only_packaged_is_not_recorded(tmp_path, measured):
    assert Build(tmp_path, measured).run(steps=[("package", 3.0, 1.0)])[0] is None


def test_a_cache_that_cannot_be_written_does_not_fail_the_build(tmp_path, measured):
    measured.directory.parent.mkdir()
    measured.directory.write_text("a file where a directory should be")
    assert Build(tmp_path, measured).run()[0] is None


def test_disk_usage_counts_hard_links_once_and_leaves_links_to_others_out(tmp_path):
    (tmp_path / "stage/deep").mkdir(parents=True)
    (tmp_path / "stage/deep/a").write_bytes(b"x" * 1_000_000)
    base = disk_usage(tmp_path)
    assert 1_000_000 <= base < 1_100_000
    os.link(tmp_path / "stage/deep/a", tmp_path / "stage/b")
    (tmp_path / "stage/c").symlink_to("/usr")
    assert disk_usage(tmp_path) - base < 20_000
    (tmp_path / "prefix").mkdir()
    (tmp_path / "prefix/other").write_bytes(b"x" * 1_000_000)
    (tmp_path / "stage/prefix").mkdir()
    (tmp_path / "stage/prefix/own").write_bytes(b"x" * 1_000_000)
    assert 2_000_000 <= disk_usage(tmp_path, frozenset({"prefix"})) < 2_200_000
    assert disk_usage(tmp_path / "nothing") == 0


def test_the_longest_edge_is_its_time_but_for_all_waiting(tmp_path):
    log = tmp_path / ".ninja_log"
    log.write_text("# ninja log v7\n0\t5000\t1\ta.o\taa\n0\t5000\t1\t/b/a.o\taa\n5000\t25000\t1\tlib\tbb\n")
    assert longest_edge(log, 25.0) == 20.0
    assert longest_edge(log, 22.0) == 17.0
    assert longest_edge(log, 30.0) == 20.0
    assert longest_edge(log, 1.0) == 0.0
    assert longest_edge(tmp_path / "none", 1.0) == 0.0
