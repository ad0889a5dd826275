"""Arithmetic as people write it, worked out exactly where numbers allow, with bounded size and time."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

MAX_LENGTH = 500  # characters
MAX_DEPTH = 40
MAX_BITS = 4_096  # of a numerator or denominator: about 1,200 digits
_DIGITS = 15  # shown of a number that is not exact

Number: TypeAlias = Fraction | float


class ExpressionError(ValueError):
    """The expression cannot be worked out; the text says why, in words for the one who wrote it."""


_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+(?:_\d{3})*\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?)|(?P<name>[A-Za-z]\w*)"
    r"|(?P<sign>\*\*|//|[-+*/%^(),×÷·−√²³]))"
)
_ALIASES = {"×": "*", "·": "*", "÷": "/", "−": "-", "^": "**"}
_CONSTANTS: dict[str, Number] = {"pi": math.pi, "e": math.e, "tau": math.tau}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    place: int


def evaluate(expression: str) -> str:
    """The value, in digits. Raises ExpressionError; nothing else, and always in a short time.

    ``%`` after a number with nothing to divide by means per cent; ``17 + 10%`` is 17.1.
    """
    if len(expression) > MAX_LENGTH:
        raise ExpressionError(f"longer than {MAX_LENGTH} characters")
    try:
        return shown(_Parser(_tokens(expression)).whole())
    except (OverflowError, ZeroDivisionError, ValueError, TypeError) as error:
        if isinstance(error, ExpressionError):
            raise
        raise ExpressionError("not defined for these numbers") from error


def shown(value: Number) -> str:
    """A number as a person reads it: whole or finite decimals in full, others to 15 digits."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ExpressionError("the result is too large")
        return _rounded(value)
    if value.denominator == 1:
        return str(value.numerator)
    return _decimal(value) or _rounded(float(value))


def _rounded(value: float) -> str:
    text = f"{value:.{_DIGITS}g}"
    return "0" if text == "-0" else text


def _decimal(value: Fraction) -> str | None:
    """All digits, when they end within 30 places."""
    for places in range(1, 31):
        if value.denominator != 1 and 10**places % value.denominator == 0:
            digits = f"{abs(value.numerator) * (10**places // value.denominator):0{places + 1}d}"
            return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"
    return None


def _tokens(expression: str) -> list[_Token]:
    tokens, place, text = [], 0, expression.rstrip().removesuffix("=").rstrip()
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None or found.lastgroup is None:
            raise ExpressionError(f"cannot read {text[place:].strip()[:10]!r}")
        sign = found[found.lastgroup]
        tokens.append(_Token(found.lastgroup, _ALIASES.get(sign, sign), place))
        place = found.end()
    return tokens


class _Parser:
    """Recursive descent: sum, product, sign, power, then numbers, names and brackets."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    def whole(self) -> Number:
        value = self._sum()
        if self._next < len(self._tokens):
            raise ExpressionError(f"unexpected {self._tokens[self._next].text!r}")
        return value

    def _peek(self, ahead: int = 0) -> str:
        place = self._next + ahead
        return self._tokens[place].text if place < len(self._tokens) else ""

    def _take(self, *texts: str) -> str:
        if (text := self._peek()) and text in texts:
            self._next += 1
            return text
        return ""

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise ExpressionError(f"{text!r} is missing")

    def _sum(self) -> Number:
        self._deeper()
        value = self._product()
        while sign := self._take("+", "-"):
            value = _PLUS_MINUS[sign](value, self._product())
        self._depth -= 1
        return _bounded(value)

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError(f"brackets deeper than {MAX_DEPTH}")

    def _product(self) -> Number:
        value = self._signed()
        while sign := self._take("*", "/", "//", "%"):
            value = _bounded(_TIMES[sign](value, self._signed()))
        return value

    def _signed(self) -> Number:
        negative = False
        while sign := self._take("+", "-"):
            negative ^= sign == "-"
        value = self._power()
        return -value if negative else value

    def _power(self) -> Number:
        value = self._percent()
        if not self._take("**"):
            return value
        self._deeper()
        value = power(value, self._signed())
        self._depth -= 1
        return value

    def _percent(self) -> Number:
        value = self._atom()
        while True:
            if sign := self._take("²", "³"):
                value = power(value, Fraction(2 if sign == "²" else 3))
            elif self._peek() == "%" and not self._begins_value(1):
                self._next += 1
                value = value / 100
            else:
                return _bounded(value)

    def _begins_value(self, ahead: int) -> bool:
        place = self._next + ahead
        if place >= len(self._tokens):
            return False
        token = self._tokens[place]
        return token.kind != "sign" or token.text in ("(", "√")

    def _atom(self) -> Number:
        if self._take("√"):
            self._deeper()
            value = _root(self._atom())
            self._depth -= 1
            return value
        if self._take("("):
            value = self._sum()
            self._expect(")")
            return value
        if self._next >= len(self._tokens):
            raise ExpressionError("it ends too early")
        token = self._tokens[self._next]
        self._next += 1
        match token.kind:
            case "number":
                return number(token.text)
            case "name":
                return self._named(token.text.lower())
            case _:
                raise ExpressionError(f"unexpected {token.text!r}")

    def _named(self, name: str) -> Number:
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        if name not in _FUNCTIONS:
            raise ExpressionError(
                f"{name!r} is not known; known: {', '.join(sorted((*_FUNCTIONS, *_CONSTANTS)))}"
            )
        self._expect("(")
        values = [self._sum()]
        while self._take(","):
            values.append(self._sum())
        self._expect(")")
        least, most, function = _FUNCTIONS[name]
        if not least <= len(values) <= most:
            raise ExpressionError(
                f"{name} takes {least} to {most} numbers" if most > 1 else f"{name} takes 1 number"
            )
        return _bounded(function(*values))


def number(text: str) -> Fraction:
    """A number as it was written, exactly. Raises ExpressionError when it is too large."""
    digits, _, exponent = text.lower().replace("_", "").partition("e")
    if exponent and abs(int(exponent)) > MAX_BITS // 4:
        raise ExpressionError("a number is too large")
    return _exact(Fraction(digits.rstrip(".") if digits != "." else "0") * Fraction(10) ** int(exponent or 0))


def power(base: Number, exponent: Number) -> Number:
    """base ** exponent, exact for whole exponents, never larger than allowed. Raises ExpressionError."""
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
        size = max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(exponent.numerator)
        if abs(base) not in (0, 1) and size > 2 * MAX_BITS:
            raise ExpressionError("the result is too large")
        if base == 0 and exponent < 0:
            raise ExpressionError("division by zero")
        if abs(base) in (0, 1):
            return base ** (
                exponent.numerator % 2 if base == -1 else min(1, exponent.numerator) if base == 0 else 1
            )
        return _exact(base**exponent.numerator)
    value = float(base) ** float(exponent)
    if isinstance(value, complex):
        raise ExpressionError("not a real number")
    return _bounded(value)


def _bounded(value: Number) -> Number:
    if isinstance(value, Fraction):
        return _exact(value)
    if not math.isfinite(value):
        raise ExpressionError("the result is too large")
    return value


def _exact(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise ExpressionError("the result is too large")
    return value


def _divide(left: Number, right: Number) -> Number:
    if right == 0:
        raise ExpressionError("division by zero")
    return left / right


def _whole_divide(left: Number, right: Number) -> Number:
    if right == 0:
        raise ExpressionError("division by zero")
    return Fraction(math.floor(left / right))


def _modulo(left: Number, right: Number) -> Number:
    if right == 0:
        raise ExpressionError("division by zero")
    return left - right * _whole_divide(left, right)


def _root(value: Number) -> Number:
    if value < 0:
        raise ExpressionError("the root of a negative number is not real")
    if isinstance(value, Fraction):
        above, below = math.isqrt(value.numerator), math.isqrt(value.denominator)
        if above * above == value.numerator and below * below == value.denominator:
            return Fraction(above, below)
    return math.sqrt(value)


def _round(value: Number, places: Number = Fraction(0)) -> Number:
    if places != int(places) or not -30 <= places <= 30:
        raise ExpressionError("round takes a number and whole places")
    scale = Fraction(10) ** int(places)
    exact = Fraction(value) * scale
    away = math.floor(abs(exact) + Fraction(1, 2))  # halves away from zero, as people round
    return Fraction(away if exact >= 0 else -away) / scale


def _log(value: Number, base: Number | None = None) -> Number:
    if value <= 0 or (base is not None and (base <= 0 or base == 1)):
        raise ExpressionError("log takes numbers above zero")
    return math.log(value) if base is None else math.log(value) / math.log(base)


def _real(function: Callable[[float], float]) -> Callable[..., Number]:
    return lambda value: function(float(value))


_PLUS_MINUS: dict[str, Callable[[Number, Number], Number]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
}
_TIMES: dict[str, Callable[[Number, Number], Number]] = {
    "*": lambda left, right: left * right,
    "/": _divide,
    "//": _whole_divide,
    "%": _modulo,
}
_FUNCTIONS: dict[str, tuple[int, int, Callable[..., Number]]] = {
    "sqrt": (1, 1, _root),
    "abs": (1, 1, lambda value: abs(value)),
    "round": (1, 2, _round),
    "floor": (1, 1, lambda value: Fraction(math.floor(value))),
    "ceil": (1, 1, lambda value: Fraction(math.ceil(value))),
    "min": (1, 50, lambda *values: min(values)),
    "max": (1, 50, lambda *values: max(values)),
    "sin": (1, 1, _real(math.sin)),
    "cos": (1, 1, _real(math.cos)),
    "tan": (1, 1, _real(math.tan)),
    "exp": (1, 1, _real(math.exp)),
    "log": (1, 2, _log),
    "ln": (1, 1, _log),
    "log10": (1, 1, lambda value: _log(value, Fraction(10))),
    "log2": (1, 1, lambda value: _log(value, Fraction(2))),
}
