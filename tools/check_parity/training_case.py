"""Recomputes a training case: inputs derived from images, intermediates, losses and gradients."""

import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import nnx

from srum_jax.families.bagel.forward import BagelForward
from srum_jax.models.bagel.batch import PackedBatch, StepNoise
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.attention_mask import allowed
from srum_jax.models.layers.token_stream import concatenate
from srum_jax.objectives.config import RewardWeighted
from srum_jax.rewards.boxes import Box, official_boxes
from srum_jax.rewards.reward_map import RewardMapConfig, pixel_map, resize_bilinear, reward_map
from srum_jax.training.step import share_of_loss
from srum_jax.weights.table import Plan
from tools.check_parity.golden_batch import GoldenBatch, golden_batch
from tools.check_parity.published_names import published
from tools.check_parity.result import GroupResult, Unchecked, compare_exact, compare_floats, compare_relative
from tools.check_parity.tensors import Tensors

FORWARD = {"absolute": 5e-5, "relative_l2": 1e-5}
GRADIENT = {"relative_l2": 2e-5, "floor": 1e-7}
NORM = {"relative_l2": 1e-5}
REWARD = {"absolute": 1e-6}

# The unscanned path, whose intermediates can be looked at, and the scanned one that training runs.
_TAPPED = ComputeConfig(scan_layers=False, remat="none")
_SCANNED = ComputeConfig(scan_layers=True, remat="full")

# `reward01` is built from boxes and scores as the authors' loader does; `reward11` is given, a signed map of pixels.
_OFFICIAL = RewardMapConfig(variant="official", edge="half_open")
_LAMBDAS = (0.0, 0.5, 1.0)


@dataclasses.dataclass(frozen=True)
class TrainingCase:
    """One `train_*.safetensors` file with the model that it belongs to."""

    name: str
    tensors: Tensors
    regions: list[dict]  # one entry per latent image: size_wh, regions, global_score
    config: BagelConfig
    graphdef: nnx.GraphDef
    state: nnx.State
    plan: Plan
    param_names: list[str]  # order of `grad.total.all_norms`

    @property
    def golden(self) -> GoldenBatch:
        """The case's inputs as our batch."""
        inputs = {key.removeprefix("in."): value for key, value in self.tensors.items() if key.startswith("in.")}
        return golden_batch(inputs, self.config.latent_patch_size, self.config.vae.downsample)

    def rewards(self, kind: str) -> tuple[np.ndarray, np.ndarray]:
        """alpha and R of every latent token, float32 [1, Cg] each."""
        alphas, maps = [], []
        for i, grid in enumerate(self.tensors["in.patchified_vae_latent_shapes"]):
            grid = tuple(map(int, grid))
            if kind == "reward11":
                alpha, values = 1.0, resize_bilinear(self.tensors[f"in.reward11.{i}"], grid)
            else:
                width, height = self.regions[i]["size_wh"]
                result = reward_map(_regions(self.regions[i]), self.regions[i]["global_score"], width=width,
                                    height=height, grid=grid, config=_OFFICIAL)
                alpha, values = result.alpha, result.R
            maps.append(values.reshape(-1))
            alphas.append(np.full(values.size, alpha, np.float32))
        return np.concatenate(alphas)[None], np.concatenate(maps)[None]

    def rewarded(self, kind: str) -> PackedBatch:
        """The case's batch under one kind of reward."""
        alpha, values = self.rewards(kind)
        return dataclasses.replace(self.golden.batch, image_columns={"alpha": alpha, "reward_map": values})


def load_case(directory: epath.Path, name: str, tensors: Tensors, config, graphdef, state, plan) -> TrainingCase:
    """Reads what lies beside `{name}.safetensors`."""
    def beside(suffix: str) -> list:
        return json.loads((directory / f"{name}_{suffix}.json").read_text())

    return TrainingCase(name, tensors, beside("reward01"), config, graphdef, state, plan, beside("param_names"))


def check(case: TrainingCase) -> list[GroupResult | Unchecked]:
    """Compares every tensor of the case with what this project computes."""
    found = _recompute(case)
    results: list[GroupResult | Unchecked] = []
    for group, keys in _groups({*case.tensors, *_demanded(case)}).items():
        pairs = [(key, case.tensors.get(key), found.get(key)) for key in keys]
        title = f"{case.name}/{group}"
        if group in _GIVEN:
            results.append(Unchecked(title, "an input of the case, used as it is"))
        elif group == "in.attn_mask":
            results.append(compare_exact(title, pairs))
        elif group.startswith(("in.reward", "mid.reward")):
            results.append(compare_floats(title, pairs, **REWARD))
        elif "norm" in group.rsplit(".", 1)[-1] and group.startswith("grad."):
            results.append(compare_relative(title, pairs, **NORM))
        elif group.startswith("grad."):
            results.append(compare_relative(title, pairs, **GRADIENT))
        else:
            results.append(compare_floats(title, pairs, **FORWARD))
    return results


_GIVEN = frozenset(
    "in." + name
    for name in (
        "attn_modes", "ce_loss_indexes", "ce_loss_weights", "mse_loss_indexes", "noise", "noise_step2",
        "packed_label_ids", "packed_latent_position_ids", "packed_position_ids", "packed_text_ids",
        "packed_text_indexes", "packed_timesteps_raw", "packed_vae_token_indexes", "packed_vit_position_ids",
        "packed_vit_token_indexes", "packed_vit_tokens", "padded_gt_images", "padded_images",
        "patchified_vae_latent_shapes", "reward11", "sample_lens", "split_lens", "split_sample_ids",
        "vae_noise", "vae_noise_gt", "vit_token_seqlens",
    )
)  # fmt: skip


def _demanded(case: TrainingCase) -> set[str]:
    """What every file of this format holds."""
    middle = ("timesteps", "time_embed", "latent_clean", "latent_clean_gt", "latent_noisy", "packed_sequence",
              "last_hidden", "v_theta", "reward01_latent", "reward11_latent")
    out = ("mse_plain_bad", "mse_plain_good", "loss_constraint", "total", "srum01.loss_reward", "srum11.loss_reward")
    wanted = {f"mid.{name}" for name in middle} | {f"out.{name}" for name in out}
    wanted |= {f"mid.layer.{i}" for i in range(case.config.llm.num_layers)}
    wanted |= {"grad.total.global_norm", "grad.total.all_norms", "in.padded_latent"}
    if "in.packed_label_ids" in case.tensors:
        wanted |= {"out.ce", "out.ce_mean"}
    if "in.packed_vit_tokens" in case.tensors:
        wanted |= {"mid.vit_tower", "mid.vit_connector"}
        wanted |= {f"mid.vit_layer.{i}" for i in range(case.config.vit.num_layers)}
    return wanted


def _groups(keys: Iterable[str]) -> dict[str, list[str]]:
    """Keys by group: numbered tensors together, gradients together but for their norms."""
    groups: dict[str, list[str]] = {}
    for key in sorted(keys):
        parts = key.split(".")
        if parts[0] == "grad" and parts[-1] not in ("global_norm", "all_norms"):
            group = ".".join(parts[:2])
        elif parts[-1].isdigit():
            group = ".".join(parts[:-1])
        else:
            group = key
        groups.setdefault(group, []).append(key)
    return groups


def _regions(entry: dict) -> list[tuple[Box, float]]:
    return official_boxes(entry["regions"])


def _recompute(case: TrainingCase) -> Tensors:
    found = dict(_inputs(case))
    found |= _forward(case)
    found |= _losses(case)
    return found | _gradients(case)


def _inputs(case: TrainingCase) -> Iterator[tuple[str, np.ndarray]]:
    golden, tensors = case.golden, case.tensors
    batch = golden.batch
    tokens = concatenate([batch.text, batch.vit, batch.latent])
    stored = np.asarray(allowed(tokens, tokens)[0])
    places = np.concatenate([golden.text_places, golden.vit_places, golden.latent_places])
    mask = np.zeros_like(stored)
    mask[np.ix_(places, places)] = stored
    start = 0
    for i, length in enumerate(tensors["in.sample_lens"]):
        yield f"in.attn_mask.{i}", mask[start:start + length, start:start + length].astype(np.int32)
        start += length

    model = nnx.merge(case.graphdef, case.state)
    for name, images, noise in (
        ("in.padded_latent", batch.images, golden.noise.posterior),
        ("in.padded_latent_gt", batch.images if batch.reference_images is None else batch.reference_images,
         golden.noise.reference_posterior),
    ):
        latent = model.vae.sample(model.vae.posterior(jnp.asarray(images[0])), noise[0])
        yield name, np.moveaxis(np.asarray(latent), -1, 1)

    for i, entry in enumerate(case.regions):
        width, height = entry["size_wh"]
        values = pixel_map(_regions(entry), width=width, height=height, config=_OFFICIAL)
        yield f"in.reward01.{i}", values * np.float32((entry["global_score"] + 1) / 2)
    for kind in ("reward01", "reward11"):
        alpha, values = case.rewards(kind)
        yield f"mid.{kind}_latent", (alpha * values)[0]


def _forward(case: TrainingCase) -> Tensors:
    golden = case.golden
    taps: dict[str, list] = {}
    scores = BagelForward(case.config, _TAPPED).scores(
        nnx.merge(case.graphdef, case.state), golden.batch, golden.noise,
        tap=lambda name, value: taps.setdefault(name, []).append(value),
    )
    mask = np.asarray(golden.batch.loss_mask[0])

    def in_order(hidden) -> np.ndarray:
        return golden.in_sequence_order(np.asarray(hidden.und[0]), np.asarray(hidden.gen[0]))

    def first(name: str) -> np.ndarray:
        return np.asarray(taps[name][0][0])

    found = {
        "mid.timesteps": first("timestep"),
        "mid.time_embed": first("time_embed"),
        "mid.latent_clean": first("latent"),
        "mid.latent_clean_gt": first("reference_latent"),
        "mid.latent_noisy": first("noisy_latent"),
        "mid.vae2llm": first("vae2llm"),
        "mid.packed_sequence": in_order(taps["packed_sequence"][0]),
        "mid.layer0.attn": in_order(taps["attention_branch"][0]),
        "mid.last_hidden": in_order(taps["last_hidden"][0]),
        "mid.v_theta": first("velocity")[mask],
        "out.ce": -np.asarray(scores.text_log_prob[0]),
    }
    found |= {f"mid.layer.{i}": in_order(x) for i, x in enumerate(taps["layer"])}
    if "vit_tower" in taps:
        found |= {"mid.vit_tower": first("vit_tower"), "mid.vit_connector": first("vit_connector")}
        found |= {f"mid.vit_layer.{i}": np.asarray(x[0]) for i, x in enumerate(taps["vit_layer"])}
    return found


def _losses(case: TrainingCase) -> Tensors:
    @functools.partial(jax.jit, static_argnums=1)
    def run(batch: PackedBatch, objective: RewardWeighted):
        model = nnx.merge(case.graphdef, case.state)
        return share_of_loss(model, forward, objective, batch, case.golden.noise)

    forward = BagelForward(case.config, _SCANNED)
    ones = np.ones_like(case.golden.batch.image_columns["alpha"])
    unrewarded = dataclasses.replace(case.golden.batch, image_columns={"alpha": ones, "reward_map": ones})
    objective = RewardWeighted()
    _, plain = run(unrewarded, objective)
    found = {
        "out.mse_plain_bad": plain["loss/reward"].mean(),
        "out.mse_plain_good": plain["loss/reference"].mean(),
        "out.ce_mean": plain["loss/text"].mean(),
    }
    if "out.ce_reweighted" in case.tensors:
        reweighted = run(unrewarded, dataclasses.replace(objective, reweight_text=True))[1]
        found["out.ce_reweighted"] = reweighted["loss/text"].mean()
    for kind, name in (("reward01", "srum01"), ("reward11", "srum11")):
        total, metrics = run(case.rewarded(kind), objective)
        reward, reference = metrics["loss/reward"].mean(), metrics["loss/reference"].mean()
        found |= {f"out.{name}.total_lambda{weight}": reward + weight * reference for weight in _LAMBDAS}
        found[f"out.{name}.loss_reward"] = reward
        found["out.loss_constraint"] = reference
        if kind == "reward01":
            found["out.total"] = total
    return {key: np.asarray(value) for key, value in found.items()}


def gradients(case: TrainingCase, batch: PackedBatch, objective: RewardWeighted, noise=None):
    """The loss, float32 [], and its gradient with respect to every parameter, an nnx.State."""
    noise = case.golden.noise if noise is None else noise
    value_and_grad = _value_and_grad(case.graphdef, BagelForward(case.config, _SCANNED), objective)
    return value_and_grad(*nnx.split_state(case.state, trained, ...), batch, noise)


@functools.cache
def _value_and_grad(graphdef: nnx.GraphDef, forward: BagelForward, objective: RewardWeighted):
    def loss(parameters: nnx.State, rest: nnx.State, batch: PackedBatch, noise: StepNoise) -> jax.Array:
        model = nnx.merge(graphdef, parameters, rest)
        return share_of_loss(model, forward, objective, batch, noise)[0]

    return jax.jit(jax.value_and_grad(loss))


def trained(path: tuple, variable: nnx.Variable) -> bool:
    """What the reference trains in these cases: all but the autoencoder and the position tables."""
    return isinstance(variable, nnx.Param) and path[0] != "vae"


def norm(values: np.ndarray) -> float:
    """L2 norm in float64."""
    return float(np.linalg.norm(np.asarray(values, np.float64)))


def _gradients(case: TrainingCase) -> Tensors:
    found: Tensors = {}
    runs = {
        "total": (case.rewarded("reward01"), RewardWeighted()),
        "srum11": (case.rewarded("reward11"), RewardWeighted(text_coefficient=0.0)),
    }
    runs = {run: settings for run, settings in runs.items() if f"grad.{run}.global_norm" in case.tensors}
    for run, (batch, objective) in runs.items():
        by_name = published(gradients(case, batch, objective)[1], case.plan)
        found |= {f"grad.{run}.{name}": values for name, values in by_name.items()}
        norms = {name: norm(values) for name, values in by_name.items()}
        found[f"grad.{run}.global_norm"] = np.float32(np.sqrt(sum(value**2 for value in norms.values())))
        found[f"grad.{run}.all_norms"] = np.array([norms.get(name, 0.0) for name in case.param_names], np.float32)
    return found
