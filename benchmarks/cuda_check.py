"""Every chain of the package once on a graphics card: does it run there, and give what it gives elsewhere?

Made phantoms, trainings of moments: nothing is said of quality. A step that fails does not stop those that can go on.
A run that was stopped goes on in its folder: what went well is not done again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from commands import environment
from costs import markdown
from rich.console import Console

from nnunet_uhf.demo import prepare
from nnunet_uhf.demo.settings import PAIRS, PAIRS_ID, PLANS, TISSUES_DATASET, TISSUES_ID, DemoSettings, Folders
from nnunet_uhf.imageio.output import written_whole
from nnunet_uhf.nnunet.model_folder import ModelFolder

TRAINERS = Path(__file__).with_name("cuda_check_trainers")
CONFIGURATIONS = ("2d", "3d_fullres")
PRESETS = {"reference": "UHFKeeperTrainer_check", "efficient": "UHFKeeperTrainerEfficient_check"}
TRAIN = "nnunetv2.run.run_training:run_training_entry"
PLAN = "nnunetv2.experiment_planning.plan_and_preprocess_entrypoints:plan_and_preprocess_entry"
PREDICT = "nnunetv2.inference.predict_from_raw_data:predict_entry_point"
EXPORT = "nnunetv2.model_sharing.entry_points:export_pretrained_model_entry"
INSTALL = "nnunetv2.model_sharing.entry_points:install_from_zip_entry_point"
OURS = "nnunet_uhf.cli:main"
HALF_TOLERANCE = 0.05
"""Of the norm of the logits' difference between half and single precision, relative to their norm."""
COMPILED_TOLERANCE = 0.02

console = Console()
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass
class Check:
    """A run: where it works, on what, and what came of each step."""

    out: Path
    device: str
    iterations: int
    settings: DemoSettings
    rows: list[tuple[str, str, float, str]] = field(default_factory=list)
    before: dict[str, tuple[str, str, float, str]] = field(default_factory=dict)

    def take_up(self) -> None:
        """Know what went well in a run before, in the same folder."""
        if self.record.is_file():
            rows = [tuple(row) for row in json.loads(self.record.read_text())]
            self.before = {row[0]: row for row in rows if row[1] == "ok"}

    @property
    def folders(self) -> Folders:
        """Of the phantoms and of nnU-Net."""
        return Folders(self.out)

    def variables(self, *, results: Path | None = None, **further: str) -> dict[str, str]:
        """Of the commands; nothing is compiled unless asked for."""
        folders = self.folders
        own = {
            "nnUNet_raw": str(folders.raw),
            "nnUNet_preprocessed": str(folders.preprocessed),
            "nnUNet_results": str(results or folders.results),
            "CUDA_CHECK_ITERATIONS": str(self.iterations),
            "CUDA_CHECK_EPOCHS": "1",
        }
        return environment(self.out, trainers=TRAINERS, **{**own, **further})

    def call(self, entry: str, *words: str | Path, **variables: str) -> None:
        """Run a command by its entry point: scripts need not be installed. RuntimeError with its last lines."""
        log = self.out / "logs" / f"{len(self.rows):02d}.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("a") as stream:
            done = subprocess.run(
                command(entry, *words), env=self.variables(**variables), stdout=stream, stderr=subprocess.STDOUT
            )
        if done.returncode:
            last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-1:]
            raise RuntimeError(f"{words[0] if words else entry}: {' '.join(last)[:160]} ({log})")

    def train(self, dataset: int, configuration: str, trainer: str, *words: str, **variables: str) -> None:
        """A training of moments."""
        name = f"{trainer}_check"
        variables = {"nnUNet_n_proc_DA": "0" if self.device == "cpu" else "4", **variables}  # 0 breaks planning
        self.call(TRAIN, str(dataset), configuration, "0", "-tr", name, "-p", PLANS, *self.on, *words, **variables)

    @property
    def on(self) -> tuple[str, str]:
        """The option of the device."""
        return "-device", self.device

    def keeper(self, configuration: str, preset: str) -> Path:
        """A keeper file."""
        return self.out / f"{preset}_{configuration}.safetensors"

    @property
    def record(self) -> Path:
        """What came of each step so far."""
        return self.out / "steps.json"

    def step(self, name: str, run: Callable[[], str | None]) -> None:
        """Run one step, unless it went well before, and write down how it went."""
        if name in self.before:
            self.rows.append(self.before[name])
            return
        start = time.monotonic()
        try:
            state, note = "ok", run() or ""
        except Exception as error:  # noqa: BLE001 - whatever breaks is what is looked for
            state, note = "FAILED", str(error).replace("\n", " ")[:300]
        self.rows.append((name, state, time.monotonic() - start, note))
        console.print(f"{state:6} {name} ({self.rows[-1][2]:.0f} s) {note}", markup=False, soft_wrap=True)
        known = {**self.before, **{row[0]: row for row in self.rows}}  # what comes later went well before
        with written_whole(self.record) as temporary:
            temporary.write_text(json.dumps(list(known.values()), indent=1))


def command(entry: str, *words: str | Path) -> list[str]:
    """A command line that calls an entry point `module:function`."""
    module, _, function = entry.partition(":")
    code = f"import sys; from {module} import {function} as run; sys.argv[0] = '{function}'; sys.exit(run())"
    return [sys.executable, "-c", code, *map(str, words)]


# ---- steps


def data(check: Check) -> None:
    """Phantoms, datasets, plans."""
    folders, settings = check.folders, check.settings
    prepare.write_phantoms(settings, folders)
    check.call(
        OURS, "simulate", "-i", folders.phantoms("high_field"), "-o", folders.phantoms("low_field"),
        "--labels", folders.phantoms("labels"), "--preset", "t1w_0.36T_probable", "--ratio", "3",
    )  # fmt: skip
    prepare.write_datasets(settings, folders)
    check.call(
        PLAN, "-d", str(PAIRS_ID), str(TISSUES_ID), "-c", *check.settings.configurations, "-npfp", "1", "-np", "1"
    )
    prepare.write_small_plans(settings, folders)


def teacher(check: Check, configuration: str) -> None:
    """A teacher. Its summary is then made that of a good one: so short a training would be refused."""
    check.train(PAIRS_ID, configuration, "UHFTeacherTrainer")
    model = ModelFolder.of(PAIRS, "UHFTeacherTrainer_check", PLANS, configuration, results=check.folders.results)
    path = model.fold(0).summary
    summary = json.loads(path.read_text())
    summary["mean"]["prediction"]["psnr"] = summary["mean"]["input"]["psnr"] + 10
    path.write_text(json.dumps(summary))


def ask_for(check: Check, preset: str) -> None:
    """Have the pairs' dataset.json ask for a keeper of a preset."""
    sizes: dict[str, Any] = {"base_features": check.settings.keeper_features, "preset": preset}
    if preset == "reference":
        sizes["kernel_size"] = check.settings.keeper_kernel
    for folder in (check.folders.raw, check.folders.preprocessed):
        path = folder / PAIRS / "dataset.json"
        description = json.loads(path.read_text())
        description["uhf"]["architecture"] = sizes
        path.write_text(json.dumps(description))


def keeper(check: Check, configuration: str, preset: str) -> None:
    """A keeper and its file."""
    ask_for(check, preset)
    trainer = PRESETS[preset]
    check.train(PAIRS_ID, configuration, trainer.removesuffix("_check"))
    check.call(
        OURS, "export-keeper", "-d", str(PAIRS_ID), "-c", configuration, "-f", "0", "-p", PLANS, "-tr", trainer,
        "-o", check.keeper(configuration, preset), "--accept-worse",
    )  # fmt: skip


def guided(check: Check, configuration: str, preset: str, **variables: str) -> None:
    """A guided training, in a results folder of its preset."""
    check.train(TISSUES_ID, configuration, "UHFTrainer", "--npz", **guidance(check, configuration, preset), **variables)


def guidance(check: Check, configuration: str, preset: str) -> dict[str, Any]:
    """Variables of a guided training."""
    return {
        "nnUNet_UHF_KKN": str(check.keeper(configuration, preset)),
        "nnUNet_UHF_PRESET": preset,
        "results": results_of(check, preset),
    }


def results_of(check: Check, preset: str) -> Path:
    """Of guided trainings."""
    return check.out / f"results_{preset}"


def model_of(check: Check, configuration: str, preset: str) -> ModelFolder:
    """A guided model."""
    return ModelFolder.of(TISSUES_DATASET, "UHFTrainer_check", PLANS, configuration, results=results_of(check, preset))


def zip_round_trip(check: Check) -> None:
    """Predict, export, install elsewhere, predict: the same, bit for bit."""
    preset, configuration = "efficient", "2d"
    words = ("-d", str(TISSUES_ID), "-c", configuration, "-f", "0", "-tr", "UHFTrainer_check", "-p", PLANS)
    scans = check.folders.test_images
    first, second, elsewhere = check.out / "predicted", check.out / "predicted_again", check.out / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    results = results_of(check, preset)
    check.call(PREDICT, "-i", scans, "-o", first, *words, "-npp", "1", "-nps", "1", *check.on, results=results)
    archive = check.out / "model.zip"
    check.call(
        EXPORT, "-d", str(TISSUES_ID), "-c", configuration, "-f", "0", "-tr", "UHFTrainer_check", "-p", PLANS,
        "-o", archive, results=results,
    )  # fmt: skip
    check.call(INSTALL, archive, results=elsewhere)
    check.call(PREDICT, "-i", scans, "-o", second, *words, "-npp", "1", "-nps", "1", *check.on, results=elsewhere)
    differing = [p.name for p in first.glob("*.nii.gz") if p.read_bytes() != (second / p.name).read_bytes()]
    if differing or not list(first.glob("*.nii.gz")):
        raise RuntimeError(f"predictions of the installed model differ: {', '.join(differing) or 'there are none'}")


def network_of(check: Check, configuration: str, preset: str) -> tuple[Any, torch.Tensor]:
    """A trained guided network on the device, and a patch."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    os.environ.update(check.variables(results=results_of(check, preset)))
    predictor = nnUNetPredictor(device=torch.device(check.device), verbose=False, allow_tqdm=False)
    folder = model_of(check, configuration, preset).path
    predictor.initialize_from_trained_model_folder(str(folder), (0,), "checkpoint_final.pth")
    network = predictor.network.to(check.device).eval()
    network.load_state_dict(predictor.list_of_parameters[0])
    torch.manual_seed(0)
    return network, torch.randn(2, 1, *predictor.configuration_manager.patch_size, device=check.device)


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Norm of the difference relative to that of ``other``."""
    return float((one.float() - other.float()).norm() / other.float().norm())


def half_against_single(check: Check, configuration: str, preset: str) -> str:
    """Logits under autocast against those in single precision."""
    network, patch = network_of(check, configuration, preset)
    dtype = torch.float16 if check.device == "cuda" else torch.bfloat16
    with torch.no_grad():
        single = network(patch)
        with torch.autocast(check.device, dtype=dtype):
            half = network(patch)
    found = distance(half, single)
    if not found < HALF_TOLERANCE:
        raise RuntimeError(f"logits differ by {found:.2g} of their norm")
    return f"differ by {found:.1e} of their norm"


def compiled_against_eager(check: Check, configuration: str, preset: str) -> str:
    """Logits of the network compiled in regions against the same as it is, and how long the first pass took."""
    network, patch = network_of(check, configuration, preset)
    with torch.no_grad():
        eager = network(patch)
        network.compile_regions(fullgraph=True, backend="inductor" if check.device == "cuda" else "eager")
        start = time.monotonic()
        compiled = network(patch)
        took = time.monotonic() - start
    found = distance(compiled, eager)
    if not found < COMPILED_TOLERANCE:
        raise RuntimeError(f"logits differ by {found:.2g} of their norm")
    return f"differ by {found:.1e} of their norm; first pass {took:.0f} s"


def resume(check: Check) -> str:
    """A training that is killed after its first epoch goes on to its end."""
    results = check.out / "results_killed"
    variables = {**guidance(check, "2d", "efficient"), "results": results, "CUDA_CHECK_EPOCHS": "3"}
    variables["nnUNet_n_proc_DA"] = "0" if check.device == "cpu" else "4"
    words = (str(TISSUES_ID), "2d", "0", "-tr", "UHFTrainer_check", "-p", PLANS, *check.on)
    fold = ModelFolder.of(TISSUES_DATASET, "UHFTrainer_check", PLANS, "2d", results=results).fold(0)
    with (check.out / "logs" / "killed.log").open("w") as log:
        running = subprocess.Popen(command(TRAIN, *words), env=check.variables(**variables), stdout=log, stderr=log)
        while running.poll() is None and not (fold.path / "checkpoint_latest.pth").is_file():
            time.sleep(0.05)
        finished = running.poll() is not None
        running.kill()
        running.wait()
    check.call(TRAIN, *words, "--c", **variables)
    if not fold.checkpoint.is_file():
        raise RuntimeError("no final checkpoint after --c")
    return "it had ended before it could be killed" if finished else ""


def two_processes(check: Check) -> str:
    """One guided training on two cards."""
    if torch.cuda.device_count() < 2:
        return "skipped: fewer than two cards"
    results = check.out / "results_two"
    check.train(
        TISSUES_ID, "2d", "UHFTrainer", "-num_gpus", "2", **{**guidance(check, "2d", "efficient"), "results": results}
    )
    return ""


def enhance(check: Check) -> None:
    """Images of the test scans."""
    for preset in PRESETS:
        out = check.out / f"enhanced_{preset}"
        check.call(
            OURS, "enhance", "-i", check.folders.test_images, "-o", out, "-m", check.keeper("2d", preset), *check.on
        )


def run_all(check: Check) -> None:
    """All steps, in order."""
    check.step("phantoms, plans", lambda: data(check))
    for configuration in check.settings.configurations:
        check.step(f"teacher {configuration}", lambda c=configuration: teacher(check, c))
        for preset in PRESETS:
            check.step(f"keeper {preset} {configuration}", lambda c=configuration, p=preset: keeper(check, c, p))
        for preset in PRESETS:
            check.step(f"guided {preset} {configuration}", lambda c=configuration, p=preset: guided(check, c, p))
        FURTHER[configuration](check)


def further_2d(check: Check) -> None:
    """What is checked once, in 2D: other keepers, enhancing, sharing, going on, two cards."""
    check.step("keeper direct 2d", lambda: check.train(PAIRS_ID, "2d", "UHFKeeperTrainerDirect"))
    check.step("SIQT 2d", lambda: check.train(PAIRS_ID, "2d", "SIQTTrainer"))
    check.step("enhance", lambda: enhance(check))
    check.step("predict, zip, install, predict", lambda: zip_round_trip(check))
    check.step("go on after a kill", lambda: resume(check))
    check.step("two cards", lambda: two_processes(check))


def further_3d(check: Check) -> None:
    """What is checked once, in 3D: precision and compiling."""
    place = "3d_fullres"
    for preset in PRESETS:
        check.step(f"half against single, {preset} 3d", lambda p=preset: half_against_single(check, place, p))
        check.step(f"compiled against eager, {preset} 3d", lambda p=preset: compiled_against_eager(check, place, p))
    compiled = {"nnUNet_compile": "t", "results": check.out / "results_compiled"}
    check.step(
        "guided efficient 3d, compiled training",
        lambda: check.train(TISSUES_ID, place, "UHFTrainer", **{**guidance(check, place, "efficient"), **compiled}),
    )


FURTHER = {"2d": further_2d, "3d_fullres": further_3d}


def table(rows: Sequence[tuple[str, str, float, str]]) -> str:
    """What came of each step."""
    return markdown([["step", "state", "seconds", "note"], *([n, s, f"{t:.0f}", note] for n, s, t, note in rows)])


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="Folder for the work; empty, not there, or of a run that goes on.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="On the CPU, with next to no training.")] = False,
    configuration: Annotated[
        str, typer.Option("-c", help="2d or 3d_fullres alone, in a folder of its own: two may run side by side.")
    ] = "",
) -> None:
    """Run everything once; status 1 when a step failed.

    Example: benchmarks/cuda_check.sh cuda_check
    """
    if not dry_run and not torch.cuda.is_available():
        raise typer.BadParameter("no CUDA device here; --dry-run runs on the CPU")
    if configuration and configuration not in CONFIGURATIONS:
        raise typer.BadParameter(f"-c {configuration}: {' or '.join(CONFIGURATIONS)}")
    if out.exists() and any(out.iterdir()) and not (out / "steps.json").is_file():
        raise typer.BadParameter(f"{out} is not empty and no run of this script")
    out.mkdir(parents=True, exist_ok=True)
    chosen = (configuration,) if configuration else CONFIGURATIONS
    features = {"2d": 8, "3d_fullres": 8} if dry_run else {"2d": 12, "3d_fullres": 12}
    size: dict[str, Any] = {"features": features, "patch_part": {"2d": 0.8, "3d_fullres": 0.8}}
    if dry_run:
        size |= {"subjects": 7, "held_out": 1, "stages": 3}
    else:
        size |= {"subjects": 14, "keeper_features": 12, "batch": {"2d": 12, "3d_fullres": 2}}
    shape = (24, 28, 24) if dry_run else (64, 64, 64)
    check = Check(
        out=out.resolve(),
        device="cpu" if dry_run else "cuda",
        iterations=1 if dry_run else 50,
        settings=DemoSettings(shape=shape, configurations=chosen, **size),
    )
    check.take_up()
    run_all(check)
    card = "CPU, dry run" if dry_run else torch.cuda.get_device_name()
    failed = [row[0] for row in check.rows if row[1] != "ok"]
    console.print(f"\n{card}, torch {torch.__version__}, {sum(row[2] for row in check.rows):.0f} s\n", markup=False)
    console.print(table(check.rows), markup=False, soft_wrap=True)
    raise typer.Exit(1 if failed else 0)


if __name__ == "__main__":
    app()
