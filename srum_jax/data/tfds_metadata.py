"""The two JSON files with which `tensorflow_datasets.builder_from_directory` reads a record directory.

They are written here by hand: equal records then give equal bytes, whatever version of the library is installed.
"""

import re
from typing import Any

from srum_jax.data.record_fields import BYTES, FIELDS, FLOAT, INT, TEXT

_DTYPES = {BYTES: "string", TEXT: "string", INT: "int64", FLOAT: "float32"}
_FEATURES = "tensorflow_datasets.core.features."
SPLIT = "train"


def dataset_name(name: str) -> str:
    """The records' name in the form that tensorflow_datasets accepts: lower case, digits, underscores."""
    words = re.sub(r"[^0-9a-z]+", "_", name.lower()).strip("_")
    return words if words[:1].isalpha() else f"records_{words}"


def dataset_info(name: str, shard_lengths: list[int], num_bytes: int) -> dict[str, Any]:
    """Content of `dataset_info.json`: one split whose files are `NAME-00000-of-00016.tfrecord`."""
    return {
        "description": "Generated images with the prompts, boxes and scores that reward-weighted training uses.",
        "fileFormat": "tfrecord",
        "moduleName": "",
        "name": dataset_name(name),
        "releaseNotes": {},
        "splits": [
            {
                "filepathTemplate": name + "-{SHARD_X_OF_Y}.{FILEFORMAT}",
                "name": SPLIT,
                "numBytes": str(num_bytes),
                "shardLengths": [str(length) for length in shard_lengths],
            }
        ],
        "version": "1.0.0",
    }


def features() -> dict[str, Any]:
    """Content of `features.json`: every key of the schema; keys with a slash are nested."""
    groups: dict[str, dict[str, Any]] = {}
    for field in FIELDS:
        group, name = field.key.split("/")
        scalar = field.length == "1"
        groups.setdefault(group, {})[name] = {
            "pythonClassName": _FEATURES + ("scalar.Scalar" if scalar else "tensor_feature.Tensor"),
            "tensor": {
                "dtype": _DTYPES[field.kind],
                "encoding": "none",
                "shape": {} if scalar else {"dimensions": ["-1"]},
            },
        }
    return _nested({group: _nested(names) for group, names in groups.items()})


def _nested(members: dict[str, Any]) -> dict[str, Any]:
    return {"featuresDict": {"features": members}, "pythonClassName": _FEATURES + "features_dict.FeaturesDict"}
