"""`scripts/models`: lists, builds and locks the models of the folder `marketplace/runners/`."""

from __future__ import annotations

import argparse
import fcntl
import http.client
import json
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import tomlkit

from scripts.image_push import ARCHITECTURES, Image, Registry, digest_of
from scripts.model_layers import BuildFailed, Layers, say

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "marketplace" / "runners"
OURS = PurePosixPath("/opt/reaver")
WEIGHTS = PurePosixPath("/weights")
WEIGHT_FILES = ("config.json", "vocab.json", "merges.txt")
TENSOR_FILES = ("model.safetensors", "pytorch_model.bin")
OF_THE_IMAGE = ("image", "formats", "input_schema")
"""What an entry must say of the image that it names; the rest of an entry is the operator's once it is there."""


@dataclass(frozen=True)
class Recipe:
    """A model's folder. needs_weights: they are no part of any package, the operator brings them."""

    name: str
    folder: Path
    needs_weights: bool
    entry: dict[str, Any]


def recipes() -> dict[str, Recipe]:
    """By name."""
    found = {}
    for file in sorted(SOURCE.glob("*/model.toml")):
        table = tomllib.loads(file.read_text())
        found[table["name"]] = Recipe(table["name"], file.parent, table.get("needs_weights", False), table["entry"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/models", description="the images of our models")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what can be built")
    build = commands.add_parser("build", help="build images, push them, and write the market's file of models")
    build.add_argument("names", nargs="*", metavar="NAME", help="by default all that need no weights of yours")
    build.add_argument(
        "--weights", type=Path, metavar="FOLDER", help="config.json, vocab.json, merges.txt and model.safetensors"
    )
    build.add_argument(
        "--registry", metavar="HOST:PORT", help="by default the one of scripts/registry, started if needed"
    )
    build.add_argument("--prefix", default="reaver/models", help="of the images' names in the registry (%(default)s)")
    build.add_argument(
        "--file", type=Path, metavar="MODELS.TOML", help="the market's [models] file; its entries are written"
    )
    build.add_argument(
        "--archive", type=Path, metavar="FILE", help="write one image for `docker load` instead of pushing it"
    )
    lock = commands.add_parser("lock", help="choose the wheels anew")
    lock.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    try:
        {"list": show, "build": build_all, "lock": lock_all}[arguments.command](arguments)
    except BuildFailed as failed:
        sys.exit(f"[models] {failed}")


def show(_: argparse.Namespace) -> None:
    for recipe in recipes().values():
        needs = "weights of yours" if recipe.needs_weights else "nothing"
        print(f"{recipe.name:20} {recipe.entry['default_gpu']:10} needs {needs:16} {recipe.entry['description']}")


def build_all(arguments: argparse.Namespace) -> None:
    chosen = _buildable(arguments)
    home = Path(os.environ["REAVER_CACHE"]) / "models"
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        # two at once would make the same layers twice
        fcntl.flock(lock, fcntl.LOCK_EX)
        layers = Layers(home, say)
        if arguments.archive is not None:
            (recipe,) = chosen
            image = image_of(recipe, layers, arguments.weights)
            write_archive(image, f"{arguments.prefix}/{recipe.name}:1", arguments.archive)
            built = {recipe.name: str(arguments.archive)}
        else:
            built = _push_all(
                chosen, layers, arguments.weights, arguments.registry or _started_registry(), arguments.prefix
            )
    if arguments.file is not None:
        for name, reference in built.items():
            write_entry(arguments.file, recipes()[name], reference)
        say(f"{arguments.file} names {', '.join(built)}; the market reads it when it starts ([models] file)")
    print(json.dumps(built))


def _buildable(arguments: argparse.Namespace) -> list[Recipe]:
    """What is to be built. Raises BuildFailed where an option does not go with it."""
    chosen = _chosen(arguments.names)
    left_out = arguments.weights is None and not arguments.names
    for recipe in [recipe for recipe in chosen if left_out and recipe.needs_weights]:
        say(f"{recipe.name} is left out: it needs weights (scripts/models build {recipe.name} --weights FOLDER)")
        chosen.remove(recipe)
    for recipe in chosen:
        if recipe.needs_weights and arguments.weights is None:
            raise BuildFailed(f"{recipe.name} has no weights of its own: give --weights FOLDER (docs/models.md)")
        if recipe.needs_weights:
            weight_files(arguments.weights)
    if arguments.weights is not None and not any(recipe.needs_weights for recipe in chosen):
        raise BuildFailed(f"--weights is for models that bring none; {', '.join(each.name for each in chosen)} do")
    if arguments.archive is not None and len(chosen) != 1:
        raise BuildFailed("--archive takes one image: name the model")
    if arguments.archive is not None and arguments.file is not None:
        raise BuildFailed("an archive has no name yet that nodes could pull; write its entry when it is pushed")
    return chosen


def _push_all(chosen: list[Recipe], layers: Layers, weights: Path | None, address: str, prefix: str) -> dict[str, str]:
    """References by name. Raises BuildFailed where the registry can't be reached."""
    registry = Registry(address)
    built = {}
    for recipe in chosen:
        began = time.monotonic()
        image = image_of(recipe, layers, weights)
        size = sum(layer.size for layer in image.layers)
        repository = f"{prefix}/{recipe.name}"
        try:
            known = registry.has(repository, image)
            built[recipe.name] = registry.name(repository, image) if known else registry.push(repository, image)
        except (OSError, http.client.HTTPException) as error:
            raise BuildFailed(
                f"{recipe.name} could not be pushed to {address}: {error or type(error).__name__}"
            ) from error
        took = f"{size / 1e6:.0f} MB in {len(image.layers)} layers, {time.monotonic() - began:.1f} s"
        say(f"{recipe.name}: {'unchanged' if known else 'pushed'}, {took}")
    registry.close()
    return built


def image_of(recipe: Recipe, layers: Layers, weights: Path | None) -> Image:
    """Debian's Python, wheels, weights, and last what changes most often: our own modules."""
    parts = [layers.base(), *layers.wheels(recipe.folder / "requirements.txt")]
    if recipe.needs_weights and weights is not None:
        parts.append(layers.files("the weights", weight_files(weights)))
    parts.append(layers.files("the runner", source_files(recipe)))
    settings: dict[str, object] = {
        "Env": ["PATH=/usr/bin", "LANG=C.UTF-8", "HOME=/tmp", f"PYTHONPATH={OURS}", "PYTHONDONTWRITEBYTECODE=1"],
        "Entrypoint": ["/usr/bin/python3.11", "-m", f"marketplace.runners.{recipe.folder.name}"],
        "User": "65532:65532",
        "WorkingDir": "/tmp",  # noqa: S108 - of the container
    }
    return Image.of(parts, ARCHITECTURES[platform.machine()], settings, "scripts/models")


def source_files(recipe: Recipe) -> dict[PurePosixPath, Path]:
    """The model's own modules and those that all share."""
    found = [*SOURCE.glob("*.py"), *recipe.folder.glob("*.py")]
    return {OURS / file.relative_to(ROOT).as_posix(): file for file in found}


def weight_files(folder: Path) -> dict[PurePosixPath, Path]:
    """The usual files of a weights folder. Raises BuildFailed naming what is missing."""
    missing = [name for name in WEIGHT_FILES if not (folder / name).is_file()]
    tensors = [name for name in TENSOR_FILES if (folder / name).is_file()]
    if not tensors:
        missing.append(" or ".join(TENSOR_FILES))
    if missing:
        raise BuildFailed(f"{folder} has no {', no '.join(missing)}")
    return {WEIGHTS / name: folder / name for name in (*WEIGHT_FILES, tensors[0])}


def write_archive(image: Image, name: str, to: Path) -> None:
    """What `docker load` reads."""
    with tempfile.TemporaryDirectory(dir=to.resolve().parent) as folder, tarfile.open(to, "w") as tar:
        config = digest_of(image.config).removeprefix("sha256:") + ".json"
        places = [f"{place:02}.tar.gz" for place in range(len(image.layers))]
        for place, layer in zip(places, image.layers, strict=True):
            assert isinstance(layer.packed, Path)  # noqa: S101 - layers of models lie in files
            tar.add(layer.packed, place)
        for file, text in (
            (config, image.config),
            ("manifest.json", json.dumps([{"Config": config, "RepoTags": [name], "Layers": places}]).encode()),
        ):
            (Path(folder) / file).write_bytes(text)
            tar.add(Path(folder) / file, file)


def write_entry(file: Path, recipe: Recipe, reference: str) -> None:
    """Put the model's table into the market's file; what an operator changed in it stays, as far as it is his."""
    document = tomlkit.parse(file.read_text()) if file.exists() else tomlkit.document()
    if recipe.name not in document:
        document[recipe.name] = tomlkit.table()
    table: Any = document[recipe.name]
    for name, value in ({"image": reference} | recipe.entry).items():
        if name in OF_THE_IMAGE or name not in table:
            table[name] = value
    part = file.with_suffix(".part")
    part.write_text(tomlkit.dumps(document))
    part.rename(file)


def lock_all(arguments: argparse.Namespace) -> None:
    for recipe in _chosen(arguments.names):
        uv = Path(os.environ["REAVER_CACHE"]) / "uv/bin/uv"
        words = [
            uv, "pip", "compile", "--quiet", "--generate-hashes", "--only-binary", ":all:", "--python-version", "3.11",
            "--python-platform", f"{platform.machine()}-manylinux_2_28", "--no-header", "--no-annotate",
            "--no-emit-index-url", "--override", SOURCE / "overrides.txt", "requirements.in", "--output-file",
            "requirements.txt",
        ]  # fmt: skip
        subprocess.run(words, cwd=recipe.folder, check=True)
        say(f"{recipe.name}: locked")


def _chosen(names: list[str]) -> list[Recipe]:
    every = recipes()
    if unknown := [name for name in names if name not in every]:
        raise BuildFailed(f"no model is called {', '.join(unknown)}; there are {', '.join(every)}")
    return [recipe for name, recipe in every.items() if not names or name in names]


def _started_registry() -> str:
    script = ROOT / "scripts/registry"
    return subprocess.run([script, "start"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


if __name__ == "__main__":
    main()
