"""A loaded encoder: texts to token ids, token ids to pooled vectors."""

from __future__ import annotations

import functools
import inspect
import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

import joblib
import numpy as np

from ..errors import EncoderNotFoundError, InputError
from ..utils.console import first_line
from .batching import of_one_length
from .packed import can_be_packed, hidden_states, last_layer_of_first_position, unpack
from .sources import EncoderFiles, quiet_transformers
from .tokenizing import TextTokenizer, load_tokenizer

__all__ = ["Encoder", "choose_device", "load_encoder", "set_threads", "usable_cores"]


class Encoder:
    """A loaded encoder: texts to token ids, token ids to pooled vectors.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        The encoder's weights, float32, in evaluation mode.
    tokenizer : TextTokenizer
    device : str
        A torch device.
    """

    def __init__(self, model: Any, tokenizer: TextTokenizer, device: str) -> None:
        self.model = model.eval().to(device)
        self.tokenizer = tokenizer
        self.device = device
        self._pooled: dict[Any, Any] = {}

    def encode(
        self,
        ids: Sequence[np.ndarray],
        pooling: Sequence[str],
        layers: Sequence[int],
        precision: str = "float32",
    ) -> np.ndarray:
        """Turn one batch of token ids into vectors.

        Parameters
        ----------
        ids : sequence of numpy.ndarray, each of shape (n_tokens,)
            Of any lengths; those of one length best stand together.
        pooling : sequence of {"cls", "mean", "max"}
        layers : sequence of int
            Indices into `hidden_states`, 0 (the embeddings) to the number of layers.
        precision : {"float32", "bfloat16"}
            "bfloat16" lets torch's autocast choose what is computed in it.

        Returns
        -------
        numpy.ndarray of float32, shape (len(ids), len(layers) * len(pooling) * hidden_size)
            Layer by layer, in each pooling by pooling.

        Raises
        ------
        torch.OutOfMemoryError
            If the device has no room for a single text. A batch that finds no room is
            halved until it does.
        """
        import torch

        pooled = self.pooled(tuple(pooling), tuple(layers))
        kind = torch.device(self.device).type
        half = torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16")
        try:
            with torch.inference_mode(), half:
                groups = [torch.from_numpy(group).to(self.device) for group in of_one_length(ids)]
                vectors: np.ndarray = pooled(*groups).float().cpu().numpy()
            return vectors
        except torch.OutOfMemoryError:
            if len(ids) == 1:
                raise
        # Out of the except block, which keeps what the failed try holds on the device.
        middle = len(ids) // 2
        halves = (
            self.encode(part, pooling, layers, precision) for part in (ids[:middle], ids[middle:])
        )
        return np.concatenate(list(halves))

    def pooled(self, pooling: tuple[str, ...], layers: tuple[int, ...]) -> Any:
        """Return a torch module that shares the weights, from token ids to vectors.

        It takes tensors of shape (rows, tokens), each of texts of one length.

        No layer above the highest asked for is in it, and of the last layer only what the
        [CLS] vector needs, if that alone is asked for.
        """
        key = (pooling, layers)
        if key not in self._pooled:
            self._pooled[key] = _make_pooled(self.model, pooling, layers)
        return self._pooled[key]

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return int(self.model.config.num_hidden_layers)

    def to_arrays(self) -> dict[str, Any]:
        """Return all that `from_arrays` needs, as strings, numbers and NumPy arrays."""
        weights = {k: v.cpu().numpy() for k, v in self.model.state_dict().items()}
        return {
            "config": self.model.config.to_json_string(use_diff=False),
            "tokenizer": self.tokenizer.to_json(),
            "pad_token_id": self.tokenizer.pad_token_id,
            "weights": weights,
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, Any], device: str) -> Encoder:
        """Build the encoder that `to_arrays` took apart, without touching the disk."""
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
    """Load an encoder's weights and tokenizer; the last two stay loaded for the next call.

    Parameters
    ----------
    files : EncoderFiles
    device : str or None
        A torch device; None is "cuda" where torch has it, else "cpu".

    Raises
    ------
    EncoderNotFoundError
        If transformers cannot load it, or its file lacks some of its weights.
    InputError
        If `device` is none that torch knows.
    """
    with _loading:
        return _load_once(files.content_hash, files, choose_device(device))


_loading = threading.Lock()  # or two threads would both load the same weights


def choose_device(device: str | None) -> str:
    """Check a torch device's name; None gives "cuda" where torch has it, else "cpu"."""
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        probe = torch.zeros(1, device=device)
        probe.cpu()  # "meta" computes nothing
    except Exception as error:
        raise InputError(
            f"device={device!r}: torch cannot use it here ({first_line(error)}); "
            f"use 'cpu', or None to let torch choose."
        ) from error
    return str(probe.device)


@functools.lru_cache(maxsize=2)
def _load_once(content_hash: str, files: EncoderFiles, device: str) -> Encoder:
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
    except Exception as error:
        raise EncoderNotFoundError(
            f"encoder {files.name!r}: {files.folder} cannot be loaded ({first_line(error)})."
        ) from error
    # transformers fills in what the file lacks with random numbers. Only the parts that are
    # not used here may be absent.
    unused = ("pooler.", "decoder.") if _has_decoder(model) else ("pooler.",)
    lacking = sorted(key for key in report["missing_keys"] if not key.startswith(unused))
    if lacking:
        raise EncoderNotFoundError(
            f"encoder {files.name!r}: its weights in {files.folder} lack {len(lacking)} of the "
            f"encoder's tensors (the first: {lacking[0]})."
        )
    if _has_decoder(model):
        model = model.get_encoder()
    return Encoder(model, tokenizer, device)


def _has_decoder(model: Any) -> bool:
    # What config.is_encoder_decoder says is false for the encoder half of a T5 saved alone.
    return "decoder_input_ids" in inspect.signature(model.forward).parameters


def _make_pooled(model: Any, pooling: tuple[str, ...], layers: tuple[int, ...]) -> Any:
    import torch

    n_layers, top = int(model.config.num_hidden_layers), max(layers)

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *groups: Any) -> Any:
            if not can_be_packed(model):
                states = self.plainly(groups)
            elif pooling == ("cls",) and layers == (n_layers,):
                *_, below = hidden_states(model, groups, n_layers - 1)
                return last_layer_of_first_position(model, below, groups)
            else:
                computed = enumerate(hidden_states(model, groups, top))
                states = {i: unpack(packed, groups) for i, packed in computed if i in layers}
            columns = [
                torch.cat([POOL[how](group.float()) for group in states[layer]])
                for layer in layers
                for how in pooling
            ]
            return torch.cat(columns, dim=1)

        def plainly(self, groups: tuple[Any, ...]) -> dict[int, list[Any]]:
            outputs = [
                model(
                    input_ids=tokens,
                    # Without a mask, some families would take the padding id for padding.
                    attention_mask=torch.ones_like(tokens),
                    output_hidden_states=layers != (n_layers,),
                    return_dict=True,
                )
                for tokens in groups
            ]
            return {
                # A family may norm its last layer's output once more on the way out.
                i: [o.last_hidden_state if i == n_layers else o.hidden_states[i] for o in outputs]
                for i in layers
            }

    return Pooled().eval()


POOL: dict[str, Callable[[Any], Any]] = {
    "cls": lambda states: states[:, 0],
    "mean": lambda states: states.mean(1),
    "max": lambda states: states.amax(1),
}


def usable_cores(at_most: int | None = None) -> int:
    """Return how many cores the process may use, and torch is set to use.

    Affinity, a container's share, `OMP_NUM_THREADS` and `torch.set_num_threads` are
    heeded, and so is joblib's division of the cores among its workers.
    """
    import torch

    # torch counts cores and heeds affinity; a container's share of them it does not see.
    cores = min(torch.get_num_threads(), int(joblib.cpu_count()))
    return cores if at_most is None else min(at_most, int(joblib.cpu_count()))


def set_threads(number: int) -> None:
    """Let torch compute with `number` threads when called from this thread."""
    import torch

    # torch gives each new thread the number that was set last, in whatever thread. So it is
    # set back in another, or the program's later threads would get ours.
    with _setting_threads:
        others = torch.get_num_threads()
        torch.set_num_threads(number)
        back = threading.Thread(target=torch.set_num_threads, args=(others,))
        back.start()
        back.join()


_setting_threads = threading.Lock()
