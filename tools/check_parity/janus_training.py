"""Recomputes `golden_grads` and `golden_adamw`: gradients of both likelihoods, and optimizer steps on their sum."""

from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

from srum_jax.models.compute import ComputeConfig
from srum_jax.models.layers.logical_axes import dotted
from srum_jax.training.config import OptimizerConfig
from srum_jax.training.optimizer import make_optimizer
from tools.check_parity.janus_case import ACTIVATION, GRADIENT, answer_logits, code_logits, log_probs
from tools.check_parity.janus_reading import pictures_of_rows
from tools.check_parity.model_case import Case
from tools.check_parity.published_names import published
from tools.check_parity.result import GroupResult, Unchecked, compare_floats, compare_names, compare_recorded

_COMPUTE = ComputeConfig(remat="none")
_PARAMETER = {"absolute": 2e-6}
_TRAINED = ("llm", "aligner", "gen_embed", "gen_aligner", "gen_head")


def check_gradients(case: Case) -> list[GroupResult | Unchecked]:
    """Gradients of minus the mean log probability of an answer, and of a picture's codes."""
    expected, found = case.tensors["grads"], {}
    graphdef, learnt, rest = nnx.split(case.model, lambda path, _: path[0] in (*_TRAINED, "vision"), ...)
    for kind, loss in _losses(case, graphdef, rest).items():
        found[f"{kind}.loss"], gradient = jax.jit(jax.value_and_grad(loss))(learnt)
        found |= {f"{kind}.grad.{name}": value for name, value in published(gradient, case.plan).items()}
    names = case.meta["vision_param_names"]
    tower = {name: found.pop(f"text.grad.{name}") for name in names}
    found["text.vision_grad_norms"] = np.asarray([np.linalg.norm(tower[name]) for name in names])
    found |= {f"text.vision_grad.{name.removeprefix('vision_model.vision_tower.')}": value
              for name, value in tower.items()}
    results = compare_recorded(
        "grads", expected, found, tolerance=lambda key: ACTIVATION if key.endswith("loss") else GRADIENT)
    for kind in ("text", "image"):
        names = [f"{kind}.grad.{name}" for name in case.meta[f"{kind}_params_without_gradient"]]
        zeros = [(name, np.zeros_like(found[name]), found[name]) for name in names]
        results.append(compare_floats(f"grads/{kind} without gradient", zeros, 0.0))
    return results


def check_adamw(case: Case) -> list[GroupResult | Unchecked]:
    """Losses, norms and parameters of steps on the sum of both losses."""
    expected, settings = case.tensors["adamw"], case.meta["adamw"]
    optimizer = make_optimizer(OptimizerConfig(
        learning_rate=settings["lr"], beta1=settings["beta1"], beta2=settings["beta2"], eps=settings["eps"],
        clip_norm=settings["clip"], weight_decay=settings["weight_decay"], warmup_steps=0,
    ))
    graphdef, parameters, rest = nnx.split(case.model, lambda path, _: path[0] in _TRAINED, ...)
    losses = _losses(case, graphdef, rest)

    @jax.jit
    def step(parameters: nnx.State, state: Any):
        loss, gradient = jax.value_and_grad(lambda p: losses["text"](p) + losses["image"](p))(parameters)
        updates, state = optimizer.update(gradient, state, parameters)
        return loss, optax.global_norm(gradient), optax.apply_updates(parameters, updates), state

    state, found = optimizer.init(parameters), {}
    for number in sorted({key.partition(".")[0] for key in expected}):
        found[f"{number}.loss"], found[f"{number}.grad_norm"], parameters, state = step(parameters, state)
        found |= {f"{number}.param.{name}": value for name, value in published(parameters, case.plan).items()}
    return compare_recorded("adamw", expected, found, tolerance=lambda key: (
        _PARAMETER if ".param." in key else GRADIENT if "norm" in key else ACTIVATION))


def check_trained(case: Case) -> list[GroupResult | Unchecked]:
    """The reference's list of what is trained is the preset "default"."""
    stated = set(case.meta["trained_param_names"])
    state = nnx.state(case.model)
    ours = {piece.source for path, _ in nnx.to_flat_state(state) if path[0] in _TRAINED
            for piece in case.plan.pieces[dotted(path)]}
    return [compare_names("meta/trained_param_names", stated, ours)]


def _losses(case: Case, graphdef: nnx.GraphDef, rest: nnx.State) -> dict[str, Any]:
    """Minus the mean log probabilities, as functions of the parameters that `rest` lacks."""
    understanding, generation = case.tensors["understanding"], case.tensors["generation"]
    ids = understanding["input_ids"][0][understanding["attention_mask"][0] > 0].astype(np.int32)
    pictures, answer = pictures_of_rows(case)[0], understanding["tf0.answer_ids"]
    prompt, codes = generation["tf0.prompt_ids"], generation["tf0.image_tokens"]

    def text(parameters: nnx.State) -> jax.Array:
        model = nnx.merge(graphdef, nnx.merge_state(parameters, rest))
        return -log_probs(answer_logits(model, ids, pictures, answer, _COMPUTE), answer)["mean"]

    def image(parameters: nnx.State) -> jax.Array:
        model = nnx.merge(graphdef, nnx.merge_state(parameters, rest))
        return -log_probs(code_logits(model, prompt[None], codes[None], _COMPUTE)[0], codes)["mean"]

    return {"text": text, "image": image}
