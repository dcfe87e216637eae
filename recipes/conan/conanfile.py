"""Keep one component's stage tree and packages: written beside conandata.yml, exported, never built by Conan."""

import os
import shutil

from conan import ConanFile
from conan.tools.files import copy


class Component(ConanFile):
    """The facts of conandata.yml are options with defaults, so that ``conan list`` tells them; nobody sets them."""

    package_type = "shared-library"  # its programs and libraries count when something runs
    virtualbuildenv = virtualrunenv = False  # or their scripts land in the package
    build_policy = "never"

    def init(self) -> None:
        self.options.update({name: ["ANY"] for name in self.conan_data["facts"]}, self.conan_data["facts"])

    def requirements(self) -> None:
        for reference in self.conan_data["facts"]["requires"].split():
            self.requires(reference, transitive_headers=True, transitive_libs=True)

    def package_id(self) -> None:
        self.info.requires.clear()  # the version has the digests of their outputs in it

    def package(self) -> None:
        for name in self.conan_data["trees"]:
            shutil.move(os.path.join(self.source_folder, name), self.package_folder)

    def package_info(self) -> None:
        self.cpp_info.set_property("cmake_find_mode", "none")  # ROCm has CMake packages of its own
        prefixes = [os.path.join("stage", *path.split("/")) for path in self.conan_data["prefixes"]]
        self.cpp_info.builddirs = prefixes
        for kind, directories in {"include": "includedirs", "lib": "libdirs", "bin": "bindirs"}.items():
            setattr(self.cpp_info, directories, [os.path.join(prefix, kind) for prefix in prefixes])

    def deploy(self) -> None:
        """Merge the stage trees of several components: ``conan install --deployer-package '*'`` makes one prefix."""
        copy(self, "*", src=os.path.join(self.package_folder, "stage"), dst=self.deploy_folder)
