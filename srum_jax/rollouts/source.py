"""Batches of rollouts: a source whose next batch depends on the weights.

A round is a function of the weights at its start, the seed and its number. So the number is all that a checkpoint has
to hold, if it is taken between two rounds; a round that was cut short is drawn again, with the same result.
"""

import collections
import dataclasses
import logging
import math
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath
from flax import nnx
from jax.sharding import Mesh

from srum_jax.data.example import Batch, stack_rows
from srum_jax.errors import BadInput, Failure
from srum_jax.families.family import Family, Forward
from srum_jax.inference.opened import Opened
from srum_jax.inference.programs import Programs
from srum_jax.inference.requests import ImageRequest, Question
from srum_jax.inference.templates import Templates
from srum_jax.mesh import ProcessRows, on_mesh
from srum_jax.objectives.policy_gradient import MOST_OFF_ONE
from srum_jax.rollouts.audit import Audits, Fall
from srum_jax.rollouts.candidates import NOT_FINITE, Models, Round, draw_round
from srum_jax.rollouts.config import ALTERNATE, EMA, GENERATION, INITIAL, UNDERSTANDING
from srum_jax.rollouts.inputs import Inputs, stable_seed
from srum_jax.rollouts.measured import MeasuredColumns, Measuring
from srum_jax.rollouts.selection import members_per_group, pack_units, packed_columns, units_of
from srum_jax.rollouts.statistics import Sums, flat, statistics
from srum_jax.training.batch_source import Drawn
from srum_jax.training.experiment import Experiment
from srum_jax.training.state import LoadedModel, TrainState, parts_of
from srum_jax.weights.tokenizer import load_tokenizer

_LOG = logging.getLogger(__name__)
# Before the first update of a round the policy is the one whose log probabilities were measured.
_AT_FIRST = {f"{name}_{MOST_OFF_ONE}": 1e-3 for name in ("policy/image", "policy/text")} | {
    f"flow_policy/{MOST_OFF_ONE}": 1e-3}


@dataclasses.dataclass(frozen=True)
class _Step:
    """One step's share of a round: rows of this process on the host, measured columns on the mesh."""

    rows: Batch
    names: tuple[str, ...]
    sums: Sums
    measured: MeasuredColumns | None
    at_most: dict[str, float]


class RolloutBatches:
    """See `BatchSource`."""

    def __init__(self, experiment: Experiment, model: LoadedModel, forward: Forward, mesh: Mesh, rows: ProcessRows,
                 workdir: epath.Path):
        """Reads the inputs, and keeps the weights as they are now where the scorer, audits or a reference need them.

        Args:
          experiment: with rollouts that `check_rollouts` lets pass, and rows of the model's family.
          model: as it was loaded; its trained parameters are copied, or no more than looked at.
          forward: of the family.
          mesh: of training; outputs are drawn on it too.
          rows: of a batch that this process has.
          workdir: of the run; audits go into it.

        Raises:
          BadInput: the model cannot be given an input, or there are none; a step has no room for its outputs.
        """
        config = self._config = experiment.rollouts
        self._experiment, self._mesh, self._rows, self._forward = experiment, mesh, rows, forward
        self._family, self._seed = model.family, experiment.seed
        self._inputs = Inputs.read(config)
        tokenizer = load_tokenizer(model.checkpoint.directory)
        self._packer = model.family.packer(experiment.rows, model.config, tokenizer, experiment.objective.columns, None)
        check_room(experiment, forward.masks(stack_rows([self._packer.empty_row().finish()])).num_samples)
        initial = _weights(model.trained, experiment.compute.compute_dtype, kept=experiment.keeps_initial)
        # Nothing is compiled anew because a prompt or a caption is longer than those before.
        longest = max(len(tokenizer.encode(text)) for text in (config.rewards.request, *self._inputs.prompts))
        programs = Programs(model.graphdef, nnx.merge_state(initial, model.frozen), mesh,
                            dataclasses.replace(experiment.compute, remat="none"),
                            least_text=max(longest, config.caption.max_tokens))
        self._reference = initial
        self._measuring = Measuring(experiment.objective.columns, model.graphdef, forward, mesh, experiment.seed)
        self._audits = Audits(workdir, self._inputs, config, experiment.seed)
        self._initial = Opened(model.config, tokenizer, Templates.read(),
                               directory=str(model.checkpoint.directory), programs=programs)
        self._sampler = model.family.sampler() if config.sampler is None else config.sampler
        self._scorer = model.family.scorer(self._initial) if experiment.keeps_initial else None
        self._round, self._flat, self._steps = 0, 0, collections.deque()
        self.bad_records: collections.Counter[str] = collections.Counter()
        self._check_inputs()

    @property
    def at_rest(self) -> bool:
        """See `BatchSource.at_rest`: between two rounds."""
        return not self._steps

    def draw(self, state: TrainState, frozen: nnx.State) -> Drawn:
        """See `BatchSource.draw`.

        Raises:
          Failure: rewards that are no numbers, or that do not differ in several rounds.
        """
        if not self._steps:
            self._steps.extend(self._draw_round(state, frozen))
            self._round += 1
        step = self._steps.popleft()
        batch = self._placed(step.rows)
        return Drawn(batch if step.measured is None else step.measured.beside(batch), step.rows, step.names, step.sums,
                     step.at_most)

    def get_state(self) -> dict[str, Any]:
        """See `BatchSource.get_state`."""
        return {"round": self._round, "flat_rounds": self._flat, "audit": self._audits.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """See `BatchSource.set_state`."""
        if not {"round", "flat_rounds", "audit"} <= state.keys():
            raise BadInput("rollouts: the checkpoint belongs to a run over records; use another --workdir.")
        self._round, self._flat = state["round"], state["flat_rounds"]
        self._audits.set_state(state["audit"])

    def start_prefetch(self) -> None:
        """See `BatchSource.start_prefetch`: nothing can be prepared, as all depends on the weights."""

    def close(self) -> None:
        """See `BatchSource.close`."""

    def _draw_round(self, state: TrainState, frozen: nnx.State) -> list[_Step]:
        config, number, models = self._config, self._round, self._models(state)
        sums: Sums = {}
        if self._audits.due(number):
            sums, falls = self._audits.run(number, dataclasses.replace(models, scorer=self._scorer))
            self._tell(falls)
        drawn = draw_round(number, models, self._inputs, config, self._seed)
        self._check(drawn)
        sums |= statistics(drawn, config)
        units = units_of(drawn.groups, self._experiment.objective.columns, config)
        # Groups stay together: their members lie in one step.
        numbers = {group.name + group.direction: n for n, group in enumerate(drawn.groups)}
        steps = []
        for step in range(config.steps_per_round):
            own = [unit for unit in units
                   if numbers[unit.group.name + unit.group.direction] % config.steps_per_round == step]
            packed = pack_units(own, self._packer, self._rows, config, self._experiment.data.text_dropout,
                                stable_seed(self._seed, number, "units"))
            if packed.left_out and self._experiment.data.on_bad_record == "stop":
                raise BadInput(f"rollouts: round {number}: an output finds no place: {packed.left_out[0]} (of rows.*), "
                               "or set data.on_bad_record=skip to go on without such outputs.")
            self.bad_records.update(reason.partition(":")[0] for reason in packed.left_out)
            units_of_step = {"rollouts/units": (float(len(own)), 1.0)}
            steps.append(_Step(packed.rows, packed.names, (sums if step == 0 else {}) | units_of_step,
                               self._measured(packed.rows, state, frozen, step),
                               _AT_FIRST if step == 0 and self._measuring.wants_old else {}))
        return steps

    def _placed(self, rows: Batch) -> Batch:
        return jax.tree.map(self._rows.place, rows, on_mesh(self._mesh, self._forward.layout(rows)))

    def _measured(self, rows: Batch, state: TrainState, frozen: nnx.State, step: int) -> MeasuredColumns | None:
        """Of the step-th update of a round, by the weights at its beginning."""
        if not (self._measuring.wants_old or self._measuring.wants_reference):
            return None
        return self._measuring.columns(self._placed(rows), state.step + step, frozen, state.parameters,
                                       self._reference)

    def _tell(self, falls: list[Fall]) -> None:
        for fall in falls:
            said = (f"audit before round {self._round}: the initial model's reward of {fall.direction} has fallen by "
                    f"{-fall.mean:.3g} (standard error {fall.error:.2g}) since the first audit: the model learns to "
                    "please itself. Lower optimizer.learning_rate, or set rollouts.scorer=initial")
            if self._config.audit_stop:
                raise Failure(f"{said}; rollouts.audit_stop=false goes on regardless; the last checkpoint is intact.")
            _LOG.warning("%s.", said)

    def _models(self, state: TrainState) -> Models:
        """Who draws and who scores in this round."""
        current = self._with(state.parameters)
        scorer = {INITIAL: lambda: self._scorer, EMA: lambda: self._family.scorer(self._with(state.ema))}.get(
            self._config.scorer, lambda: self._family.scorer(current))()
        return Models(self._family.generator(current, self._sampler), self._family.answerer(current), scorer)

    def _with(self, parameters: nnx.State) -> Opened:
        return dataclasses.replace(self._initial, programs=self._initial.programs.with_parameters(parameters))

    def _check(self, drawn: Round) -> None:
        """Raises Failure or BadInput where going on would teach nothing."""
        for direction in dict.fromkeys(group.direction for group in drawn.groups):
            groups = [group for group in drawn.groups if group.direction == direction]
            if any(group.valid.any() for group in groups):
                continue
            reasons = collections.Counter(problem for group in groups for problem in group.problems)
            told = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
            if direction == UNDERSTANDING and set(reasons) != {NOT_FINITE}:
                raise BadInput(f"rollouts.rewards.request: round {self._round}: no caption can be used ({told}); ask "
                               "in words that the model answers, or raise rollouts.caption.max_tokens.")
            raise Failure(f"round {self._round}: {direction}: no output has a reward that is a number ({told}); the "
                          "last checkpoint is intact; lower optimizer.learning_rate.")
        self._flat = self._flat + 1 if flat(drawn.groups, self._config.min_gap) else 0
        if self._flat >= self._config.max_flat_rounds:
            raise Failure(f"round {self._round}: the rewards of {self._flat} rounds did not differ within any group: "
                          "nothing is learnt. Raise rollouts.group_size or rollouts.caption.temperature, or lower "
                          "rollouts.min_gap; the last checkpoint is intact.")

    def _check_inputs(self) -> None:
        """Raises BadInput if the model cannot be given an input; looks at prompts alone, and at one picture."""
        checker = self._family.checker(self._initial)
        try:
            for prompt in self._inputs.prompts:
                checker.check(ImageRequest(prompt, 0, self._config.height, self._config.width))
            if self._inputs.pictures:
                checker.check(Question(self._config.rewards.request, (self._inputs.pixels(0),)))
        except BadInput as error:
            raise BadInput(f"rollouts: {error}") from error


def _weights(trained: nnx.State, dtype: jnp.dtype, *, kept: bool) -> nnx.State:
    """A copy in the dtype of computing; if it is not kept, what such a copy would be, which takes no memory."""
    if kept:
        return jax.jit(lambda state: jax.tree.map(lambda x: jnp.copy(x).astype(dtype), state),
                       out_shardings=jax.tree.map(lambda x: x.sharding, trained))(trained)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype, sharding=x.sharding), trained)


def check_rollouts(experiment: Experiment, family: Family, mesh: Mesh) -> None:
    """Returns if an experiment's rounds can be run, as far as that is known without the model.

    Args:
      experiment: with rollouts, and rows of the family.
      family: of the model.
      mesh: of training.

    Raises:
      BadInput: naming the setting, what was expected and what was found; or there are no inputs.
    """
    config, training = experiment.rollouts, experiment.training
    if family.answerer is None or family.scorer is None:
        raise BadInput(f"rollouts: models of the family {family.architecture.name} cannot be asked how likely a text "
                       "is; expected a family that can.")
    parts = parts_of(experiment.model, family.architecture, experiment.rows.stored_codes)
    if missing := [part for part in family.architecture.parts_for({"draw", "read"}) if part not in parts]:
        raise BadInput(f"model.parts: rollouts need {', '.join(sorted(missing))}; add it.")
    if config.sampler is not None and not isinstance(config.sampler, family.sampler):
        raise BadInput(f"rollouts.sampler: expected {family.sampler.__name__}, found {type(config.sampler).__name__}.")
    if mesh.shape["seq"] != 1:
        raise BadInput(f"mesh.seq: rollouts cannot split the tokens of a row: expected 1, found {mesh.shape['seq']}.")
    if config.scorer == EMA and experiment.ema is None:
        raise BadInput("rollouts.scorer: expected an average of the parameters for ema, found none; set ema.decay.")
    for field in ("save_every", "steps"):
        if getattr(training, field) % config.steps_per_round:
            raise BadInput(f"training.{field}: expected a multiple of rollouts.steps_per_round "
                           f"{config.steps_per_round}, found {getattr(training, field)}: checkpoints lie between "
                           "rounds.")
    if config.draws(GENERATION) and not experiment.rows.stored_codes:
        raise BadInput(f"rows.{experiment.rows.code_field}: expected stored, as decoded pictures are encoded to others "
                       "than were drawn; found images.")
    for direction in (GENERATION, UNDERSTANDING):
        if config.draws(direction):
            packed_columns(experiment.objective.columns, direction)
    for name, part in (("generation", getattr(experiment.objective, "generation", None)),
                       ("understanding", getattr(experiment.objective, "understanding", None))):
        if config.draws(name) and config.steps_per_round > 1 and getattr(part, "on_policy", False):
            raise BadInput(f"objective.{name}.on_policy: expected false with rollouts.steps_per_round "
                           f"{config.steps_per_round}: after the first update of a round its outputs are those of an "
                           "older policy.")
    Inputs.read(config)


def check_room(experiment: Experiment, slots: int) -> None:
    """Returns if all members of a step find a slot.

    Args:
      experiment: with rollouts.
      slots: of a row.

    Raises:
      BadInput: they do not.
    """
    config, rows = experiment.rollouts, experiment.data.rows_per_batch
    needed = []
    for direction, inputs in ((GENERATION, config.prompts_per_round), (UNDERSTANDING, config.pictures_per_round)):
        if config.draws(direction):
            members = members_per_group(experiment.objective.columns, direction, config)
            together = members if members == 2 else 1  # of a pair
            needed.append(math.ceil(inputs // config.steps_per_round * members / together / rows) * together)
    most = max(needed) if config.directions == ALTERNATE else sum(needed)
    if most > slots:
        raise BadInput(f"rows.samples_per_row: expected room for {most} members of a step in each of "
                       f"data.rows_per_batch {rows} rows, found {slots} slots; raise either.")
