"""Evaluates arithmetic expressions with its own evaluator (not ``eval``) and with limits on size and time."""

import ast
import math
import operator
from collections.abc import Callable, Mapping

Number = int | float

MAX_EXPRESSION_LENGTH = 1000  # characters
MAX_DIGITS = 1000  # of an integer result; a larger one is an error, because computing it could take too long
_MAX_BITS = int(MAX_DIGITS * math.log2(10))
_MAX_FACTORIAL = 450  # 450! has 1,001 digits


class CalculationError(ValueError):
    """The expression cannot be evaluated; the message says which part and why."""


def evaluate(expression: str) -> Number:
    """Return the value of an expression such as ``2 * (3 + sqrt(16)) ** 2``.

    Integers stay exact. ``^`` is a power. Raises CalculationError if the expression is invalid or exceeds a limit.
    """
    if len(expression) > MAX_EXPRESSION_LENGTH:
        raise CalculationError(f"the expression is longer than {MAX_EXPRESSION_LENGTH} characters")
    source = expression.strip().replace("^", "**").replace("×", "*").replace("÷", "/").replace("−", "-")
    if not source:
        raise CalculationError("the expression is empty")
    try:
        tree = ast.parse(source, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        position = f" near character {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
        raise CalculationError(f"cannot read {expression!r}{position}: write it like 2 * (3 + 4) ** 2") from error
    try:
        value = _evaluate_node(tree.body)
    except ZeroDivisionError as error:
        raise CalculationError("division by zero") from error
    except OverflowError as error:
        raise CalculationError("the result is too large") from error
    except RecursionError as error:
        raise CalculationError("the expression is nested too deeply") from error
    except (ValueError, TypeError) as error:
        if isinstance(error, CalculationError):
            raise
        raise CalculationError(str(error)) from error
    return normalize_number(value)


def normalize_number(value: Number) -> Number:
    """Round a float to 15 digits, which removes binary rounding noise (0.1 + 0.2 is 0.3). Integers stay as they are.

    Raises CalculationError if the number is not finite: JSON has no such numbers.
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            raise CalculationError("the result is not a finite number")
        return float(f"{value:.15g}")
    return value


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, int) and isinstance(exponent, int) and exponent >= 0:
        # The size of an integer power can be checked before it is computed.
        if abs(base) > 1 and exponent * math.log2(abs(base)) > _MAX_BITS:
            raise CalculationError(f"{base} ** {exponent} has more than {MAX_DIGITS} digits")
        return int(base**exponent)
    try:
        value = base**exponent
    except ZeroDivisionError as error:
        raise CalculationError("zero cannot be raised to a negative power") from error
    if isinstance(value, complex):
        raise CalculationError(f"{base} ** {exponent} is not a real number")
    return float(value)


def _multiply(left: Number, right: Number) -> Number:
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > _MAX_BITS + 1:
        raise CalculationError(f"the product has more than {MAX_DIGITS} digits")
    return left * right


def _divide(left: Number, right: Number) -> Number:
    if isinstance(left, int) and isinstance(right, int) and right and left % right == 0:
        return left // right
    return left / right


def _factorial(value: Number) -> int:
    if not isinstance(value, int) or value < 0:
        raise CalculationError("factorial needs a whole number from 0 on")
    if value > _MAX_FACTORIAL:
        raise CalculationError(f"factorial({value}) is too large: at most {_MAX_FACTORIAL}")
    return math.factorial(value)


def _comb(n: Number, k: Number) -> int:
    if not isinstance(n, int) or not isinstance(k, int) or n < 0 or k < 0:
        raise CalculationError("comb needs two whole numbers from 0 on")
    if n > 3000:
        raise CalculationError("comb is bounded to n <= 3000")
    return math.comb(n, k)


def _round(value: Number, digits: Number = 0) -> Number:
    if not isinstance(digits, int) or abs(digits) > 300:
        raise CalculationError("round takes a whole number of digits, at most 300")
    return round(value, digits) if digits else round(value)


def _integers_only(function: Callable[..., int]) -> Callable[..., int]:
    def apply(*values: Number) -> int:
        if not all(isinstance(value, int) for value in values):
            raise CalculationError(f"{function.__name__} needs whole numbers")
        result = function(*values)
        if result.bit_length() > _MAX_BITS:
            raise CalculationError(f"the result of {function.__name__} has more than {MAX_DIGITS} digits")
        return result

    return apply


FUNCTIONS: Mapping[str, Callable[..., Number]] = {
    "sqrt": math.sqrt,
    "cbrt": math.cbrt,
    "exp": math.exp,
    "log": math.log,
    "ln": math.log,
    "log10": math.log10,
    "log2": math.log2,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "asin": math.asin,
    "acos": math.acos,
    "atan": math.atan,
    "atan2": math.atan2,
    "sinh": math.sinh,
    "cosh": math.cosh,
    "tanh": math.tanh,
    "degrees": math.degrees,
    "radians": math.radians,
    "hypot": math.hypot,
    "floor": math.floor,
    "ceil": math.ceil,
    "trunc": math.trunc,
    "round": _round,
    "abs": abs,
    "min": min,
    "max": max,
    "gcd": _integers_only(math.gcd),
    "lcm": _integers_only(math.lcm),
    "factorial": _factorial,
    "comb": _comb,
}
CONSTANTS: Mapping[str, float] = {"pi": math.pi, "e": math.e, "tau": math.tau}

_BINARY_OPERATORS: Mapping[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: _multiply,
    ast.Div: _divide,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}


def _evaluate_node(node: ast.expr) -> Number:  # noqa: C901 - flat, one case per node type
    match node:
        case ast.Constant(value=bool()):
            raise CalculationError("true and false are not numbers")
        case ast.Constant(value=int() | float() as number):
            if isinstance(number, int) and number.bit_length() > _MAX_BITS:
                raise CalculationError(f"a number with more than {MAX_DIGITS} digits")
            return number
        case ast.Name(id=name):
            if name in CONSTANTS:
                return CONSTANTS[name]
            raise CalculationError(f"unknown name {name!r}; known: {', '.join(CONSTANTS)} and the functions")
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate_node(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _evaluate_node(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY_OPERATORS:
            return _BINARY_OPERATORS[type(op)](_evaluate_node(left), _evaluate_node(right))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            if name not in FUNCTIONS:
                raise CalculationError(f"unknown function {name!r}; known: {', '.join(FUNCTIONS)}")
            values = [_evaluate_node(argument) for argument in arguments]
            try:
                return FUNCTIONS[name](*values)
            except ValueError as error:
                if isinstance(error, CalculationError):
                    raise
                raise CalculationError(f"{name} is not defined for {', '.join(map(str, values))}") from error
            except TypeError as error:
                raise CalculationError(f"{name} does not take {len(values)} numbers") from error
        case _:
            source = ast.unparse(node)
            raise CalculationError(f"{source[:60]!r} is not arithmetic: use numbers, + - * / // % **, and functions")
