"""What requests hold, and what answers look like, as OpenAPI shows them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field, model_validator


def _up_to_a_mistake(value: Any) -> Any:
    """Cut a list after its first item that is no string: an error for each would take a thousand times its memory."""
    if not isinstance(value, list):
        return value
    first = next((k for k, item in enumerate(value) if not isinstance(item, str)), len(value))
    return value[: first + 1]


_OneMistake = BeforeValidator(_up_to_a_mistake)
Text = Annotated[str | list[str], _OneMistake]  # a list: the fields of one text, such as subject and body


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _with_one_unknown_field(cls, value: Any) -> Any:
        """Leave out all unknown fields but the first, as one error is enough."""
        if not isinstance(value, dict):
            return value
        unknown = next((name for name in value if name not in cls.model_fields), None)
        return {name: item for name, item in value.items() if name in cls.model_fields or name == unknown}


class PredictRequest(_Request):
    """Texts to predict."""

    texts: Annotated[list[Text], FailFast()] = Field(examples=[["Where is my parcel?", ["A subject", "and a body"]]])


class ExplainRequest(_Request):
    """A text to explain."""

    text: Text = Field(examples=["Where is my parcel?"])
    labels: Annotated[list[str] | None, _OneMistake] = Field(
        None, description="labels or targets; by default those predicted"
    )
    method: Literal["gradient", "occlusion"] = "gradient"


class Prediction(BaseModel):
    """What is predicted of a text: labels and probabilities, or values."""

    labels: list[str] | None = Field(None, description="of a classifier")
    probabilities: dict[str, float] | None = Field(None, description="of all labels of a classifier")
    values: dict[str, float] | None = Field(None, description="of the targets of a regressor")


class PredictAnswer(BaseModel):
    """The predictions of the texts, in their order."""

    predictions: list[Prediction]


class Word(BaseModel):
    """A word, and where it is in the text: its first character and the one after it, counted in code points."""

    word: str
    begin: int
    end: int


class ExplainedOutput(BaseModel):
    """What the words say about a label, in log-odds, or a target, in its units: a score for each."""

    name: str
    probability: float | None = None
    threshold: float | None = None
    value: float | None = None
    baseline: float = Field(description="from which the scores add up: a probability, or the mean of the target")
    scores: list[float]


class ExplainAnswer(BaseModel):
    """A text as the model reads it, its words, and their scores."""

    text: str
    words: list[Word]
    outputs: list[ExplainedOutput]


class Output(BaseModel):
    """A label with its threshold, or a target with its range."""

    name: str
    threshold: float | None = None
    range: list[float | None] | None = Field(None, description="the lowest and the highest value, where they are known")


class ModelAnswer(BaseModel):
    """The labels or targets of the model, how labels are decided on, and what the server accepts."""

    model: str
    kind: Literal["classifier", "regressor"]
    outputs: list[Output]
    top_k: int | None = None
    at_least_one: bool = False
    explains: bool
    text_columns: list[str]
    delimiter: str
    limits: dict[str, float]


class Health(BaseModel):
    """Whether the server answers."""

    status: str


class Error(BaseModel):
    """Why a request has no answer."""

    error: str
