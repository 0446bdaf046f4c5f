"""The keywords of an input.nn file of n2p2 or RuNNer, line by line."""

import re
from dataclasses import dataclass
from pathlib import Path

from mpnnp.data.compressed import SUFFIXES as COMPRESSED
from mpnnp.errors import DataError
from mpnnp.files import read_number, reason_not_read, seems_to_be
from mpnnp.model.baseline import NONE, parse_baseline
from mpnnp.n2p2.keywords import (
    CHARGE,
    CHOICES,
    FLAGS,
    KEYWORDS,
    MARKS_OF_RUNNER,
    REPEATED,
    SELECTION,
    canonical,
    extra_words,
    nearest,
    needs_value,
)
from mpnnp.units import parts_of_line, units_of_line, units_of_parts

BASELINE = re.compile(r"\s*[#!]\s*baseline:\s*(.*)")  # a comment line that write_potential makes


@dataclass(frozen=True)
class InputLine:
    """One line: its keyword by the first name (see n2p2.keywords), the words behind it, its number,
    and the keyword as it was written.
    """

    name: str
    words: tuple[str, ...]
    line: int
    written: str = ""

    @property
    def text(self):
        """The line as it was written, but for spaces."""
        return " ".join((self.written, *self.words))


class InputFile:
    """Keywords of an input.nn in order; later lines overrule earlier ones except where a keyword may repeat.

    Aliases count as their keyword. Two comments are mpnnp's own: units, and the baseline, which is no part of
    the nets.
    """

    def __init__(self, path):
        self.path = Path(path)
        try:
            text = self.path.read_text(encoding="utf-8-sig", errors="replace")
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {reason_not_read(error, path)}{_other(path)}") from None
        if "\0" in text:
            raise DataError(f"{path}: is not a plain text file; save it in UTF-8{_other(path)}")
        self.keywords, self.units, self.baseline = [], None, NONE
        parts = {}
        for number, line in enumerate(text.splitlines(), 1):
            try:
                parts |= parts_of_line(line)
                self.units = units_of_line(line) or self.units or units_of_parts(parts)
                if found := BASELINE.match(line):
                    self.baseline = parse_baseline(found[1])
            except ValueError as error:
                raise DataError(f"{path}, line {number}: {error}") from None
            words = line.split("#", 1)[0].split("!", 1)[0].split()
            if words:
                self.keywords.append(InputLine(canonical(words[0]), tuple(words[1:]), number, words[0]))

    @property
    def of_runner(self):
        """True if the file was written for RuNNer."""
        return self.has(*MARKS_OF_RUNNER)

    @property
    def data_file(self):
        """Path of the input.data beside it, which may be compressed; None if there is none."""
        names = [self.path.with_name("input.data" + suffix) for suffix in ("", *COMPRESSED)]
        return next((path for path in names if path.is_file()), None)

    def all(self, *names):
        return [k for k in self.keywords if k.name in names]

    def has(self, *names):
        return bool(self.all(*names))

    def last(self, name):
        """The last line with this keyword, one with its first name before its aliases;
        DataError if there is none.
        """
        found = self.all(name)
        if not found:
            raise DataError(f"{self.path}: the keyword '{name}' is missing")
        return ([k for k in found if k.written == name] or found)[-1]

    def place(self, name):
        """File, line and text of the last line with this keyword, to begin a message with."""
        last = self.last(name)
        return f"{self.path}, line {last.line}: '{last.text}'"

    def words(self, name):
        """Words of the last line with this keyword; DataError if there is none."""
        return self.last(name).words

    def value(self, name, kind=float, default=None):
        """First word behind a keyword as a number."""
        if not self.has(name) and default is not None:
            return default
        try:
            return number(self.words(name)[0], kind)
        except (IndexError, ValueError):
            wanted = "an integer" if kind is int else "a number"
            raise DataError(f"{self.place(name)}: expected {wanted}") from None


def check_known(source):
    """Raise DataError for a keyword that neither n2p2 nor RuNNer has, which would be overlooked, for one
    without the value that it needs, and for one that is given twice with different values.
    """
    seen = {}
    for k in source.keywords:
        line = f"{source.path}, line {k.line}"
        if k.name not in KEYWORDS:
            near = nearest(k.written)
            hint = f"; did you mean '{near}'?" if near else "; begin a line that means nothing with #"
            raise DataError(
                f"{line}: '{k.written}' is a keyword of neither n2p2 nor RuNNer{hint}{_other(source.path)}"
            )
        if not k.words and needs_value(k.name):
            raise DataError(f"{line}: '{k.text}': a value is missing")
        before = seen.setdefault(k.name, k)
        repeatable = k.name in REPEATED or KEYWORDS[k.name].kind == CHARGE
        if before.words and k.words and not repeatable:
            check_agreement(source.path, before, k)


def check_agreement(path, before, k):
    """Raise DataError where a line says another thing than the one before it."""
    if len(before.words) != len(k.words) or not all(map(_same, before.words, k.words)):
        raise DataError(f"{path}, line {k.line}: '{k.text}' contradicts line {before.line}: '{before.text}'")


def _same(one, other):
    """Whether two words are the same, or the same number."""
    try:
        return one == other or read_number(one) == read_number(other)
    except ValueError:
        return False


def _other(path):
    """What a file is whose name is not that of an input.nn."""
    return "" if Path(path).suffix == ".nn" else seems_to_be(path)


def check_choices(source):
    """Raise DataError for a keyword of training whose value is none of those that it can have."""
    for name, choices in CHOICES.items():
        if source.has(name) and source.value(name, int) not in choices:
            allowed = ", ".join(f"{value} ({meaning})" for value, meaning in choices.items())
            raise DataError(f"{source.place(name)}: must be one of {allowed}")


def extra_words_of(source):
    """Lines of an input.nn, in words, with more behind a keyword than it takes; a keyword that is a switch
    is on wherever it stands, whatever is behind it.
    """
    found = []
    for k in source.keywords:
        if extra := extra_words(k.name, k.words):
            why = "the keyword takes less"
            if k.name in FLAGS:
                why = "the keyword alone switches this on"
            elif k.name == "cutoff_type":
                why = "this cutoff function has no inner radius"
            elif CHOICES.get(k.name) is SELECTION:
                why = "the first mode is kept"
            are = "is" if len(extra) == 1 else "are"
            found.append(f"line {k.line}, '{k.text}': {why}, {' '.join(extra)!r} {are} not used")
    return found


def number(word, kind):
    """A finite number as Fortran or C writes it. Raises ValueError."""
    value = read_number(word, kind)
    if not abs(value) < float("inf"):  # (integers may be larger than those of NumPy)
        raise ValueError(word)
    return value
