"""Images and texts from a checkpoint, in batches on a mesh of devices.

    from srum_jax.families.bagel.generator import Pipeline
    from srum_jax.inference.requests import ImageRequest

    pipeline = Pipeline.load("BAGEL-7B-MoT")
    image = pipeline.generate([ImageRequest("a red circle left of a blue square", seed=0)])[0].pixels
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from srum_jax.families.bagel.conversation import (
    Conversation,
    latent_slots,
    latent_width,
    patch_slots,
    text_slots,
)
from srum_jax.families.bagel.flow_sampling import LatentLayout
from srum_jax.families.bagel.image_views import (
    ImageViews,
)
from srum_jax.families.bagel.programs import DECODE_IMAGES, SAMPLE_LATENTS, finite_pixels
from srum_jax.families.bagel.request_reader import ReadImageRequest, RequestReader
from srum_jax.inference.batch_shapes import fill_rows, same_size
from srum_jax.inference.programs import Programs
from srum_jax.inference.random_keys import Use, random_keys
from srum_jax.inference.requests import (
    Answer,
    GeneratedImage,
    ImageRequest,
    NonFiniteError,
    Question,
    RequestError,
)
from srum_jax.inference.settings import EDITING, TEXT_TO_IMAGE, FlowSampler, TextSampler
from srum_jax.inference.templates import Templates, split_thought
from srum_jax.inference.text_decoding import DecodedText
from srum_jax.mesh import build_mesh
from srum_jax.mesh_config import MeshConfig, MeshError
from srum_jax.models.bagel.architecture import BAGEL
from srum_jax.models.bagel.config import BagelConfig
from srum_jax.models.compute import ComputeConfig
from srum_jax.weights.checkpoint import open_checkpoint
from srum_jax.weights.load import load
from srum_jax.weights.tokenizer import Tokenizer, load_tokenizer

DEFAULT_MAX_PROMPT_TOKENS = 2048


class Pipeline:
    """A model that can be asked for images and for answers. Rows of a batch do not influence each other."""

    def __init__(
        self,
        programs: Programs,
        tokenizer: Tokenizer,
        *,
        templates: Templates,
        views: ImageViews | None = None,
        max_prompt_tokens: int = DEFAULT_MAX_PROMPT_TOKENS,
    ):
        """Puts the parts together; see `load` for the usual way.

        Args:
          programs: of a model with its autoencoder.
          tokenizer: of the checkpoint.
          templates: instructions of think mode.
          views: how images are resized; None for what the position tables allow.
          max_prompt_tokens: longer prompts are refused.
        """
        self.programs, self.tokenizer, self.templates = programs, tokenizer, templates
        self.reader = RequestReader(
            programs.config, tokenizer, views or ImageViews.of(programs.config), sees=programs.model.vit is not None,
            max_prompt_tokens=max_prompt_tokens,
        )

    @classmethod
    def load(
        cls,
        checkpoint: epath.PathLike,
        *,
        mesh: MeshConfig | None = None,
        devices: Sequence[jax.Device] | None = None,
        dtype: str = "bfloat16",
        attention: str = "auto",
        templates: Templates | None = None,
        understanding: bool = True,
        max_prompt_tokens: int = DEFAULT_MAX_PROMPT_TOKENS,
    ) -> "Pipeline":
        """Loads a checkpoint.

        Args:
          checkpoint: a published BAGEL directory, or converted weights.
          mesh: how its devices are used; None splits the weights over all of them (fsdp).
          devices: None for those of this process, so that the processes of a pod work independently.
          dtype: "bfloat16" or "float32", of weights and activations; the autoencoder is always float32.
          attention: "dense", "chunked", "splash", or "auto": splash on TPUs, chunked elsewhere.
          templates: instructions of think mode; None for the shipped ones.
          understanding: whether to load the vision tower.
          max_prompt_tokens: longer prompts are refused.

        Raises:
          WeightsError, ConfigError, TokenizerError: the checkpoint is unusable.
          MeshError: the devices cannot be arranged as asked.
        """
        devices = jax.local_devices() if devices is None else devices
        mesh = mesh or MeshConfig(data=1, fsdp=-1)
        arranged = build_mesh(mesh, devices)
        if arranged.shape["seq"] != 1:
            raise MeshError(f"mesh: generation cannot split the tokens of a row: expected seq=1, found "
                            f"{arranged.shape['seq']}; use fsdp or tensor.")
        compute = ComputeConfig(dtype=dtype, attention=_attention(attention, devices), remat="none")
        tokenizer = load_tokenizer(checkpoint)
        opened = open_checkpoint(checkpoint, BAGEL, BAGEL.parts_for({"draw", "read"} if understanding else {"draw"}))
        graphdef, state = load(opened, mesh=arranged,
                               dtype=lambda name: "float32" if name.startswith("vae.") else dtype)
        return cls(Programs(graphdef, state, arranged, compute), tokenizer, templates=templates or Templates.read(),
                   max_prompt_tokens=max_prompt_tokens)

    @property
    def config(self) -> BagelConfig:
        """Of the model."""
        return self.programs.config

    @property
    def stride(self) -> int:
        """Pixels that heights and widths must be multiples of."""
        return self.config.latent_stride

    @property
    def rows_multiple(self) -> int:
        """Batches are filled up to a multiple of this many rows."""
        return self.programs.rows_multiple

    @property
    def sees(self) -> bool:
        """Whether the model has its vision tower."""
        return self.programs.model.vit is not None

    def check(self, request: ImageRequest | Question) -> None:
        """Finds out whether a request can be served, without computing anything.

        Raises:
          RequestError: naming the field, what was expected and what was found.
        """
        if isinstance(request, ImageRequest):
            self.reader.image(request)
        else:
            self.reader.question(request)

    def generate(
        self,
        requests: Sequence[ImageRequest],
        *,
        sampler: FlowSampler | None = None,
        plan: TextSampler | None = None,
    ) -> list[GeneratedImage]:
        """Makes one image per request, all in one batch; without `sampler`, edits in a batch of their own.

        Args:
          requests: prompts of any lengths, images of any sizes; edits and plain requests may be mixed.
          sampler: None for the published settings: those of editing for requests with a source image, those of
            text-to-image for the others.
          plan: how to write the plan that precedes the image in think mode; None for no plan.

        Raises:
          RequestError: a request cannot be served; says which.
          NonFiniteError: the model computed something that is not a number.
        """
        if not requests:
            return []
        prepared = [_of_row(row, self.reader.image, request) for row, request in enumerate(requests)]
        if sampler is not None:
            return self._generate(prepared, sampler, plan)
        images: dict[int, GeneratedImage] = {}
        for published, is_edit in ((TEXT_TO_IMAGE, False), (EDITING, True)):
            rows = [row for row, item in enumerate(prepared) if (item.source is not None) == is_edit]
            made = self._generate([prepared[row] for row in rows], published, plan) if rows else []
            images |= dict(zip(rows, made, strict=True))
        return [images[row] for row in range(len(prepared))]

    def _generate(
        self, prepared: list[ReadImageRequest], sampler: FlowSampler, plan: TextSampler | None
    ) -> list[GeneratedImage]:
        count = len(prepared)
        active = self._active(count)
        prepared = prepared + [prepared[0]] * (len(active) - count)
        conversation, plans = self._image_contexts(prepared, active, sampler, plan)
        latent = self._sample(conversation, prepared, sampler)
        pixels = self._decode(latent, [item.size for item in prepared])
        return [
            GeneratedImage(pixels[row], *(plans[row] if plans else (None, False))) for row in range(count)
        ]

    def answer(
        self,
        questions: Sequence[Question],
        *,
        sampler: TextSampler | None = None,
        think: bool = False,
        allow_non_finite: bool = False,
    ) -> list[Answer]:
        """Answers every question, all in one batch.

        Args:
          questions: with any number of images each.
          sampler: None for greedy decoding with the default limit.
          think: whether to ask for reasoning first; it is split from the answer.
          allow_non_finite: whether answers of numbers that are none are marked as not `healthy` instead of raised.

        Raises:
          RequestError: a question cannot be answered; says which.
          NonFiniteError: the model computed something that is not a number.
        """
        if not questions:
            return []
        sampler = sampler or TextSampler()
        prepared = [_of_row(row, self.reader.question, question) for row, question in enumerate(questions)]
        active = self._active(len(prepared))
        prepared += [prepared[0]] * (len(active) - len(prepared))
        system = self.tokenizer.encode(self.templates.think_understanding) if think else None
        texts = [item.prompt for item in prepared]
        images = [
            [item.patches[i] if i < len(item.patches) else None for item in prepared]
            for i in range(max(len(item.patches) for item in prepared))
        ]
        slots = text_slots(texts) + sum(map(patch_slots, images)) + (text_slots([system]) if think else 0)
        conversation = Conversation(self.programs, len(prepared), slots, image_guidance=False)
        if think:
            conversation.add_system([system] * len(prepared))
        for views in images:
            conversation.add_patches(views)
        conversation.add_text(texts)
        keys = random_keys([item.seed for item in prepared], Use.TEXT)
        decoded = jax.device_get(conversation.write(keys, active, sampler))
        if not allow_non_finite:
            _check_finite(decoded)
        answers = []
        for row in range(len(questions)):
            raw = self._text(decoded, row)
            thought, text = split_thought(raw) if think else (None, raw.strip())
            answers.append(Answer(text, thought, not decoded.finished[row], int(decoded.num_tokens[row]) - 1, raw,
                                  bool(decoded.healthy[row])))
        return answers

    def _text(self, decoded: DecodedText, row: int) -> str:
        # The first token is the starting marker.
        return self.tokenizer.decode(decoded.token_ids[row, 1 : decoded.num_tokens[row]].tolist())

    def _active(self, count: int) -> np.ndarray:
        """Bool [B]: the rows of the batch that are requests, before those that fill it up."""
        rows = len(fill_rows(range(count), self.rows_multiple)) if count % self.rows_multiple else count
        return np.arange(rows) < count

    def _image_contexts(
        self, prepared: list[ReadImageRequest], active: np.ndarray, sampler: FlowSampler, plan: TextSampler | None
    ) -> tuple[Conversation, list[tuple[str, bool]] | None]:
        """Gives the model everything that precedes the image; in think mode also the plans, and whether cut short."""
        texts = [item.prompt for item in prepared]
        sources, patches = [item.source for item in prepared], [item.patches for item in prepared]
        system = None if plan is None else self.tokenizer.encode(self.templates.think_generation)
        slots = text_slots(texts)
        if any(sources):
            slots += latent_slots(sources) + patch_slots(patches)
        if plan is not None:
            slots += text_slots([system])
        image_guidance = sampler.guidance.branches == 3
        conversation = Conversation(self.programs, len(prepared), slots, image_guidance)
        seeds = [item.seed for item in prepared]
        if plan is not None:
            conversation.add_system([system] * len(prepared))
        if any(sources):
            conversation.add_latents(sources, random_keys(seeds, Use.POSTERIOR))
            conversation.add_patches(patches)
        conversation.add_text(texts)
        if plan is None:
            return conversation, None
        decoded = jax.device_get(conversation.write(random_keys(seeds, Use.TEXT), active, plan))
        _check_finite(decoded)
        written = [self._text(decoded, row) if active[row] else "" for row in range(len(prepared))]
        conversation.add_plan([self.tokenizer.encode(text) if text else [] for text in written])
        return conversation, [(text, not decoded.finished[row]) for row, text in enumerate(written)]

    def _sample(
        self, conversation: Conversation, prepared: list[ReadImageRequest], sampler: FlowSampler
    ) -> jax.Array:
        counts = np.array([len(item.position_ids) for item in prepared], np.int32)
        position_ids = np.zeros((len(prepared), latent_width(counts)), np.int32)
        for row, item in enumerate(prepared):
            position_ids[row, : counts[row]] = item.position_ids
        keys = random_keys([item.seed for item in prepared], Use.NOISE)
        return self.programs.call(
            SAMPLE_LATENTS, conversation.branches(sampler.guidance.branches), keys,
            LatentLayout(position_ids, counts), sampler,
        )

    def _decode(self, latent: jax.Array, sizes: list[tuple[int, int]]) -> list[np.ndarray]:
        """Pixels of each row, uint8 [H, W, 3]."""
        if not jnp.isfinite(latent).all():
            raise NonFiniteError("The sampled latents are not finite: expected numbers; the weights are damaged, or do "
                                 "not fit the dtype (try float32).")
        pixels: dict[int, np.ndarray] = {}
        for rows in same_size(sizes):
            height, width = (side // self.stride for side in sizes[rows[0]])
            filled = np.array(fill_rows(rows, self.rows_multiple))
            decoded = finite_pixels(self.programs.call(DECODE_IMAGES, latent[filled, : height * width], height, width))
            pixels |= dict(zip(rows, np.asarray(decoded), strict=False))
        return [pixels[row] for row in range(len(sizes))]


def _of_row(row: int, read: Callable[[Any], Any], request: Any) -> Any:
    try:
        return read(request)
    except RequestError as error:
        raise RequestError(f"request {row}: {error}") from error


def _check_finite(decoded: DecodedText) -> None:
    if not decoded.healthy.all():
        rows = np.flatnonzero(~decoded.healthy).tolist()
        raise NonFiniteError(f"The predicted logits of rows {rows} are not finite: expected numbers; the weights are "
                             "damaged, or do not fit the dtype (try float32).")


def _attention(name: str, devices: Sequence[jax.Device]) -> str:
    if name != "auto":
        return name
    return "splash" if devices[0].platform == "tpu" else "chunked"
