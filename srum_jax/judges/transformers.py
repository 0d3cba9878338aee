"""Any vision-language model that transformers can load judges instead, in PyTorch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath
from PIL import Image

from srum_jax.errors import BadInput
from srum_jax.rewards.judgement.calls import Call, Reply
from srum_jax.weights.errors import WeightsError
from srum_jax.weights.transformers_checkpoint import load_model, load_picture_processor


class HuggingFaceJudge:
    """One call at a time; the checkpoint's own chat template says how image and question are put together."""

    def __init__(self, checkpoint: epath.PathLike, think_system: str):
        """Loads a checkpoint; nothing is downloaded and no code of it is run.

        Args:
          checkpoint: a directory with safetensors.
          think_system: put before the question where a call asks for thinking.

        Raises:
          BadInput: PyTorch is absent.
          WeightsError: the checkpoint cannot be loaded whole; see `weights.transformers_checkpoint`.
        """
        try:
            import torch
            from transformers import AutoModelForImageTextToText
        except ImportError as error:
            raise BadInput(f"--judge transformers: needs PyTorch ({error}); pip install 'srum-jax[rewards]'."
                           ) from error
        directory = epath.Path(checkpoint)
        if not directory.is_dir():
            raise BadInput(f"--judge transformers:{directory}: expected a directory with a checkpoint, found none.")
        self._processor = load_picture_processor(directory)
        if not getattr(self._processor, "chat_template", None):
            raise WeightsError(f"{directory}: expected a chat template (chat_template.jinja, or in the processor's "
                               "settings), found none; it says how image and question are put together.")
        try:
            self._inputs(Image.new("RGB", (64, 64)), (("what is it", "fine"),), "and now")
        except Exception as error:  # the template is a program of the checkpoint
            raise WeightsError(f"{directory}: the chat template cannot be used for a picture and questions "
                               f"({' '.join(str(error).split()) or type(error).__name__}).") from error
        model = load_model(AutoModelForImageTextToText, directory, dtype="auto")
        self._torch, self._think_system = torch, think_system
        # from_pretrained has put it into inference mode
        self._model = model.to("cuda" if torch.cuda.is_available() else "cpu")

    def answer(self, calls: Sequence[tuple[np.ndarray, Call]]) -> list[Reply]:
        """See `Judge`."""
        return [self._answer(pixels, call) for pixels, call in calls]

    def _answer(self, pixels: np.ndarray, call: Call) -> Reply:
        torch = self._torch
        text = f"{self._think_system}\n\n{call.text}" if call.think else call.text
        inputs = self._inputs(Image.fromarray(pixels), call.history, text).to(self._model.device)
        sampling = {} if call.temperature is None else {"temperature": call.temperature, "top_k": 0, "top_p": 1.0}
        if call.temperature is not None:
            torch.manual_seed(call.seed)
        with torch.inference_mode():
            output = self._model.generate(**inputs, max_new_tokens=call.max_new_tokens,
                                          do_sample=call.temperature is not None, **sampling)
        new = output[0, inputs["input_ids"].shape[1] :]
        ends = self._model.generation_config.eos_token_id
        ends = set(ends) if isinstance(ends, list) else {ends}
        finished = len(new) < call.max_new_tokens or int(new[-1]) in ends
        return Reply(self._processor.decode(new, skip_special_tokens=True), len(new), finished)

    def _inputs(self, image: Image.Image, history: Sequence[tuple[str, str]], text: str) -> Any:
        return self._processor.apply_chat_template(_messages(image, history, text), add_generation_prompt=True,
                                                   tokenize=True, return_dict=True, return_tensors="pt")


def _messages(image: Image.Image, history: Sequence[tuple[str, str]], text: str) -> list[dict]:
    """The conversation so far and the question; the image stands before the first."""
    questions = [question for question, _ in history] + [text]
    turns = [{"role": "user", "content": [{"type": "text", "text": question}]} for question in questions]
    turns[0]["content"].insert(0, {"type": "image", "image": image})
    answers = [{"role": "assistant", "content": [{"type": "text", "text": answer}]} for _, answer in history]
    return [turn for pair in zip(turns, [*answers, None], strict=True) for turn in pair if turn is not None]
