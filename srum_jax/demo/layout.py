"""What is on the page; what it does is in `page.py`."""

import html
from collections.abc import Sequence

import gradio as gr

from srum_jax.demo import showing
from srum_jax.demo.engine import Engine
from srum_jax.demo.settings import DemoSettings
from srum_jax.rewards.reward_map import VARIANTS

TITLE = "A model draws, judges and weighs its own pictures"
_READINGS = {"paper": "As the paper writes it: R is the score, in [-1, 1]",
             "official": "As the published code computes it: R is (score + 1) / 2, in [0, 1]"}
_FORMULA = ("## What training would make of it\n**weight = alpha · R** multiplies the error of each image token in the "
            "loss. R comes from the scores of the regions that cover the token, alpha from the score of the whole.")


class Layout:
    """The components of a page. To be made inside of a `gr.Blocks`."""

    def __init__(self, engines: Sequence[Engine], settings: DemoSettings, num_candidates: int, max_upload_mb: float):
        """Lays them out; what the first engine cannot do is greyed out, with the reason."""
        self._engines, self._settings, self._max_upload_mb = engines, settings, max_upload_mb
        self._can, self._proposing = engines[0].abilities, engines[0].proposing
        self._counts = [count for count in (1, 2, 4, 8) if count < num_candidates] + [num_candidates]
        self.hand, self.drawn, self.judged = gr.State(None), gr.State(()), gr.State({})
        self.in_hand: list[gr.Image] = []  # the picture that was chosen, on each tab
        self.uploads: list[tuple[gr.UploadButton, gr.HTML]] = []  # and where it is told what is wrong
        gr.Markdown(f"# {TITLE}")
        gr.HTML(showing.facts(engines), elem_id="facts")
        with gr.Tab("Draw and judge"):
            self._draw()
            self._judge()
            self._weigh()
        with gr.Tab("Ask"):
            self._ask()
        with gr.Tab("Edit"):
            self._edit()
        with gr.Tab("Compare"):
            self._compare()

    def _draw(self) -> None:
        self.prompt, self.draw = self._prompt("draw", "Draw")
        if self._settings.examples:
            gr.Examples([[text] for text in self._settings.examples], [self.prompt], label="Prompts to try")
        with gr.Row():
            self.count, self.seed = self._count_and_seed()
            with gr.Column(min_width=240):
                self.plan = _checkbox("Write a plan first", self._settings.think, self._can.plan)
                self.steps = _checkbox("Show how they come about", True, self._can.steps)
        self.draw_status = gr.HTML(showing.status(""), elem_id="draw-status")
        self.gallery = _gallery("Candidates: press one to choose it.", "candidates", columns=4)
        self.plans = gr.HTML("", elem_id="plans")
        with gr.Accordion("How the chosen one came about", open=False, visible=self._can.steps is None):
            self.film = _picture("Steps of sampling", "film")

    def _judge(self) -> None:
        gr.Markdown("## Judge it yourself\nThe model says what it sees in each region and how well that fits the "
                    "prompt, and then how well the whole does. So does self-rewarding training.")
        with gr.Row():
            self.provider = gr.Radio(
                self._proposing.names, value=self._proposing.names[0], label="Regions come from", min_width=240,
                info=" ".join(f"No {name}: {why}" for name, why in self._proposing.absent.items()) or None)
            self.judged_by = gr.Textbox(label="Judged by this prompt", lines=1, max_lines=4, scale=2, min_width=240,
                                        elem_id="judged-by")
        with gr.Row():
            self.judge_one = _button("Judge the chosen picture", "judge", self._can.judge)
            self.judge_all = gr.Button("Judge all candidates", min_width=160, elem_id="judge-all",
                                       interactive=self._can.judge is None)
            upload = self._upload_button("upload-judged")
        self.judge_status = gr.HTML(showing.status(self._can.judge or ""), elem_id="judge-status")
        self.uploads.append((upload, self.judge_status))
        with gr.Row():
            self.regions = _picture("The chosen picture and its regions", "regions", min_width=280)
            with gr.Column(min_width=280):
                self.verdicts = gr.HTML("", elem_id="verdicts")
        with gr.Accordion("What was asked, and what it answered", open=False):
            self.asked = gr.HTML("", elem_id="asked")

    def _weigh(self) -> None:
        gr.Markdown(_FORMULA)
        trained_by = self._settings.objective.reward_map.variant
        self.maps: dict[str, tuple[gr.Image, gr.Image, gr.HTML]] = {}  # R, weight, numbers
        with gr.Row():
            for variant in VARIANTS:
                with gr.Column(min_width=320):
                    here = " Training here reads it so." if variant == trained_by else ""
                    gr.Markdown(f"**{_READINGS[variant]}.**{here}")
                    with gr.Row():
                        over = _picture("R, over the picture", f"map-{variant}", min_width=140)
                        weight = _picture("Weight of each token", f"weight-{variant}", min_width=140)
                    self.maps[variant] = (over, weight, gr.HTML("", elem_id=f"numbers-{variant}"))

    def _ask(self) -> None:
        with gr.Row():
            self._chosen("asked")
            with gr.Column(min_width=280):
                self.question = gr.Textbox(label="Question", lines=2, elem_id="question")
                self.usual = gr.Button("Fill in the judge's own question", size="sm", elem_id="usual")
                self.look = gr.Checkbox(True, label="Show the picture to the model")
                self.think = gr.Checkbox(False, label="Let it think first")
                self.ask = _button("Ask", "ask", self._can.ask)
                self.ask_status = gr.HTML(showing.status(self._can.ask or ""), elem_id="ask-status")
                self.answer = gr.HTML("", elem_id="answer")
        self.uploads.append((self._upload_button("upload-asked"), self.ask_status))

    def _edit(self) -> None:
        with gr.Row():
            self._chosen("edited")
            with gr.Column(min_width=280):
                self.wish = gr.Textbox(label="What to change", lines=2, elem_id="wish")
                self.edit_seed = gr.Number(0, label="Seed", precision=0, minimum=0)
                self.edit = _button("Edit", "edit", self._can.edit)
                self.edit_status = gr.HTML(showing.status(self._can.edit or ""), elem_id="edit-status")
                self.changed = _picture("Changed", "changed")
        self.uploads.append((self._upload_button("upload-edited"), self.edit_status))

    def _compare(self) -> None:
        self.compared: list[gr.Gallery] = []
        if len(self._engines) < 2:
            gr.Markdown("Start the page with `--against DIR` to draw the same prompts with the same seeds from another "
                        "checkpoint too, such as one after training.")
            return
        self.compare_prompt, self.compare = self._prompt("compare", "Draw from both")
        with gr.Row():
            self.compare_count, self.compare_seed = self._count_and_seed()
            with gr.Column(min_width=240):
                self.compare_judge = _checkbox("Let each judge its own", False, self._can.judge)
        self.compare_status = gr.HTML(showing.status(""), elem_id="compare-status")
        with gr.Row():
            for number, engine in enumerate(self._engines):
                with gr.Column(min_width=280):
                    self.compared.append(_gallery(engine.name, f"compared-{number}", columns=2))

    def _prompt(self, name: str, label: str) -> tuple[gr.Textbox, gr.Button]:
        first = self._settings.examples[-1] if self._settings.examples else ""
        with gr.Row(equal_height=True):
            prompt = gr.Textbox(label="Prompt", value=first, scale=5, lines=1, max_lines=4, min_width=260,
                                elem_id=f"{name}-prompt")
            return prompt, _button(label, name, self._can.draw)

    def _count_and_seed(self) -> tuple[gr.Radio, gr.Number]:
        with gr.Column(min_width=240), gr.Row():
            return (gr.Radio(self._counts, value=self._counts[-1], label="Candidates", min_width=140),
                    gr.Number(0, label="Seed of the first", precision=0, minimum=0, min_width=80))

    def _chosen(self, name: str) -> None:
        self.in_hand.append(_picture("The chosen picture", f"chosen-{name}", min_width=280))

    def _upload_button(self, name: str) -> gr.UploadButton:
        return gr.UploadButton(f"Use my own picture (to {self._max_upload_mb:g} MB)", file_types=["image"],
                               min_width=160, elem_id=name)


def _button(label: str, name: str, reason: str | None) -> gr.Button:
    return gr.Button(label, variant="primary", min_width=160, interactive=reason is None, elem_id=name)


def _checkbox(label: str, value: bool, reason: str | None) -> gr.Checkbox:
    return gr.Checkbox(value and reason is None, label=label, interactive=reason is None, info=reason, min_width=160)


def _picture(label: str, name: str, min_width: int = 160) -> gr.Image:
    """With its label above: Gradio's own would lie on the picture's corner."""
    with gr.Column(min_width=min_width):
        gr.HTML(f"<div class='above'>{label}</div>")
        return gr.Image(show_label=False, format="png", interactive=False, buttons=["fullscreen"], elem_id=name)


def _gallery(label: str, name: str, columns: int) -> gr.Gallery:
    gr.HTML(f"<div class='above'>{html.escape(label)}</div>")
    return gr.Gallery(show_label=False, columns=columns, height="auto", format="png", allow_preview=False,
                      interactive=False, buttons=[], elem_id=name)
