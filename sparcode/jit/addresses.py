"""Call one compiled kernel from another by its address.

An ordinary call makes numba put the callee, and all that it calls, into the caller's code, where LLVM optimises them
anew: a kernel at the bottom of four callers is compiled five times. One that is called by address is compiled once, and
not before a query needs it. The caller gets the address as an argument, so that its code names none and can be cached.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from sparcode.jit.library import is_active, overload, resting_on_numba, typeof, types

with resting_on_numba("addresses"):
    from numba.core import cgutils
    from numba.core.typing.templates import AbstractTemplate, infer_global, signature
    from numba.extending import intrinsic, lower_builtin


def entry_of(kernel: Any, arguments: tuple[Any, ...]) -> Callable[..., Any]:
    """Return a kernel compiled for arguments like these, to be called with arrays of the same types alone."""
    return kernel.compile(tuple(typeof(argument) for argument in arguments))


def address_of(kernel: Any, arguments: tuple[Any, ...]) -> int:
    """Return where a kernel compiled for arguments of these numba types starts; it is compiled if need be.

    Without calls by address, that is 1.
    """
    if not is_active("addresses"):
        return 1
    kernel.compile(arguments)
    compiled = kernel.overloads[arguments]
    return int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name))


def linked(kernel: Any, result: Any, *variants: tuple[Any, ...]) -> Any:
    """Return ``call(address, *arguments)``, for kernels: what ``kernel(*arguments)`` returns, of numba type ``result``.

    ``address``: uint64, as ``address_of`` tells it for the one of ``variants``, tuples of numba types, that the
    arguments have; arrays, in tuples too, may be read-only in one place and not in the other. Other arguments do not
    compile. Uncompiled, the address is not looked at.
    """

    def call(address: Any, *arguments: Any) -> Any:
        return kernel.py_func(*arguments)

    if not is_active("addresses"):
        overload(call)(lambda address, *arguments: lambda address, *arguments: kernel(*arguments))
        return call

    class Typing(AbstractTemplate):  # type: ignore[misc]
        key = call

        def generic(self, given: Any, keywords: Any) -> Any:
            known = [[_erased(kind) for kind in variant] for variant in variants]
            return signature(result, types.uint64, *given[1:]) if [*map(_erased, given[1:])] in known else None

    infer_global(call, types.Function(Typing))

    @lower_builtin(call, types.uint64, types.VarArg(types.Any))
    def _code(context: Any, builder: Any, own: Any, values: Any) -> Any:
        return _emit_call(context, builder, result, own.args[1:], values[0], values[1:])

    return call


def _emit_call(context: Any, builder: Any, result: Any, kinds: Any, address: Any, values: Any) -> Any:
    convention = context.call_conv
    function = builder.inttoptr(address, convention.get_function_type(result, kinds).as_pointer())
    status, value = convention.call_function(builder, function, result, kinds, values)
    with cgutils.if_unlikely(builder, status.is_error):
        convention.return_status_propagate(builder, status)
    return value


def _erased(kind: Any) -> Any:
    """Return what decides about the machine code of a call: whether an array may be written does not."""
    if isinstance(kind, types.Array):
        return kind.copy(readonly=False)
    if isinstance(kind, types.BaseTuple):
        parts: Any = kind
        return types.BaseTuple.from_types([*map(_erased, parts.types)], getattr(kind, "instance_class", None))
    return kind


def _called(result: Any) -> Any:
    def emit(typing: Any, address: Any, arguments: Any) -> Any:
        def generate(context: Any, builder: Any, own: Any, values: Any) -> Any:
            given = cgutils.unpack_tuple(builder, values[1])
            return _emit_call(context, builder, result, arguments.types, values[0], given)

        return result(types.uint64, arguments), generate

    return intrinsic(emit)


def _plainly_called() -> Any:
    def call(entry, arguments):  # type: ignore[no-untyped-def]
        return entry(*arguments)

    overload(call)(lambda entry, arguments: lambda entry, arguments: entry(*arguments))
    return call


call_status: Any = _called(types.int64) if is_active("addresses") else _plainly_called()
"""``call_status(address, arguments)``, for kernels: what the kernel there returns for a tuple of arguments, int64.

Nothing is checked: ``status_address`` and ``plain_address`` tell addresses for the numba types the arguments have, but
for whether arrays may be written."""
call_plain: Any = _called(types.none) if is_active("addresses") else _plainly_called()
"""``call_status`` of a kernel that returns nothing."""


def status_address(kernel: Any, arguments: tuple[Any, ...]) -> Any:
    """Return the address for ``call_status`` of a kernel compiled for arguments like these; TypeError if not int64."""
    return _address(kernel, arguments, types.int64)


def plain_address(kernel: Any, arguments: tuple[Any, ...]) -> Any:
    """Return the address for ``call_plain`` of a kernel compiled for arguments like these; TypeError if not None."""
    return _address(kernel, arguments, types.none)


def _address(kernel: Any, arguments: tuple[Any, ...], result: Any) -> Any:
    kinds = tuple(typeof(argument) for argument in arguments)
    if not is_active("addresses"):
        return kernel  # called as it is
    address = address_of(kernel, kinds)
    found = kernel.overloads[kinds].signature.return_type
    if found != result:
        raise TypeError(f"{kernel.__name__} returns {found}, expected {result}")
    return np.uint64(address)
