"""What is remembered of builds: where, and what it says to later plans."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import replace

import pytest

from rocmbuild.plan.estimate import BRIEF, Known, Measurement, of_measurement
from rocmbuild.plan.graph import Machine
from rocmbuild.plan.history import Action
from rocmbuild.run.measured import Measured, estimated, machine_slug

AREA = "debian-forky/debian-forky-amd64"
WHOLE = Measurement(130.0, 215.0, 10.0, 200.0, 900 << 20, 214 << 20, 2, 30.0)


@pytest.fixture
def measured(tmp_path):
    return Measured(tmp_path / "measured" / "cpu-2")


def test_what_was_recorded_is_known(measured):
    assert measured.known(AREA, ["comgr"]) == Known({}, {})
    measured.record(AREA, "comgr", WHOLE)
    assert measured.known(AREA, ["comgr", "clr"]) == Known({"comgr": WHOLE}, {})


def test_what_is_unknown_here_is_looked_for_elsewhere_and_the_longest_taken(measured):
    for area, cpu in (("rocm-5.6.x/debian-12-amd64", 300.0), ("rocm-5.6.x/debian-13-riscv64", 250.0)):
        measured.record(area, "comgr", dataclasses.replace(WHOLE, cpu_seconds=cpu))
    known = measured.known(AREA, ["comgr"])
    assert known.here == {}
    assert known.elsewhere["comgr"][0] == "rocm-5.6.x/debian-12-amd64"
    measured.record(AREA, "comgr", WHOLE)
    assert measured.known(AREA, ["comgr"]) == Known({"comgr": WHOLE}, {})


def test_a_part_is_looked_for_elsewhere_too(measured):
    part = dataclasses.replace(WHOLE, whole=False)
    measured.record(AREA, "comgr", part)
    measured.record("other/area", "comgr", WHOLE)
    assert measured.known(AREA, ["comgr"]) == Known({"comgr": part}, {"comgr": ("other/area", WHOLE)})


@pytest.mark.parametrize("text", ["", "{", "[]", '{"whole": true}', '{"whole": true, "seconds": "much"}'])
def test_a_damaged_record_is_none(measured, text):
    measured.record(AREA, "comgr", WHOLE)
    file = measured.directory / AREA / "comgr.json"
    file.write_text(text)
    assert measured.known(AREA, ["comgr"]) == Known({}, {})
    measured.record(AREA, "comgr", dataclasses.replace(WHOLE, whole=False))
    assert measured.known(AREA, ["comgr"]).here["comgr"].memory == WHOLE.memory


X86 = "processor\t: 0\nmodel name\t: AMD EPYC 7B13 (64 cores)\nprocessor\t: 1\nmodel name\t: other\n"
RISCV = "processor\t: 0\nhart\t: 1\nisa\t: rv64imafdcv\nuarch\t: thead,c920\n"


@pytest.mark.parametrize(
    ("text", "slug"),
    [(X86, "amd-epyc-7b13-64-cores-8"), (RISCV, "thead-c920-8"), ("", f"{os.uname().machine.replace('_', '-')}-8")],
)
def test_machines_are_told_apart_by_their_processors(tmp_path, text, slug):
    (tmp_path / "cpuinfo").write_text(text)
    assert machine_slug(tmp_path / "cpuinfo", 8) == slug


def test_this_machine_has_a_name():
    assert machine_slug().endswith(f"-{len(os.sched_getaffinity(0))}")
    assert "/" not in machine_slug()


def test_a_plan_is_estimated_by_what_was_measured_for_the_machine_of_each_job(make_site, measured):
    site = make_site()
    here, tools = (
        f"{area.workspace.branch}/{area.workspace.area}"
        for area in (site.areas[machine] for machine in (Machine.HOST, Machine.BUILD))
    )
    measured.record(here, "llvm", WHOLE)
    measured.record(tools, "llvm", dataclasses.replace(WHOLE, serial=0.0, shared=50.0))
    plan = estimated(site.plan, site.areas, measured, 2)
    assert plan.job("llvm").estimate == of_measurement(WHOLE, 2)
    assert (plan.job("llvm", Machine.BUILD).cost, plan.job("llvm", Machine.BUILD).estimate.basis) == (30.0, "measured")
    assert plan.job("zstd").estimate.basis == "recipe, scaled"
    assert plan.job("zstd", Machine.BUILD).estimate.basis == "recipe, scaled"
    assert plan.job("device").estimate == BRIEF, "what is taken over is not compiled"


def test_a_plan_that_compiles_nothing_is_not_estimated(make_site, measured):
    site = make_site()
    measured.record("small/testix-riscv64", "llvm", WHOLE)
    done = replace(site.plan, jobs=tuple(replace(job, action=Action.KEEP) for job in site.plan.jobs))
    assert estimated(done, site.areas, measured, 2) is done
