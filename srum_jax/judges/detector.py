"""An object detector of transformers as a judge: it is asked for classes, and replies with boxes in JSON.

A COCO checkpoint (DETR and its kin) or an open-vocabulary one (OWL-ViT and its kin) finds objects; where colours are
asked for, a CLIP checkpoint names the colour of each object's crop. Nothing is downloaded.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from PIL import Image

from srum_jax.errors import BadInput
from srum_jax.rewards.judgement.calls import Call, Reply
from srum_jax.storage.reading import why_absent
from srum_jax.weights.transformers_checkpoint import load_config, load_model, load_processor

_LEAST = 0.05  # score of what is kept; the benchmark's rule is stricter
_MOST = 64  # objects of a class that are kept
_COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")


class DetectorJudge:
    """Detects the classes that the metadata in a call's text names."""

    def __init__(self, checkpoint: epath.PathLike, clip: epath.PathLike | None = None, device: str = "auto"):
        """Loads the checkpoints.

        Args:
          checkpoint: of the detector, a directory with safetensors.
          clip: of a CLIP; None: calls that ask for colours are refused.
          device: "cpu", "cuda" or "auto".

        Raises:
          BadInput: PyTorch is absent, or a directory is.
          WeightsError: a checkpoint cannot be loaded whole.
        """
        try:
            import torch
            import transformers
        except ImportError as error:
            raise BadInput(f"--judge detector: needs PyTorch ({error}); pip install 'srum-jax[rewards]'.") from error
        for directory in (checkpoint, clip):
            if directory is not None and not epath.Path(directory).is_dir():
                raise BadInput(f"--judge detector:{directory}: {why_absent(directory)}; expected a checkpoint.")
        self._torch = torch
        self._device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        directory = epath.Path(checkpoint)
        self._open = type(load_config(directory)) in transformers.AutoModelForZeroShotObjectDetection._model_mapping
        kind = (transformers.AutoModelForZeroShotObjectDetection if self._open
                else transformers.AutoModelForObjectDetection)
        self._model = load_model(kind, directory, dtype="auto").to(self._device)
        self._processor = load_processor(transformers.AutoProcessor if self._open else transformers.AutoImageProcessor,
                                         directory)
        self._clip = None
        if clip is not None:
            self._clip = load_model(transformers.AutoModel, epath.Path(clip), dtype="auto").to(self._device)
            self._clip_processor = load_processor(transformers.AutoProcessor, epath.Path(clip))

    def answer(self, calls: Sequence[tuple[np.ndarray, Call]]) -> list[Reply]:
        """See `Judge`."""
        return [Reply(json.dumps({"objects": self._objects(pixels, json.loads(call.text))}), 0, True)
                for pixels, call in calls]

    def _objects(self, pixels: np.ndarray, metadata: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
        names = list(dict.fromkeys(one["class"] for one in metadata["include"]))
        colored = {one["class"] for one in metadata["include"] if "color" in one}
        if colored and self._clip is None:
            raise BadInput("--judge detector: this prompt asks for colours: expected detector:DIR,CLIP_DIR with a CLIP "
                           "checkpoint, found none.")
        found = self._detect(pixels, names)
        for name in colored:
            for one in found[name]:
                one["color"] = self._color(pixels, one["box"], name)
        return found

    def _detect(self, pixels: np.ndarray, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        image = Image.fromarray(pixels)
        if self._open:
            texts = [[f"a photo of a {name}" for name in names]]
            inputs = self._processor(text=texts, images=image, return_tensors="pt").to(self._device)
        else:
            inputs = self._processor(images=image, return_tensors="pt").to(self._device)
            labels = {label: number for number, label in self._model.config.id2label.items()}
            unknown = [name for name in names if name not in labels]
            if unknown:
                raise BadInput(f"--judge detector: this checkpoint does not know the class {unknown[0]!r}; take one "
                               "that was trained on COCO, or an open-vocabulary one.")
        with self._torch.inference_mode():
            outputs = self._model(**inputs)
        processor = getattr(self._processor, "image_processor", self._processor)
        post = getattr(self._processor, "post_process_grounded_object_detection", None) if self._open else None
        result = (post or processor.post_process_object_detection)(
            outputs=outputs, threshold=_LEAST, target_sizes=[pixels.shape[:2]])[0]
        numbers = dict(enumerate(names)) if self._open else {labels[name]: name for name in names}
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        order = self._torch.argsort(result["scores"], descending=True)
        for place in order.tolist():
            name = numbers.get(int(result["labels"][place]))
            if name is not None and len(found[name]) < _MOST:
                found[name].append({"box": [round(float(corner), 2) for corner in result["boxes"][place]],
                                    "score": round(float(result["scores"][place]), 6)})
        return found

    def _color(self, pixels: np.ndarray, box: Sequence[float], name: str) -> str:
        height, width = pixels.shape[:2]
        x0, y0 = (min(max(int(corner), 0), side - 1) for corner, side in zip(box[:2], (width, height), strict=True))
        x1, y1 = (min(max(int(corner) + 1, low + 1), side)
                  for corner, low, side in zip(box[2:], (x0, y0), (width, height), strict=True))
        inputs = self._clip_processor(text=[f"a photo of a {color} {name}" for color in _COLORS],
                                      images=Image.fromarray(pixels[y0:y1, x0:x1]), return_tensors="pt", padding=True)
        with self._torch.inference_mode():
            logits = self._clip(**inputs.to(self._device)).logits_per_image[0]
        return _COLORS[int(logits.argmax())]
