import dataclasses
import json

import pytest

from srum_jax.experiment import ExperimentError, experiment_names, load_recipe
from srum_jax.families.registry import family
from srum_jax.overrides import apply_overrides, to_json
from srum_jax.training.config import EmaConfig, LoraConfig, OptimizerConfig
from srum_jax.training.experiment import Experiment


def recipe(name):
    return load_recipe(name).experiment


@pytest.mark.parametrize("name", experiment_names())
def test_every_experiment_builds_has_a_form_in_json_and_is_documented(name):
    found = load_recipe(name)
    rows = found.experiment.rows
    assert to_json(found.experiment)["rows"] == json.loads(json.dumps(dataclasses.asdict(rows)))
    module_doc = __import__(f"experiments.{name}", fromlist=["x"]).__doc__
    assert f"python -m srum_jax.train --experiment={name}" in module_doc
    if "tiny" not in name:
        assert "not measured yet" in module_doc
        released = family(found.experiment.model.family)
        config = released.costs.config("")
        released.packer(rows, config, None, found.experiment.objective.columns, None)  # sizes go with the model


def test_the_named_experiments_of_the_paper_exist():
    assert {"bagel_cot", "bagel", "bagel_sft", "bagel_no_global", "bagel_no_reference", "bagel_sparse",
            "bagel_lambda_sweep", "bagel_official", "tiny", "blip3o", "blip3o_4b"} <= set(experiment_names())


def test_the_paper_recipe_is_the_papers():
    cot = recipe("bagel_cot")
    assert cot.optimizer == OptimizerConfig(
        learning_rate=2.5e-5, schedule="constant", warmup_steps=500, beta1=0.9, beta2=0.95, eps=1e-15,
        weight_decay=0.0, clip_norm=1.0,
    )
    assert cot.model.timestep_shift == 4.0
    assert (cot.objective.reward_coefficient, cot.objective.reference_coefficient) == (1.0, 0.5)
    assert cot.objective.reward_map.limits == (-1.0, 1.0)
    assert (cot.compute.dtype, cot.compute.attention) == ("bfloat16", "auto")


def test_the_official_recipe_is_that_of_the_released_script():
    official = recipe("bagel_official")
    assert (official.optimizer.learning_rate, official.optimizer.warmup_steps) == (2e-5, 100)
    assert official.training.steps == 309
    assert official.model.timestep_shift == 1.0
    assert official.data.text_dropout == 0.1 and official.rows.stride == 256
    assert official.objective.reward_map.limits == (0.0, 1.0) and official.objective.reward_map.box_space == "unscaled"
    assert official.seed == 4396


def test_the_recipe_of_blip3o_differs_from_that_of_bagel_in_what_belongs_to_the_model():
    ours, bagel = recipe("blip3o"), recipe("bagel_cot")
    assert (ours.objective, ours.optimizer, ours.data, ours.training) == (
        bagel.objective, bagel.optimizer, bagel.data, bagel.training)
    assert ours.model.timestep_shift is None and ours.rows.samples_per_row == bagel.rows.samples_per_row


@pytest.mark.parametrize("run, family, same", [("bagel_cot", "bagel", "bagel"), ("blip3o", "blip3o", "blip3o_4b")])
def test_ablations_differ_from_the_main_run_in_one_thing_only(run, family, same):
    main = to_json(recipe(run))
    expected = {
        same: {},
        f"{family}_sft": {"objective": {"reward_coefficient": 0.0, "reference_coefficient": 1.0}},
        f"{family}_no_global": {"objective": {"reward_map": main["objective"]["reward_map"] | {"use_global": False}}},
        f"{family}_no_reference": {"objective": {"reference_coefficient": 0.0}},
        f"{family}_sparse": {"objective": {"reward_map": main["objective"]["reward_map"] | {"binarize": "region"}}},
        f"{family}_lambda_sweep:0.25": {"objective": {"reference_coefficient": 0.25}},
    }
    for name, groups in expected.items():
        found = to_json(recipe(name))
        assert found.pop("name") != main["name"]
        wanted = {key: main[key] | groups[key] if key in groups else main[key] for key in main if key != "name"}
        assert found == wanted, name


def test_the_low_rank_recipe_differs_from_the_main_run_in_factors_and_rate_only():
    main, found = recipe("bagel_cot"), recipe("bagel_lora")
    assert found.model.lora == LoraConfig(rank=32, alpha=64.0) and main.model.lora is None and main.ema is None
    assert dataclasses.replace(found, name=main.name, model=main.model, optimizer=main.optimizer) == main
    assert dataclasses.replace(found.model, lora=None) == main.model
    assert apply_overrides(main, ["model.lora.rank=4"]).model.lora == LoraConfig(rank=4)
    assert apply_overrides(found, ["model.lora=none", "ema.decay=0.99"]).ema == EmaConfig(0.99)


def test_the_sweep_names_its_runs_by_value_and_refuses_what_is_no_number():
    assert recipe("bagel_lambda_sweep:0.25").name == "bagel_lambda_0.25"
    assert recipe("bagel_lambda_sweep").objective.reference_coefficient == 0.5
    with pytest.raises(ExperimentError, match="expected a number behind the colon, found 'much'"):
        load_recipe("bagel_lambda_sweep:much")


def test_an_unknown_name_gives_the_nearest():
    with pytest.raises(ExperimentError, match="--experiment=bagel_cott: no such experiment; the nearest is bagel_cot"):
        load_recipe("bagel_cott")


def test_an_argument_for_an_experiment_that_takes_none_is_an_error():
    with pytest.raises(ExperimentError, match="takes no argument"):
        load_recipe("tiny:3")


def test_a_users_own_file_is_an_experiment(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("from experiments.tiny import prepare\nfrom srum_jax.training.experiment import Experiment\n\n\n"
                    "def experiment():\n    return Experiment('mine', seed=3)\n")
    found = load_recipe(str(path))
    assert found.experiment == Experiment("mine", seed=3) and found.prepare is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", r"mine\.py: expected a function experiment\(\) -> Experiment, found none"),
        ("from srum_jax.training.config import TrainingConfig\ndef experiment():\n    return TrainingConfig(steps=0)\n",
         r"mine\.py: training\.steps: expected a positive number, found 0"),
        ("def experiment(size):\n    return None\n", "needs an argument behind a colon"),
        ("def experiment():\n    return 3\n", r"mine\.py: experiment\(\) returned int, expected Experiment"),
    ],
)
def test_a_file_that_is_no_experiment_says_why(tmp_path, text, message):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ExperimentError, match=message):
        load_recipe(str(tmp_path / "mine.py"))


def test_a_file_that_is_not_there_is_an_error():
    with pytest.raises(ExperimentError, match="no such file"):
        load_recipe("absent/mine.py")
