"""What happens when something on the page is pressed. All work is done by engines; what fails is told in a sentence."""

import dataclasses
import html
import math
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import gradio as gr
import numpy as np

from srum_jax.demo import pictures, showing
from srum_jax.demo.engine import Candidate, Engine, Judgement, Tell, Weighed
from srum_jax.demo.layout import TITLE, Layout
from srum_jax.demo.settings import DemoSettings
from srum_jax.demo.watched import Update, watched
from srum_jax.errors import ANTICIPATED, BadInput
from srum_jax.inference.random_keys import MAX_SEED
from srum_jax.model_arguments import device_failures
from srum_jax.rewards.boxes import Box
from srum_jax.rewards.reward_map import VARIANTS

# One queue, whichever button was pressed: the model works for one visitor at a time, and the others see their place.
_OF_MODEL = {"concurrency_id": "model", "concurrency_limit": 1, "show_progress": "minimal", "trigger_mode": "once",
             "api_visibility": "private"}
_AT_ONCE = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
_MAX_WAITING = 64  # visitors; later ones are told to come again

Updates = dict[Any, Any]  # what is shown, by component


@dataclasses.dataclass(frozen=True)
class Hand:
    """The picture that was chosen: drawn here, or a visitor's own."""

    pixels: np.ndarray  # uint8 [H, W, 3]
    prompt: str
    number: int | None = None  # among the candidates


class Page:
    """A page for one engine, or two to be compared."""

    def __init__(self, engines: Sequence[Engine], settings: DemoSettings, num_candidates: int, max_upload_mb: float):
        """Builds the page, which `blocks` then is."""
        self.engines, self.engine, self.settings = engines, engines[0], settings
        self.max_upload_bytes = max_upload_mb * 1e6
        with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 3600)) as self.blocks:
            self.on = Layout(engines, settings, num_candidates, max_upload_mb)
            self._wire()
        self.blocks.queue(default_concurrency_limit=1, max_size=_MAX_WAITING)

    def _wire(self) -> None:
        on = self.on
        judgement = [on.regions, on.verdicts, on.asked, *(part for parts in on.maps.values() for part in parts)]
        chosen = [on.hand, on.film, on.judged_by, *on.in_hand, *judgement]
        for press in (on.draw.click, on.prompt.submit):
            press(self.draw, [on.prompt, on.count, on.seed, on.plan, on.steps],
                  [on.draw_status, on.gallery, on.plans, on.drawn, on.judged, *chosen],
                  show_progress_on=[on.draw_status], **_OF_MODEL)
        on.gallery.select(self.choose, [on.drawn, on.judged], chosen, **_AT_ONCE)
        for button, whom in ((on.judge_one, self.judge_one), (on.judge_all, self.judge_all)):
            button.click(whom, [on.hand, on.drawn, on.judged, on.judged_by, on.provider],
                         [on.judge_status, on.gallery, on.judged, *judgement], show_progress_on=[on.judge_status],
                         **_OF_MODEL)
        on.usual.click(self.usual_question, [on.hand], [on.question], **_AT_ONCE)
        for press in (on.ask.click, on.question.submit):
            press(self.ask, [on.hand, on.look, on.question, on.think], [on.ask_status, on.answer],
                  show_progress_on=[on.ask_status], **_OF_MODEL)
        on.edit.click(self.edit, [on.hand, on.wish, on.edit_seed], [on.edit_status, on.changed],
                      show_progress_on=[on.edit_status], **_OF_MODEL)
        for button, status in on.uploads:
            button.upload(self.taker(status), [button], [status, *chosen], **_AT_ONCE)
        if on.compared:
            on.compare.click(self.compare, [on.compare_prompt, on.compare_count, on.compare_seed, on.compare_judge],
                             [on.compare_status, *on.compared], show_progress_on=[on.compare_status], **_OF_MODEL)

    # What is pressed.

    def draw(self, prompt: str, count: int, seed: float, plan: bool, steps: bool) -> Iterator[Updates]:
        """Draws candidates, and chooses the first."""
        on = self.on

        def work(tell: Tell) -> list[Candidate]:
            return self.engine.draw(_typed(prompt, "prompt"), _seed(seed, count), count, plan=plan, steps=steps,
                                    tell=tell)

        for update in _told(on.draw_status, work, on.gallery, on.plans):
            if isinstance(update, dict):
                yield update
            else:
                drawn = tuple(update.result)
                yield {
                    on.draw_status: showing.status(f"{len(drawn)} drawn in {update.seconds:.1f} s. Press one, then "
                                                   "judge it below."),
                    on.gallery: _gallery([candidate.made.pixels for candidate in drawn], _captions(drawn, {}), 0),
                    on.plans: showing.plans(drawn), on.drawn: drawn, on.judged: {}, **self._chosen(drawn, {}, 0),
                }

    def choose(self, drawn: Sequence[Candidate], judged: Mapping[int, Judgement], event: gr.SelectData) -> Updates:
        """Takes the candidate that was pressed in hand."""
        if not isinstance(event.index, int) or event.index >= len(drawn):
            return {}
        return self._chosen(drawn, judged, event.index)

    def taker(self, status: Any) -> Callable[[str], Updates]:
        """What takes a visitor's own picture in hand, and tells at `status` what is wrong with it."""

        def take(path: str) -> Updates:
            try:
                pixels = pictures.read_upload(path, self.max_upload_bytes)
            except ANTICIPATED as error:
                return {status: showing.status(str(error), bad=True)}
            height, width = pixels.shape[:2]
            return {status: showing.status(f"Your picture, {width} x {height} pixels."), self.on.film: None,
                    **self._in_hand(Hand(pixels, ""), None)}

        return take

    def judge_one(self, hand: Hand | None, drawn: Sequence[Candidate], judged: Mapping[int, Judgement], prompt: str,
                  provider: str) -> Iterator[Updates]:
        """Judges the picture in hand."""
        numbers = [] if hand is None else [hand.number]
        yield from self._judge(numbers, hand, drawn, judged, prompt, provider)

    def judge_all(self, hand: Hand | None, drawn: Sequence[Candidate], judged: Mapping[int, Judgement], prompt: str,
                  provider: str) -> Iterator[Updates]:
        """Judges every candidate."""
        yield from self._judge(list(range(len(drawn))), hand, drawn, judged, prompt, provider)

    def _judge(self, numbers: Sequence[int | None], hand: Hand | None, drawn: Sequence[Candidate],
               judged: Mapping[int, Judgement], prompt: str, provider: str) -> Iterator[Updates]:
        on = self.on

        def work(tell: Tell) -> list[Judgement]:
            if not numbers:
                raise BadInput("There is no picture yet: draw one, or take one of yours.")
            wanted = [hand.pixels if number is None else drawn[number].made.pixels for number in numbers]
            return self.engine.judge(wanted, _typed(prompt, "prompt to judge by"), provider, tell)

        for update in _told(on.judge_status, work):
            if isinstance(update, dict):
                yield update
            else:
                found = dict(zip(numbers, update.result, strict=True))
                known = {**judged, **{number: one for number, one in found.items() if number is not None}}
                shown = found.get(hand.number, update.result[0])
                yield {
                    on.judge_status: showing.status(f"Judged in {update.seconds:.1f} s: {showing.summary(shown)}."),
                    on.judged: known, **self._judgement(shown),
                    **({on.gallery: _gallery([one.made.pixels for one in drawn], _captions(drawn, known), hand.number)}
                       if drawn else {}),
                }

    def usual_question(self, hand: Hand | None) -> str:
        """What the judge asks about a whole picture."""
        prompt = hand.prompt if hand is not None and hand.prompt else "(the prompt)"
        return self.settings.judge_templates["global"].fill(prompt=prompt)

    def ask(self, hand: Hand | None, look: bool, question: str, think: bool) -> Iterator[Updates]:
        """Answers a question."""
        on = self.on

        def work(tell: Tell):
            if look and hand is None:
                raise BadInput("There is no picture yet: draw one, take one of yours, or ask without one.")
            return self.engine.ask(hand.pixels if look else None, _typed(question, "question"), think, tell)

        for update in _told(on.ask_status, work):
            if isinstance(update, dict):
                yield update
            else:
                answer = update.result
                thought = "" if answer.thought is None else f"<b>Thought</b><pre>{html.escape(answer.thought)}</pre>"
                cut = " (cut off: answer.max_tokens)" if answer.truncated else ""
                said = html.escape(answer.text) or "(nothing)"
                yield {on.ask_status: showing.status(f"Answered in {update.seconds:.1f} s{cut}."),
                       on.answer: f"<div class='asked'>{thought}<b>Answer</b><pre>{said}</pre></div>"}

    def edit(self, hand: Hand | None, wish: str, seed: float) -> Iterator[Updates]:
        """Changes the picture in hand."""
        on = self.on

        def work(tell: Tell) -> Candidate:
            if hand is None:
                raise BadInput("There is no picture yet: draw one, or take one of yours.")
            return self.engine.edit(hand.pixels, _typed(wish, "wish"), _seed(seed, 1), tell)

        for update in _told(on.edit_status, work):
            if isinstance(update, dict):
                yield update
            else:
                yield {on.edit_status: showing.status(f"Changed in {update.seconds:.1f} s."),
                       on.changed: pictures.shown(update.result.made.pixels)}

    def compare(self, prompt: str, count: int, seed: float, judge: bool) -> Iterator[Updates]:
        """Draws the same from every engine, with the same seeds."""
        on, started = self.on, {gallery: None for gallery in self.on.compared}
        yield started
        for engine, gallery in zip(self.engines, on.compared, strict=True):

            def work(tell: Tell, engine: Engine = engine) -> tuple[list[Candidate], list[Judgement]]:
                # With steps, where it can, as on the first tab: what is compiled there serves here.
                drawn = engine.draw(_typed(prompt, "prompt"), _seed(seed, count), count, plan=False,
                                    steps=engine.abilities.steps is None, tell=tell)
                wanted = [candidate.made.pixels for candidate in drawn]
                return drawn, engine.judge(wanted, prompt, engine.proposing.names[0], tell) if judge else []

            for update in _told(on.compare_status, work, gallery, whose=f"{engine.name}: "):
                if isinstance(update, dict):
                    yield update
                else:
                    drawn, judged = update.result
                    yield {on.compare_status: showing.status(f"{engine.name}: {update.seconds:.1f} s"),
                           gallery: _gallery([candidate.made.pixels for candidate in drawn],
                                             _captions(drawn, dict(enumerate(judged))))}
            if isinstance(update, dict):
                return  # it has failed

    # What is shown.

    def _chosen(self, drawn: Sequence[Candidate], judged: Mapping[int, Judgement], number: int) -> Updates:
        """A candidate in hand."""
        candidate = drawn[number]
        frames = candidate.frames
        strip = pictures.film([frame.pixels for frame in frames] + [candidate.made.pixels],
                              [f"t = {frame.time:.2f}" for frame in frames] + ["done"]) if frames else None
        return {self.on.film: strip,
                **self._in_hand(Hand(candidate.made.pixels, candidate.prompt, number), judged.get(number))}

    def _in_hand(self, hand: Hand, judgement: Judgement | None) -> Updates:
        large = pictures.shown(hand.pixels)
        shown = {self.on.regions: large, self.on.verdicts: "", self.on.asked: "",
                 **{part: None if isinstance(part, gr.Image) else "" for parts in self.on.maps.values()
                    for part in parts}} if judgement is None else self._judgement(judgement)
        return {self.on.hand: hand, self.on.judged_by: hand.prompt, **dict.fromkeys(self.on.in_hand, large), **shown}

    def _judgement(self, judgement: Judgement) -> Updates:
        on, regions = self.on, judgement.regions
        boxes = [region.box for region in regions]
        left_out = [Box(*region["box"]) for region in judgement.record["dropped"]]
        shown = {
            on.regions: pictures.with_boxes(judgement.pixels, [*boxes, *left_out],
                                            [*(region.score for region in regions), *[None] * len(left_out)]),
            on.verdicts: showing.verdicts(judgement), on.asked: showing.asked(judgement),
        }
        for variant in VARIANTS:
            weighed, (over, weight, numbers) = judgement.weighed[variant], on.maps[variant]
            shown[numbers] = showing.map_caption(weighed, self.settings.objective)
            shown[over] = shown[weight] = None
            if isinstance(weighed, Weighed):
                shown[over] = pictures.with_map(judgement.pixels, weighed.reward_map, weighed.grid, weighed.ends)
                most = max(float(np.abs(weighed.weight).max()), 1e-6)
                shown[weight] = pictures.with_map(judgement.pixels, weighed.weight, weighed.grid, (-most, 0.0, most))
        return shown


def _told(
    status: Any, work: Callable[[Tell], Any], gallery: Any = None, plans: Any = None, *, whose: str = ""
) -> Iterator[Update | Updates]:
    """What is shown while work goes on (pictures and plans where they are given) or of its failure; or its result."""
    try:
        with device_failures():
            for update in watched(work):
                yield update if update.result is not None else {
                    status: showing.status(f"{whose}{update.text} … {update.seconds:.0f} s"),
                    **({gallery: _gallery(update.pictures)} if update.pictures and gallery is not None else {}),
                    **({plans: showing.plans_so_far(update.plans)} if update.plans and plans is not None else {})}
    except ANTICIPATED as error:
        yield {status: showing.status(_plain(error), bad=True)}
    except Exception:
        traceback.print_exc()
        yield {status: showing.status("Something went wrong inside of the program; whoever started this page finds the "
                                      "details at its terminal.", bad=True)}


def _plain(error: BaseException) -> str:
    """Without the number of a request, which nobody here has given."""
    return str(error).removeprefix("request 0: ")


def _typed(text: str, what: str) -> str:
    if not text.strip():
        raise BadInput(f"The {what} is empty: type one first.")
    return text.strip()


def _seed(seed: float | None, count: int) -> int:
    if seed is None or not math.isfinite(seed) or not 0 <= seed <= MAX_SEED - count or seed != int(seed):
        raise BadInput(f"Seed: expected a whole number from 0 to {MAX_SEED - count}, found {seed}.")
    return int(seed)


def _gallery(pixels: Sequence[np.ndarray], captions: Sequence[str] | None = None, chosen: int | None = None):
    large = [pictures.shown(one) for one in pixels]
    return gr.Gallery(value=large if captions is None else list(zip(large, captions, strict=True)),
                      selected_index=chosen)


def _captions(drawn: Sequence[Candidate], judged: Mapping[int, Judgement]) -> list[str]:
    return [f"seed {candidate.seed}" + (f": {showing.summary(judged[number])}" if number in judged else "")
            for number, candidate in enumerate(drawn)]
