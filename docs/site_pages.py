"""Pages that are made when the site is built: the files at the top, the examples with their pictures, the reference.

The reference is read from the working tree, in the layout the package is installed in. Examples are run; one that fails
ends the build. A picture is drawn again when its script or the package has changed.
"""

from __future__ import annotations

import ast
import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "docs" / "examples"
DRAWN = ROOT / "build" / "examples"
TOP = {"README.md": "index.md", "ARCHITECTURE.md": "architecture.md", "CONTRIBUTING.md": "contributing.md"}
TOP |= {"CHANGELOG.md": "changelog.md"}
FOLDERS = {"trainers": "trainers", "preprocessing": "preprocessing"}
LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")
GROUND = "ground_floor"
SECONDS = 300  # of one example; each takes less than a minute on a core of its own
WORKERS = 2

log = logging.getLogger("mkdocs.hooks.site_pages")


@event_priority(100)
def on_config(config: Any) -> Any:
    """Lay the package out as it is installed, before mkdocstrings looks for it, and fill the drawers."""
    installed = ROOT / "build" / "reference"
    shutil.rmtree(installed, ignore_errors=True)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "nnunet_uhf", installed / "nnunet_uhf", ignore=ignore)
    for name, folder in FOLDERS.items():
        shutil.copytree(ROOT / folder, installed / "nnunet_uhf" / name, ignore=ignore)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [str(installed)]
    config.nav = [_filled(entry, installed / "nnunet_uhf") for entry in config.nav]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the made pages."""
    with ThreadPoolExecutor(WORKERS) as pool:
        pictures = dict(zip(scripts(), pool.map(drawn, scripts()), strict=True))
    for name, page in TOP.items():
        files.append(File.generated(config, page, content=_moved_links((ROOT / name).read_text(encoding="utf-8"))))
    for script, picture in pictures.items():
        files.append(File.generated(config, f"examples/{script.stem}.md", content=_example_page(script, picture)))
        files.append(File.generated(config, f"examples/{picture.name}", abs_src_path=str(picture)))
    package = ROOT / "build" / "reference" / "nnunet_uhf"
    files.append(File.generated(config, "reference/index.md", content=_front_page()))
    for room in _rooms(package):
        files.append(File.generated(config, f"reference/{room}.md", content=_room_page(package, room)))
    return files


def scripts() -> list[Path]:
    """The examples, by name."""
    return sorted(EXAMPLES.glob("*.py"))


def drawn(script: Path) -> Path:
    """The picture of an example, which is run unless it has been drawn from the same sources."""
    picture = DRAWN / f"{script.stem}-{_sources(script)}.png"
    if picture.exists():
        return picture
    log.info("running %s", script.name)
    DRAWN.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(script), str(Path(folder) / "picture.png")]
        environment = {**os.environ, "MPLBACKEND": "Agg"}
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        if done.returncode != 0:
            raise PluginError(f"{script.name} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        shutil.copy(Path(folder) / "picture.png", picture)
    return picture


def _sources(script: Path) -> str:
    """A hash of the script and of the package."""
    digest = hashlib.sha256(script.read_bytes())
    for folder in ("nnunet_uhf", "preprocessing"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:10]


def _example_page(script: Path, picture: Path) -> str:
    """Title and text of the script's docstring, its picture, its code."""
    code = script.read_text(encoding="utf-8")
    tree = ast.parse(code)
    title, _, text = (ast.get_docstring(tree) or script.stem).partition("\n")
    rest = "\n".join(code.splitlines()[tree.body[0].end_lineno :]).strip()
    parts = (f"# {title.rstrip('.')}", text.strip(), f"![{title}]({picture.name})", f"`docs/examples/{script.name}`:")
    return "\n\n".join((*parts, f"```python\n{rest}\n```")) + "\n"


def _moved_links(text: str) -> str:
    """A file at the top as a page of docs/: links into docs/ lose the folder, others follow or fall away."""

    def moved(match: re.Match[str]) -> str:
        shown, target, anchor = match[1], match[2], match[3] or ""
        if target.startswith("docs/"):
            return f"[{shown}]({target.removeprefix('docs/')}{anchor})"
        if target in TOP:
            return f"[{shown}]({TOP[target]}{anchor})"
        return match[0] if "://" in target else shown

    return LINK.sub(moved, text)


def _filled(entry: dict[str, Any], package: Path) -> dict[str, Any]:
    """A drawer of the navigation, with the made pages in the places kept for them."""
    (title, content), *_ = entry.items()
    if content == "reference/":
        rooms = [{_heading(package, room): f"reference/{room}.md"} for room in _rooms(package)]
        return {title: [{"The front door": "reference/index.md"}, *rooms]}
    if not isinstance(content, list):
        return entry
    pages = [{"Examples": [f"examples/{script.stem}.md" for script in scripts()]}]
    return {title: [page for one in content for page in (pages if one == {"Examples": "examples/"} else [one])]}


def _rooms(package: Path) -> list[str]:
    """The rooms of the package, by name; the modules beside them are one."""
    rooms = {path.parent.name for path in package.glob("*/__init__.py")} - {"discovery"}  # which hands on the trainers
    return [*sorted(rooms), GROUND]


def _heading(_: Path, room: str) -> str:
    return "The ground floor" if room == GROUND else room


def _room_page(package: Path, room: str) -> str:
    """All modules of a room, in the order of their names."""
    if room == GROUND:
        modules = sorted(path.stem for path in package.glob("[!_]*.py"))
        heading = "The ground floor: what has no idea of MRI"
    else:
        modules = [room, *_modules(package, package / room)]
        heading = f"nnunet_uhf.{room}"
    return "\n\n".join([f"# {heading}", *(_entry(package, module) for module in modules)]) + "\n"


def _entry(package: Path, module: str) -> str:
    """A module with what it defines; of a package what it says of itself, as its modules come on their own."""
    options = "\n    options:\n      members: false" if (package / module.replace(".", "/")).is_dir() else ""
    return f"::: nnunet_uhf.{module}{options}"


def _modules(package: Path, room: Path) -> Iterator[str]:
    for path in sorted(room.rglob("*.py")):
        module = path.relative_to(package).with_suffix("")
        if module.name != "__init__" or len(module.parts) > 2:
            yield ".".join(module.parts).removesuffix(".__init__")


def _front_page() -> str:
    """The public names, each a link to its entry."""
    tree = ast.parse((ROOT / "nnunet_uhf" / "__init__.py").read_text(encoding="utf-8"))
    homes = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "_HOMES"
    )
    lines = [
        "# The front door",
        "",
        "`from nnunet_uhf import ...` gives these names; each is imported when it is asked for.",
    ]
    lines += ["", "| Name | Defined in |", "|---|---|"]
    lines += [f"| [`{name}`][nnunet_uhf.{home}.{name}] | `nnunet_uhf.{home}` |" for name, home in homes.items()]
    return "\n".join(lines) + "\n"
