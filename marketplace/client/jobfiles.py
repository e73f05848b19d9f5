"""Job files: a job body in YAML, under the API's own names, read by what each field is.

What a field is decides how its value is read, never how it looks: `env: {PORT: 8080, DEBUG: on, ZIP: 0123}` are texts
as they were written, where YAML by itself makes a number, a truth value and an octal of them. So nothing needs quotes
that doesn't need them in YAML's own syntax, and every problem has a line. Secrets stand in no job file: it names where
they come from.
"""

import difflib
import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from marketplace.client.errors import ClientError
from marketplace.client.requests import JobRequest, Requirements, Retry
from marketplace.domain.catalogue import ANY, UnknownName, find_class, find_place

MAX_FILE_BYTES: Final = 1 << 20
"""Chosen: the most that a job body may have; api.md section 1.2."""
_AMOUNT: Final = re.compile(r"[0-9]+(\.[0-9]+)?")
_WHOLE: Final = re.compile(r"-?[0-9]+")
_NULL: Final = "tag:yaml.org,2002:null"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class JobFileProblem:
    """One thing that is wrong. line, column: from 1. field: path of names, empty for the file as a whole."""

    line: int
    column: int
    field: str
    message: str

    def text(self, file: str) -> str:
        """`file:line:column: field: message`, as compilers say it."""
        where = f"{self.field}: " if self.field else ""
        return f"{file}:{self.line}:{self.column}: {where}{self.message}"


class BadJobFile(ClientError):
    """A job file that can't be understood; nothing was sent. problems: all that were found, in the file's order."""

    def __init__(self, file: str, problems: tuple[JobFileProblem, ...]) -> None:
        super().__init__(problems[0].text(file))
        self.file = file
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Field:
    """A field of job files. read: turns its value into that of `JobRequest`. sample: a value, as YAML."""

    read: "Callable[[_Reader, yaml.Node, str], Any]"
    sample: str
    about: str
    attribute: str | None = None


def read_job_file(text: str, *, file: str, environment: Mapping[str, str], folder: Path) -> JobRequest:
    """The request that a job file describes.

    file: its name, for messages. environment, folder: where named secrets come from.
    Raises BadJobFile with every problem found.
    """
    if len(text.encode()) > MAX_FILE_BYTES:
        raise BadJobFile(file, (JobFileProblem(1, 1, "", f"is larger than {MAX_FILE_BYTES >> 20} MiB"),))
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (1, 1) if mark is None else (mark.line + 1, mark.column + 1)
        raise BadJobFile(file, (JobFileProblem(line, column, "", f"is not YAML: {error.problem}"),)) from error
    except (yaml.YAMLError, ValueError) as error:
        raise BadJobFile(file, (JobFileProblem(1, 1, "", f"is not YAML: {error}"),)) from error
    reader = _Reader(environment, folder)
    if root is None:
        reader.add(None, "", "is empty; `reaver init` writes one to begin with")
        request = JobRequest()
    else:
        request = reader.section(root, "", FIELDS, JobRequest())
    if reader.problems:
        raise BadJobFile(file, tuple(sorted(reader.problems, key=lambda p: (p.line, p.column))))
    return request


class _Reader:
    """Walks the composed tree by the fields' own kinds, and notes what is wrong."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self.environment = environment
        self.folder = folder
        self.problems: list[JobFileProblem] = []

    def add(self, node: yaml.Node | None, field: str, message: str) -> None:
        mark = None if node is None else node.start_mark
        line, column = (1, 1) if mark is None else (mark.line + 1, mark.column + 1)
        self.problems.append(JobFileProblem(line, column, field, message))

    def section(self, node: yaml.Node, path: str, fields: Mapping[str, Field], into: _T) -> _T:
        """`into` with the fields that a mapping names."""
        found: dict[str, Any] = {}
        for name, key, value in self.entries(node, path):
            field = fields.get(name)
            where = f"{path}{name}"
            if field is None:
                near = difflib.get_close_matches(name, fields, n=1, cutoff=0.5)
                hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(fields)}"
                self.add(key, where, f"is no field of a job{hint}")
                continue
            read = field.read(self, value, where)
            if isinstance(read, _OutputConfig):
                found |= {each: value for each, value in asdict(read).items() if value is not None}
            elif read is not None:
                found[field.attribute or name] = read
        return replace(into, **found)  # type: ignore[type-var] # both are dataclasses

    def entries(self, node: yaml.Node, path: str) -> list[tuple[str, yaml.Node, yaml.Node]]:
        """Names, and where they and their values stand; each name once."""
        if not isinstance(node, yaml.MappingNode):
            self.add(node, path.rstrip("."), "must be `name: value` lines")
            return []
        entries: list[tuple[str, yaml.Node, yaml.Node]] = []
        first: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.add(key, path.rstrip("."), "has a name that is not text")
            elif key.value in first:
                self.add(key, f"{path}{key.value}", f"stands here again; the first is in line {first[key.value]}")
            else:
                first[key.value] = key.start_mark.line + 1
                entries.append((key.value, key, value))
        return entries

    def text(self, node: yaml.Node, field: str) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            self.add(node, field, "must be one value, not a list or a mapping")
            return None
        if node.tag == _NULL and node.style is None:
            self.add(node, field, 'has no value; write "" for an empty text, or leave the field out')
            return None
        return str(node.value)

    def items(self, node: yaml.Node, field: str) -> tuple[str, ...] | None:
        if not isinstance(node, yaml.SequenceNode):
            self.add(node, field, "must be a list, such as [a, b]")
            return None
        read = [self.text(item, f"{field}[{number}]") for number, item in enumerate(node.value)]
        return tuple(item for item in read if item is not None)


def _text(reader: _Reader, node: yaml.Node, field: str) -> str | None:
    return reader.text(node, field)


def _one_of(*allowed: str) -> Callable[[_Reader, yaml.Node, str], str | None]:
    def read(reader: _Reader, node: yaml.Node, field: str) -> str | None:
        text = reader.text(node, field)
        if text is not None and text not in allowed:
            reader.add(node, field, f"is {text!r}, must be one of {', '.join(allowed)}")
        return text

    return read


def _whole(least: int, most: int) -> Callable[[_Reader, yaml.Node, str], int | None]:
    def read(reader: _Reader, node: yaml.Node, field: str) -> int | None:
        text = reader.text(node, field)
        if text is None:
            return None
        if not _WHOLE.fullmatch(text):
            reader.add(node, field, f"is {text!r}, must be a whole number")
            return None
        number = int(text)
        if not least <= number <= most:
            reader.add(node, field, f"is {number}, must lie between {least} and {most}")
        return number

    return read


def _amount(reader: _Reader, node: yaml.Node, field: str) -> str | None:
    text = reader.text(node, field)
    if text is not None and not _AMOUNT.fullmatch(text):
        reader.add(node, field, f"is {text!r}, must be a number such as 0.05")
        return None
    return text


def _class(reader: _Reader, node: yaml.Node, field: str) -> str | None:
    text = reader.text(node, field)
    _known(reader, node, field, text, find_class)
    return text


def _classes(reader: _Reader, node: yaml.Node, field: str) -> tuple[str, ...] | None:
    names = reader.items(node, field)
    for name in names or ():
        _known(reader, node, field, name, find_class)
    return names


def _region(reader: _Reader, node: yaml.Node, field: str) -> str | None:
    text = reader.text(node, field)
    _known(reader, node, field, text, find_place)
    return text


def _regions(reader: _Reader, node: yaml.Node, field: str) -> tuple[str, ...] | None:
    names = reader.items(node, field)
    for name in names or ():
        _known(reader, node, field, name, find_place)
    return names


def _known(reader: _Reader, node: yaml.Node, field: str, name: str | None, find: Callable[[str], object]) -> None:
    if name is None or name.casefold() == ANY:
        return
    try:
        find(name)
    except UnknownName as unknown:
        near = f"; nearest: {', '.join(unknown.suggestions)}" if unknown.suggestions else ""
        reader.add(node, field, f"the catalogue has no {name!r}{near}")


def _items(reader: _Reader, node: yaml.Node, field: str) -> tuple[str, ...] | None:
    return reader.items(node, field)


def _words(reader: _Reader, node: yaml.Node, field: str) -> tuple[str, ...] | None:
    """A list of words, or a line that is split as a shell would; no shell runs."""
    if isinstance(node, yaml.SequenceNode):
        return reader.items(node, field)
    line = reader.text(node, field)
    if line is None:
        return None
    try:
        return tuple(shlex.split(line))
    except ValueError as error:
        reader.add(node, field, f"can't be split into words ({error}); write a list: [a, b]")
        return None


def _texts(reader: _Reader, node: yaml.Node, field: str) -> dict[str, str]:
    read = ((name, reader.text(value, f"{field}.{name}")) for name, _, value in reader.entries(node, f"{field}."))
    return {name: value for name, value in read if value is not None}


def _wholes(reader: _Reader, node: yaml.Node, field: str) -> dict[str, int]:
    one = _whole(0, (1 << 63) - 1)
    read = ((name, one(reader, value, f"{field}.{name}")) for name, _, value in reader.entries(node, f"{field}."))
    return {name: value for name, value in read if value is not None}


def _codes(reader: _Reader, node: yaml.Node, field: str) -> tuple[int, ...] | None:
    if not isinstance(node, yaml.SequenceNode):
        reader.add(node, field, "must be a list, such as [1, 137]")
        return None
    one = _whole(1, 255)
    read = [one(reader, item, f"{field}[{number}]") for number, item in enumerate(node.value)]
    return tuple(code for code in read if code is not None)


def _secrets(reader: _Reader, node: yaml.Node, field: str) -> dict[str, str]:
    """Names out of the environment, or where each comes from: never a secret itself, for job files are shared."""
    if isinstance(node, yaml.SequenceNode):
        named = [(name, item) for item in node.value if (name := reader.text(item, field)) is not None]
        return {name: _variable(reader, item, f"{field}.{name}", name) for name, item in named}
    secrets: dict[str, str] = {}
    for name, _, value in reader.entries(node, f"{field}."):
        where = f"{field}.{name}"
        if not isinstance(value, yaml.MappingNode):
            reader.add(value, where, "stands in no job file; write {env: VARIABLE} or {file: PATH}")
            continue
        source = [(kind, key, text) for kind, key, at in reader.entries(value, f"{where}.")
                  if (text := reader.text(at, f"{where}.{kind}")) is not None]  # fmt: skip
        if len(source) != 1 or source[0][0] not in {"env", "file"}:
            reader.add(value, where, "must be {env: VARIABLE} or {file: PATH}")
            continue
        kind, key, text = source[0]
        secrets[name] = _variable(reader, key, where, text) if kind == "env" else _content(reader, key, where, text)
    return secrets


def _variable(reader: _Reader, node: yaml.Node, field: str, name: str) -> str:
    value = reader.environment.get(name)
    if value is None:
        reader.add(node, field, f"the environment variable {name} is not set")
        return ""
    return value


def _content(reader: _Reader, node: yaml.Node, field: str, name: str) -> str:
    try:
        return (reader.folder / name).read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        reader.add(node, field, f"{name} can't be read: {why}")
        return ""


def _input(reader: _Reader, node: yaml.Node, field: str) -> object:
    """A text as written (an id and a URL are texts, too); what has parts is JSON."""
    if isinstance(node, yaml.ScalarNode):
        return reader.text(node, field)
    loader = yaml.SafeLoader("")
    try:
        value = loader.construct_document(node)
        json.dumps(value, allow_nan=False)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        reader.add(node, field, f"is not JSON: {error}")
        return None
    finally:
        loader.dispose()
    return value


def _flag(reader: _Reader, node: yaml.Node, field: str) -> bool | None:
    text = reader.text(node, field)
    if text is not None and text not in {"true", "false"}:
        reader.add(node, field, f"is {text!r}, must be true or false")
    return None if text is None else text == "true"


def _output_config(reader: _Reader, node: yaml.Node, field: str) -> "_OutputConfig":
    return reader.section(node, f"{field}.", OUTPUT_CONFIG, _OutputConfig())


@dataclass(frozen=True, slots=True)
class _OutputConfig:
    """One section, several fields of the request."""

    output_format: str | None = None
    destination: str | None = None
    credential_id: str | None = None


def _requirements(reader: _Reader, node: yaml.Node, field: str) -> Requirements:
    return reader.section(node, f"{field}.", REQUIREMENTS, Requirements())


def _retry(reader: _Reader, node: yaml.Node, field: str) -> Retry:
    return reader.section(node, f"{field}.", RETRY, Retry())


def _auto_extend(reader: _Reader, node: yaml.Node, field: str) -> int | None:
    return reader.section(node, f"{field}.", AUTO_EXTEND, _AutoExtend()).up_to_seconds


def _checkpoint(reader: _Reader, node: yaml.Node, field: str) -> int | None:
    return reader.section(node, f"{field}.", CHECKPOINT, _Checkpoint()).minutes


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    minutes: int | None = None


@dataclass(frozen=True, slots=True)
class _AutoExtend:
    up_to_seconds: int | None = None


_MILLION: Final = 1_000_000
OUTPUT_CONFIG: Final = {
    "format": Field(_one_of("json", "text", "binary", "archive"), "archive", "of the download", "output_format"),
    "destination": Field(_text, "s3://bucket/prefix", "where outputs are delivered: local, or a bucket of yours"),
    "credential_id": Field(_text, "cred_…", "login for the bucket; left out: your only or default one"),
}
CHECKPOINT: Final = {"minutes": Field(_whole(1, 1440), "10", "how often")}
AUTO_EXTEND: Final = {"up_to_seconds": Field(_whole(1, 86_400), "3600", "in all")}
REQUIREMENTS: Final[dict[str, Field]] = {
    "gpu_type": Field(_class, "a100", "the same as `gpu`"),
    "gpu_types": Field(_classes, "[h100, v100]", "further classes that will do, those preferred first"),
    "gpu_count": Field(_whole(1, 8), "1", "GPUs, or slots of a CPU class"),
    "disk_gb": Field(_whole(1, 2000), "10", "room for the job's own files"),
    "min_vram_gb": Field(_whole(0, _MILLION), "16", "least memory of one GPU"),
    "min_ram_gb": Field(_whole(0, _MILLION), "16", "least memory of the job"),
    "min_vcpu": Field(_whole(0, _MILLION), "4", "least processors of the job"),
    "min_cuda": Field(_text, "12.4", "least CUDA version of the driver"),
    "min_reputation": Field(_amount, "0.9", "least reputation of the node, 0 to 1"),
}
RETRY: Final[dict[str, Field]] = {
    "max_attempts": Field(_whole(1, 5), "3", "in all, the first included"),
    "on": Field(
        _items, "[node_lost, node_quit]", "ends that another attempt follows; left out: all but the work's own"
    ),
    "extend": Field(_flag, "true", "a later attempt gets the whole time again, inside your allowance"),
    "exit_codes": Field(_codes, "[75]", "exit codes of your own that are tried again, at your cost"),
}
PRIORITIES: Final = ("low", "normal", "high", "urgent")
FIELDS: Final[dict[str, Field]] = {
    "image": Field(_text, "docker.io/library/alpine:3.20", "image, by tag or digest"),
    "model": Field(_text, "gpt2", "or a model of the market's in the image's place: reaver models"),
    "gpu": Field(_class, "cpu-small", "hardware class: cpu-small, rtx4090, a100, h100, …, or any"),
    "name": Field(_text, "my-first-job", "your own name for it"),
    "command": Field(_words, '[sh, -c, "echo hello from $HOSTNAME"]', "instead of the image's: a list or one line"),
    "entrypoint": Field(_words, "[python, -u]", "instead of the image's own"),
    "workdir": Field(_text, "/work", "folder that the command starts in"),
    "env": Field(_texts, "{EPOCHS: 3}", "environment variables"),
    "secrets": Field(_secrets, "{HF_TOKEN: {env: HF_TOKEN}}", "secret variables, and where each comes from"),
    "maxMinutes": Field(_whole(1, 1440), "10", "longest billed time in minutes; or timeout_seconds", "max_minutes"),
    "timeout_seconds": Field(_whole(1, 86_400), "600", "longest billed time in seconds; or maxMinutes"),
    "max_price_per_hour": Field(_amount, "0.50", "the most that the whole job may cost an hour, in tokens"),
    "max_price_per_gpu_second": Field(_amount, "0.0001", "the same for one GPU and second; give one of the two"),
    "priority": Field(_one_of(*PRIORITIES), "normal", "high costs 1.5 times the price, urgent twice"),
    "region": Field(_region, "eu", "where: a region or a country"),
    "regions": Field(_regions, "[eu, na]", "or any of several"),
    "requirements": Field(_requirements, "{gpu_count: 1, disk_gb: 10}", "what the machine must have, see below"),
    "input": Field(_input, "file_…", "what lies in /inputs: a text, JSON, the id of a file, or an https URL"),
    "output_config": Field(_output_config, "{format: archive}", "form and place of the outputs, see below"),
    "checkpoint": Field(
        _checkpoint, "{minutes: 10}", "how often /checkpoint is saved, for the next attempt", "checkpoint_minutes"
    ),
    "auto_extend": Field(
        _auto_extend, "{up_to_seconds: 3600}", "time that the market may add, inside your allowance", "auto_extend_s"
    ),
    "webhook": Field(_text, "https://example.org/hook", "URL that hears of this job's events"),
    "retry": Field(_retry, "{max_attempts: 3}", "what another attempt follows, see below"),
    "network": Field(_one_of("egress", "none"), "egress", "none cuts the job off"),
    "queue_seconds": Field(_whole(0, 86_400), "3600", "how long to wait for a node before all money comes back"),
    "stop_grace_seconds": Field(_whole(0, 300), "10", "time between the request to end and the end"),
    "shm_gb": Field(_amount, "1", "shared memory, out of the job's memory"),
    "ulimits": Field(_wholes, "{nofile: 65536}", "nofile, memlock (bytes), stack (bytes)"),
    "nodes": Field(_items, "[node_…]", "only these nodes"),
    "exclude_nodes": Field(_items, "[node_…]", "never these nodes"),
    "registry_auth_id": Field(_text, "reg_…", "stored login for a private image"),
    "labels": Field(_texts, "{team: vision}", "at most 16, to find and sum jobs by"),
    "consumer_id": Field(_text, "customer-7", "whom of your own customers it is for"),
}  # fmt: skip
"""Every field, in the order in which pages and `reaver init` show them. Limits: api.md section 5.2."""


def job_file_template(image: str | None, gpu: str | None) -> str:
    """A job file to begin with: what every job needs, and the rest as comments."""
    needed = {"image": image, "gpu": gpu, "command": None, "maxMinutes": None}
    lines = ["# A job for `reaver run --file`. docs/jobfile.md explains every field.", ""]
    for name, given in needed.items():
        field = FIELDS[name]
        lines += [f"# {field.about}", f"{name}: {field.sample if given is None else _quoted(given)}"]
    lines += ["", "# What is below is optional.", ""]
    for name, field in FIELDS.items():
        nested = {"requirements": REQUIREMENTS, "retry": RETRY, "output_config": OUTPUT_CONFIG}.get(name)
        if name in needed:
            continue
        if nested is None:
            lines.append(f"# {name}: {field.sample}  # {field.about}")
        else:
            lines.append(f"# {name}:")
            lines += [f"#   {inner}: {entry.sample}  # {entry.about}" for inner, entry in nested.items()]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A scalar that reads as this text."""
    return str(yaml.safe_dump(text, default_style='"', width=10_000, allow_unicode=True)).strip()
