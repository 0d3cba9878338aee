"""Recomputes `infer.safetensors`: prefill, caches, guided sampling, decoded images, greedy texts.

The case is the first of two rows; the second has less text and no image, so that padding takes part.
"""

import dataclasses
import json
from typing import Any

import jax
import numpy as np
from etils import epath
from flax import nnx
from PIL import Image

from srum_jax.data.image_transform import ImageTransform
from srum_jax.families.bagel.conversation import Conversation, latent_width
from srum_jax.families.bagel.flow_sampling import LatentLayout
from srum_jax.families.bagel.image_codec import to_uint8
from srum_jax.families.bagel.image_views import ImageViews, latent_position_ids, latent_view, patch_view
from srum_jax.families.bagel.programs import SAMPLE_LATENTS
from srum_jax.families.bagel.sampler import FlowSampler, Guidance
from srum_jax.inference.context import Context
from srum_jax.inference.random_keys import Use, random_keys
from srum_jax.inference.settings import TextSampler
from srum_jax.mesh import build_mesh
from srum_jax.mesh_config import MeshConfig
from srum_jax.models.compute import ComputeConfig
from tools.check_parity.recorded_programs import Operation, RecordedPrograms, between_markers
from tools.check_parity.result import GroupResult, Pair, Unchecked, compare_exact, compare_floats, compare_mostly
from tools.check_parity.tensors import Tensors, read_tensors
from tools.check_parity.training_case import FORWARD

_CAPACITY = 512  # slots, enough for every chunk of a case
_GIVEN = ("init_noise", "pil_image", "vae_posterior_noise")
_KINDS = ("text", "vit", "vae")
# Runs that continue the prefill and the random numbers of another.
_SHARED = {"edit_channel": "edit_global", "edit_text_channel": "edit_global"}
# One line of the report each; the first match counts.
_GROUPS = ("text.tokens", "text.logits", "image_uint8", "decode", "final_latent_tokens", "cache", "step", "op")


@dataclasses.dataclass(frozen=True)
class _Case:
    tensors: Tensors
    description: dict[str, Any]
    programs: RecordedPrograms

    def shared(self, run: str, key: str) -> np.ndarray:
        """A random input of a run, or of the run that it continues."""
        name = f"{run}/{key}"
        if name not in self.tensors and run in _SHARED:
            name = f"{_SHARED[run]}/{key}"
        if name not in self.tensors and key == "init_noise":
            name = "t2i/init_noise" if run.startswith("t2i") else name
        return self.tensors[name]


def check(directory: epath.Path, graphdef: nnx.GraphDef, state: nnx.State) -> list[GroupResult | Unchecked]:
    """Compares every tensor and every operation of the case's runs.

    Args:
      directory: holds `infer.safetensors` and `infer.json`.
      graphdef, state: the model, float32, with both its encoders.
    """
    programs = RecordedPrograms(graphdef, state, build_mesh(MeshConfig(), jax.devices()[:1]),
                                ComputeConfig(remat="none"))
    case = _Case(read_tensors(directory / "infer.safetensors"), json.loads((directory / "infer.json").read_text()),
                 programs)
    results: list[GroupResult | Unchecked] = []
    for run, description in case.description["runs"].items():
        programs.operations.clear()
        found, facts = _Run(case, run, description).recompute()
        results.append(compare_exact(f"infer.{run}/operations", facts))
        results += _compare(run, case.tensors, found, _demanded(description))
    given = [name for name in case.tensors if any(part in name for part in _GIVEN)]
    return [*results, Unchecked("infer: " + ", ".join(given), "inputs of the case, used as they are")]


class _Run:
    """One run of the reference's interleaved inference, done again."""

    def __init__(self, case: _Case, name: str, description: dict[str, Any]):
        self.case, self.name, self.description = case, name, description
        self.args, self.programs = description["args"], case.programs
        self.understands = bool(self.args.get("understanding_output"))
        self.found: Tensors = {}
        self.facts: list[Pair] = []

    def recompute(self) -> tuple[Tensors, list[Pair]]:
        """Tensors by the names of the case, and integers beside what was expected of them."""
        conversation = Conversation(self.programs, 2, _CAPACITY, image_guidance=True)
        size = self._inputs(conversation)
        if "generate_text" in self.description:
            before = conversation.everything
            self._fact("generate_text", "start_position_id", before.next_position[0])
            self._fact("generate_text", "kv_len", before.length[0])
            written = self._write(conversation)
            if not self.understands:
                conversation.add_plan([written, []])
        self._operations(conversation)
        if "generate_image" in self.description:
            self._image(conversation, size)
        return self.found, self.facts

    def _inputs(self, conversation: Conversation) -> tuple[int, int]:
        """Instructions, image and text in the order of the run; returns the size of the image to be made."""
        config = self.programs.config
        transforms = (self.case.description[f"{kind}_transform"] for kind in ("vae", "vit"))
        views = ImageViews(*(ImageTransform(t["max_size"], t["min_size"], t["stride"]) for t in transforms))
        size = tuple(self.args.get("image_shapes", (0, 0)))
        if self.args.get("think"):
            use = "understanding" if self.understands else "generation"
            conversation.add_system([self.description["system_prompt_ids"][use]] * 2)
        for kind in self.description["input_order"]:
            if kind == "text":
                text = list(map(int, self.description["text"].split()))
                conversation.add_text([text, text[:1]])
                continue
            latent = latent_view(Image.fromarray(self.case.tensors["pil_image"].astype(np.uint8)), views, config)
            size = latent.resized.size[::-1]
            if not self.understands:
                noise = self.case.shared(self.name, "vae_posterior_noise.0")
                self.programs.posterior_noise = np.moveaxis(noise, 1, -1)
                conversation.add_latents([latent, None], random_keys([0, 0], Use.POSTERIOR))
            conversation.add_patches([patch_view(latent.resized, views, config), None])
        return size

    def _write(self, conversation: Conversation) -> list[int]:
        sampler = TextSampler(max_tokens=self.args["max_think_token_n"])
        decoded = conversation.write(random_keys([0, 0], Use.TEXT), np.ones(2, bool), sampler)
        count = int(decoded.num_tokens[0])
        tokens = np.asarray(decoded.token_ids[0, :count])
        self.found |= {"text.tokens": tokens, "text.logits": np.asarray(decoded.logits[0, :count])}
        return tokens[1:].tolist()

    def _operations(self, conversation: Conversation) -> None:
        """Hidden states and integers of every prefill, and the caches."""
        expected = self.description["ops"]
        self.facts.append(("number of operations", np.array(len(expected)), np.array(len(self.programs.operations))))
        chunks: dict[str, list[str]] = {"gen": [], "cfg_img": []}
        for wanted, done in zip(expected, self.programs.operations, strict=False):
            chunks[wanted["context"]].append(done.kind)
            self.found |= {f"op{wanted['i']}.{key}": value for key, value in _operation_tensors(done).items()}
            for key, value in _operation_integers(done).items():
                if key in wanted or key in ("kind", "kv_len_before", "kv_len_after", "rope_after", "text_ids"):
                    expected_value = _KINDS.index(wanted[key]) if key == "kind" else wanted[key]
                    self.facts.append((f"op{wanted['i']}.{key}", np.array(expected_value), np.array(value)))
        names = ("gen", "cfg_text", "cfg_img")
        for name, context in zip(names, conversation.branches(3), strict=True):
            order = _sequence_order(context, self.programs.operations if name != "cfg_img" else [])
            for part in ("k", "v"):
                values = np.asarray(getattr(context.cache, "key" if part == "k" else "value"))[:, 0, order]
                self.found |= {f"cache.{name}.{part}.{i}": layer for i, layer in enumerate(values)}
            if "generate_image" in self.description:
                self._fact("generate_image", f"{name}_position_id", context.next_position[0])
                self._fact("generate_image", f"{name}_kv_len", context.length[0])

    def _image(self, conversation: Conversation, size: tuple[int, int]) -> None:
        config, args = self.programs.config, self.args
        position_ids = latent_position_ids(*size, config)
        count, width = len(position_ids), latent_width([len(position_ids)])
        self._fact("generate_image", "vae_position_ids", position_ids)
        sampler = FlowSampler(args["num_timesteps"], args["timestep_shift"], Guidance(
            args["cfg_text_scale"], args["cfg_img_scale"], tuple(args["cfg_interval"]), args["cfg_renorm_type"],
            args["cfg_renorm_min"],
        ))
        self.programs.noise = self.case.shared(self.name, "init_noise")
        padded = np.zeros((2, width), np.int32)
        padded[:, :count] = position_ids
        layout = LatentLayout(padded, np.array([count, count // 2], np.int32))
        contexts = conversation.branches(sampler.guidance.branches)
        keys = random_keys([0, 0], Use.NOISE)
        latent = self.programs.call(SAMPLE_LATENTS, contexts, keys, layout, sampler)[:1, :count]
        self._steps(sampler, count)
        rows, columns = (side // config.latent_stride for side in size)
        pixels = self.programs.decode_pixels(latent, rows, columns)
        self.found |= {
            "final_latent_tokens": np.asarray(latent[0]),
            "decode.latent": _unpacked(np.asarray(latent[0]), rows, columns, config),
            "decode.image": np.moveaxis(np.asarray(pixels), -1, 1),
            "image_uint8": np.asarray(to_uint8(pixels)[0]).astype(np.int32),
        }

    def _steps(self, sampler: FlowSampler, count: int) -> None:
        step = 0
        for stretch in self.programs.trace:
            branches = stretch["und"].shape[1] // 2
            guided = branches > 1
            scales = (sampler.guidance.text_scale, sampler.guidance.image_scale) if guided else (1.0, 1.0)
            for i in range(len(stretch["t"])):
                found = {"t": stretch["t"][i][None], "cfg_scales": np.array(scales)}
                found |= {key: stretch[key][i, 0, :count] for key in ("x_t", "v_cond", "v_text", "v_img", "v")
                          if key in stretch}
                both = np.concatenate([stretch["und"][i], stretch["gen"][i]], axis=1)
                names = ("hidden_cond", "hidden_text", "hidden_img")[:branches]
                found |= {name: both[branch, between_markers(count)] for branch, name in enumerate(names)}
                self.found |= {f"step{step}.{key}": np.asarray(value) for key, value in found.items()}
                step += 1

    def _fact(self, section: str, key: str, value: Any) -> None:
        self.facts.append((f"{section}.{key}", np.array(self.description[section][key]), np.asarray(value)))


def _operation_tensors(done: Operation) -> Tensors:
    given = {"vit": {"vit_tokens": done.given}, "vae": {"vae_images": done.given}, "text": {}}
    return {"hidden": done.hidden, **given[done.kind]}


def _operation_integers(done: Operation) -> dict[str, Any]:
    image = done.kind != "text"
    steps = np.zeros(len(done.hidden), int) if image else np.arange(len(done.hidden))
    return {
        "kind": _KINDS.index(done.kind),
        "kv_len_before": done.length_before,
        "kv_len_after": int(done.context.length[0]),
        "rope_after": int(done.context.next_position[0]),
        "text_ids": done.token_ids,
        "position_ids": done.position_before + steps,
        f"{done.kind}_position_ids": done.table_rows,
    }


def _sequence_order(context: Context, operations: list[Operation]) -> np.ndarray:
    """Slots of the first row in the order of the sequence: an image's markers lie before its tokens, both."""
    slots = np.flatnonzero(np.asarray(context.real[0]))
    order, start = [], 0
    chunks = {done.length_before: done for done in operations if done.kind != "text"}
    while start < len(slots):
        image = chunks.get(start)
        count = len(image.hidden) if image else 1
        order += (slots[start : start + count][between_markers(count - 2)] if image else slots[start : start + 1]
                  ).tolist()
        start += count
    return np.array(order, int)


def _unpacked(tokens: np.ndarray, rows: int, columns: int, config) -> np.ndarray:
    patch = config.latent_patch_size
    grid = tokens.reshape(rows, columns, patch, patch, -1)
    return grid.transpose(4, 0, 2, 1, 3).reshape(1, -1, rows * patch, columns * patch)


def _demanded(description: dict[str, Any]) -> set[str]:
    """What every run of this format holds."""
    wanted = {"final_latent_tokens"} if "generate_image" in description else set()
    return wanted | ({"text.tokens", "text.logits"} if "generate_text" in description else set())


def _compare(run: str, tensors: Tensors, found: Tensors, demanded: set[str]) -> list[GroupResult | Unchecked]:
    names = {name.removeprefix(f"{run}/") for name in tensors if name.startswith(f"{run}/")} | demanded
    names = {name for name in names if not name.startswith(_GIVEN)}
    results = []
    for group in _GROUPS:
        members = sorted(name for name in names if name.startswith(group))
        names -= set(members)
        if not members:
            continue
        pairs = [(name, tensors.get(f"{run}/{name}"), found.get(name)) for name in members]
        title = f"infer.{run}/{group}"
        if group == "text.tokens":
            results.append(compare_exact(title, pairs))
        elif group == "image_uint8":
            results.append(compare_mostly(title, pairs, absolute=0.0, outlier_absolute=1.0, outlier_share=0.01))
        else:
            results.append(compare_floats(title, pairs, **FORWARD))
    return results + [Unchecked(f"infer.{run}/{name}", "unknown to this command") for name in sorted(names)]
