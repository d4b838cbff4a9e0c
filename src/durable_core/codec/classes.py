"""Shapes of classes with fields: attrs, dataclasses, NamedTuple, TypedDict, msgspec, pydantic.

The last two are known by their looks, so neither is imported here.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import attrs

from ..errors import LimitExceededError
from .containers import Resolve
from .plain import As, finish
from .refusal import Refusal, at_key, mismatch, type_name
from .shapes import Shape, guarded, raised, spend


@attrs.frozen(slots=True)
class Field:
    """``init`` is the name of the constructor's argument, None when it has none."""

    name: str
    type: Any
    init: str | None
    required: bool


def is_class_with_fields(type_: Any) -> bool:
    """True for a class, or a generic alias of one, that ``FieldsShape`` can handle."""
    cls = typing.get_origin(type_) or type_
    return (
        isinstance(cls, type)
        and not issubclass(cls, BaseException)
        and (
            attrs.has(cls)
            or dataclasses.is_dataclass(cls)
            or (issubclass(cls, tuple) and hasattr(cls, "_fields"))
            or is_typed_dict(cls)
            or isinstance(getattr(cls, "__struct_fields__", None), tuple)
        )
    )


def is_typed_dict(cls: Any) -> bool:
    """True for a ``TypedDict`` of ``typing`` or of ``typing_extensions``."""
    return isinstance(cls, type) and issubclass(cls, dict) and hasattr(cls, "__required_keys__")


def is_model(type_: Any) -> bool:
    """True for a pydantic model."""
    return isinstance(type_, type) and all(
        hasattr(type_, name) for name in ("model_fields", "model_dump", "model_validate")
    )


def fields_of(type_: Any) -> list[Field]:
    """The fields in order, generics filled in. Raises ``Refusal`` if they cannot be resolved."""
    cls = typing.get_origin(type_) or type_
    try:
        hints = typing.get_type_hints(cls, localns={cls.__name__: cls}, include_extras=True)
    except Exception as error:
        raise Refusal(
            f"the annotations of {type_name(cls)} cannot be resolved ({error})",
            "import their names at the top of the module",
        ) from error
    known = _arguments(type_)
    return [
        attrs.evolve(field, type=substitute(hints.get(field.name, field.type), known))
        for field in _raw_fields(cls)
    ]


def _raw_fields(cls: Any) -> Iterator[Field]:
    if attrs.has(cls):
        for each in attrs.fields(cls):
            kind = Any if each.type is None else each.type
            required = each.init and each.default is attrs.NOTHING
            yield Field(each.name, kind, each.alias if each.init else None, required)
    elif dataclasses.is_dataclass(cls):
        lost = [n for n, f in cls.__dataclass_fields__.items() if _is_init_only(f)]
        if lost:
            raise Refusal(
                f"{type_name(cls)} needs {', '.join(lost)} to be built and does not keep it",
                "give the InitVar a default, or keep it in a field",
            )
        for one in dataclasses.fields(cls):
            required = one.default is one.default_factory is dataclasses.MISSING
            yield Field(one.name, Any, one.name if one.init else None, one.init and required)
    elif is_typed_dict(cls):
        for name in typing.get_type_hints(cls):
            yield Field(name, Any, name, name in cls.__required_keys__)
    else:
        for name in getattr(cls, "__struct_fields__", None) or cls._fields:
            yield Field(name, Any, name, False)


def _is_init_only(field: Any) -> bool:
    kind = getattr(field, "_field_type", None)
    return (
        getattr(kind, "name", "") == "_FIELD_INITVAR"
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    )


def _arguments(type_: Any) -> dict[Any, Any]:
    """What each type variable stands for, in the class and in its generic bases."""
    known: dict[Any, Any] = {}
    origin = typing.get_origin(type_)
    if origin is not None:
        known.update(zip(origin.__parameters__, typing.get_args(type_), strict=False))
    for base in getattr(origin or type_, "__orig_bases__", ()):
        base_origin = typing.get_origin(base)
        if base_origin is not None and base_origin not in (typing.Generic, typing.Protocol):
            for variable, argument in _arguments(base).items():
                known.setdefault(variable, substitute(argument, known))
    return known


def substitute(type_: Any, known: Mapping[Any, Any]) -> Any:
    """``type_`` with its type variables filled in."""
    if not known:
        return type_
    if isinstance(type_, typing.TypeVar):
        return known.get(type_, type_)
    free = getattr(type_, "__parameters__", ())
    if not free or isinstance(type_, type):
        return type_
    return type_[tuple(known.get(variable, variable) for variable in free)]


class FieldsShape(Shape):
    """A class by its fields: an object with one key per field.

    Unknown keys are ignored on reading (a field was removed), missing ones take their default.
    """

    wire = frozenset({dict})

    def __init__(self, type_: Any, resolve: Resolve) -> None:
        super().__init__(type_)
        self.cls = typing.get_origin(type_) or type_
        self._resolve = resolve

    @cached_property
    def fields(self) -> list[tuple[Field, Shape]]:
        """Resolved late, for types that contain themselves."""
        shapes = []
        for field in fields_of(self.type):
            try:
                shapes.append((field, self._resolve(field.type)))
            except Refusal as refusal:
                refusal.within(at_key(field.name))
                raise
        return shapes

    def accepts(self, value: Any) -> bool:
        return type(value) is self.cls

    def write(self, value: Any) -> Any:
        if type(value) is not self.cls:
            raise mismatch(value, self.type)
        spend(len(self.fields))
        written = {}
        for field, shape in self.fields:
            name = field.name
            try:
                written[name] = shape.write(getattr(value, name))
            except Refusal as refusal:
                refusal.within(at_key(name))
                raise
            except (RecursionError, LimitExceededError):
                raise
            except AttributeError as error:
                raise Refusal("the field was never set").within(at_key(name)) from error
            except Exception as error:
                raise raised(error, "reading the field").within(at_key(name)) from error
        return written

    def read(self, raw: Any, _: Any = None) -> Any:
        if type(raw) is not dict:
            return self.read(self.unlabelled(raw))
        arguments: dict[str, Any] = {}
        later: dict[str, Any] = {}
        for field, shape in self.fields:
            if field.name not in raw:
                if field.required:
                    raise Refusal("the field is missing").within(at_key(field.name))
                continue
            try:
                value = shape.read(raw[field.name])
            except Refusal as refusal:
                refusal.within(at_key(field.name))
                raise
            if field.init is None:
                later[field.name] = value
            else:
                arguments[field.init] = value
        built = guarded(lambda given: self.cls(**given), arguments, f"building {self.label}")
        for name, value in later.items():
            object.__setattr__(built, name, value)
        return built

    def knows_all(self, raw: Any) -> bool:
        """True if every key is a field; tells the members of a union apart."""
        return type(raw) is dict and raw.keys() <= {field.name for field, _ in self.fields}


class TypedDictShape(FieldsShape):
    """A dict with known keys; others are kept as unannotated values."""

    def accepts(self, value: Any) -> bool:
        return type(value) is dict

    def write(self, value: Any) -> Any:
        if type(value) is not dict:
            raise mismatch(value, self.type)
        return self._each(lambda shape: shape.write, value, lambda item: item)

    def read(self, raw: Any, _: Any = None) -> Any:
        if type(raw) is not dict:
            return self.read(self.unlabelled(raw))
        return self._each(lambda shape: shape.read, raw, finish)

    def _each(
        self,
        verb: Callable[[Shape], Callable[[Any], Any]],
        given: dict[str, Any],
        otherwise: Callable[[Any], Any],
    ) -> dict[str, Any]:
        shapes = {field.name: shape for field, shape in self.fields}
        for field, _ in self.fields:
            if field.required and field.name not in given:
                raise Refusal("the key is missing").within(at_key(field.name))
        result = {}
        for name, item in given.items():
            shape = shapes.get(name)
            try:
                result[name] = otherwise(item) if shape is None else verb(shape)(item)
            except Refusal as refusal:
                refusal.within(at_key(name))
                raise
        return result


class ModelShape(Shape):
    """A pydantic model, by its own JSON form, checked to come back equal."""

    wire = frozenset({dict})

    def write(self, value: Any) -> Any:
        if type(value) is not self.type:
            raise mismatch(value, self.type)
        return guarded(self._dump, value, f"dumping {self.label}")

    def _dump(self, value: Any) -> Any:
        dumped = value.model_dump(mode="json", by_alias=True, round_trip=True)
        if self._load(dumped).model_dump() != value.model_dump():
            raise Refusal(
                f"{self.label} does not come back equal from its own JSON form",
                "correct its serializers, aliases or validators",
            )
        return dumped

    def read(self, raw: Any, _: Any = None) -> Any:
        if type(raw) is As:
            raw = self.unlabelled(raw)
        return guarded(self._load, finish(raw), f"validating {self.label}")

    def _load(self, dumped: Any) -> Any:
        """From JSON, so that models with strict fields take the text of a date."""
        if hasattr(self.type, "model_validate_json"):
            return self.type.model_validate_json(json.dumps(dumped))
        return self.type.model_validate(dumped)
