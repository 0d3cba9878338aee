"""Directories as the tools of BAGEL's and SRUM's authors leave them: which weights are read, by checksum.

`BASE` is what was published, `TRAINED` what came of it. Whatever lies beside them, the ones that are meant are read, or
the directory is refused and what the refusal says to do gives them.
"""

import hashlib
import json
import logging
import shutil
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from srum_jax.data.writer import write_records
from srum_jax.models.bagel.architecture import BAGEL
from srum_jax.weights.checkpoint import open_checkpoint
from srum_jax.weights.errors import WeightsError
from srum_jax.weights.fingerprint import checkpoint_fingerprint, encoder_fingerprint
from srum_jax.weights.load import load
from tests import commands
from tests.data.made_up import made_up_record
from tests.weights import tiny_checkpoint
from tools.check_parity.published_names import published
from tools.convert_weights.__main__ import main as convert

BASE, TRAINED = tiny_checkpoint.tensors(0), tiny_checkpoint.tensors(1)
INDEX = "model.safetensors.index.json"
TABLES = ("latent_pos_embed.pos_embed", "vit_pos_embed.pos_embed")
BLIND = {"vae"}  # without the vision tower
LOST = [name for name in BASE if BAGEL.part_of(name) == "vit"]


def of_model(content):
    return {name: values for name, values in content.items() if BAGEL.part_of(name) != "vae"}


def without(content, names):
    return {name: values for name, values in content.items() if name not in names}


def checksum(content):
    digest = hashlib.sha256()
    for name in sorted(content):
        digest.update(f"{name} {content[name].shape}".encode() + content[name].astype(np.float32).tobytes())
    return digest.hexdigest()


def checksum_of_loaded(path, parts=None):
    """Of the weights that a load puts into the model, under their published names."""
    checkpoint = open_checkpoint(path, BAGEL, parts)
    _, state = load(checkpoint)
    return checksum(published(state, checkpoint.published.plan))


@pytest.fixture
def folder(tmp_path):
    """The published directory: `ema.safetensors`, `ae.safetensors`, their index, and the small files."""
    return tiny_checkpoint.write(tmp_path / "BAGEL-7B-MoT", BASE)


def lines(caplog, level):
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def ema_only(folder):
    return BASE


def ema_without_index(folder):
    (folder / INDEX).unlink()
    return BASE


def converted_by_the_authors(folder):
    """All of the base but its weights, and the trained ones under the other name; the index stays as it was."""
    (folder / "ema.safetensors").unlink()
    save_file(of_model(TRAINED), folder / "model.safetensors")
    return TRAINED | {name: BASE[name] for name in BASE if BAGEL.part_of(name) == "vae"}


def model_without_index(folder):
    expected = converted_by_the_authors(folder)
    (folder / INDEX).unlink()
    return expected


def float32_of_a_training_run(folder):
    expected = converted_by_the_authors(folder)
    save_file({name: values.astype(np.float32) for name, values in of_model(TRAINED).items()},
              folder / "model.safetensors")
    return expected


def bfloat16_throughout(folder):
    values = {name: value.astype(ml_dtypes.bfloat16) for name, value in BASE.items()}
    tiny_checkpoint.write(folder, values)
    return values


def in_shards(folder):
    names = sorted(of_model(TRAINED))
    index = json.loads((folder / INDEX).read_text())
    for k, part in enumerate((names[:40], names[40:90], names[90:]), 1):
        save_file({name: TRAINED[name] for name in part}, folder / f"model-{k:05d}-of-00003.safetensors")
        index["weight_map"] |= dict.fromkeys(part, f"model-{k:05d}-of-00003.safetensors")
    (folder / "ema.safetensors").unlink()
    (folder / INDEX).write_text(json.dumps(index))
    return TRAINED | {name: BASE[name] for name in BASE if BAGEL.part_of(name) == "vae"}


def in_shards_without_index(folder):
    expected = in_shards(folder)
    (folder / INDEX).unlink()
    return expected


def in_files_that_only_the_index_names(folder):
    expected = in_shards(folder)
    index = json.loads((folder / INDEX).read_text())
    for k in (1, 2, 3):
        (folder / f"model-{k:05d}-of-00003.safetensors").rename(folder / f"part{k}.safetensors")
    renamed = {name: f"part{file[10]}.safetensors" if file.startswith("model-") else file
               for name, file in index["weight_map"].items()}
    (folder / INDEX).write_text(json.dumps({"weight_map": renamed}))
    return expected


def without_position_tables(folder):
    """As the official code saves: both tables are computed when they are needed."""
    save_file(without(of_model(BASE), TABLES), folder / "ema.safetensors")
    return without(BASE, TABLES)


WHOLE = (ema_only, ema_without_index, converted_by_the_authors, model_without_index, float32_of_a_training_run,
         bfloat16_throughout, in_shards, in_shards_without_index, in_files_that_only_the_index_names,
         without_position_tables)
# Whose index names what is not there.
DOUBTFUL = (converted_by_the_authors, float32_of_a_training_run, without_position_tables)


@pytest.mark.parametrize("layout", WHOLE, ids=lambda layout: layout.__name__)
def test_a_directory_with_one_set_of_weights_is_read_and_a_line_says_which(folder, layout, caplog):
    expected = layout(folder)
    with caplog.at_level(logging.INFO):
        assert checksum_of_loaded(folder) == checksum(expected)
    said, = lines(caplog, logging.INFO)
    weights = [path.name for path in folder.iterdir() if path.name.endswith(".safetensors")]
    assert str(folder) in said and all(name in said for name in weights)
    doubts = lines(caplog, logging.WARNING)
    assert len(doubts) == (layout in DOUBTFUL) and all(INDEX in doubt for doubt in doubts)


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("file", ["ema.safetensors", "model.safetensors"])
def test_a_save_without_vision_tower_draws_and_trains_and_is_refused_only_to_those_who_want_the_tower(
    folder, file, index, caplog
):
    (folder / "ema.safetensors").unlink()
    save_file(without(of_model(TRAINED), [*LOST, *TABLES]), folder / file)
    if not index:
        (folder / INDEX).unlink()
    expected = without(TRAINED, [*LOST, *TABLES]) | {name: BASE[name] for name in BASE if BAGEL.part_of(name) == "vae"}
    assert checksum_of_loaded(folder, BLIND) == checksum(expected)
    caplog.clear()
    with caplog.at_level(logging.INFO), pytest.raises(WeightsError) as caught:
        open_checkpoint(folder, BAGEL)
    message, (said,) = str(caught.value), lines(caplog, logging.INFO)
    assert "vision tower is missing" in message and file in message.splitlines()[0]
    assert "--without vit" in message and "fill these weights up" in message and "take a checkpoint" not in message
    assert said not in message and "ema.safetensors for" not in message, "not the base's weights"
    assert len(message.splitlines()) <= 4


def both(folder):
    """As after a training run with an average, or after a copy of the base's file into a converted directory."""
    save_file(of_model(TRAINED), folder / "model.safetensors")


@pytest.mark.parametrize("index", [True, False])
def test_two_sets_of_weights_are_refused_and_the_path_of_either_is_taken(folder, index, caplog):
    both(folder)
    if not index:
        (folder / INDEX).unlink()
    with pytest.raises(WeightsError) as caught:
        open_checkpoint(folder, BAGEL)
    for file, expected in (("ema.safetensors", BASE), ("model.safetensors", TRAINED)):
        assert str(folder / file) in str(caught.value)
        encoder = {name: BASE[name] for name in BASE if BAGEL.part_of(name) == "vae"}
        assert checksum_of_loaded(folder / file) == checksum(expected | encoder)


def test_a_shard_stands_for_its_set_and_an_absent_one_is_named(folder):
    expected = in_shards(folder)
    assert checksum_of_loaded(folder / "model-00002-of-00003.safetensors") == checksum(expected)
    (folder / "model-00003-of-00003.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"model-00003-of-00003\.safetensors"):
        open_checkpoint(folder, BAGEL)


def test_what_an_index_says_is_absent_is_told_first_where_the_files_alone_are_not_enough(folder):
    in_files_that_only_the_index_names(folder)
    (folder / "part2.safetensors").unlink()
    with pytest.raises(WeightsError) as caught:
        open_checkpoint(folder, BAGEL)
    assert "part2.safetensors" in str(caught.value).splitlines()[1]


def test_a_file_of_the_autoencoder_alone_is_no_model(folder):
    with pytest.raises(WeightsError, match="autoencoder alone"):
        open_checkpoint(folder / "ae.safetensors", BAGEL)


def test_equal_weights_have_one_fingerprint_under_whatever_name_and_others_another(folder, tmp_path):
    first = checkpoint_fingerprint(folder, BAGEL)
    renamed = shutil.copytree(folder, tmp_path / "renamed")
    (renamed / "ema.safetensors").rename(renamed / "model.safetensors")
    for path in (renamed, renamed / "model.safetensors"):
        assert checkpoint_fingerprint(path, BAGEL) == first
    both(folder)
    with pytest.raises(WeightsError, match="either may be meant"):
        checkpoint_fingerprint(folder, BAGEL)
    assert checkpoint_fingerprint(folder / "ema.safetensors", BAGEL) == first
    assert checkpoint_fingerprint(folder / "model.safetensors", BAGEL) != first
    for path in (folder / "model.safetensors", folder / "ema.safetensors", renamed):
        assert encoder_fingerprint(path, BAGEL) == encoder_fingerprint(renamed, BAGEL)


def test_an_import_takes_the_file_that_is_named_and_says_so(folder, tmp_path, capsys):
    both(folder)
    assert convert(["import", "--source", str(folder), "--out", str(tmp_path / "converted")]) == 2
    remedy = next(path for word in capsys.readouterr().err.split()
                  if (path := word.rstrip(".")).endswith("/model.safetensors"))
    assert convert(["import", "--source", remedy, "--out", str(tmp_path / "converted")]) == 0
    stored = load_file(tmp_path / "converted" / "weights-00001-of-00001.safetensors")
    np.testing.assert_array_equal(stored["vae2llm.kernel"], TRAINED["vae2llm.weight"].T)


COMMANDS = (
    ("srum_jax.generate", ("--prompt", "a red circle", "--out", "{out}", "--checkpoint", "{checkpoint}")),
    ("srum_jax.chat", ("--question", "what", "--checkpoint", "{checkpoint}")),
    ("srum_jax.train", ("--experiment=tiny_srum", "--workdir", "{out}", "--set", "model.checkpoint={checkpoint}",
                        "--set", "data.records={records}")),
    ("tools.precompute_latents", ("--checkpoint", "{checkpoint}", "--records", "{records}", "--out", "{out}")),
)


@pytest.mark.parametrize("module, arguments", COMMANDS)
def test_every_command_refuses_a_directory_with_two_sets_and_names_both(
    module, arguments, tiny_base, tmp_path
):
    checkpoint = shutil.copytree(tiny_base, tmp_path / "checkpoint")
    shutil.copy(checkpoint / "ema.safetensors", checkpoint / "model.safetensors")
    records = tmp_path / "records"
    write_records(records, [made_up_record(0)], num_shards=1)
    places = {"out": tmp_path / "out", "checkpoint": checkpoint, "records": records}
    code, _, err = commands.run(module, *(argument.format(**places) for argument in arguments))
    assert code == 2, err
    assert all(str(checkpoint / file) in err for file in ("ema.safetensors", "model.safetensors")), err
    assert not (tmp_path / "out").exists()


def test_a_directory_that_cannot_be_loaded_leaves_no_folder_of_pictures(tiny_base, tmp_path):
    checkpoint = shutil.copytree(tiny_base, tmp_path / "checkpoint")
    content = load_file(checkpoint / "ema.safetensors")
    save_file(without(content, ["llm2vae.bias"]), checkpoint / "ema.safetensors")
    code, _, err = commands.run("srum_jax.generate", "--prompt", "a red circle", "--out", tmp_path / "deep" / "out",
                                "--checkpoint", checkpoint)
    assert code == 2 and "'llm2vae.bias' is missing" in err, err
    assert not (tmp_path / "deep").exists()


def test_a_link_that_leads_nowhere_is_told_as_one(folder):
    (folder / "ema.safetensors").rename(folder / "moved")
    (folder / INDEX).unlink()
    (folder / "ema.safetensors").symlink_to(folder / "blobs" / "0123")
    with pytest.raises(WeightsError, match=r"expected ema\.safetensors, found a link to .*0123, which is not there"):
        open_checkpoint(folder, BAGEL)


@pytest.mark.parametrize("file", ["llm_config.json", "vit_config.json", "vae_config.json", "tokenizer.json"])
def test_a_small_file_that_is_damaged_is_named_by_every_command(file, tiny_base, tmp_path):
    checkpoint = shutil.copytree(tiny_base, tmp_path / "checkpoint")
    (checkpoint / file).write_bytes((checkpoint / file).read_bytes()[:-20])
    records = tmp_path / "records"
    write_records(records, [made_up_record(0)], num_shards=1)
    places = {"out": tmp_path / "out", "checkpoint": checkpoint, "records": records}
    for module, arguments in COMMANDS:
        if file == "tokenizer.json" and module == "tools.precompute_latents":
            continue  # reads no text
        code, _, err = commands.run(module, *(argument.format(**places) for argument in arguments))
        assert code == 2 and str(checkpoint / file) in err and "copy it again" in err.lower(), err


@pytest.mark.parametrize("damage", [lambda text: text.replace("\n}", ",\n}"), lambda text: "// BAGEL\n" + text])
def test_a_config_json_that_is_no_strict_json_stops_nobody(damage, tiny_base, tmp_path):
    """The published one is said to be such a file."""
    checkpoint = shutil.copytree(tiny_base, tmp_path / "checkpoint")
    path = checkpoint / "config.json"
    path.write_text(damage(path.read_text()))
    assert open_checkpoint(checkpoint, BAGEL).config == open_checkpoint(tiny_base, BAGEL).config
    code, _, err = commands.run("srum_jax.generate", "--prompt", "a red circle", "--out", tmp_path / "out",
                                "--checkpoint", checkpoint, "--dry-run")
    assert code == 0 and str(path) in err, err


def test_one_cause_is_one_line(folder):
    content = of_model(BASE)
    for prefix in ("module.", "_orig_mod.base_model.model."):
        save_file({prefix + name: values for name, values in content.items()}, folder / "ema.safetensors")
        with pytest.raises(WeightsError) as caught:
            open_checkpoint(folder, BAGEL)
        assert f"'{prefix}'" in str(caught.value) and len(str(caught.value).splitlines()) == 1
    packed = {name: (values.astype(ml_dtypes.float8_e4m3fn) if values.ndim == 2 else values)
              for name, values in content.items()}
    scales = {name.replace(".weight", ".weight_scale"): np.ones(1, np.float32) for name in packed}
    for stored in (packed, packed | scales):
        save_file(stored, folder / "ema.safetensors")
        with pytest.raises(WeightsError, match="quantised") as caught:
            open_checkpoint(folder, BAGEL)
        assert "F8_E4M3" in str(caught.value) and len(str(caught.value).splitlines()) == 1
    factors = {f"base_model.model.{name.replace('.weight', '.lora_A.weight')}": values
               for name, values in content.items()}
    for stored in (factors, content | factors):
        save_file(stored, folder / "ema.safetensors")
        with pytest.raises(WeightsError, match="LoRA adapter, for instance 'base_model") as caught:
            open_checkpoint(folder, BAGEL)
        assert len(str(caught.value).splitlines()) == 1


def test_layers_that_are_absent_or_too_many_are_told_together(folder):
    third = [name for name in BASE if ".layers.2." in name and name.startswith("language_model")]
    second = [name.replace(".layers.2.", ".layers.1.") for name in third]
    save_file(without(of_model(BASE), [*third, *second]), folder / "ema.safetensors")
    with pytest.raises(WeightsError) as caught:
        open_checkpoint(folder, BAGEL)
    found = [line for line in str(caught.value).splitlines() if "more like it are missing" in line]
    assert found and all("and 1 more" in line for line in found)


def test_the_root_of_a_download_cache_is_told_from_a_checkpoint(folder, tmp_path, capsys):
    root = tmp_path / "models--ByteDance-Seed--BAGEL-7B-MoT"
    shutil.copytree(folder, root / "snapshots" / "0123abcd")
    for given in (root, root / "snapshots"):
        assert convert(["import", "--source", str(given), "--out", str(tmp_path / "out")]) == 2
        assert f"give {root / 'snapshots' / '0123abcd'}." in capsys.readouterr().err
    assert checksum_of_loaded(root / "snapshots" / "0123abcd") == checksum(BASE)




def test_a_bare_save_of_the_trainer_is_told_what_to_copy_by_every_command(tiny_base, tmp_path):
    """`0002000/{ema,model}.safetensors` beside pickled states; following the words gives the trained weights."""
    save = tmp_path / "results" / "0002000"
    save.mkdir(parents=True)
    base = load_file(tiny_base / "ema.safetensors")
    trained = {name: (values + 1).astype(values.dtype) for name, values in base.items()}
    for file in ("ema", "model"):
        save_file(trained, save / f"{file}.safetensors")
    (save / "optimizer.00000-of-00008.pt").write_bytes(b"")
    records = tmp_path / "records"
    write_records(records, [made_up_record(0)], num_shards=1)
    places = {"out": tmp_path / "out", "checkpoint": save, "records": records}
    told = set()
    for module, arguments in COMMANDS:
        code, _, err = commands.run(module, *(argument.format(**places) for argument in arguments))
        assert code == 2, err
        told.add(next(line for line in err.splitlines() if "ae.safetensors" in line).partition(str(save))[2])
    words, = told
    assert "JSON and tokenizer files and ae.safetensors of BAGEL-7B-MoT, never its ema.safetensors" in words
    for file in tiny_base.iterdir():
        if file.name != "ema.safetensors":
            shutil.copy(file, save)
    with pytest.raises(WeightsError, match="either may be meant"):
        open_checkpoint(save, BAGEL)
    encoder = load_file(tiny_base / "ae.safetensors")
    assert checksum_of_loaded(save / "ema.safetensors") == checksum(trained | encoder)


@pytest.mark.parametrize("file", ["EMA.safetensors", "foo.safetensors"])
def test_the_path_of_a_file_of_another_name_is_offered(folder, file):
    (folder / "ema.safetensors").unlink()
    save_file(of_model(TRAINED), folder / file)
    with pytest.raises(WeightsError) as caught:
        open_checkpoint(folder, BAGEL)
    assert str(folder / file) in str(caught.value) and "names ema.safetensors" not in str(caught.value)
    encoder = {name: BASE[name] for name in BASE if BAGEL.part_of(name) == "vae"}
    assert checksum_of_loaded(folder / file) == checksum(TRAINED | encoder)


def test_an_index_alone_names_no_weights_to_be_copied(folder):
    (folder / "ema.safetensors").unlink()
    with pytest.raises(WeightsError) as caught:
        open_checkpoint(folder, BAGEL)
    assert "Copy the weights that you mean" in str(caught.value) and "names ema" not in str(caught.value)


def test_trained_weights_without_an_autoencoder_are_told_where_to_copy_it_from(folder):
    converted_by_the_authors(folder)
    (folder / "ae.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"copy ae\.safetensors of the released checkpoint") as caught:
        open_checkpoint(folder, BAGEL, BLIND)
    assert "names ema.safetensors" not in str(caught.value)


def named_by_the_index_beside_ema(folder):
    save_file(of_model(TRAINED), folder / "foo.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(of_model(TRAINED), "foo.safetensors")}))
    return "ema.safetensors", "foo.safetensors"


def two_counts_of_shards(folder):
    (folder / "ema.safetensors").unlink()
    names = sorted(of_model(TRAINED))
    for count in (2, 3):
        for k in range(count):
            save_file({name: TRAINED[name] for name in names[k::count]},
                      folder / f"model-{k + 1:05d}-of-{count:05d}.safetensors")
    return "model-00001-of-00002.safetensors", "model-00001-of-00003.safetensors"


@pytest.mark.parametrize("layout", [named_by_the_index_beside_ema, two_counts_of_shards], ids=lambda x: x.__name__)
def test_any_two_sets_are_one_line_that_offers_paths(folder, layout):
    files = layout(folder)
    with pytest.raises(WeightsError) as caught:
        open_checkpoint(folder, BAGEL)
    assert len(str(caught.value).splitlines()) == 1
    encoder = {name: BASE[name] for name in BASE if BAGEL.part_of(name) == "vae"}
    for file in files:
        assert str(folder / file) in str(caught.value)
        model = BASE if file == "ema.safetensors" else TRAINED
        assert checksum_of_loaded(folder / file) == checksum(of_model(model) | encoder)


def test_an_autoencoder_in_two_files_is_one_line_that_names_both(folder):
    save_file(BASE, folder / "ema.safetensors")
    with pytest.raises(WeightsError) as caught:
        open_checkpoint(folder, BAGEL)
    problem, = str(caught.value).splitlines()[1:]
    assert str(folder / "ema.safetensors") in problem and str(folder / "ae.safetensors") in problem


def empty(path):
    path.write_bytes(b"")


def cut_off(path):
    path.write_bytes((path.parent / "ema.safetensors").read_bytes()[:-9])


def pointer_of_git_lfs(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 29000000000\n")


def link_that_leads_nowhere(path):
    path.symlink_to(path.parent / "blobs" / "0123")


def directory_of_that_name(path):
    path.mkdir()


def part_of_a_set(path):
    save_file(of_model(TRAINED), path.parent / "model-00001-of-00002.safetensors")


@pytest.mark.parametrize("damage", [empty, cut_off, pointer_of_git_lfs, link_that_leads_nowhere, directory_of_that_name,
                                    part_of_a_set], ids=lambda damage: damage.__name__)
def test_a_second_set_that_is_broken_is_named_and_only_the_whole_one_is_offered(folder, damage):
    damage(folder / "model.safetensors")
    with pytest.raises(WeightsError) as caught:
        open_checkpoint(folder, BAGEL)
    offered = str(caught.value).rpartition("give its path")[2]
    assert "model" in str(caught.value) and "either" not in str(caught.value)
    assert str(folder / "ema.safetensors") in offered and "/model" not in offered
    assert checksum_of_loaded(folder / "ema.safetensors") == checksum(BASE)


def test_a_pointer_of_git_lfs_is_called_one(folder):
    pointer_of_git_lfs(folder / "ema.safetensors")
    with pytest.raises(WeightsError, match=r"ema\.safetensors: a git-lfs pointer.*git lfs pull"):
        open_checkpoint(folder, BAGEL)


def test_two_names_of_one_file_are_one_set(folder):
    (folder / "model.safetensors").hardlink_to(folder / "ema.safetensors")
    assert checksum_of_loaded(folder) == checksum(BASE)


def test_a_file_of_converted_weights_leads_to_their_directory(folder, tmp_path):
    assert convert(["import", "--source", str(folder), "--out", str(tmp_path / "converted")]) == 0
    with pytest.raises(WeightsError, match=f"give their directory, {tmp_path / 'converted'}\\."):
        open_checkpoint(tmp_path / "converted" / "weights-00001-of-00001.safetensors", BAGEL)


def test_a_damaged_index_is_a_warning_where_the_files_alone_are_complete(folder, caplog):
    (folder / INDEX).write_text('{"weight_map": {')
    assert checksum_of_loaded(folder) == checksum(BASE)
    doubt, = lines(caplog, logging.WARNING)
    assert str(folder / INDEX) in doubt and "not valid JSON" in doubt
    (folder / "ema.safetensors").unlink()
    with pytest.raises(WeightsError, match="not valid JSON"):
        open_checkpoint(folder, BAGEL)


def test_stored_latents_say_whose_autoencoder_was_read(tiny_base, tmp_path):
    records = tmp_path / "records"
    write_records(records, [made_up_record(0)], num_shards=1)
    _, _, err = commands.run("tools.precompute_latents", "--experiment", "tiny_srum", "--checkpoint", tiny_base,
                             "--records", records, "--out", tmp_path / "out")
    assert "INFO" in err and f"{tiny_base}: reading ema.safetensors, ae.safetensors" in err


def test_what_is_read_is_said_where_nobody_set_up_logging(tiny_base):
    code = ("from srum_jax import pipeline; import srum_jax.weights.checkpoint as c; from srum_jax.families.registry "
            f"import family_of; c.open_checkpoint({str(tiny_base)!r}, family_of({str(tiny_base)!r}).architecture)")
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"INFO: {tiny_base}: reading ema.safetensors, ae.safetensors" in child.stderr
