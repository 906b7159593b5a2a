"""Kernels that are compiled with their caller: optimised and turned into machine code once, where Python enters.

numba treats every function as if Python called it: with its callees it is optimised, turned into machine code, given
two wrappers and kept on disk, and the same again for each of its callers: a kernel under four callers is compiled five
times. Here only the kernel that Python calls is all that, an *entry*. The others stay as they were lowered, *inner*
ones, until an entry takes them in. An inner kernel that Python calls after all is compiled again, as an entry.

Kernels whose sums may be reordered are optimised by themselves all the same, so that the order does not depend on who
calls them. Who compiles by ``numba.njit`` and calls kernels of ours gets them from numba's own hands.
"""

# mypy: disable-error-code="assignment, attr-defined, has-type, misc"
# What numba has inside is typed in part, and not for its users.

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import compiler, sigutils
from numba.core.caching import NullCache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import _FunctionCompiler
from numba.core.registry import CPUDispatcher
from numba.core.targetconfig import ConfigStack

_environments: dict[str, Any] = {}
"""What inner functions raise errors with, by the name of the variable that each module points to it with."""


class Inner(JITCodeLibrary):  # type: ignore[misc]
    """Code to be taken in by an entry, as it was lowered."""

    _whole: Any = None

    def finalize(self) -> None:
        """Do nothing yet: the entry optimises."""
        self._raise_if_finalized()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Return 0: there is no machine code."""
        return 0

    def lowered(self) -> Any:
        """Return the module as it is, for an entry that takes in all that it rests on too."""
        return super()._get_module_for_linking()

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def _get_module_for_linking(self) -> Any:
        """Return a module that needs no other, optimised by itself as numba does it.

        Machine code is made too, though nobody calls it: that changes the module, and with it what callers make of it.
        """
        self._ensure_finalized()
        if self._whole is None:
            module = self._final_module.clone()
            super()._optimize_functions(module)
            for library in dict.fromkeys(self._linking_libraries):
                module.link_in(library._get_module_for_linking(), preserve=True)
            whole = self._whole = JITCodeLibrary(self._codegen, self.name)
            whole._final_module = module
            whole._optimize_final_module()
            whole._finalize_final_module()
        return self._whole._get_module_for_linking()

    @classmethod
    def _unserialize(cls, codegen: Any, state: Any) -> Any:
        """Return a library from a cache, one of numba's own."""
        with _creating(codegen, JITCodeLibrary):
            return JITCodeLibrary._unserialize(codegen, state)


class Apart(Inner):
    """Inner code whose bits depend on how it is optimised: that happens before an entry takes it in."""


class Entry(JITCodeLibrary):  # type: ignore[misc]
    """Code that Python calls, and all that it rests on. ``reorders``: its own bits depend on how that was optimised."""

    reorders = False

    def finalize(self) -> None:
        """Optimise everything at once and turn it into machine code."""
        seen, left = set(), list(self._linking_libraries)
        while left:
            library = left.pop(0)
            if library not in seen:
                seen.add(library)
                merged = isinstance(library, Inner) and not (self.reorders or isinstance(library, Apart))
                part = library.lowered() if merged else library._get_module_for_linking()
                self._final_module.link_in(part, preserve=True)
                left += library._linking_libraries if merged else []
        self._linking_libraries = []
        super().finalize()
        for variable in self._final_module.global_variables:
            if variable.name in _environments and not variable.is_declaration:
                type(self._codegen).set_env(self._codegen, variable.name, _environments[variable.name])


def _is_nested(codegen: Any) -> bool:
    """Tell whether an entry is being compiled."""
    return codegen._library_class is Inner


@contextmanager
def _creating(codegen: Any, kind: Any) -> Iterator[None]:
    earlier = codegen._library_class
    codegen._library_class = kind
    try:
        yield
    finally:
        codegen._library_class = earlier


@contextmanager
def _entering(codegen: Any) -> Iterator[None]:
    """Let everything that is compiled in the block, but the entry itself, be inner code."""

    def remember(name: str, environment: Any) -> None:
        _environments[name] = environment
        if codegen._engine.is_symbol_defined(name):
            type(codegen).set_env(codegen, name, environment)

    codegen.set_env = remember
    try:
        with _creating(codegen, Inner):
            yield
    finally:
        del codegen.set_env


class _Compiler(_FunctionCompiler):  # type: ignore[misc]
    def _compile_core(self, args: Any, return_type: Any) -> Any:
        codegen = self.targetdescr.target_context.codegen()
        reorders = "reassoc" in (self.targetoptions.get("fastmath") or ())
        if _is_nested(codegen):
            return self._compiled(args, return_type, (Apart if reorders else Inner)(codegen, self._qualname), True)
        if len(ConfigStack()):
            return super()._compile_core(args, return_type)
        library = Entry(codegen, self._qualname)
        library.reorders = reorders
        library.enable_object_caching()
        with _entering(codegen):
            return self._compiled(args, return_type, library, False)

    @property
    def _qualname(self) -> str:
        return str(self.py_func.__qualname__)

    def _compiled(self, args: Any, return_type: Any, library: Any, inner: bool) -> Any:
        flags, description = compiler.Flags(), self.targetdescr
        description.options.parse_as_flags(flags, self.targetoptions)
        flags.no_cpython_wrapper = flags.no_cfunc_wrapper = inner
        if not inner:
            flags.no_cfunc_wrapper = True
        return compiler.compile_extra(
            description.typing_context, description.target_context, self.py_func, args=args, return_type=return_type,
            flags=flags, locals=self.locals, library=library, pipeline_class=self.pipeline_class,
        )  # fmt: skip


class Kernel(CPUDispatcher):  # type: ignore[misc]
    """A compiled function that may be an entry or inside one."""

    @classmethod
    def of(cls, dispatcher: Any) -> Any:
        """Return what ``numba.njit`` made as one of these."""
        dispatcher.__class__, dispatcher._compiler.__class__ = cls, _Compiler
        return dispatcher

    def compile(self, sig: Any) -> Any:
        """Compile for a signature, if need be; an inner kernel that Python calls after all becomes an entry."""
        with global_compiler_lock:
            kept = self._cache
            if _is_nested(self.targetctx.codegen()):
                self._cache = NullCache()
            elif not len(ConfigStack()):
                arguments = tuple(sigutils.normalize_signature(sig)[0])
                known = self.overloads.get(arguments)
                if known is not None and isinstance(known.library, Inner):
                    del self.overloads[arguments]
            try:
                return super().compile(sig)
            finally:
                self._cache = kept

    def add_overload(self, cres: Any) -> None:
        """Keep what was compiled; Python is not told of inner kernels."""
        if isinstance(cres.library, Inner):
            self.overloads[tuple(cres.signature.args)] = cres
        else:
            super().add_overload(cres)


# What is called above is there, or the whole file is not used.
_NEEDED = (
    CPUDispatcher.add_overload, JITCodeLibrary._finalize_final_module, JITCodeLibrary._get_module_for_linking,
    JITCodeLibrary._optimize_final_module, JITCodeLibrary._optimize_functions, JITCodeLibrary._unserialize,
    _FunctionCompiler._compile_core, compiler.Flags.no_cpython_wrapper, compiler.compile_extra, ConfigStack.__len__,
)  # fmt: skip
