"""Asking memory for numbers before they are needed."""

import numba
from llvmlite import ir
from numba.extending import intrinsic

READ, SECOND_CACHE, DATA = 0, 2, 1  # what LLVM's prefetch is told: what for, how near, what it is


@intrinsic
def _prefetch(context, array, index):
    """LLVM's prefetch of the cache line of array[index]."""

    def make(context, builder, signature, arguments):
        numbers = context.make_array(signature.args[0])(context, builder, arguments[0])
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        ask = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        address = builder.bitcast(builder.gep(numbers.data, [arguments[1]]), byte)
        builder.call(ask, [address, number(READ), number(SECOND_CACHE), number(DATA)])
        return context.get_dummy_value()

    return numba.types.void(array, index), make


def _nothing(array, index):
    """The same where kernels run as Python."""


# prefetch(array (n,), index unsigned): the cache line of array[index] is wanted soon. Changes no result.
prefetch = _nothing if numba.config.DISABLE_JIT else _prefetch
