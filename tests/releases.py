"""Small releases written as YAML text, for a machine like this and for one that is not."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from rocmbuild.model.manifest import Manifest, load_manifest
from rocmbuild.model.recipe import Recipe
from rocmbuild.model.recipe_reader import load_recipe
from rocmbuild.model.target import CrossTools, Distribution, Emulator, Suite, Target
from rocmbuild.plan.fingerprint import store_key
from rocmbuild.plan.graph import Machine, Node
from rocmbuild.plan.history import Built, Stored
from rocmbuild.plan.plan import Plan
from rocmbuild.plan.planner import make_plan
from rocmbuild.plan.selection import Selection

TARGET = Target(
    name="pc",
    summary="",
    triple="x86_64-linux-gnu",
    arch="amd64",
    variant=None,
    machines=("x86_64",),
    distribution=None,
    elf_machine="EM_X86_64",
    elf_flags=None,
    isa=None,
    flags=("-O2",),
    gcc_flags=("-mtune=generic",),
    assembler=(),
    emulator=None,
)
BOARD = Target(
    name="board",
    summary="",
    triple="riscv64-linux-gnu",
    arch="riscv64",
    variant=None,
    machines=("riscv64",),
    distribution=None,
    elf_machine="EM_RISCV",
    elf_flags=5,
    isa="rv64gc",
    flags=("-march=rv64gc", "-mabi=lp64d"),
    gcc_flags=("-mtune=thead-c906",),
    assembler=("-mattr=+m,+a", "-target-abi=lp64d"),
    emulator=Emulator("qemu-riscv64", "thead-c906"),
)
CROSS_TOOLS = CrossTools(
    cc="/usr/lib/llvm-17/bin/clang",
    cxx="/usr/lib/llvm-17/bin/clang++",
    linker="/usr/lib/llvm-19/bin/ld.lld",
    binutils="/usr/lib/llvm-17/bin",
    gcc="14",
    packages=("clang-17", "lld-19"),
    emulators="qemu-user",
)
DISTRIBUTION = Distribution(
    name="testix",
    summary="",
    tag="testix1",
    release_id=None,
    architectures=("amd64", "riscv64"),
    suites=(Suite("sid", "main", ("main",)),),
    cc="/usr/bin/gcc",
    cxx="/usr/bin/g++",
    system=("dash:native", "libc6-dev"),
    cross=CROSS_TOOLS,
)

HEAD = "format: 1\nbranch: small\nversion: '5.6.1'\ndistribution: testix\n"


@dataclass
class Release:
    """A release in a directory of its own: recipes and a manifest as text, a selection as values."""

    directory: Path
    target: Target = TARGET
    distribution: Distribution = DISTRIBUTION
    changes: dict = field(default_factory=dict)

    def recipe(self, name: str, text: str = "", **files: str) -> Path:
        """Write a recipe; ``text`` follows its first lines, ``files`` lie beside it (``_`` stands for a dot)."""
        directory = self.directory / "recipes" / name
        directory.mkdir(parents=True, exist_ok=True)
        head = f"format: 1\ncomponent: {name}\nsummary: the {name}\n"
        (directory / "recipe.yaml").write_text(head + textwrap.dedent(text))
        for file, content in files.items():
            (directory / file.replace("_", ".")).write_text(content)
        return directory

    def manifest(self, text: str, head: str = HEAD) -> Path:
        """Write the manifest; ``text`` follows its first lines."""
        path = self.directory / "manifests" / "small.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(head + textwrap.dedent(text))
        return path

    def components(self, *names: str) -> Path:
        """Write a manifest of components that have no source and version 1.0."""
        return self.manifest("components:\n" + "".join(f"  {name}: {{version: '1.0'}}\n" for name in names))

    def load(self) -> tuple[Manifest, dict[str, Recipe]]:
        """Return the manifest and the recipes of its components."""
        manifest = load_manifest(self.directory / "manifests" / "small.yaml")
        return manifest, {name: load_recipe(self.directory / "recipes" / name) for name in manifest.components}

    def selection(self, **changes) -> Selection:
        """Return the selection of everything, with fields changed."""
        manifest, recipes = self.load()
        selection = Selection(
            manifest=manifest,
            recipes=recipes,
            target=self.target,
            distribution=self.distribution,
            gpus=("gfx1030",),
            system=frozenset(),
            tools={"cmake": "3.31", "ninja": "1.13"},
        )
        return replace(selection, **{**self.changes, **changes})

    def plan(
        self,
        built: Mapping[str, Built] | Mapping[Node, Built] | None = None,
        root: str | Mapping[Machine, str | None] | None = None,
        stored: Mapping[tuple[str, str], Stored] | None = None,
        **changes,
    ) -> Plan:
        """Return the plan of a selection; names and a single root are those of the host machine."""
        nodes = {Node(key) if isinstance(key, str) else key: value for key, value in (built or {}).items()}
        roots = root if isinstance(root, Mapping) else {Machine.HOST: root}
        return make_plan(self.selection(**changes), nodes, roots, stored)

    def cross_plan(self, *stamps, **changes) -> Plan:
        """Return the plan of a cross build, from TARGET for BOARD."""
        return self.plan(*stamps, **{"target": BOARD, "build": TARGET, **changes})


def output_of(node: Node) -> str:
    """Return the digest of what a component gave, as ``stamps_of`` has it."""
    return f"output of {node}"


def stamps_of(
    plan: Plan, root: str | Mapping[Machine, str | None] | None = "R", seconds: float = 7.0
) -> dict[Node, Built]:
    """Return stamps that say all of a plan was built, with one root or one for each machine."""
    gives = {job.node: job.key if job.provided else output_of(job.node) for job in plan.jobs}
    found = {}
    for job in plan.jobs:
        used = root[job.node.machine] if isinstance(root, Mapping) else root
        needs = {name: gives[node] for name, node in job.consumed.items()}
        output = output_of(job.node)
        debs = job.debs_key(output, needs, used)
        found[job.node] = Built(job.key, used, debs, seconds, output, (job.record(needs),), job.inputs)
    return found


def stored_of(plan: Plan, root: str | Mapping[Machine, str | None] = "R") -> dict[tuple[str, str], Stored]:
    """Return what a store has that was given all of a plan, once it was built as ``stamps_of`` says."""
    found = {}
    for node, known in stamps_of(plan, root).items():
        if plan.at(node).storable and known.root is not None:
            key = store_key(known.records[0].action, known.root)
            found[node.component, key] = Stored(known.output, known.packages)
    return found
