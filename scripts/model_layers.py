"""Layers of the models' images: Debian's Python, one for each wheel, the weights, our own modules.

Each is made of inputs that are known by their digests, and kept under a hash of those in REAVER_CACHE/models.
"""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from scripts.image_push import Layer

if TYPE_CHECKING:
    from collections.abc import Callable

LAYOUT = 3
"""Goes up when the same inputs are to give other layers."""
PYTHON = "python3.11"
DEBIAN = (
    "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libc6", "libgcc-s1", "libstdc++6", "zlib1g",
    "libexpat1", "libffi8", "libbz2-1.0", "liblzma5", "libuuid1",
)  # fmt: skip
"""What Python and the wheels are linked to. Neither a shell nor OpenSSL: nothing in these images asks a network."""
UNWANTED = ("usr/share/*", "usr/lib/*/gconv/*", "usr/lib/python3.11/test/*", "usr/lib/python3.11/lib2to3/*")
KEPT = ("usr/share/doc/*/copyright",)
"""Licences travel with what they are for."""
SITE = PurePosixPath("usr/local/lib/python3.11/dist-packages")
"""Where Debian's Python looks by itself."""
MANYLINUX = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_26", "manylinux_2_24", "manylinux_2_17", "manylinux2014")
"""Debian 12's C library is 2.36."""


@dataclass(frozen=True)
class Wheel:
    """A package as it is locked. hashes: of all its files; which one fits this processor shows when it is fetched."""

    requirement: str
    hashes: tuple[str, ...]


class BuildFailed(Exception):
    """The message says what is missing and what to do."""


class Layers:
    """home: folder of what is kept. say: where progress is told."""

    def __init__(self, home: Path, say: Callable[[str], None]) -> None:
        self._home = home
        self._say = say
        self._debs: dict[str, str] = {}
        for name in ("layers", "wheels", "debs", "base"):
            (home / name).mkdir(parents=True, exist_ok=True)

    def base(self) -> Layer:
        """Debian's Python 3.11 and what it needs, of the versions that this machine's apt knows."""
        return self._kept(self._base_key(), "Debian's Python", lambda: tar_of_folder(self._base_folder()))

    def wheels(self, lock: Path) -> list[Layer]:
        """A layer for each package of a lock file, compiled for the image's Python."""
        wanted = read_lock(lock)
        if any(self._find_wheel(wheel) is None for wheel in wanted):
            self._fetch_wheels(lock)
        layers = []
        for wheel in wanted:
            file = self._find_wheel(wheel)
            if file is None:
                raise BuildFailed(f"{wheel.requirement} could not be fetched for {platform.machine()}")
            key = _key("wheel", file.parent.name, PYTHON)
            layers.append(self._kept(key, wheel.requirement, partial(self._unpacked, file)))
        return layers

    def files(self, name: str, files: dict[PurePosixPath, Path]) -> Layer:
        """Files under the places where the image has them; weights, for instance."""
        digests = {str(place): _digest_of_file(file) for place, file in sorted(files.items())}
        return self._kept(_key("files", digests), name, lambda: tar_of_files(files))

    def _kept(self, key: str, name: str, make: Callable[[], io.BufferedIOBase]) -> Layer:
        packed, facts = self._home / "layers" / f"{key}.tar.gz", self._home / "layers" / f"{key}.json"
        if not facts.exists():
            self._say(f"making {name}")
            with tempfile.NamedTemporaryFile(dir=self._home / "layers", delete=False) as out, make() as tar:
                found = _compress(tar, out)
            Path(out.name).rename(packed)
            _write(facts, json.dumps(found))
        found = json.loads(facts.read_text())
        return Layer(packed, found["digest"], found["size"], found["diff_id"])

    # Debian's packages

    def _base_key(self) -> str:
        # once for all images of a run: apt takes its time
        self._debs = self._debs or _debian_files()
        return _key("base", sorted(self._debs.values()))

    def _base_folder(self) -> Path:
        """The base as a folder, made once; its Python compiles what the other layers hold."""
        folder = self._home / "base" / self._base_key()
        if folder.exists():
            return folder
        with tempfile.TemporaryDirectory(dir=self._home / "base") as made:
            root = Path(made) / "root"
            self._fetch_debs()
            for digest in sorted(self._debs.values()):
                subprocess.run(["dpkg-deb", "-x", self._home / "debs" / f"{digest}.deb", root], check=True)
            _prune(root)
            (root / "tmp").mkdir(exist_ok=True)
            (root / "tmp").chmod(0o1777)
            (root / "etc").mkdir(exist_ok=True)
            (root / "etc/passwd").write_text(
                "root:x:0:0:root:/root:/sbin/nologin\nmodel:x:65532:65532:model:/tmp:/sbin/nologin\n"
            )
            (root / "etc/group").write_text("root:x:0:\nmodel:x:65532:\n")
            _compile(root, root, Path("usr/lib/python3.11"))
            root.rename(folder)
        return folder

    def _fetch_debs(self) -> None:
        """Those that aren't here yet, in one call: apt reads its whole index for each."""
        debs = self._home / "debs"
        missing = {package for package, digest in self._debs.items() if not (debs / f"{digest}.deb").exists()}
        if not missing:
            return
        with tempfile.TemporaryDirectory(dir=debs) as folder:
            _run("apt-get", "download", *sorted(missing), cwd=Path(folder))
            for file in Path(folder).iterdir():
                file.rename(debs / f"{_digest_of_file(file)}.deb")
        if wrong := [package for package in missing if not (debs / f"{self._debs[package]}.deb").exists()]:
            raise BuildFailed(f"{', '.join(wrong)} is not what the index says; run apt-get update, then again")

    # wheels

    def _find_wheel(self, wheel: Wheel) -> Path | None:
        for digest in wheel.hashes:
            for file in (self._home / "wheels" / digest).glob("*.whl"):
                return file
        return None

    def _fetch_wheels(self, lock: Path) -> None:
        """All of a lock at once; pip compares them with the hashes."""
        self._say(f"fetching the wheels of {lock.parent.name}")
        pip = Path(os.environ["REAVER_CACHE"]) / "uv/bin/python"
        tags = [word for name in MANYLINUX for word in ("--platform", f"{name}_{platform.machine()}")]
        with tempfile.TemporaryDirectory(dir=self._home / "wheels") as folder:
            _run(
                str(pip), "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                "--require-hashes", "--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp",
                "--abi", "cp311", "--abi", "abi3", "--abi", "none", *tags, "--dest", folder, "--requirement", str(lock),
            )  # fmt: skip
            for file in Path(folder).glob("*.whl"):
                place = self._home / "wheels" / _digest_of_file(file)
                place.mkdir(exist_ok=True)
                file.rename(place / file.name)

    def _unpacked(self, wheel: Path) -> io.BufferedIOBase:
        with tempfile.TemporaryDirectory(dir=self._home / "base") as made:
            root = Path(made)
            unpack_wheel(wheel, root / SITE)
            _compile(self._base_folder(), root, Path(SITE))
            return tar_of_folder(root)


def read_lock(lock: Path) -> list[Wheel]:
    """The packages of a requirements.txt with hashes. Raises BuildFailed where one has none."""
    text = lock.read_text().replace("\\\n", " ")
    found = []
    for line in filter(None, (line.partition("#")[0].strip() for line in text.splitlines())):
        hashes = tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
        if not hashes:
            raise BuildFailed(f"{lock}: {line.split()[0]} has no hash; run scripts/models lock")
        found.append(Wheel(line.split()[0], hashes))
    return found


def unpack_wheel(wheel: Path, to: Path) -> None:
    """Its packages; tests, type stubs and what would lie outside of them (scripts, headers) are left out."""
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            parts = PurePosixPath(entry.filename).parts
            if len(parts) > 1 and parts[0].endswith(".data"):
                if parts[1] not in {"purelib", "platlib"}:
                    continue
                parts = parts[2:]
            if entry.is_dir() or not parts or "tests" in parts or parts[-1].endswith(".pyi"):
                continue
            if ".." in parts or parts[0].startswith("/"):
                raise BuildFailed(f"{wheel.name} holds {entry.filename}, which leads out of its folder")
            file = to.joinpath(*parts)
            file.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, file.open("wb") as out:
                shutil.copyfileobj(source, out)


def tar_of_folder(folder: Path) -> io.BufferedIOBase:
    """A tar of all below, the same bytes for the same content: sorted, no owners, no times."""
    out = tempfile.TemporaryFile()  # noqa: SIM115 - the caller's
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(folder.rglob("*")):
            info = tar.gettarinfo(path, str(path.relative_to(folder)))
            # two names of one file would be a link that depends on which is met first
            if info.islnk():
                info.type, info.linkname, info.size = tarfile.REGTYPE, "", path.stat().st_size
            _add(tar, info, path)
    out.seek(0)
    return out


def tar_of_files(files: dict[PurePosixPath, Path]) -> io.BufferedIOBase:
    """The same of single files, with the folders above them."""
    out = tempfile.TemporaryFile()  # noqa: SIM115 - the caller's
    folders = {parent for place in files for parent in place.parents if str(parent) not in {".", "/"}}
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for folder in sorted(folders):
            info = tarfile.TarInfo(str(folder).lstrip("/"))
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
        for place, file in sorted(files.items()):
            info = tarfile.TarInfo(str(place).lstrip("/"))
            info.size, info.mode = file.stat().st_size, 0o644
            _add(tar, info, file)
    out.seek(0)
    return out


def _add(tar: tarfile.TarFile, info: tarfile.TarInfo, path: Path) -> None:
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    if not info.issym():
        info.mode |= 0o111 * (info.isdir() or bool(info.mode & 0o100)) | 0o444
        info.mode &= ~0o022 if not info.mode & 0o1000 else ~0
    if info.isreg():
        with path.open("rb") as file:
            tar.addfile(info, file)
    else:
        tar.addfile(info)


def _compress(tar: io.BufferedIOBase, out: io.BufferedIOBase) -> dict[str, object]:
    """Quickly rather than small: weights are as good as random. Digests of both sides."""
    plain, packed, size = hashlib.sha256(), hashlib.sha256(), 0

    class Both(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            nonlocal size
            piece = bytes(data)
            packed.update(piece)
            size += len(piece)
            return out.write(piece)

    with gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=Both(), mtime=0) as packer:
        while piece := tar.read(1 << 20):
            plain.update(piece)
            packer.write(piece)
    return {"digest": f"sha256:{packed.hexdigest()}", "size": size, "diff_id": f"sha256:{plain.hexdigest()}"}


def _prune(root: Path) -> None:
    for path in sorted(root.rglob("*"), reverse=True):
        name = str(path.relative_to(root))
        matches = any(fnmatch.fnmatch(name, pattern) for pattern in UNWANTED)
        if matches and not any(fnmatch.fnmatch(name, pattern) for pattern in KEPT):
            if path.is_dir() and not path.is_symlink():
                # folders come after what they hold, and stay where that is kept
                if not any(path.iterdir()):
                    path.rmdir()
            else:
                path.unlink()


def _compile(base: Path, root: Path, folder: Path) -> None:
    """Byte code by the image's own Python, so that no start has to make it; whether it is old is never asked."""
    (loader,) = base.glob("lib/*/ld-linux-*.so.*")
    triplet = loader.parent.name
    libraries = f"{base}/lib/{triplet}:{base}/usr/lib/{triplet}"
    words = [
        loader, "--library-path", libraries, base / "usr/bin/python3.11", "-s", "-B", "-m", "compileall", "-q", "-f",
        "--invalidation-mode", "unchecked-hash", "-s", root, "-p", "/", root / folder,
    ]  # fmt: skip
    # a package may hold a file for another Python, which does not compile; it isn't imported either
    # with a seed, for the order of a set in byte code would be another each time
    environment = {"PYTHONHOME": f"{base}/usr", "PYTHONHASHSEED": "0", "LANG": "C.UTF-8"}
    done = subprocess.run(words, env=environment, check=False, capture_output=True)
    if not any(root.joinpath(folder).rglob("*.pyc")) and any(root.joinpath(folder).rglob("*.py")):
        raise BuildFailed(f"the image's Python does not run here: {done.stderr.decode(errors='replace')}")


def _debian_files() -> dict[str, str]:
    """SHA-256 of each package's file, as apt's signed index has it."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise BuildFailed("images of models are made of Debian 12's packages: build them on Debian 12")
    words = ("apt-get", "download", "--print-uris", *DEBIAN)
    try:
        text = _run(*words)
    except BuildFailed:
        if os.geteuid() != 0:
            raise
        _run("apt-get", "update", "-qq")
        text = _run(*words)
    found = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 4 and fields[3].startswith("SHA256:"):
            found[fields[1].partition("_")[0]] = fields[3].removeprefix("SHA256:")
    if missing := set(DEBIAN) - found.keys():
        raise BuildFailed(f"apt has no {', '.join(sorted(missing))}: images of models are made of Debian 12's packages")
    return found


def _run(*words: str, cwd: Path | None = None) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildFailed(f"{' '.join(words[:4])} … failed:\n{(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


def _key(kind: str, *parts: object) -> str:
    return hashlib.sha256(json.dumps([LAYOUT, kind, platform.machine(), *parts], sort_keys=True).encode()).hexdigest()[
        :32
    ]


def _digest_of_file(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _write(file: Path, text: str) -> None:
    """Whole or not at all."""
    part = file.with_suffix(".part")
    part.write_text(text)
    part.rename(file)


def say(text: str) -> None:
    print(f"[models] {text}", file=sys.stderr, flush=True)
