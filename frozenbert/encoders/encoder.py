"""Load an encoder, and compute pooled vectors from token ids with torch."""

from __future__ import annotations

import functools
import inspect
import json
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from ..errors import EncoderNotFoundError, InputError
from ..utils.console import first_line, hide_widget_hint
from ..utils.extras import require
from .batching import PADDING, of_one_length
from .packed import (
    MASKED_SCORE,
    PrepackedProducts,
    Products,
    can_be_packed,
    can_prepack,
    hidden_states,
    last_layer_of_first_position,
    unpack,
)
from .sources import EncoderFiles, quiet_transformers
from .tokenizing import TextTokenizer, load_tokenizer

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel

__all__ = [
    "Encoder",
    "EncoderArrays",
    "choose_device",
    "load_encoder",
]


class EncoderArrays(TypedDict):
    """Content of an encoder as strings, numbers and NumPy arrays."""

    config: str
    tokenizer: str
    pad_token_id: int
    weights: dict[str, np.ndarray]


class Encoder:
    """Loaded encoder: a model with its tokenizer, on a device.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Model with weights in float32.
    tokenizer : TextTokenizer
    device : str
        Torch device.

    Examples
    --------
    >>> from frozenbert.encoders.sources import find_encoder
    >>> encoder = load_encoder(find_encoder("all-MiniLM-L6-v2"), "cpu")
    >>> ids, n_tokens = encoder.tokenizer.split("a good film", max_length=512)
    >>> encoder.encode(ids, pooling=("cls", "mean"), layers=(6,)).shape
    (1, 768)
    """

    def __init__(self, model: PreTrainedModel, tokenizer: TextTokenizer, device: str) -> None:
        self.model = model.eval().to(device)
        self.tokenizer = tokenizer
        self.device = device
        self._plain, self._prepacked = Products(), PrepackedProducts()
        self._pooled: dict[tuple[tuple[str, ...], tuple[int, ...], bool, bool], Module] = {}

    def encode(
        self,
        ids: Sequence[np.ndarray],
        pooling: Sequence[str],
        layers: Sequence[int],
        precision: str = "float32",
    ) -> np.ndarray:
        """Compute the vectors of one batch.

        Parameters
        ----------
        ids : sequence of numpy.ndarray, each of shape (n_tokens,)
            Token ids, of any lengths; neighbours of one length are computed together.
        pooling : sequence of {"cls", "mean", "max"}
        layers : sequence of int
            Indices into `hidden_states`, from 0 (the embeddings) to the number of layers.
        precision : {"float32", "bfloat16"}
            "bfloat16" is torch's autocast, which chooses the steps to compute in it.

        Returns
        -------
        numpy.ndarray of float32, shape (len(ids), len(layers) * len(pooling) * hidden_size)
            Columns go layer by layer, then pooling by pooling.

        Raises
        ------
        torch.OutOfMemoryError
            If a single text does not fit into the device's memory. A larger batch that does
            not fit is halved.
        """
        import torch

        kind = torch.device(self.device).type
        prepacked = kind == "cpu" and precision == "float32" and can_prepack()
        pooled = self.pooled(tuple(pooling), tuple(layers), prepacked=prepacked)
        half = torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16")
        try:
            with torch.inference_mode(), half:
                groups = [torch.from_numpy(group).to(self.device) for group in of_one_length(ids)]
                vectors: np.ndarray = pooled(*groups).float().cpu().numpy()
            return vectors
        except torch.OutOfMemoryError:
            if len(ids) == 1:
                raise
        # Outside the except block, which keeps the tensors of the failed attempt alive.
        middle = len(ids) // 2
        halves = (
            self.encode(part, pooling, layers, precision) for part in (ids[:middle], ids[middle:])
        )
        return np.concatenate(list(halves))

    def pooled(
        self,
        pooling: tuple[str, ...],
        layers: tuple[int, ...],
        *,
        padded: bool = False,
        prepacked: bool = False,
    ) -> Module:
        """Return a torch module from token ids to vectors; it shares the model's weights.

        Its inputs are tensors of shape (n_rows, n_tokens), one for each length. With `padded`
        it has one input, in which `PADDING` fills the ends of short texts. It computes no
        layer above the highest in `layers`. If only the last layer's [CLS] vector is asked
        for, it computes the last layer for the first position alone. With `prepacked` it
        computes in float32 on the CPU, in inference mode, and cannot be traced.
        """
        key = (pooling, layers, padded, prepacked)
        if key not in self._pooled:
            pad_token_id = self.tokenizer.pad_token_id if padded else None
            products = self._prepacked if prepacked else self._plain
            self._pooled[key] = _make_pooled(self.model, pooling, layers, pad_token_id, products)
        return self._pooled[key]

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return int(self.model.config.num_hidden_layers)

    def to_arrays(self) -> EncoderArrays:
        """Return the content of the encoder, for `from_arrays`.

        Raises
        ------
        InputError
            If the tokenizer is written in Python.
        """
        return {
            "config": self.model.config.to_json_string(use_diff=False),
            "tokenizer": self.tokenizer.to_json(),
            "pad_token_id": self.tokenizer.pad_token_id,
            "weights": {k: v.cpu().numpy() for k, v in self.model.state_dict().items()},
        }

    @classmethod
    def from_arrays(cls, arrays: EncoderArrays, device: str) -> Encoder:
        """Rebuild an encoder from the result of `to_arrays`, without reading any file."""
        import torch
        from transformers import AutoConfig, AutoModel

        config = json.loads(arrays["config"])
        with quiet_transformers():
            model = AutoModel.from_config(AutoConfig.for_model(**config), trust_remote_code=False)
        if _has_decoder(model):
            model = model.get_encoder()
        weights = {k: torch.from_numpy(np.array(v)) for k, v in arrays["weights"].items()}
        model.load_state_dict(weights)
        tokenizer = TextTokenizer.from_json(arrays["tokenizer"], arrays["pad_token_id"])
        return cls(model.float(), tokenizer, device)


def load_encoder(files: EncoderFiles, device: str | None = None) -> Encoder:
    """Load an encoder's weights and tokenizer; the last two stay loaded.

    Parameters
    ----------
    files : EncoderFiles
    device : str or None
        Torch device; None is "cuda" if torch can use it, else "cpu".

    Returns
    -------
    Encoder

    Raises
    ------
    EncoderNotFoundError
        If transformers cannot load the encoder, or the files lack some of its weights.
    InputError
        If torch cannot use the device.
    """
    with _loading:
        return _load_once(files.content_hash, files, choose_device(device))


_loading = threading.Lock()  # `lru_cache` alone lets two threads load the same weights


def choose_device(device: str | None) -> str:
    """Return the name of a torch device that works; None chooses "cuda" if available, else "cpu".

    Raises
    ------
    InputError
        If torch cannot compute on the device.
    """
    if device == "cpu":
        return device
    require("torch", purpose="an encoder")
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        probe = torch.zeros(1, device=device)
        probe.cpu()  # fails on "meta", which computes nothing
    except Exception as error:  # torch raises many kinds, of its backends too
        raise InputError(
            f"torch cannot use it here ({first_line(error)}); use 'cpu', or None to let torch "
            f"choose.",
            parameter="device",
            value=device,
        ) from error
    return str(probe.device)


@functools.lru_cache(maxsize=2)
def _load_once(content_hash: str, files: EncoderFiles, device: str) -> Encoder:
    require("torch", "transformers", purpose="an encoder")
    hide_widget_hint()
    import torch
    from transformers import AutoModel

    tokenizer = load_tokenizer(files)
    try:
        with quiet_transformers():
            model, report = AutoModel.from_pretrained(
                files.folder,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
    except Exception as error:  # transformers raises many kinds for damaged files
        raise EncoderNotFoundError(
            f"{files.folder} cannot be loaded ({first_line(error)}).",
            parameter="model_name",
            value=files.name,
        ) from error
    # transformers fills missing weights with random numbers. Only unused parts may be missing.
    unused = ("pooler.", "decoder.") if _has_decoder(model) else ("pooler.",)
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(unused))
    if missing:
        raise EncoderNotFoundError(
            f"the weights in {files.folder} lack {len(missing)} of the encoder's tensors "
            f"(the first: {missing[0]}).",
            parameter="model_name",
            value=files.name,
        )
    if _has_decoder(model):
        model = model.get_encoder()
    return Encoder(model, tokenizer, device)


def _has_decoder(model: PreTrainedModel) -> bool:
    # `config.is_encoder_decoder` is false for the encoder half of a T5 that is saved alone.
    return "decoder_input_ids" in inspect.signature(model.forward).parameters


def _make_pooled(
    model: PreTrainedModel,
    pooling: tuple[str, ...],
    layers: tuple[int, ...],
    pad_token_id: int | None,
    products: Products,
) -> Module:
    import torch

    n_layers, top = int(model.config.num_hidden_layers), max(layers)

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *groups: Tensor) -> Tensor:
            mask = None
            if pad_token_id is not None:
                (ids,) = groups
                mask = ids != PADDING
                # Some families count positions by the ids that are not the padding id.
                groups = (torch.where(mask, ids, pad_token_id),)
            if not can_be_packed(model):
                states = self.unpacked_states(groups, mask)
            else:
                states = self.packed_states(groups, mask)
            columns = [
                torch.cat([POOL[how](group.float(), mask) for group in states[layer]])
                for layer in layers
                for how in pooling
            ]
            return torch.cat(columns, dim=1)

        def packed_states(
            self, groups: tuple[Tensor, ...], mask: Tensor | None
        ) -> dict[int, list[Tensor]]:
            """Return each layer's output for each group; of [CLS] alone if that is enough."""
            bias = None
            if mask is not None:
                bias = torch.where(mask, 0.0, MASKED_SCORE)[:, None, None]
            if pooling == ("cls",) and layers == (n_layers,):
                *_, below = hidden_states(model, groups, n_layers - 1, bias, products)
                first = last_layer_of_first_position(model, below, groups, bias, products)
                return {n_layers: [first[:, None]]}
            computed = enumerate(hidden_states(model, groups, top, bias, products))
            return {i: unpack(packed, groups) for i, packed in computed if i in layers}

        def unpacked_states(
            self, groups: tuple[Tensor, ...], mask: Tensor | None
        ) -> dict[int, list[Tensor]]:
            """Return each layer's output for each group, computed by the model itself."""
            outputs = [
                model(
                    input_ids=tokens,
                    # Without a mask, some families treat the padding id as padding.
                    attention_mask=torch.ones_like(tokens) if mask is None else mask.long(),
                    output_hidden_states=layers != (n_layers,),
                    return_dict=True,
                )
                for tokens in groups
            ]
            return {
                # Some families normalize the last layer's output once more.
                i: [o.last_hidden_state if i == n_layers else o.hidden_states[i] for o in outputs]
                for i in layers
            }

    return Pooled().eval()


def _mean(states: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return states.mean(1)
    weights = mask[..., None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


def _max(states: Tensor, mask: Tensor | None) -> Tensor:
    if mask is not None:
        states = states.masked_fill(~mask[..., None], float("-inf"))
    return states.amax(1)


# From the states of texts, shape (n_rows, n_tokens, hidden_size), and where they are no padding.
POOL: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {
    "cls": lambda states, mask: states[:, 0],
    "mean": _mean,
    "max": _max,
}
