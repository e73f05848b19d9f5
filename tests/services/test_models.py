"""The operator's file of models: what it may say, and what a job is completed with."""

import json

import pytest

from marketplace.domain.ids import new_id
from marketplace.domain.models import Model, ModelCatalogue
from marketplace.errors import DetailCode, Invalid, SettingsError
from marketplace.services.job_orders import OrderFields, OutputFields, read_order
from marketplace.services.models import complete, load_models

ENTRY = 'image = "registry.test/m:1"\ndescription = "a model"\ndefault_gpu = "cpu"\n'


def written(folder, text):
    path = folder / "models.toml"
    path.write_text(text)
    return path


def test_without_a_file_there_is_no_model():
    assert list(load_models(None)) == []


def test_an_entry_needs_three_lines_and_the_rest_has_defaults(tmp_path):
    (model,) = load_models(written(tmp_path, f'["gpt2"]\n{ENTRY}'))
    assert model == Model("gpt2", "registry.test/m:1", "a model", "cpu-small")


def test_everything_an_entry_may_say(tmp_path):
    more = (
        'command = ["a", "b"]\nmin_vram_gb = 8\ndefault_timeout_seconds = 60\nestimated_time_seconds = 5\n'
        'formats = ["text", "json"]\ninput_schema = {type = "string"}\n'
    )
    (model,) = load_models(written(tmp_path, f"[m]\n{ENTRY}{more}"))
    assert (model.command, model.min_vram_gb, model.default_timeout_s, model.estimated_time_s) == (("a", "b"), 8, 60, 5)
    assert (model.formats, model.input_schema) == (("text", "json"), '{"type":"string"}')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[m", "can't be read"),
        (f"[m]\n{ENTRY}size = 1\n", r"\[m\] size"),
        (f'["a b"]\n{ENTRY}', r"\[a b\] name"),
        ("m = 1\n", r"\[m\]"),
        ('[m]\nimage = "x"\ndefault_gpu = "cpu"\n', r"\[m\] description"),
        (f"[m]\n{ENTRY}".replace('"cpu"', '"cpu-smal"'), "cpu-smal is no class .near: cpu-small"),
        (f"[m]\n{ENTRY}".replace("registry.test/m:1", "no such image"), "not an image reference"),
        (f'[m]\n{ENTRY}formats = ["xml"]\n', r"\[m\] formats"),
        (f'[m]\n{ENTRY}input_schema = {{type = "string", pattern = "a"}}\n', r"\[m\] input_schema: pattern of string"),
        (f"[m]\n{ENTRY}default_timeout_seconds = 86401\n", r"\[m\] default_timeout_seconds"),
        (f"[m]\n{ENTRY}[M]\n{ENTRY}", "M is declared twice"),
    ],
)
def test_a_file_that_makes_no_sense_stops_the_start(tmp_path, text, said):
    with pytest.raises(SettingsError, match=said):
        load_models(written(tmp_path, text))


def test_a_file_that_is_not_there_stops_the_start(tmp_path):
    with pytest.raises(SettingsError, match=r"missing\.toml"):
        load_models(tmp_path / "missing.toml")


MODELS = ModelCatalogue(
    [Model("gpt2", "registry.test/m:1", "d", "cpu-small", command=("run",), default_timeout_s=90, estimated_time_s=7)]
)


def order(**fields):
    return read_order(complete(OrderFields(**fields), MODELS), decimals=6, image_needed=True)


def test_a_model_supplies_what_the_job_leaves_out():
    found = order(model="GPT2")
    assert (found.model, found.spec.image, found.spec.command) == ("gpt2", "registry.test/m:1", ("run",))
    assert (found.spec.class_id, found.max_seconds, found.estimated_ms) == ("cpu-small", 90, 7_000)


def test_what_the_job_says_itself_stands():
    found = order(model="gpt2", gpu="a100", max_minutes=2, command=("other",))
    assert (found.spec.class_id, found.max_seconds, found.spec.command) == ("a100", 120, ("other",))


def test_a_model_needs_its_memory_whatever_less_a_job_asks_for():
    models = ModelCatalogue([Model("big", "registry.test/m:1", "d", "a100", min_vram_gb=30)])
    for asked, needed in ((None, 30), (8, 30), (35, 35)):
        assert complete(OrderFields(model="big", min_vram_gb=asked), models).min_vram_gb == needed


def test_an_unknown_model_is_refused_with_the_nearest():
    with pytest.raises(Invalid) as caught:
        order(model="gpt-2")
    (detail,) = caught.value.details
    assert (detail.field, detail.code, detail.suggestions) == ("model", DetailCode.UNKNOWN_MODEL, ("gpt2",))


def test_a_format_that_the_model_does_not_give_is_refused_and_an_archive_never_is():
    with pytest.raises(Invalid) as caught:
        order(model="gpt2", output=OutputFields(format="text"))
    (detail,) = caught.value.details
    assert (detail.field, detail.allowed) == ("output_config.format", ("json", "archive"))
    assert order(model="gpt2", output=OutputFields(format="archive")).model == "gpt2"


def test_a_model_and_an_image_contradict_each_other():
    with pytest.raises(Invalid) as caught:
        order(model="gpt2", image="busybox:1")
    assert caught.value.details[0].code is DetailCode.CONFLICT


SCHEMED = ModelCatalogue(
    [
        Model("open", "registry.test/m:1", "d", "cpu-small"),
        Model("texts", "registry.test/m:1", "d", "cpu-small", input_schema=json.dumps({
            "anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": {"type": "string"}}],
        })),
        Model("files", "registry.test/m:1", "d", "cpu-small", input_schema='{"type":"string","format":"file"}'),
    ]
)  # fmt: skip
FILE_ID = new_id("file", 1, 1)


@pytest.mark.parametrize(
    ("model", "given", "wanted"),
    [
        ("open", None, []),
        ("open", {"a": 1}, []),
        ("texts", "a", []),
        ("texts", {"text": "a"}, []),
        ("texts", {"text": FILE_ID}, []),
        ("texts", ["a", "b"], []),
        ("texts", None, [("input", DetailCode.REQUIRED)]),
        ("texts", "", [("input", DetailCode.OUT_OF_RANGE)]),
        ("texts", {"text": ""}, [("input", DetailCode.OUT_OF_RANGE)]),
        ("texts", ["a", 1, None], [("input.1", DetailCode.NOT_ALLOWED), ("input.2", DetailCode.NOT_ALLOWED)]),
        ("texts", FILE_ID, [("input", DetailCode.NOT_ALLOWED)]),
        ("texts", "https://host.test/a", [("input", DetailCode.NOT_ALLOWED)]),
        ("files", FILE_ID, []),
        ("files", "https://host.test/a.png", []),
        ("files", "a text", [("input", DetailCode.NOT_ALLOWED)]),
        ("files", {"text": FILE_ID}, [("input", DetailCode.NOT_ALLOWED)]),
    ],
)
def test_an_input_that_the_model_s_schema_does_not_take_is_refused_by_its_field(model, given, wanted):
    fields = OrderFields(model=model, input=given)
    found = []
    try:
        complete(fields, SCHEMED)
    except Invalid as invalid:
        found = [(detail.field, detail.code) for detail in invalid.details]
    assert found == wanted


def test_a_quote_needs_no_input_yet_but_a_wrong_one_is_refused():
    assert complete(OrderFields(model="texts"), SCHEMED, input_needed=False).image == "registry.test/m:1"
    with pytest.raises(Invalid):
        complete(OrderFields(model="texts", input=5), SCHEMED, input_needed=False)
