"""Prompt files: what is read from each form, and what is said of what cannot be read."""

import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srum_jax.errors import BadInput
from srum_jax.generation.prompt_file import prompts_of_texts, read_prompt_file
from srum_jax.generation.prompt_formats import FORMATS, find_format
from srum_jax.generation.prompts import IdError, Prompt, read_jsonl, record_id, to_jsonl
from srum_jax.storage.reading import TextFileError

WISE = {"Prompt": "a fruit", "prompt_id": 3, "Category": "Culture", "Subcategory": "Food"}
COMPBENCH = {"Question": "a sofa", "Category": "3d_spatial", "Question_id": 7}
GENEVAL = {"tag": "two", "include": [], "prompt": "a cat"}


def read(tmp_path, text, name="custom", file="list.jsonl", fields=None, **options):
    path = tmp_path / file
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_prompt_file(path, find_format(name, fields), "set", **options)


def prompts(found):
    assert not found.bad, found.bad
    return found.rows


def test_an_array_of_t2i_compbench_is_read(tmp_path):
    text = json.dumps([{"Question": "a sofa", "Category": "3d_spatial", "Question_id": 7}], indent=4)
    assert prompts(read(tmp_path, text, "t2i_compbench")) == [Prompt(0, "set", "7", "a sofa", "3d_spatial")]


def test_an_array_of_wise_keeps_the_subcategory_as_a_tag(tmp_path):
    text = json.dumps([{"Prompt": "a fruit", "prompt_id": 3, "Category": "Culture", "Subcategory": "Food", "x": 1}])
    assert prompts(read(tmp_path, text, "wise")) == [Prompt(0, "set", "3", "a fruit", "Culture", ("Food",))]


def test_lines_of_geneval_are_numbered(tmp_path):
    text = '{"tag": "two", "include": [], "prompt": "a cat"}\n\n{"tag": "one", "prompt": "a dog"}\n'
    assert prompts(read(tmp_path, text, "geneval")) == [Prompt(0, "set", "0", "a cat", "two"),
                                                        Prompt(1, "set", "1", "a dog", "one")]


def test_reasonbench_takes_its_category_from_the_name_of_the_file(tmp_path):
    found = read(tmp_path, '[{"id": 4, "prompt": "a riddle"}]', "reasonbench", "idiom.json")
    assert prompts(found) == [Prompt(0, "set", "4", "a riddle", "idiom")]


def test_plain_text_has_one_prompt_a_line(tmp_path):
    found = read(tmp_path, "a cat\r\na\u2028dog \n\n", "plain", "list.txt")
    assert [(p.source_id, p.prompt) for p in prompts(found)] == [("0", "a cat"), ("1", "a\u2028dog ")]


def test_custom_fields_are_named_and_then_demanded(tmp_path):
    text = '{"text": "a cat", "key": "x", "kind": "k"}\n{"text": "a dog"}'
    found = read(tmp_path, text, fields="prompt=text,id=key,category=kind")
    assert found.rows[0] == Prompt(0, "set", "x", "a cat", "k")
    assert [(row.index, row.line, row.detail) for row in found.bad] == [
        (1, 2, "field 'key': expected an id, found no such field")]


def test_rows_may_bring_their_size_and_a_picture(tmp_path):
    found = read(tmp_path, '{"prompt": "a", "height": 64, "width": 32, "image": "x/y.png"}')
    assert prompts(found) == [Prompt(0, "set", "0", "a", height=64, width=32, image="x/y.png")]


def test_text_is_normalised_to_nfc_and_otherwise_kept(tmp_path):
    decomposed = unicodedata.normalize("NFD", " Café  au lait")
    found = read(tmp_path, "\ufeff" + json.dumps({"prompt": decomposed}, ensure_ascii=False))
    assert prompts(found)[0].prompt == " Café  au lait"


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        ('{"prompt": ""}', "bad_prompt", "field 'prompt': expected a prompt, found an empty text"),
        ('{"prompt": " \\n"}', "bad_prompt", "found an empty text"),
        ('{"prompt": 5}', "bad_prompt", "field 'prompt': expected a text, found 5"),
        ('{"text": "a"}', "bad_prompt", "field 'prompt': expected the prompt, found no such field"),
        ('["a"]', "bad_prompt", "expected a JSON object, found list"),
        ("{'prompt': 1}", "bad_prompt", "expected JSON, found an error at column 2"),
        ("[" * 100000, "bad_prompt", "expected JSON"),
        ('{"prompt": "a", "id": 1' + "0" * 5000 + "}", "bad_prompt", "expected JSON"),
        ('{"prompt": "a", "id": null}', "bad_prompt", "field 'id': expected a whole number or a text, found null"),
        ('{"prompt": "a", "id": 1.5}', "bad_prompt", "found 1.5"),
        ('{"prompt": "a", "id": true}', "bad_prompt", "found true"),
        ('{"prompt": "a", "id": "../x"}', "bad_prompt", "letters A-Z a-z, digits"),
        ('{"prompt": "a", "id": "' + "x" * 125 + '"}', "bad_prompt", "at most 128 bytes"),
        ('{"prompt": "a", "id": "first"}', "duplicate_id", "id 'first' is also that of line 2; expected different ids"),
        ('{"prompt": "a", "height": 64}', "bad_prompt", "expected both or neither, found 64 and None"),
        ('{"prompt": "a", "height": "64", "width": 64}', "bad_prompt", "field 'height': expected a number of pixels"),
        ('{"prompt": "a", "height": -8, "width": 64}', "bad_prompt", "found -8"),
        ('{"prompt": "a", "image": 3}', "bad_prompt", "field 'image': expected a text, found 3"),
        ('{"prompt": "\\ud800"}', "bad_prompt", "half of a surrogate pair"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_the_others_are_kept(tmp_path, line, reason, detail):
    found = read(tmp_path, f'\n{{"prompt": "a", "id": "first"}}\n{line}\n{{"prompt": "b", "id": "last"}}\n')
    assert [prompt.source_id for prompt in found.rows] == ["first", "last"]
    assert [prompt.index for prompt in found.rows] == [0, 2]
    (bad,) = found.bad
    assert (bad.index, bad.line, bad.reason) == (1, 3, reason) and detail in bad.detail


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[\n {"prompt": "a"},\n {"prompt": }\n]', ":3: expected a JSON array, found an error at column 13"),
        ('[{"prompt": "a"}\n{"prompt": "b"}]', ":2: expected a JSON array, found an error at column 1 (expected ','"),
        ('[{"prompt": "a"}', ":1: expected a JSON array, found an error at column 17"),
        ('[{"prompt": "a"},]', ":1: expected a JSON array"),
        ('[{"prompt": "a"}] x', "at column 19 (expected nothing behind the array)"),
        ("[" * 100000, "nested too deeply"),
        ("[]", "expected at least one prompt, found none"),
        ("", "expected at least one prompt, found none"),
        (b'{"prompt": "a"}\n{"prompt": "\xff"}', ":2: expected UTF-8, found byte 0xff at column 13"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error_with_line_and_column(tmp_path, text, message):
    with pytest.raises(BadInput, match=re.escape(message)):
        read(tmp_path, text)


def test_lines_of_an_array_are_known(tmp_path):
    found = read(tmp_path, '[\n{"prompt": "a"}, {"prompt": ""},\n\n{"prompt": "b",\n"id": 1}, 5]')
    assert [row.line for row in found.rows] == [2, 4] and [row.line for row in found.bad] == [2, 5]


def test_an_absent_file_and_a_folder_are_errors(tmp_path):
    with pytest.raises(TextFileError, match="absent: no such file"):
        read_prompt_file(tmp_path / "absent", FORMATS["custom"], "set")
    (tmp_path / "link").symlink_to("elsewhere.jsonl")
    with pytest.raises(TextFileError, match=r"link: a link to elsewhere\.jsonl, which is not there"):
        read_prompt_file(tmp_path / "link", FORMATS["custom"], "set")
    with pytest.raises(TextFileError, match="cannot be read"):
        read_prompt_file(tmp_path, FORMATS["custom"], "set")


def test_prompts_given_directly_are_numbered():
    found = prompts_of_texts(["a cat", " "], "prompt")
    assert found.rows[0] == Prompt(0, "prompt", "0", "a cat") and found.bad[0].line == 2


@pytest.mark.parametrize(("text", "file", "found"), [
    ("a cat", "a.txt", ["a cat"]), ("[a] {cat}\n", "a.TXT", ["[a] {cat}"]), ('{"prompt": "a cat"}', "a.txt", ["a cat"]),
    (json.dumps([WISE], indent=1), "a.text", ["a fruit"]), (json.dumps(GENEVAL), "a.txt", ["a cat"]),
])
def test_a_text_file_has_a_prompt_a_line_unless_it_is_json(tmp_path, text, file, found):
    assert [prompt.prompt for prompt in prompts(read(tmp_path, text, "auto", file))] == found
    assert len(prompts(read(tmp_path, text, "plain", file))) == len(text.splitlines())


@pytest.mark.parametrize("head", ["id,prompt", '"prompt";"id"', "Question\tCategory"])
def test_a_table_under_the_name_of_a_text_is_told(tmp_path, head):
    with pytest.raises(BadInput, match=r"a\.txt: its first line, .* is the head of a table; name the file \.csv"):
        read(tmp_path, f"{head}\n1,a cat\n", "auto", "a.txt")
    assert len(prompts(read(tmp_path, "a prompt, and more\na cat\n", "auto", "a.txt"))) == 2


@pytest.mark.parametrize("fields", ["prompt", "text=x", "prompt=", "prompt=a,prompt=b", ""])
def test_field_maps_that_make_no_sense_are_errors(fields):
    with pytest.raises(BadInput, match="--fields: expected prompt=NAME"):
        find_format("auto", fields)


def test_only_the_custom_format_takes_a_field_map():
    with pytest.raises(BadInput, match="only the custom format"):
        find_format("wise", "prompt=a")
    with pytest.raises(BadInput, match="expected one of auto, t2i_compbench"):
        find_format("what", None)


@given(st.binary(max_size=200), st.sampled_from(sorted(FORMATS)))
def test_no_bytes_lead_to_anything_but_rows_and_reported_errors(tmp_path_factory, data, name):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(data)
    try:
        found = read_prompt_file(path, FORMATS[name], "set")
    except (BadInput, TextFileError) as error:
        assert "any.json" in str(error)
        return
    places = sorted([prompt.index for prompt in found.rows] + [row.index for row in found.bad])
    assert places == list(range(len(places)))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=4,
)
rows = st.lists(st.fixed_dictionaries({}, optional={name: values | st.text(min_size=1) for name in
                                                    ("prompt", "id", "category", "height", "width", "image")}),
                min_size=1, max_size=5)


@given(rows, st.booleans())
def test_arrays_and_lines_of_the_same_rows_read_the_same_and_survive_the_frozen_file(tmp_path_factory, content, ascii_):
    content = [*content, {"prompt": "a cat"}]  # a file without any prompt is an error of the file
    folder = tmp_path_factory.getbasetemp()
    found = []
    for file, text in (("a.json", json.dumps(content, ensure_ascii=True)),
                       ("a.jsonl", "\n".join(json.dumps(row, ensure_ascii=ascii_) for row in content))):
        try:
            (folder / file).write_text(text, encoding="utf-8", newline="")
        except UnicodeEncodeError:  # half a surrogate pair cannot be written as it is
            return
        read_back = read_prompt_file(folder / file, FORMATS["custom"], "set")
        found.append((read_back.rows, [(row.index, row.reason) for row in read_back.bad]))
    assert found[0] == found[1]
    kept = found[0][0]
    (folder / "prompts.jsonl").write_bytes(to_jsonl(kept))
    assert read_jsonl(folder / "prompts.jsonl") == kept
    assert len({prompt.record_id(0) for prompt in kept}) == len(kept)


@given(st.text(max_size=140), st.text(max_size=140), st.integers(0, 999))
def test_record_ids_are_safe_file_names_or_errors(set_name, source_id, candidate):
    try:
        name = record_id(set_name, source_id, candidate)
    except IdError:
        return
    assert re.fullmatch(r"[A-Za-z0-9._-]+-c\d{2,3}", name, re.ASCII) and len(name.encode()) <= 128


def test_a_frozen_file_that_was_changed_is_named_with_its_line(tmp_path):
    (tmp_path / "prompts.jsonl").write_text('{"index": 0, "set": "s", "source_id": "1", "prompt": "a"}\n{"index": 1}\n')
    with pytest.raises(ValueError, match=r"prompts.jsonl:2: not a prompt"):
        read_jsonl(tmp_path / "prompts.jsonl")


def test_the_reader_of_the_frozen_file_passes_over_fields_that_it_does_not_know(tmp_path):
    fields = Prompt(0, "s", "1", "a").to_json() | {"later": ["sofa"]}
    (tmp_path / "prompts.jsonl").write_text(json.dumps(fields))
    assert read_jsonl(tmp_path / "prompts.jsonl") == [Prompt(0, "s", "1", "a")]


def test_the_frozen_file_says_what_a_prompt_names_and_an_older_one_leaves_that_to_the_reader(tmp_path):
    prompt = Prompt(0, "s", "1", "two sofas left of a plate", keywords=("divan",))
    assert prompt.to_json()["keywords"] == ["divan"] and prompt.to_json()["has_directive"] is True
    (tmp_path / "prompts.jsonl").write_bytes(to_jsonl([prompt]))
    assert read_jsonl(tmp_path / "prompts.jsonl") == [prompt]
    older = {name: value for name, value in prompt.to_json().items() if name not in ("keywords", "has_directive")}
    (tmp_path / "prompts.jsonl").write_text(json.dumps(older))
    (read,) = read_jsonl(tmp_path / "prompts.jsonl")
    assert read.keywords == ("sofa", "plate") and read.has_directive


@pytest.mark.parametrize(("row", "name"), [(WISE, "wise"), (COMPBENCH, "t2i_compbench"), (GENEVAL, "geneval"),
                                           ({"prompt": "a cat", "id": "x", "tag": "y"}, "custom")])
@pytest.mark.parametrize("lines", [True, False])
def test_files_of_benchmarks_are_recognised_by_their_fields(tmp_path, row, name, lines):
    text = json.dumps(row) if lines else json.dumps([row], indent=1)
    expected = prompts(read(tmp_path, json.dumps(row), name))
    assert prompts(read(tmp_path, text, "auto")) == expected


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("file", "between"), [("a.csv", ","), ("a.CSV", ";"), ("a.tsv", "\t")])
def test_tables_name_their_fields_in_the_first_line_and_may_come_from_any_system(tmp_path, end, file, between):
    rows = [["id", "prompt", "height", "width"], ["x", '"a cat, a dog; two\ttails"', "8", "16"],
            ["y", '"a ""ring"""', "", ""]]
    text = end.join(between.join(row) for row in rows) + end
    first, second = prompts(read(tmp_path, "\ufeff" + text, "auto", file))
    assert first == Prompt(0, "set", "x", "a cat, a dog; two\ttails", height=8, width=16)
    assert (second.prompt, second.height) == ('a "ring"', None)


def test_a_table_of_a_benchmark_is_recognised_and_a_cell_too_many_is_its_rows_fault(tmp_path):
    found = read(tmp_path, "Question,Question_id,Category\na sofa,7,x\na cat, a dog,8,y\n", "auto", "a.csv")
    assert found.rows[0] == Prompt(0, "set", "7", "a sofa", "x")
    assert found.bad[0].line == 3 and "found 1 more" in found.bad[0].detail


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("name", "file"), [("plain", "a.txt"), ("custom", "a.jsonl")])
def test_lines_may_end_in_any_way(tmp_path, end, name, file):
    lines = ["a cat", "a dog"] if name == "plain" else ['{"prompt": "a cat"}', '{"prompt": "a dog"}']
    found = read(tmp_path, ("\ufeff" + end.join(lines) + end), name, file)
    assert [prompt.prompt for prompt in prompts(found)] == ["a cat", "a dog"]


@pytest.mark.parametrize(("text", "file", "named"), [
    ("prompt\na cat\na dog\n", "a.jsonl", r"a\.jsonl:1: .* tables end in \.csv"),
    ("a cat\na dog\n", "a.json", "--prompt-format plain"),
    ('{"text": "a cat"}\n{"text": "a dog"}\n', "a.jsonl", "field 'prompt', found rows with 'text'"),
    ("caption,id\na cat,1\n", "a.csv", "found rows with 'caption', 'id'; .*--fields"),
])
def test_what_all_rows_lack_is_told_once(tmp_path, text, file, named):
    with pytest.raises(BadInput, match=named) as error:
        read(tmp_path, text, "auto", file)
    assert "\n" not in str(error.value)
