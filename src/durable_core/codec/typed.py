"""Annotations -> shapes, through a cattrs converter so that users' hooks take part.

Every kind of annotation is one row of ``KINDS``. The rows are registered as hook factories on
the converter; hooks that a user registers on it come first.
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable
from typing import Any, NoReturn

import cattrs

from .classes import (
    FieldsShape,
    ModelShape,
    TypedDictShape,
    is_class_with_fields,
    is_model,
    is_typed_dict,
)
from .containers import MAPPINGS, SEQUENCES, MappingShape, SequenceShape, TupleShape
from .plain import LEAVES
from .refusal import Refusal, type_name
from .shapes import (
    AnyShape,
    EnumShape,
    ExactShape,
    FloatShape,
    ForeignShape,
    LiteralShape,
    PlainShape,
    Shape,
)
from .unions import UnionShape

PLAIN_ORIGINS = (dict, list, tuple, set, frozenset)
SCALARS = frozenset({str, int, bool, type(None), *LEAVES})
WRAPPERS = (
    typing.Annotated,
    typing.Final,
    typing.ClassVar,
    typing.Required,
    typing.NotRequired,
    *(getattr(typing, name) for name in ("ReadOnly",) if hasattr(typing, name)),
)

Build = Callable[[Any, cattrs.Converter], Shape]


def new_converter() -> cattrs.Converter:
    """A converter with this library's strict hooks; register your own on it."""
    converter = cattrs.Converter(detailed_validation=False, structure_fallback_factory=_no_way)
    for predicate, build in KINDS:
        _register(converter, predicate, build)
    for type_ in (str, int, float, bytes):
        shape = _scalar(type_, converter)
        converter.register_unstructure_hook(type_, shape.write)
        converter.register_structure_hook(type_, shape.read)
    return converter


def _register(converter: cattrs.Converter, predicate: Callable[[Any], bool], build: Build) -> None:
    def write_hook(type_: Any, current: cattrs.Converter) -> Callable[[Any], Any]:
        return build(type_, current).write

    def read_hook(type_: Any, current: cattrs.Converter) -> Callable[[Any, Any], Any]:
        return build(type_, current).read

    converter.register_unstructure_hook_factory(predicate, write_hook)
    converter.register_structure_hook_factory(predicate, read_hook)


def shape_of(type_: Any, converter: cattrs.Converter) -> Shape:
    """The shape of an annotation. Raises ``Refusal`` if it is of no kind that can be stored."""
    if type_ is None:
        type_ = type(None)
    try:
        write = converter.get_unstructure_hook(type_)
        read = converter.get_structure_hook(type_)
    except Refusal:
        raise
    except Exception as error:
        raise _refusal(type_) from error
    shape = getattr(write, "__self__", None)
    if not isinstance(shape, Shape) or not isinstance(getattr(read, "__self__", None), Shape):
        return ForeignShape(type_, write, read)
    if isinstance(shape, ExactShape) and shape.type is not type_ and shape.type in _BY_CLASS:
        # cattrs finds the hook of a base class first, e.g. that of str for a StrEnum.
        return _own(type_, converter)
    return shape


_BY_CLASS = (str, int, float, bytes)


def _own(type_: Any, converter: cattrs.Converter) -> Shape:
    for predicate, build in reversed(KINDS):
        if predicate(type_):
            shape: Shape = build(type_, converter)
            return shape
    raise _refusal(type_)


def _no_way(type_: Any) -> NoReturn:
    raise _refusal(type_)


def _refusal(type_: Any) -> Refusal:
    return Refusal(
        f"values annotated {type_name(type_)} cannot be stored",
        "use a builtin or a class with fields, or register hooks on the codec's converter",
    )


# --- one function per kind ---------------------------------------------------------------------


def _scalar(type_: Any, _: cattrs.Converter) -> Shape:
    return FloatShape() if type_ is float else ExactShape(type_)


def _any(type_: Any, _: cattrs.Converter) -> Shape:
    return AnyShape(type_)


def _variable(type_: Any, converter: cattrs.Converter) -> Shape:
    if type_.__constraints__:
        return UnionShape(type_, [shape_of(each, converter) for each in type_.__constraints__])
    return shape_of(Any if type_.__bound__ is None else type_.__bound__, converter)


def _wrapper(type_: Any, converter: cattrs.Converter) -> Shape:
    if typing.get_origin(type_) is typing.Annotated:
        return shape_of(type_.__origin__, converter)  # get_args would flatten nested ones
    arguments = typing.get_args(type_)
    return shape_of(arguments[0] if arguments else Any, converter)


def _new_type(type_: Any, converter: cattrs.Converter) -> Shape:
    return shape_of(type_.__supertype__, converter)


def _alias(type_: Any, converter: cattrs.Converter) -> Shape:
    return shape_of(type_.__value__, converter)


def _sequence(type_: Any, converter: cattrs.Converter) -> Shape:
    origin = _origin(type_)
    arguments = typing.get_args(type_)
    if origin is tuple and type_ is not tuple and type_ is not typing.Tuple:  # noqa: UP006
        if len(arguments) != 2 or arguments[1] is not Ellipsis:
            return TupleShape(type_, arguments, lambda each: shape_of(each, converter))
        arguments = arguments[:1]
    item = arguments[0] if arguments else Any
    if item is Any and origin in PLAIN_ORIGINS:
        return PlainShape(type_, origin)
    return SequenceShape(type_, origin, item, lambda each: shape_of(each, converter))


def _mapping(type_: Any, converter: cattrs.Converter) -> Shape:
    origin = _origin(type_)
    key, item = typing.get_args(type_) or (Any, Any)
    if origin is dict and key in (Any, str) and item is Any:
        return PlainShape(type_, dict)
    return MappingShape(type_, origin, key, item, lambda each: shape_of(each, converter))


def _enum(type_: Any, _: cattrs.Converter) -> Shape:
    return EnumShape(type_)


def _literal(type_: Any, _: cattrs.Converter) -> Shape:
    return LiteralShape(type_, typing.get_args(type_))


def _union(type_: Any, converter: cattrs.Converter) -> Shape:
    arguments = typing.get_args(type_)
    if Any in arguments or object in arguments:
        return AnyShape(type_)
    return UnionShape(type_, [shape_of(each, converter) for each in arguments])


def _fields(type_: Any, converter: cattrs.Converter) -> Shape:
    kind = TypedDictShape if is_typed_dict(_origin(type_)) else FieldsShape
    return kind(type_, lambda each: shape_of(each, converter))


def _model(type_: Any, _: cattrs.Converter) -> Shape:
    return ModelShape(type_)


def _origin(type_: Any) -> Any:
    return typing.get_origin(type_) or type_


KINDS: tuple[tuple[Callable[[Any], bool], Build], ...] = (
    (is_class_with_fields, _fields),
    (is_model, _model),
    (lambda t: isinstance(t, type) and issubclass(t, enum.Enum), _enum),
    (lambda t: _origin(t) in SEQUENCES, _sequence),
    (lambda t: _origin(t) in MAPPINGS, _mapping),
    (lambda t: typing.get_origin(t) is typing.Literal, _literal),
    (lambda t: typing.get_origin(t) in (typing.Union, types.UnionType), _union),
    (lambda t: hasattr(t, "__supertype__"), _new_type),
    (lambda t: hasattr(t, "__value__") and not isinstance(t, type), _alias),
    (lambda t: isinstance(t, typing.TypeVar), _variable),
    (lambda t: typing.get_origin(t) in WRAPPERS or t in WRAPPERS, _wrapper),
    (lambda t: t in (Any, object), _any),
    (lambda t: t in SCALARS or t is float, _scalar),
)
"""Later rows win."""


class TypeTable:
    """The shapes of the annotations seen so far."""

    def __init__(self, converter: cattrs.Converter) -> None:
        self._converter = converter
        self._shapes: dict[Any, Shape] = {}

    def shape(self, type_: Any) -> Shape:
        """The shape of ``type_``, remembered. Raises ``Refusal``."""
        try:
            known = self._shapes.get(type_)
        except TypeError:  # an annotation that cannot be hashed
            return shape_of(type_, self._converter)
        if known is None:
            known = self._shapes[type_] = shape_of(type_, self._converter)
        return known
