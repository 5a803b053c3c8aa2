"""Tests of the calculator's expressions: values, errors, and limits that make it fail fast."""

import math
import re

import pytest

from mcpchat_servers.arithmetic import CalculationError, evaluate


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1234 * 5678", 7006652),
        ("2 ** 10", 1024),
        ("2^10", 1024),
        ("2**200", 2**200),
        ("7 / 2", 3.5),
        ("6 / 2", 3),
        ("7 // 2", 3),
        ("-7 % 3", 2),
        ("0.1 + 0.2", 0.3),
        ("-(2 + 3) * +4", -20),
        ("sqrt(16) + cbrt(27)", 7.0),
        ("sin(pi / 2)", 1.0),
        ("log(e)", 1.0),
        ("round(2.675, 2)", 2.67),
        ("max(1, 2.5, 2)", 2.5),
        ("gcd(12, 18) + lcm(4, 6)", 18),
        ("factorial(20)", math.factorial(20)),
        ("comb(5, 2)", 10),
        ("10 × 3 ÷ 4 − 1", 6.5),
        ("1e3 + 1", 1001.0),
    ],
)
def test_it_evaluates(expression: str, value: float) -> None:
    assert evaluate(expression) == value


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ("", "the expression is empty"),
        ("2 +", "cannot read '2 +'"),
        ("1 / 0", "division by zero"),
        ("0 ** -1", "zero cannot be raised to a negative power"),
        ("9 ** 9 ** 9", "has more than 1000 digits"),
        ("(10 ** 900) * (10 ** 900)", "the product has more than 1000 digits"),
        ("10.0 ** 400", "the result is too large"),
        ("factorial(100000)", "at most 450"),
        ("factorial(1.5)", "needs a whole number"),
        ("lcm(10**900, 10**900 + 1)", "more than 1000 digits"),
        ("(-8) ** 0.5", "is not a real number"),
        ("sqrt(-1)", "sqrt is not defined for -1"),
        ("sqrt(1, 2)", "sqrt does not take 2 numbers"),
        ("1e999", "not a finite number"),
        ("x + 1", "unknown name 'x'"),
        ("open('/etc/passwd')", "unknown function 'open'"),
        ("__import__('os').system('true')", "is not arithmetic"),
        ("(1).__class__", "is not arithmetic"),
        ("[1, 2]", "is not arithmetic"),
        ("'a' * 3", "is not arithmetic"),
        ("True + 1", "true and false are not numbers"),
        ("1 if 1 else 2", "is not arithmetic"),
        ("lambda: 1", "is not arithmetic"),
        ("round(1.5, 10**9)", "at most 300"),
        ("(" * 400 + "1" + ")" * 400, "cannot read"),
        ("-" * 900 + "1", ""),
        ("1+" * 600 + "1", "longer than 1000 characters"),
        ("7" * 990 + "**9", "more than 1000 digits"),
    ],
)
def test_errors_name_the_reason(expression: str, error: str) -> None:
    if not error:
        assert evaluate(expression) == 1
        return
    with pytest.raises(CalculationError, match=re.escape(error)):
        evaluate(expression)
