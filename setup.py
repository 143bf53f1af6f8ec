"""Build rules that pyproject.toml cannot express: the package folders and the start-up file."""

from __future__ import annotations

from pathlib import Path

from setuptools import Command, find_packages, setup
from setuptools.command.build import build

FOLDERS = {"nnunet_uhf.trainers": "trainers", "nnunet_uhf.preprocessing": "preprocessing"}
STARTUP = "_nnunet_uhf_startup"


def all_packages() -> list[str]:
    """Names of all packages, those that live in folders of their own included."""
    packages = find_packages(include=["nnunet_uhf", "nnunet_uhf.*"])
    for name, folder in FOLDERS.items():
        packages += [name, *(f"{name}.{package}" for package in find_packages(folder))]
    return packages


class BuildStartup(Command):
    """Writes the start-up module and the ``.pth`` that imports it to the root of the wheel.

    As part of the wheel both are in its RECORD, so that uninstalling removes them. In editable mode
    setuptools takes the files that are really installed from where the ``install`` command would put them.
    """

    description = "add the file that registers the trainers when Python starts"
    user_options: list[tuple[str, str | None, str]] = []  # noqa: RUF012 - setuptools asks for a list

    def initialize_options(self) -> None:
        self.build_lib: str | None = None
        self.editable_mode = False

    def finalize_options(self) -> None:
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self) -> None:
        folder = self.get_finalized_command("install").install_lib if self.editable_mode else self.build_lib
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        self.copy_file("nnunet_uhf/installation/startup.py", str(target / f"{STARTUP}.py"), preserve_mode=False)
        (target / f"{STARTUP}.pth").write_text(f"import {STARTUP}\n", encoding="ascii")

    def get_outputs(self) -> list[str]:
        if self.editable_mode:
            return []
        return [str(Path(self.build_lib or "") / f"{STARTUP}{suffix}") for suffix in (".py", ".pth")]

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    def get_source_files(self) -> list[str]:
        return ["nnunet_uhf/installation/startup.py"]


class Build(build):
    sub_commands = [*build.sub_commands, ("build_startup", None)]  # noqa: RUF012 - as setuptools declares it


setup(
    packages=all_packages(),
    package_dir=dict(FOLDERS),
    cmdclass={"build": Build, "build_startup": BuildStartup},
)
