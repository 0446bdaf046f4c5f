"""What the keys of the configuration are made of: types with their limits, and the base of all sections."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from mpnnp.units import parse_units

Activation = Literal[
    "identity", "tanh", "logistic", "softplus", "relu", "gaussian", "cos", "exp", "harmonic", "rev-logistic"
]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Factor = Annotated[float, Field(gt=0, le=1)]
Repeats = Annotated[float, Field(ge=0, le=10_000)]
Count = Annotated[int, Field(ge=1)]
Number = Annotated[int, Field(ge=0)]
Inflation = Literal["auto"] | Annotated[float, Field(ge=1, allow_inf_nan=False)]
PATHS = {  # keys that name files
    "data": ("files", "validation_files", "weights", "cache"),
    "symmetry_functions": ("input_nn", "scaling_data"),
    "network": ("weights_from",),
    "run": ("from",),
}


def key_of(field):
    """The key of a field: without the underscore that a word of Python (from) needs behind it."""
    return field.rstrip("_")


def possible_name(text):
    """The text, if a file can be named so. Raises ValueError."""
    if "\0" in text:
        raise ValueError(f"{text!r}: must not contain a null character")
    return text


Name = Annotated[str, Field(min_length=1), AfterValidator(possible_name)]


def string_list(at_least=0):
    """Type of a list of at least so many strings, which one string may stand for."""
    string = {"type": "string", "minLength": 1}  # "" would be the folder of the configuration
    strings = {"type": "array", "items": string, "minItems": at_least}
    return Annotated[
        list[Name],
        Field(min_length=at_least),
        BeforeValidator(lambda v: [v] if isinstance(v, str) else v),
        WithJsonSchema({"anyOf": [string, strings]}),
    ]


def key(default, description, unit=None):
    """A key of a section: its default (... if it must be given), its meaning, the unit of its numbers."""
    extra = {"unit": unit} if unit else None
    return Field(default, description=description, json_schema_extra=extra)


def known_units(text):
    """The text, if it names units. Raises ValueError."""
    if text is not None:
        parse_units(text)
    return text


def known_coupling(text):
    """The text, if it names blocks of P. Raises ValueError."""
    if not re.fullmatch(COUPLINGS, text):
        raise ValueError(f"'{text}': must be full, element, layer, node or block:N")
    return text


COUPLINGS = "full|element|layer|node|block:0*[1-9][0-9]*"
Coupling = Annotated[
    str,
    AfterValidator(known_coupling),
    WithJsonSchema({"type": "string", "pattern": f"^({COUPLINGS})$"}),
]


class Section(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, alias_generator=key_of, populate_by_name=True
    )


def changed(section, names):
    """Those of the keys that are not at their defaults."""
    fields = type(section).model_fields
    return [name for name in names if getattr(section, name) != fields[name].default]
