"""Generating images, answering questions: a checkpoint behind a small interface."""

from srum_jax.inference.pipeline import Pipeline
from srum_jax.inference.requests import (
    Answer,
    GeneratedImage,
    ImageRequest,
    NonFiniteError,
    Question,
    RequestError,
)
from srum_jax.inference.settings import EDITING, TEXT_TO_IMAGE, FlowSampler, Guidance, TextSampler
from srum_jax.inference.templates import TemplateError, Templates

__all__ = [
    "EDITING",
    "TEXT_TO_IMAGE",
    "Answer",
    "FlowSampler",
    "GeneratedImage",
    "Guidance",
    "ImageRequest",
    "NonFiniteError",
    "Pipeline",
    "Question",
    "RequestError",
    "TemplateError",
    "Templates",
    "TextSampler",
]
