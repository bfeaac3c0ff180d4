"""Links to the documentation in the HTML of estimators."""

from email.message import Message
from pathlib import Path

import pytest
from sklearn.utils import estimator_html_repr

from frozenbert import DistilBertVectorizer, FewShotClassifier, FineTunedClassifier
from frozenbert.heads.multilabel import MultiLabelClassifier
from frozenbert.heads.search import FeatureSearch, HeadSearch
from frozenbert.heads.stacking import StackedSearch
from frozenbert.pipeline import TextPipeline
from frozenbert.utils import steps

INDEX = Path(__file__).parents[2] / "docs" / "api" / "index.md"


@pytest.fixture
def address(monkeypatch):
    def name(entry):
        package = Message()
        package["Project-URL"] = "Source, https://code.example/frozenbert"
        if entry:
            package["Project-URL"] = entry
        monkeypatch.setattr(steps, "metadata", lambda _: package)

    return name


def test_html_links_to_the_page_of_an_estimator(address):
    address("Documentation, https://docs.example/frozenbert/")
    shown = estimator_html_repr(TextPipeline([("embed", DistilBertVectorizer())]))
    pages = "https://docs.example/frozenbert/api/generated/frozenbert"
    assert f'href="{pages}.DistilBertVectorizer.html"' in shown
    assert f'href="{pages}.make_text_classifier.html"' in shown


def test_without_an_address_there_is_no_link(address):
    address(None)
    assert "api/generated" not in estimator_html_repr(DistilBertVectorizer())


@pytest.mark.parametrize(
    "kind",
    [
        DistilBertVectorizer,
        FewShotClassifier,
        FineTunedClassifier,
        TextPipeline,
        MultiLabelClassifier,
        FeatureSearch,
        HeadSearch,
        StackedSearch,
    ],
)
def test_the_page_is_in_the_reference(address, kind):
    address("Documentation, https://docs.example")
    link = kind._get_doc_link(kind.__new__(kind))
    page = link.removeprefix("https://docs.example/api/generated/").removesuffix(".html")
    listed = {line.strip().removeprefix("~") for line in INDEX.read_text("utf-8").splitlines()}
    assert page in listed or page.rpartition(".")[0] in listed
