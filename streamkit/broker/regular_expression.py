r"""Regular expressions that clients send, in RE2's syntax and in time linear to the names they judge.

A pattern comes from a client and is run by the broker, so it must not be able to stop the broker: patterns
that backtrack can take for ever. Ours become a state machine, as RE2's do. The pattern is parsed into a
non-deterministic automaton of bounded size; sets of its states become the states of a deterministic one when
a name first leads there (at most `MAX_STEPS` ways between them are remembered), and each character of a name
costs one look into a dictionary.

A name (of a topic, a client, a transactional id) matches as a whole, as in Kafka. Classes know the characters
of ASCII and one that stands for all others. Of RE2's syntax there are: literals, `.`, classes (`[a-z]`,
`[^a-z]`, `[[:alpha:]]`, `\d`, `\w`, `\s` and their negations), `|`, groups (plain, `(?:`, named), `*` `+` `?`
`{n,m}` and their lazy forms (which match the same names), `^` `$` `\A` `\z` `\b` `\B`, escapes, `\Q…\E`, and
the flags `i` `m` `s` `U`. Unicode classes (`\p`) are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, NoReturn, TypeAlias

ASCII: Final = frozenset(map(chr, range(128)))
OTHER: Final = "\ufffd"
"""In classes: whatever is not ASCII."""
ALPHABET: Final = ASCII | {OTHER}
ANY: Final = ALPHABET - {"\n"}
MAX_PATTERN_LENGTH: Final = 4096
MAX_REPEAT: Final = 1000
"""As in RE2."""
MAX_STATES: Final = 10_000
MAX_STEPS: Final = 65_000
MAX_DEPTH: Final = 100

DIGITS: Final = frozenset("0123456789")
LOWER: Final = frozenset("abcdefghijklmnopqrstuvwxyz")
UPPER: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
LETTERS: Final = LOWER | UPPER
WORD: Final = DIGITS | LETTERS | {"_"}
GRAPHIC: Final = frozenset(map(chr, range(33, 127)))
PERL_CLASSES: Final = {"d": DIGITS, "w": WORD, "s": frozenset("\t\n\f\r ")}
POSIX_CLASSES: Final = {
    "alnum": DIGITS | LETTERS,
    "alpha": LETTERS,
    "ascii": ASCII,
    "blank": frozenset("\t "),
    "cntrl": ASCII - GRAPHIC - {" "},
    "digit": DIGITS,
    "graph": GRAPHIC,
    "lower": LOWER,
    "print": GRAPHIC | {" "},
    "punct": GRAPHIC - DIGITS - LETTERS,
    "space": frozenset("\t\n\v\f\r "),
    "upper": UPPER,
    "word": WORD,
    "xdigit": DIGITS | frozenset("abcdefABCDEF"),
}
CONTROL_ESCAPES: Final = {"a": "\a", "f": "\f", "t": "\t", "n": "\n", "r": "\r", "v": "\v"}


class InvalidPatternError(ValueError):
    """The text is no regular expression, or one that is not served; the message says where and why."""


Condition: TypeAlias = Callable[[str, str], bool]
"""Whether a place in a name is one, by the characters on its two sides (empty at the name's ends)."""


class _State:
    """One state of the automaton: a character of `chars` leads to `next`, or (without) `ways` do for nothing.

    A way may have a condition on where it is taken.
    """

    __slots__ = ("chars", "next", "ways")

    def __init__(self) -> None:
        self.chars: frozenset[str] = frozenset()
        self.next: _State | None = None
        self.ways: list[tuple[Condition | None, _State]] = []


class _Piece(NamedTuple):
    """A part of the automaton, with its way in and its way out."""

    begin: _State
    end: _State


def _at_begin(before: str, after: str) -> bool:
    return not before


def _at_end(before: str, after: str) -> bool:
    return not after


def _at_word_boundary(before: str, after: str) -> bool:
    return (before in WORD) != (after in WORD)


def _inside_word_or_gap(before: str, after: str) -> bool:
    return not _at_word_boundary(before, after)


class Pattern:
    """A compiled pattern. Raises InvalidPatternError."""

    def __init__(self, pattern: str) -> None:
        self._piece = _Parser(pattern).parse()
        self._start = frozenset([self._piece.begin])
        self._steps: dict[tuple[frozenset[_State], str, str], frozenset[_State]] = {}

    def matches(self, name: str) -> bool:
        states = self._start
        before = ""
        for char in name:
            states = self._step(states, before, char)
            if not states:
                return False
            before = char
        return self._piece.end in _closure(states, before, "")

    def matching(self, names: Iterable[str]) -> list[str]:
        """The names that match, sorted."""
        return sorted(name for name in names if self.matches(name))

    def _step(self, states: frozenset[_State], before: str, char: str) -> frozenset[_State]:
        key = (states, before, char)
        after = self._steps.get(key)
        if after is None:
            if len(self._steps) >= MAX_STEPS:
                self._steps.clear()
            known = char if char in ASCII else OTHER
            after = frozenset(
                state.next
                for state in _closure(states, before, char)
                if state.next is not None and (char in state.chars or known in state.chars)
            )
            self._steps[key] = after
        return after


def _closure(states: Iterable[_State], before: str, after: str) -> set[_State]:
    """All states that can be reached from here without a character."""
    found = set(states)
    open_states = list(found)
    while open_states:
        for condition, target in open_states.pop().ways:
            if target not in found and (condition is None or condition(before, after)):
                found.add(target)
                open_states.append(target)
    return found


class _Parser:
    """Recursive descent; each method takes what it is named after and leaves the rest."""

    def __init__(self, pattern: str) -> None:
        if len(pattern) > MAX_PATTERN_LENGTH:
            raise InvalidPatternError(f"a pattern may have {MAX_PATTERN_LENGTH} characters at most")
        self._text = pattern
        self._position = 0
        self._states = 0
        self._depth = 0
        self._ignores_case = False

    def parse(self) -> _Piece:
        piece = self._alternatives()
        if self._position < len(self._text):
            self._fail("unexpected )")
        return piece

    # ── structure ──────────────────────────────────────────────────────────────────────────────────────

    def _alternatives(self) -> _Piece:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail("groups are nested too deeply")
        pieces = [self._sequence()]
        while self._take("|"):
            pieces.append(self._sequence())
        self._depth -= 1
        if len(pieces) == 1:
            return pieces[0]
        begin, end = self._state(), self._state()
        for piece in pieces:
            _connect(begin, piece.begin)
            _connect(piece.end, end)
        return _Piece(begin, end)

    def _sequence(self) -> _Piece:
        begin = end = self._state()
        while self._position < len(self._text) and self._peek() not in "|)":
            piece = self._repeated()
            _connect(end, piece.begin)
            end = piece.end
        return _Piece(begin, end)

    def _repeated(self) -> _Piece:
        begin_position, ignores_case = self._position, self._ignores_case
        piece = self._atom()
        bounds = self._bounds()
        if bounds is None:
            return piece
        end_position, flags_after = self._position, self._ignores_case
        copies = [piece]
        low, high = bounds
        for _ in range(1, max(low, 1 if high is None else high)):
            # Parsed again rather than copied: the text is the one description of what repeats.
            self._position, self._ignores_case = begin_position, ignores_case
            copies.append(self._atom())
        self._position, self._ignores_case = end_position, flags_after
        repeated = self._chain(copies, low, high)
        if self._bounds() is not None:
            self._fail("a repetition of a repetition")
        return repeated

    def _chain(self, copies: list[_Piece], low: int, high: int | None) -> _Piece:
        begin, end = self._state(), self._state()
        here = begin
        for count, piece in enumerate(copies):
            if count >= low:
                _connect(here, end)
            if high is not None and count >= high:
                return _Piece(begin, end)
            _connect(here, piece.begin)
            here = piece.end
        if high is None:
            _connect(here, copies[-1].begin)
        _connect(here, end)
        return _Piece(begin, end)

    def _bounds(self) -> tuple[int, int | None] | None:
        """How often; None if what follows is no repetition. A brace that is no count stands for itself."""
        bounds: tuple[int, int | None] | None = None
        if self._take("*"):
            bounds = (0, None)
        elif self._take("+"):
            bounds = (1, None)
        elif self._take("?"):
            bounds = (0, 1)
        elif self._position < len(self._text) and self._peek() == "{":
            bounds = self._counted()
        if bounds is not None:
            self._take("?")
        return bounds

    def _counted(self) -> tuple[int, int | None] | None:
        close = self._text.find("}", self._position)
        low, comma, high = self._text[self._position + 1 : max(close, 0)].partition(",")
        if close < 0 or not _is_number(low) or (high and not _is_number(high)):
            return None
        self._position = close + 1
        least = int(low)
        most = least if not comma else int(high) if high else None
        if max(least, most or 0) > MAX_REPEAT or (most is not None and most < least):
            self._fail("a repetition out of range")
        return least, most

    # ── atoms ──────────────────────────────────────────────────────────────────────────────────────────

    def _atom(self) -> _Piece:
        char = self._next()
        if char == "(":
            return self._group()
        if char == "[":
            return self._one_of(self._class())
        if char == ".":
            return self._one_of(ANY)
        if char == "^":
            return self._where(_at_begin)
        if char == "$":
            return self._where(_at_end)
        if char == "\\":
            return self._escape()
        if char in "*+?":
            self._fail("nothing to repeat")
        return self._literal(char)

    def _group(self) -> _Piece:
        flags_outside = self._ignores_case
        if self._take("?"):
            if self._take("P<") or self._take("<"):
                self._name()
            elif self._flags():
                return self._nothing()
        piece = self._alternatives()
        if not self._take(")"):
            self._fail("missing )")
        self._ignores_case = flags_outside
        return piece

    def _name(self) -> None:
        name = self._until(">")
        if not name or not set(name) <= WORD:
            self._fail("a group's name is made of letters, digits and _")

    def _flags(self) -> bool:
        """`(?i)` and `(?i:`; whether the group was nothing but flags."""
        switch = True
        while (char := self._next()) not in ":)":
            if char == "-" and switch:
                switch = False
            elif char == "i":
                self._ignores_case = switch
            elif char not in "msU":
                self._fail("a group that is not served")
        return char == ")"

    def _escape(self) -> _Piece:
        char = self._next()
        if char == "A":
            return self._where(_at_begin)
        if char == "z":
            return self._where(_at_end)
        if char == "b":
            return self._where(_at_word_boundary)
        if char == "B":
            return self._where(_inside_word_or_gap)
        if char == "Q":
            return self._quoted()
        return self._one_of(self._escaped(char))

    def _quoted(self) -> _Piece:
        end = self._text.find("\\E", self._position)
        literal = self._text[self._position : end if end >= 0 else len(self._text)]
        self._position = end + 2 if end >= 0 else len(self._text)
        begin = here = self._state()
        for char in literal:
            piece = self._literal(char)
            _connect(here, piece.begin)
            here = piece.end
        return _Piece(begin, here)

    def _escaped(self, char: str) -> frozenset[str]:
        """What a backslash and this character stand for, in a class or out of one."""
        if char.lower() in PERL_CLASSES:
            found = PERL_CLASSES[char.lower()]
            return found if char.islower() else ALPHABET - found
        if char == "x":
            return self._in_case(self._hexadecimal())
        if char in CONTROL_ESCAPES:
            return frozenset(CONTROL_ESCAPES[char])
        if not char.isascii() or char.isalnum():
            self._fail(f"an escape that is not served: \\{char}")
        return self._in_case(char)

    def _hexadecimal(self) -> str:
        digits = self._until("}") if self._take("{") else self._next() + self._next()
        try:
            return chr(int(digits, 16))
        except (ValueError, OverflowError):
            self._fail("a character number that is none")

    def _class(self) -> frozenset[str]:
        negated = self._take("^")
        chars: set[str] = set()
        is_first = True
        while is_first or self._peek() != "]":
            is_first = False
            chars |= self._class_member()
        self._next()
        return ALPHABET - chars if negated else frozenset(chars)

    def _class_member(self) -> frozenset[str]:
        if self._take("[:"):
            negated = self._take("^")
            name = self._until(":]")
            if name not in POSIX_CLASSES:
                self._fail(f"an unknown class: [:{name}:]")
            return ALPHABET - POSIX_CLASSES[name] if negated else POSIX_CLASSES[name]
        low = self._next()
        if low == "\\":
            escape = self._next()
            if escape.lower() in PERL_CLASSES:
                return self._escaped(escape)
            low = self._class_character(escape)
        if self._text[self._position : self._position + 1] != "-" or self._text[
            self._position + 1 : self._position + 2
        ] in ("]", ""):
            return self._in_case(low)
        self._next()
        high = self._next()
        if high == "\\":
            high = self._class_character(self._next())
        if high < low:
            self._fail("a range that runs backwards")
        return self._any_case(char for char in ALPHABET if low <= char <= high)

    def _class_character(self, escape: str) -> str:
        if escape == "x":
            return self._hexadecimal()
        if escape in CONTROL_ESCAPES:
            return CONTROL_ESCAPES[escape]
        if not escape.isascii() or escape.isalnum():
            self._fail(f"an escape that is not served: \\{escape}")
        return escape

    # ── pieces ─────────────────────────────────────────────────────────────────────────────────────────

    def _state(self) -> _State:
        self._states += 1
        if self._states > MAX_STATES:
            self._fail("the pattern is too large")
        return _State()

    def _nothing(self) -> _Piece:
        state = self._state()
        return _Piece(state, state)

    def _one_of(self, chars: frozenset[str]) -> _Piece:
        begin, end = self._state(), self._state()
        begin.chars, begin.next = chars, end
        return _Piece(begin, end)

    def _literal(self, char: str) -> _Piece:
        return self._one_of(self._in_case(char))

    def _where(self, condition: Condition) -> _Piece:
        begin, end = self._state(), self._state()
        begin.ways.append((condition, end))
        return _Piece(begin, end)

    def _in_case(self, char: str) -> frozenset[str]:
        return self._any_case([char])

    def _any_case(self, chars: Iterable[str]) -> frozenset[str]:
        found = frozenset(chars)
        if not self._ignores_case:
            return found
        return frozenset(case for char in found for case in (char.lower(), char.upper()))

    # ── text ───────────────────────────────────────────────────────────────────────────────────────────

    def _peek(self) -> str:
        if self._position >= len(self._text):
            self._fail("the pattern ends early")
        return self._text[self._position]

    def _next(self) -> str:
        char = self._peek()
        self._position += 1
        return char

    def _take(self, text: str) -> bool:
        if not self._text.startswith(text, self._position):
            return False
        self._position += len(text)
        return True

    def _until(self, end: str) -> str:
        position = self._text.find(end, self._position)
        if position < 0:
            self._fail(f"missing {end}")
        text = self._text[self._position : position]
        self._position = position + len(end)
        return text

    def _fail(self, reason: str) -> NoReturn:
        raise InvalidPatternError(f"{reason}, at character {self._position + 1} of {self._text!r}")


def _connect(begin: _State, end: _State) -> None:
    begin.ways.append((None, end))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
