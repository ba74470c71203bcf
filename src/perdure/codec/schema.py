"""What an annotation can carry: resolving it, building its decoder, knowing where it says nothing.

An annotation is looked at when its codec is first used, not when the function is decorated: by then the names
it mentions exist. msgspec builds the decoder and describes the type as a tree; a walk over that tree finds
types it can't carry (msgspec would only notice with the first value) and places declared as `Any`, where a
value may only be plain data, since its class couldn't be restored.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any, NamedTuple, ParamSpecArgs, ParamSpecKwargs, TypeVar, get_origin, get_type_hints

import msgspec
import msgspec.inspect as mi

from perdure.codec.explain import Problem, children, key_suffix, not_plain
from perdure.codec.foreign import decode_hook, is_model_class, reader_of
from perdure.codec.kinds import is_dict, is_sequence, is_set
from perdure.codec.secret import Secret
from perdure.errors import NotSerializableError

__all__ = ["Schema", "build", "resolve", "show", "unusable"]

_UNION_ADVICE = (
    "In a union, give msgspec Structs a tag (`class A(msgspec.Struct, tag=True)`), or wrap the union in a "
    "dataclass with one optional field for each kind, or in a pydantic model."
)
_CLASS_ADVICE = (
    "Use plain data, a dataclass, msgspec Struct, pydantic model, TypedDict or NamedTuple; "
    "for iterables say `list[...]`; or return the id of the object instead of the object."
)


class Schema(NamedTuple):
    """What is known about an annotation once it is resolved."""

    decode: Callable[[bytes | msgspec.Raw], Any]  #: JSON bytes to a value of this type
    loose: (
        Callable[[Any], Problem | None] | None
    )  #: checks the places declared as Any, None if there are none
    comparable: bool  #: whether `==` between two values sees every difference
    same: Callable[[Any, Any], bool] | None = None  #: sees every difference in the place of `==`


def show(annotation: Any) -> str:
    """Return an annotation as it is written in code."""
    if annotation is None or annotation is type(None):
        return "None"
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def resolve(annotation: Any, owner: Callable[..., Any] | None, names: Mapping[str, Any] | None) -> Any:
    """Return the type that an annotation of the function `owner` stands for.

    Args:
        annotation: as found in the signature: a type, a text, a type holding texts, or `Parameter.empty`.
        owner: the function it belongs to; its module's and enclosing functions' names are known to it.
        names: further names it may use, such as the local ones where the function was decorated.

    Raises:
        NameError, TypeError, SyntaxError, AttributeError: it can't be resolved.
    """
    if annotation is inspect.Parameter.empty:
        return Any
    function = inspect.unwrap(owner) if owner is not None else None
    if isinstance(function, MethodType):
        function = inspect.unwrap(function.__func__)
    known = dict(names or {})
    scope: dict[str, Any] = {}
    if isinstance(function, FunctionType):
        scope = function.__globals__
        known |= {parameter.__name__: parameter for parameter in getattr(function, "__type_params__", ())}
        known |= _enclosing_names(function)
    # get_type_hints resolves all annotations of an object or none; here one must not fail for another's sake.
    holder = SimpleNamespace(__annotations__={"it": annotation})
    resolved = get_type_hints(holder, scope, known, include_extras=True)["it"]
    # `*args: P.args` says as much about the arguments as no annotation does.
    return Any if isinstance(resolved, ParamSpecArgs | ParamSpecKwargs) else resolved


def _enclosing_names(function: FunctionType) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            names[name] = cell.cell_contents
        except ValueError:
            continue  # not assigned yet
    return names


def build(annotation: Any, where: str) -> Schema:
    """Build what encodes and decodes values of `annotation`, which must be resolved.

    Raises:
        NotSerializableError: no value of this type can be carried; says why and what to use instead.
    """
    try:
        if (reader := reader_of(annotation)) is not None:
            return Schema(reader.read, None, comparable=False, same=reader.same)
        decode = msgspec.json.Decoder(annotation, dec_hook=decode_hook).decode
        root = mi.type_info(annotation)
    # Resolving the hints of the classes inside can raise anything that their modules can.
    except Exception as error:
        advice = _UNION_ADVICE if "union" in str(error) else _CLASS_ADVICE
        if isinstance(error, NameError):
            advice = "Import or define that name at the top level of its module."
        raise unusable(annotation, where, str(error), advice) from error
    if _has_type_variable(annotation):
        raise unusable(
            annotation, where, "it holds a type variable", "Durable functions need concrete types: name one."
        )
    loose: set[int] = set()
    comparable = True
    for node in _reachable(root):
        if isinstance(node, mi.CustomType) and not _is_carried(node.cls):
            told = f"values of {show(node.cls)} have no JSON form"
            raise unusable(annotation, where, told, _CLASS_ADVICE)
        if any(_is_any(inner) for inner in _reachable(node)):
            loose.add(id(node))
        comparable = comparable and _compares_all(node)

    def check(value: Any) -> Problem | None:
        return _check_loose(value, root, loose, "$")

    return Schema(decode, check if loose else None, comparable)


def unusable(annotation: Any, where: str, why: str, advice: str) -> NotSerializableError:
    """The error for an annotation whose values can't be carried."""
    return NotSerializableError(
        f"The {where} is declared as `{show(annotation)}`, which can't be carried: {why}. {advice}"
    )


def _has_type_variable(annotation: Any) -> bool:
    if isinstance(annotation, TypeVar):
        return True
    # A bare generic class has parameters as well, but its fields then are Any by rule.
    return not isinstance(annotation, type) and bool(getattr(annotation, "__parameters__", ()))


def _is_carried(cls: Any) -> bool:
    return (
        cls is object
        or cls is Secret
        or is_model_class(cls)
        or (isinstance(cls, type) and issubclass(cls, PurePath))
    )


def _is_any(node: mi.Type) -> bool:
    return isinstance(node, mi.AnyType) or (isinstance(node, mi.CustomType) and node.cls is object)


def _parts(node: mi.Type) -> Iterator[mi.Type]:
    match node:
        case mi.UnionType():
            yield from node.types
        case mi.TupleType():
            yield from node.item_types
        case mi.DictType():
            yield node.key_type
            yield node.value_type
        case mi.ListType() | mi.SetType() | mi.FrozenSetType() | mi.VarTupleType():
            yield node.item_type
        case mi.StructType() | mi.DataclassType() | mi.TypedDictType() | mi.NamedTupleType():
            for field in node.fields:
                yield field.type
        case mi.Metadata():
            yield node.type
        case _:
            pass


def _reachable(root: mi.Type) -> list[mi.Type]:
    """Every type in the tree, each once: types may hold themselves."""
    found, known = [root], {id(root)}
    for node in found:
        for part in _parts(node):
            if id(part) not in known:
                known.add(id(part))
                found.append(part)
    return found


def _compares_all(node: mi.Type) -> bool:
    """Whether the class's `==` is the generated one over all its fields."""
    cls = _class_of(node)
    match node:
        case mi.StructType() | mi.NamedTupleType():
            return not hasattr(cls.__eq__, "__code__")  # not written in Python
        case mi.DataclassType():
            fields: dict[str, Any] = getattr(cls, "__dataclass_fields__", {})
            # Generated methods come from no file. Anything else is compared field by field, which is slower.
            code = getattr(cls.__eq__, "__code__", None)
            generated = code is not None and code.co_filename == "<string>"
            return generated and all(field.compare for field in fields.values())
        case mi.CustomType() if is_model_class(cls):
            return cls.__eq__.__module__.startswith("pydantic.")
        case _:
            return True


def _class_of(node: mi.Type) -> Any:
    cls = getattr(node, "cls", None)
    return get_origin(cls) or cls


def _check_loose(value: Any, node: mi.Type, loose: set[int], path: str) -> Problem | None:
    """Check that only plain data stands where the type says Any."""
    if _is_any(node):
        return not_plain(value, path)
    if id(node) not in loose:
        return None
    match node:
        case mi.UnionType():
            fitting = (part for part in node.types if _is_any(part) or _fits(value, part))
            chosen = next(fitting, None)
            return None if chosen is None else _check_loose(value, chosen, loose, path)
        case mi.DictType() if is_dict(value):
            parts = [(key_suffix(key), key, node.key_type) for key in value]
            parts += [(key_suffix(key), item, node.value_type) for key, item in value.items()]
        case mi.TypedDictType() if is_dict(value):
            known = [field for field in node.fields if field.name in value]
            parts = [(key_suffix(field.name), value[field.name], field.type) for field in known]
        case mi.ListType() | mi.SetType() | mi.FrozenSetType() | mi.VarTupleType():
            parts = [(suffix, item, node.item_type) for suffix, item in children(value)]
        case mi.TupleType():
            pairs = zip(children(value), node.item_types, strict=False)
            parts = [(suffix, item, kind) for (suffix, item), kind in pairs]
        case mi.StructType() | mi.DataclassType() | mi.NamedTupleType():
            types = {f".{field.name}": field.type for field in node.fields}
            parts = [(suffix, item, types[suffix]) for suffix, item in children(value) if suffix in types]
        case mi.Metadata():
            return _check_loose(value, node.type, loose, path)
        case _:
            return None
    found = (_check_loose(item, kind, loose, path + suffix) for suffix, item, kind in parts)
    return next(filter(None, found), None)


def _fits(value: object, node: mi.Type) -> bool:
    """Whether a member of a union is the one for this value, as far as it matters for looking inside."""
    match node:
        case mi.DictType() | mi.TypedDictType():
            return is_dict(value)
        case mi.ListType() | mi.VarTupleType() | mi.TupleType():
            return is_sequence(value)
        case mi.SetType() | mi.FrozenSetType():
            return is_set(value)
        case mi.StructType() | mi.DataclassType() | mi.NamedTupleType():
            return isinstance(value, _class_of(node))
        case mi.Metadata():
            return _fits(value, node.type)
        case _:
            return False
