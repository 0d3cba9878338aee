"""Installs srum_jax, its experiments and its tools.

In a checkout (and installed with -e) `tools` and `experiments` lie beside `srum_jax`. They are no names to put among
other people's packages, so a wheel has them inside it, as `srum_jax.tools` and `srum_jax.experiments`.
"""

import pathlib
import re
import shutil

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.egg_info import egg_info

ROOT = pathlib.Path(__file__).parent
BESIDE = ("tools", "experiments")
VERSION = re.search(r'__version__ = "([^"]+)"', (ROOT / "srum_jax" / "__init__.py").read_text())[1]


class BuildPy(build_py):
    """Moves what lies beside srum_jax into it, and calls it by its new name in every file: imports, help and errors."""

    def run(self) -> None:
        """Builds."""
        super().run()
        if self.editable_mode:
            return
        built, beside = pathlib.Path(self.build_lib), "|".join(BESIDE)
        modules = "|".join({path.stem for name in BESIDE for path in (built / name).iterdir()})
        names = re.compile(
            rf"(?<![\w./-])({beside})(?=\.(?:{modules})\b)"  # tools.make_rewards, wherever it stands
            rf"|(?<=from )({beside})(?= import )"  # from tools import make_rewards
            rf"|(?<=import_module\(\")({beside})(?=\"\))"  # import_module("experiments")
        )
        for name in BESIDE:
            shutil.rmtree(built / "srum_jax" / name, ignore_errors=True)  # of an earlier build in the same folder
            (built / name).rename(built / "srum_jax" / name)
        for path in built.rglob("*.py"):
            path.write_text(names.sub(r"srum_jax.\g<0>", path.read_text()))


class EggInfo(egg_info):
    """Lays claim to no name but that of the package."""

    def run(self) -> None:
        """Writes the metadata."""
        super().run()
        (pathlib.Path(self.egg_info) / "top_level.txt").write_text("srum_jax\n")


setup(
    name="srum-jax",
    version=VERSION,
    description="Self-rewarding post-training of unified multimodal models in JAX",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    cmdclass={"build_py": BuildPy, "egg_info": EggInfo},
    packages=find_packages(include=["srum_jax*", "experiments*", "tools*"], exclude=["tools.build_docs*"]),
    package_data={
        "experiments._tiny_think": ["think_templates/*.txt"],
        "srum_jax.evaluation": ["templates/*.txt"],
        "srum_jax.inference": ["template_files/*.txt"],
        "srum_jax.worlds.shapes": ["base_weights/*", "janus_weights/*", "sam_weights/*", "judge_templates.toml"],
        "srum_jax.rewards.judgement": ["word_lists.json", "judge_templates.toml"],
        "tools.evaluation_report": ["assets/*"],
        "tools.make_rewards.report": ["assets/*"],
    },
    install_requires=[
        "absl-py>=2.1",
        "einops>=0.8",
        "etils[epath]>=1.12",
        "flax>=0.12.8",
        "google-crc32c>=1.6",
        "grain>=0.2.18",
        "importlib_resources>=6.4",
        # The Pallas attention kernel and ahead-of-time compilation have no stable interface across minor versions.
        "jax>=0.10.2,<0.11",
        "ml_dtypes>=0.5",
        "numpy>=2",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8",
        "pillow>=11",
        "protobuf>=5",
        # Integer weights (--quantize). Small, of what is here anyway, and young: 0.2 may have another interface.
        "qwix>=0.1.8,<0.2",
        "safetensors>=0.5",
        "scipy>=1.14",
        "tensorflow-datasets>=4.9.10",  # reads record directories; TensorFlow itself is not needed
        "tensorstore>=0.1.80",
        "tokenizers>=0.21",
        "tqdm>=4.66",
        "transformers>=5",  # tokenizers without tokenizer.json, other judges, SAM; training and generating do without
    ],
    extras_require={
        "tpu": ["jax[tpu]>=0.10.2,<0.11", "etils[epath-gcs]>=1.12"],
        "cuda12": ["jax[cuda12]>=0.10.2,<0.11"],
        "gcs": ["etils[epath-gcs]>=1.12"],  # gs:// paths on other machines than TPU VMs
        "rewards": ["torch>=2.5"],
        "study": ["matplotlib>=3.9", "torch>=2.5"],  # the tiny study without the rest of dev
        "ray": ["ray>=2.40"],  # the reward stage on a cluster
        "demo": ["gradio>=6,<7"],  # the page (python -m srum_jax.demo)
        "docs": ["zensical>=0.0.73"],  # builds the site of docs/; the successor of mkdocs-material, by its authors
        # Understanding benchmarks. Torchvision comes with it, and so a torch of its choice; of filelock it needs a
        # module that version 4 does not have.
        "lmms": ["lmms-eval>=0.7.3", "filelock<4"],
        "dev": [
            "etils[epath-gcs]>=1.12",
            # What lmms-eval imports; see .ci/run.
            "evaluate>=0.4", "filelock<4", "loguru>=0.7", "pytablewriter>=1.2", "sacrebleu>=2.4", "tenacity>=9",
            "gcp-storage-emulator>=2026.7.19",  # gs:// paths in tests
            "hypothesis>=6.100",
            # Compiles for TPUs without having one; the version that goes with the tested jax.
            'libtpu==0.0.42.*; sys_platform == "linux" and platform_machine == "x86_64"',
            "matplotlib>=3.9",  # the plot of the tiny study
            "peft>=0.15",  # reads the adapter that the export writes
            "psutil>=6",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ray>=2.40",
            "ruff>=0.9",
            "setuptools>=77",  # builds the wheel in tests
            "tensorboardX>=2.6.4",  # reads the event files that training writes
            "torch>=2.5",  # reference for resizing and optimiser arithmetic in tests; the CPU build is enough
        ],
    },
    entry_points={
        "console_scripts": [
            "srum-train = srum_jax.train:main",
            "srum-evaluate = srum_jax.evaluate:main",
            "srum-generate = srum_jax.generate:main",
            "srum-chat = srum_jax.chat:main",
            "srum-demo = srum_jax.demo.__main__:main",
            "srum-compile = srum_jax.compile:main",
            "srum-convert-weights = srum_jax.console_scripts:convert_weights",
            "srum-rewards = srum_jax.console_scripts:make_rewards",
            "srum-precompute-latents = srum_jax.console_scripts:precompute_latents",
            "srum-evaluation-report = srum_jax.console_scripts:evaluation_report",
            "srum-check-parity = srum_jax.console_scripts:check_parity",
            "srum-tiny-methods = srum_jax.console_scripts:tiny_methods",
        ],
        "lmms_eval.models": ["srum_jax = srum_jax.lmms_eval:manifest"],
    },
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.13",
    ],
)
