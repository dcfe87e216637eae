"""What a build took is printed with its bound, kept in the cache, and what the next plan expects."""

from __future__ import annotations

import json
import re

HOST = ("--environment", "host", "-j", "2")


def test_a_plan_expects_what_the_last_whole_build_took(slow):
    before = slow.plan(*HOST)["toyslow"]
    assert (before["action"], before["basis"]) == ("BUILD", "recipe")
    text = slow.build(*HOST).stdout
    (file,) = slow.cache.glob("measured/*/slow/*/toyslow.json")
    found = json.loads(file.read_text())
    assert found["whole"]
    assert found["jobs"] == 2
    assert found["seconds"] >= found["serial"] > 0
    assert found["disk"] > 0

    elsewhere = ("--workspace", str(slow.directory / "other"), "--no-reuse")
    done = slow.run("plan", "--format", "json", *HOST, *elsewhere)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    row = next(row for row in data["jobs"] if row["component"] == "toyslow")
    assert (row["action"], row["basis"], row["disk"]) == ("BUILD", "measured", found["disk"])
    assert data["estimate"]["basis"]["measured"] >= 1
    assert data["estimate"]["seconds"] >= data["estimate"]["bound"] > 0
    table = slow.run("plan", *HOST, *elsewhere).stdout
    assert re.search(r"^about 2 min on 2 jobs, \S.* of memory, \S.* of disk$", table, re.M), table
    assert re.search(r"^basis: .*\b[0-9]+ measured\b", table, re.M), table
    columns = re.search(r"^component +action +time +cpu +memory +debs +size$", text, re.M)
    assert columns, text


def test_going_on_in_a_build_tree_does_not_shrink_the_record(slow):
    slow.build(*HOST)
    (file,) = slow.cache.glob("measured/*/slow/*/toyslow.json")
    whole = json.loads(file.read_text())
    (slow.area("toyslow") / "stamp.json").unlink()
    slow.build(*HOST, "--no-reuse")
    assert "toyslow build" in slow.steps()
    again = json.loads(file.read_text())
    assert again["whole"]
    assert again["cpu_seconds"] >= whole["cpu_seconds"]
